//! Malformed configs: each is refused with the place of its fault, before anything has been touched.

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use bundle::{Bundle, is_ours, runtime};
use serde_json::Value;

/// A member (as a JSON pointer), the text that is put there (nothing: it is taken out), and how the message begins.
const FAULTS: &[(&str, &str, &str)] = &[
    // What the spec demands, and whole members of the wrong type.
    ("/ociVersion", "", "ociVersion: is missing"),
    ("/ociVersion", "7", "ociVersion: invalid type"),
    ("/ociVersion", "null", "ociVersion: invalid type"),
    ("/ociVersion", "\"\"", "ociVersion: \"\""),
    ("/ociVersion", "\"one\"", "ociVersion: \"one\""),
    ("/ociVersion", "\"1.0\"", "ociVersion: \"1.0\""),
    ("/ociVersion", "\"2.0.0\"", "ociVersion: \"2.0.0\""),
    ("/ociVersion", "\"0.9.0\"", "ociVersion: \"0.9.0\""),
    ("/root", "", "root.path: is missing"),
    ("/root", "null", "root.path: is missing"),
    ("/root", "\"rootfs\"", "root: invalid type"),
    ("/root", "[\"rootfs\", true]", "root: invalid type"),
    ("/root", "{}", "root.path: is missing"),
    ("/root/path", "\"\"", "root.path: is missing"),
    ("/root/path", "1", "root.path: invalid type"),
    ("/root/path", "\"nowhere\"", "root.path: "),
    ("/root/path", "\"/no/such/root\"", "root.path: "),
    ("/root/path", "\"../nowhere\"", "root.path: "),
    ("/root/path", "\"config.json\"", "root.path: "),
    ("/root/path", "\"root\\u0000fs\"", "root.path: contains a NUL byte"),
    ("/root/readonly", "\"yes\"", "root.readonly: invalid type"),
    ("/root/readonly", "1", "root.readonly: invalid type"),
    ("/hostname", "5", "hostname: invalid type"),
    ("/hostname", "\"a\\u0000\"", "hostname: contains a NUL byte"),
    (
        "/hostname",
        "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"",
        "hostname: is longer",
    ),
    ("/domainname", "[]", "domainname: invalid type"),
    (
        "/domainname",
        "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"",
        "domainname: is longer",
    ),
    ("/annotations", "[]", "annotations: invalid type"),
    ("/annotations", "{\"a\": 1}", "annotations.a: invalid type"),
    ("/annotations", "{\"org.x\": 1}", "annotations[\"org.x\"]: invalid type"),
    ("/annotations", "{\"\": \"x\"}", "annotations: a key is empty"),
    ("/annotations", "{\"a\": \"1\", \"a\": \"2\"}", "annotations.a: duplicate field"),
    // The process.
    ("/process", "", "process: is missing"),
    ("/process", "null", "process: is missing"),
    ("/process", "[]", "process: invalid type"),
    ("/process", "\"sh\"", "process: invalid type"),
    ("/process/args", "", "process.args: must name a program"),
    ("/process/args", "[]", "process.args: must name a program"),
    ("/process/args", "[\"\"]", "process.args: must name a program"),
    ("/process/args", "\"sh\"", "process.args: invalid type"),
    ("/process/args", "[\"sh\", 7]", "process.args[1]: invalid type"),
    ("/process/args", "[\"sh\", \"a\\u0000b\"]", "process.args[1]: contains a NUL byte"),
    ("/process/args", "{}", "process.args: invalid type"),
    ("/process/env", "[\"A=1\", \"B\"]", "process.env[1]: \"B\""),
    ("/process/env", "[\"=1\"]", "process.env[0]: \"=1\""),
    ("/process/env", "[\"\"]", "process.env[0]: \"\""),
    ("/process/env", "[null]", "process.env[0]: invalid type"),
    ("/process/env", "{\"A\": \"1\"}", "process.env: invalid type"),
    ("/process/env", "[\"A=\\u0000\"]", "process.env[0]: contains a NUL byte"),
    ("/process/cwd", "", "process.cwd: is missing"),
    ("/process/cwd", "\"\"", "process.cwd: \"\" must be absolute"),
    ("/process/cwd", "\"tmp\"", "process.cwd: \"tmp\" must be absolute"),
    ("/process/cwd", "\"./\"", "process.cwd: \"./\" must be absolute"),
    ("/process/terminal", "\"true\"", "process.terminal: invalid type"),
    ("/process/consoleSize", "{\"height\": 1}", "process.consoleSize.width: is missing"),
    ("/process/consoleSize", "{\"height\": -1, \"width\": 1}", "process.consoleSize.height: invalid value"),
    ("/process/consoleSize", "{\"height\": 1, \"width\": 65536}", "process.consoleSize.width: invalid value"),
    ("/process/user", "\"root\"", "process.user: invalid type"),
    ("/process/user/uid", "-1", "process.user.uid: invalid value"),
    ("/process/user/uid", "4294967295", "process.user.uid: 4294967295"),
    ("/process/user/uid", "4294967296", "process.user.uid: invalid value"),
    ("/process/user/uid", "1e3", "process.user.uid: invalid type"),
    ("/process/user/uid", "\"0\"", "process.user.uid: invalid type"),
    ("/process/user/gid", "4294967295", "process.user.gid: 4294967295"),
    ("/process/user/gid", "99999999999999999999999", "process.user.gid: "),
    ("/process/user/umask", "4096", "process.user.umask: "),
    ("/process/user/umask", "\"022\"", "process.user.umask: invalid type"),
    ("/process/user/additionalGids", "[1, -1]", "process.user.additionalGids[1]: invalid value"),
    ("/process/user/additionalGids", "[4294967295]", "process.user.additionalGids[0]: "),
    ("/process/user/additionalGids", "5", "process.user.additionalGids: invalid type"),
    ("/process/capabilities", "[\"CAP_CHOWN\"]", "process.capabilities: invalid type"),
    ("/process/capabilities/bounding", "\"CAP_CHOWN\"", "process.capabilities.bounding: invalid type"),
    (
        "/process/rlimits",
        "[{\"type\": \"RLIMIT_NOFILE\", \"hard\": 1}]",
        "process.rlimits[0].soft: is missing",
    ),
    (
        "/process/rlimits",
        "[{\"type\": \"RLIMIT_NOFILE\", \"hard\": 1, \"soft\": -1}]",
        "process.rlimits[0].soft: invalid value",
    ),
    ("/process/rlimits", "[{\"hard\": 1, \"soft\": 1}]", "process.rlimits[0].type: is missing"),
    ("/process/rlimits", "[{\"type\": \"RLIMIT_FLY\", \"hard\": 1, \"soft\": 1}]", "process.rlimits"),
    ("/process/rlimits", "[{\"type\": \"RLIMIT_NOFILE\", \"hard\": 1, \"soft\": 2}]", "process.rlimits"),
    (
        "/process/rlimits",
        "[{\"type\": \"RLIMIT_NOFILE\", \"hard\": 1, \"soft\": 1}, {\"type\": \"RLIMIT_NOFILE\", \"hard\": 2, \"soft\": 2}]",
        "process.rlimits[1].type: RLIMIT_NOFILE is there twice",
    ),
    ("/process/oomScoreAdj", "1001", "process.oomScoreAdj: 1001"),
    ("/process/oomScoreAdj", "-1001", "process.oomScoreAdj: -1001"),
    ("/process/oomScoreAdj", "0.5", "process.oomScoreAdj: invalid type"),
    ("/process/noNewPrivileges", "\"no\"", "process.noNewPrivileges: invalid type"),
    ("/process/ioPriority", "{\"class\": \"IOPRIO_CLASS_FLY\", \"priority\": 1}", "process.ioPriority"),
    ("/process/ioPriority", "{\"class\": \"IOPRIO_CLASS_BE\", \"priority\": 8}", "process.ioPriority"),
    ("/process/ioPriority", "{\"priority\": 1}", "process.ioPriority.class: is missing"),
    ("/process/scheduler", "{\"nice\": 1}", "process.scheduler.policy: is missing"),
    ("/process/scheduler", "{\"policy\": \"SCHED_FLY\"}", "process.scheduler"),
    // Mounts.
    ("/mounts", "{}", "mounts: invalid type"),
    ("/mounts/0", "\"/proc\"", "mounts[0]: invalid type"),
    ("/mounts/0", "[\"/proc\"]", "mounts[0]: invalid type"),
    ("/mounts/2/destination", "", "mounts[2].destination: is missing"),
    ("/mounts/2/destination", "\"\"", "mounts[2].destination: \"\""),
    ("/mounts/2/destination", "\"/\"", "mounts[2].destination: \"/\""),
    ("/mounts/2/destination", "\"/./\"", "mounts[2].destination: \"/./\""),
    ("/mounts/2/destination", "\"/a/../../b\"", "mounts[2].destination: \"/a/../../b\""),
    ("/mounts/2/destination", "\"../b\"", "mounts[2].destination: \"../b\""),
    ("/mounts/2/destination", "\"/a\\u0000\"", "mounts[2].destination: contains a NUL byte"),
    ("/mounts/2/type", "7", "mounts[2].type: invalid type"),
    ("/mounts/2/type", "", "mounts[2]"),
    ("/mounts/2/source", "[]", "mounts[2].source: invalid type"),
    ("/mounts/2/options", "\"ro\"", "mounts[2].options: invalid type"),
    ("/mounts/2/options", "[\"ro\", 1]", "mounts[2].options[1]: invalid type"),
    ("/mounts/2/options", "[\"ro\\u0000\"]", "mounts[2].options[0]: contains a NUL byte"),
    (
        "/mounts/2",
        "{\"destination\": \"/x\", \"type\": \"bind\", \"source\": \"/\", \"options\": [\"rbind\", \"fly\"]}",
        "mounts[2]",
    ),
    (
        "/mounts/2",
        "{\"destination\": \"/x\", \"destination\": \"/y\"}",
        "mounts[2].destination: duplicate field",
    ),
    ("/mounts/2/uidMappings", "[{\"containerID\": 0}]", "mounts[2].uidMappings[0].hostID: is missing"),
    // Hooks.
    ("/hooks", "[]", "hooks: invalid type"),
    ("/hooks", "{\"prestart\": {}}", "hooks.prestart: invalid type"),
    ("/hooks", "{\"prestart\": [{}]}", "hooks.prestart[0].path: is missing"),
    (
        "/hooks",
        "{\"createRuntime\": [{\"path\": \"bin/true\"}]}",
        "hooks.createRuntime[0].path: \"bin/true\"",
    ),
    ("/hooks", "{\"createContainer\": [{\"path\": \"\"}]}", "hooks.createContainer[0].path: \"\""),
    (
        "/hooks",
        "{\"startContainer\": [{\"path\": \"/bin/true\", \"timeout\": 0}]}",
        "hooks.startContainer[0].timeout: ",
    ),
    (
        "/hooks",
        "{\"poststart\": [{\"path\": \"/bin/true\", \"timeout\": -1}]}",
        "hooks.poststart[0].timeout: invalid value",
    ),
    (
        "/hooks",
        "{\"poststop\": [{\"path\": \"/bin/true\", \"env\": [\"A\"]}]}",
        "hooks.poststop[0].env[0]: \"A\"",
    ),
    (
        "/hooks",
        "{\"poststop\": [{\"path\": \"/bin/true\", \"args\": \"x\"}]}",
        "hooks.poststop[0].args: invalid type",
    ),
    // Namespaces.
    ("/linux", "[]", "linux: invalid type"),
    ("/linux", "null", "linux.namespaces: a container needs a mount namespace"),
    ("/linux/namespaces", "", "linux.namespaces: a container needs a mount namespace"),
    ("/linux/namespaces", "{}", "linux.namespaces: invalid type"),
    ("/linux/namespaces/2", "\"pid\"", "linux.namespaces[2]: invalid type"),
    ("/linux/namespaces/2", "{}", "linux.namespaces[2].type: is missing"),
    ("/linux/namespaces/2/type", "\"fly\"", "linux.namespaces[2].type: unknown variant `fly`"),
    ("/linux/namespaces/2/type", "\"PID\"", "linux.namespaces[2].type: unknown variant"),
    ("/linux/namespaces/2/type", "\"pid\"", "linux.namespaces[2].type: pid is there twice"),
    (
        "/linux/namespaces/4/path",
        "\"/proc/self/ns/mnt\"",
        "linux.namespaces: a container needs a mount namespace",
    ),
    ("/linux/namespaces/1/path", "\"netns\"", "linux.namespaces[1].path: must be absolute"),
    ("/linux/namespaces/1/path", "\"/no/such/netns\"", "linux.namespaces[1].path: /no/such/netns: ENOENT"),
    (
        "/linux/namespaces/1/path",
        "\"/proc/self/ns/uts\"",
        "linux.namespaces[1].path: /proc/self/ns/uts is a uts namespace, not net",
    ),
    ("/linux/namespaces/1/path", "\"/dev/null\"", "linux.namespaces[1].path: /dev/null is no namespace"),
    ("/linux/namespaces/1/path", "\"/proc/4194305/ns/net\"", "linux.namespaces[1].path: "),
    (
        "/linux/namespaces/0/path",
        "\"/proc/self/fd\"",
        "linux.namespaces[0].path: /proc/self/fd is no namespace",
    ),
    ("/linux/namespaces/3", "{\"type\": \"cgroup\"}", "linux.namespaces[5].type: cgroup is there twice"),
    (
        "/linux/timeOffsets",
        "{\"monotonic\": {\"secs\": 1}}",
        "linux.timeOffsets.monotonic: needs a new time namespace",
    ),
    ("/linux/timeOffsets", "{\"realtime\": {\"secs\": 1}}", "linux.timeOffsets.realtime: is none of"),
    (
        "/linux/timeOffsets",
        "{\"boottime\": {\"nanosecs\": 1000000000}}",
        "linux.timeOffsets.boottime.nanosecs: ",
    ),
    (
        "/linux/timeOffsets",
        "{\"boottime\": {\"secs\": 9223372036854775808}}",
        "linux.timeOffsets.boottime.secs: invalid value",
    ),
    // Id maps; the namespace is put in the place of uts.
    (
        "/linux/uidMappings",
        "[{\"containerID\": 0, \"hostID\": 0, \"size\": 1}]",
        "linux.uidMappings: needs a user namespace",
    ),
    (
        "/linux/gidMappings",
        "[{\"containerID\": 0, \"hostID\": 0, \"size\": 1}]",
        "linux.gidMappings: needs a user namespace",
    ),
    (
        "/linux/uidMappings",
        "[{\"containerID\": -1, \"hostID\": 0, \"size\": 1}]",
        "linux.uidMappings[0].containerID: invalid value",
    ),
    ("/linux/uidMappings", "[{\"containerID\": 0, \"hostID\": 0}]", "linux.uidMappings[0].size: is missing"),
    // Devices, limits, labels and all the others.
    ("/linux/devices", "[{\"type\": \"x\", \"path\": \"/dev/x\"}]", "linux.devices[0].type: \"x\""),
    ("/linux/devices", "[{\"path\": \"/dev/x\"}]", "linux.devices[0].type: is missing"),
    ("/linux/devices", "[{\"type\": \"c\"}]", "linux.devices[0].path: is missing"),
    (
        "/linux/devices",
        "[{\"type\": \"c\", \"path\": \"/dev/x\", \"major\": -1, \"minor\": 1}]",
        "linux.devices[0].major: -1",
    ),
    (
        "/linux/devices",
        "[{\"type\": \"c\", \"path\": \"/dev/x\", \"major\": 1, \"minor\": 4294967296}]",
        "linux.devices[0].minor: ",
    ),
    (
        "/linux/devices",
        "[{\"type\": \"c\", \"path\": \"/dev/../../x\", \"major\": 1, \"minor\": 1}]",
        "linux.devices[0].path: ",
    ),
    (
        "/linux/devices",
        "[{\"type\": \"c\", \"path\": \"/dev/x\", \"major\": 1, \"minor\": 1, \"fileMode\": 16777216}]",
        "linux.devices[0].fileMode: ",
    ),
    ("/linux/cgroupsPath", "7", "linux.cgroupsPath: invalid type"),
    ("/linux/cgroupsPath", "\"/knarr/../../x\"", "cgroupsPath"),
    ("/linux/cgroupsPath", "\"/\"", "cgroupsPath"),
    ("/linux/resources", "[]", "linux.resources: invalid type"),
    ("/linux/resources/devices", "[{\"access\": \"rwm\"}]", "linux.resources.devices[0].allow: is missing"),
    ("/linux/resources/devices", "[{\"allow\": 1}]", "linux.resources.devices[0].allow: invalid type"),
    ("/linux/resources/devices", "[{\"allow\": true, \"type\": \"x\"}]", "linux.resources.devices"),
    ("/linux/resources/devices", "[{\"allow\": true, \"access\": \"fly\"}]", "linux.resources.devices"),
    ("/linux/resources/memory", "{\"limit\": \"64m\"}", "linux.resources.memory.limit: invalid type"),
    (
        "/linux/resources/memory",
        "{\"limit\": 9223372036854775808}",
        "linux.resources.memory.limit: invalid value",
    ),
    ("/linux/resources/memory", "{\"swappiness\": -1}", "linux.resources.memory.swappiness: invalid value"),
    ("/linux/resources/cpu", "{\"shares\": -1}", "linux.resources.cpu.shares: invalid value"),
    ("/linux/resources/cpu", "{\"cpus\": 0}", "linux.resources.cpu.cpus: invalid type"),
    ("/linux/resources/pids", "{\"limit\": 1.5}", "linux.resources.pids.limit: invalid type"),
    ("/linux/resources/blockIO", "{\"weight\": 70000}", "linux.resources.blockIO.weight: invalid value"),
    (
        "/linux/resources/blockIO",
        "{\"throttleReadBpsDevice\": [{\"major\": 1, \"minor\": 1}]}",
        "linux.resources.blockIO.throttleReadBpsDevice[0].rate: is missing",
    ),
    (
        "/linux/resources/hugepageLimits",
        "[{\"pageSize\": \"2MB\"}]",
        "linux.resources.hugepageLimits[0].limit: is missing",
    ),
    (
        "/linux/resources/unified",
        "{\"memory.max\": 1}",
        "linux.resources.unified[\"memory.max\"]: invalid type",
    ),
    (
        "/linux/resources/unified",
        "{\"a\": \"1\", \"a\": \"1\"}",
        "linux.resources.unified.a: duplicate field",
    ),
    ("/linux/sysctl", "{\"kernel.panic\": \"1\"}", "linux.sysctl[\"kernel.panic\"]: is not kept apart"),
    ("/linux/sysctl", "{\"net.ipv4.ip_forward\": 1}", "linux.sysctl[\"net.ipv4.ip_forward\"]: invalid type"),
    (
        "/linux/sysctl",
        "{\"net/../kernel/panic\": \"1\"}",
        "linux.sysctl[\"net/../kernel/panic\"]: is no plain name",
    ),
    ("/linux/sysctl", "{\"net.a\\nb\": \"1\"}", "linux.sysctl[\"net.a\\nb\"]: is no plain name"),
    (
        "/linux/sysctl",
        "{\"net.ipv4.ip_forward\": \"1\\n2\"}",
        "linux.sysctl[\"net.ipv4.ip_forward\"]: its value has a line break",
    ),
    ("/linux/sysctl", "{\"a\": \"1\", \"a\": \"1\"}", "linux.sysctl.a: duplicate field"),
    ("/linux/seccomp", "{}", "linux.seccomp.defaultAction: is missing"),
    ("/linux/seccomp", "{\"defaultAction\": \"SCMP_ACT_FLY\"}", "linux.seccomp"),
    (
        "/linux/seccomp",
        "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"architectures\": [\"SCMP_ARCH_FLY\"]}",
        "linux.seccomp",
    ),
    ("/linux/seccomp", "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"flags\": [\"FLY\"]}", "linux.seccomp"),
    (
        "/linux/seccomp",
        "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"action\": \"SCMP_ACT_ERRNO\"}]}",
        "linux.seccomp.syscalls[0].names: is missing",
    ),
    (
        "/linux/seccomp",
        "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"open\"], \"action\": \"SCMP_ACT_ERRNO\", \"args\": [{\"index\": 6, \"value\": 1, \"op\": \"SCMP_CMP_EQ\"}]}]}",
        "linux.seccomp",
    ),
    (
        "/linux/seccomp",
        "{\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"open\"], \"action\": \"SCMP_ACT_ERRNO\", \"args\": [{\"index\": 0, \"value\": -1, \"op\": \"SCMP_CMP_EQ\"}]}]}",
        "linux.seccomp.syscalls[0].args[0].value: invalid value",
    ),
    ("/linux/rootfsPropagation", "\"fly\"", "linux.rootfsPropagation"),
    ("/linux/rootfsPropagation", "1", "linux.rootfsPropagation: invalid type"),
    ("/linux/maskedPaths", "[\"/proc/kcore\", \"proc/keys\"]", "linux.maskedPaths[1]: \"proc/keys\""),
    ("/linux/maskedPaths", "\"/proc/kcore\"", "linux.maskedPaths: invalid type"),
    ("/linux/readonlyPaths", "[\"proc\"]", "linux.readonlyPaths[0]: \"proc\""),
    ("/linux/personality", "{\"domain\": \"SOLARIS\"}", "linux.personality"),
    ("/linux/personality", "{}", "linux.personality.domain: is missing"),
    ("/linux/intelRdt", "{\"closID\": 7}", "linux.intelRdt.closID: invalid type"),
];

/// Id maps of a container with a user namespace, in the same manner; the other map is whole.
const MAPS: &[(&str, &str)] = &[
    ("", "linux.uidMappings: is missing"),
    ("[]", "linux.uidMappings: is missing"),
    ("[{\"containerID\": 0, \"hostID\": 0, \"size\": 0}]", "linux.uidMappings[0].size: must be at least 1"),
    (
        "[{\"containerID\": 1, \"hostID\": 0, \"size\": 9}]",
        "linux.uidMappings: id 0 of the container is not mapped",
    ),
    (
        "[{\"containerID\": 0, \"hostID\": 9, \"size\": 2}]",
        "process.user.uid: id 5 of the container is not mapped",
    ),
    (
        "[{\"containerID\": 0, \"hostID\": 0, \"size\": 9}, {\"containerID\": 8, \"hostID\": 100, \"size\": 9}]",
        "linux.uidMappings[1].containerID: overlaps linux.uidMappings[0]",
    ),
    (
        "[{\"containerID\": 10, \"hostID\": 0, \"size\": 9}, {\"containerID\": 0, \"hostID\": 8, \"size\": 9}]",
        "linux.uidMappings[1].hostID: overlaps linux.uidMappings[0]",
    ),
    ("[{\"containerID\": 0, \"hostID\": 4294967290, \"size\": 9}]", "linux.uidMappings[0].hostID: "),
    ("[{\"containerID\": 4294967295, \"hostID\": 0, \"size\": 1}]", "linux.uidMappings[0].containerID: "),
    (
        "[{\"containerID\": 0, \"hostID\": 0, \"size\": 4294967296}]",
        "linux.uidMappings[0].size: invalid value",
    ),
];

/// The config with `text` in the place of what `pointer` names.
fn with(spec: &Value, pointer: &str, text: &str) -> String {
    let mut spec = spec.clone();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = spec.pointer_mut(parent).unwrap();
    match (parent, text) {
        (Value::Object(object), "") => drop(object.remove(name)),
        (Value::Object(object), _) => drop(object.insert(name.to_owned(), "@here@".into())),
        (Value::Array(list), _) => list[name.parse::<usize>().unwrap()] = "@here@".into(),
        _ => panic!("{pointer}"),
    }
    spec.to_string().replace("\"@here@\"", text)
}

/// Runs `create` under strace and gives its message; fails if it did anything.
fn refused(bundle: &Bundle, config: &[u8], label: &str) -> String {
    const CHANGES: &str = "trace=?mkdir,mkdirat,?rename,?renameat,renameat2,?unlink,unlinkat,?rmdir,mount,umount2,fsopen,\
        open_tree,move_mount,mount_setattr,setns,unshare,clone,clone3,?fork,?vfork,bind,connect,socket,bpf,prlimit64";
    let trace = bundle.path().join("trace");
    fs::write(bundle.path().join("config.json"), config).unwrap();
    // strace stays with a container that should not have been made; so it is made to end.
    let mut command = Command::new("timeout");
    command
        .args(["--signal=KILL", "3", "strace", "-f", "-qq", "-e", "signal=none", "-e", CHANGES, "-o"])
        .arg(&trace);
    command.arg(runtime()).arg("--root").arg(bundle.path().join("state"));
    command.args(["create", "-b"]).arg(bundle.path()).arg(&bundle.id);
    let err = bundle.path().join("err");
    let status = command.stdout(Stdio::null()).stderr(fs::File::create(&err).unwrap()).status();
    let code = status.expect("strace is needed").code();
    let message = String::from_utf8_lossy(&fs::read(&err).unwrap()).into_owned();
    if code != Some(1) {
        bundle.call(&["delete", "--force"]);
        return format!("TAKEN: {code:?} {message}");
    }
    let trace = fs::read_to_string(&trace).unwrap();
    // libc's start reads a limit and sets none; the runtime seals itself with a mount that is attached nowhere.
    let harmless = [
        "prlimit64(0, RLIMIT_STACK, NULL",
        "open_tree(3, \"\", OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC|AT_EMPTY_PATH)",
        "mount_setattr(4, \"\", AT_EMPTY_PATH, {attr_set=MOUNT_ATTR_RDONLY,",
    ];
    let done: Vec<&str> =
        trace.lines().filter(|line| !harmless.iter().any(|call| line.contains(call))).collect();
    assert!(done.is_empty(), "{label}: something was done:\n{}", done.join("\n"));
    assert!(!bundle.path().join("state").exists(), "{label}: the root was made");
    message.trim_end().to_owned()
}

/// What comes after the name of the file.
fn reason<'m>(bundle: &Bundle, message: &'m str) -> &'m str {
    let file = format!("{}: ", bundle.path().join("config.json").display());
    message.strip_prefix(&file).unwrap_or(message)
}

fn base() -> Bundle {
    let mut bundle = Bundle::sh("true");
    bundle.spec["process"]["user"] = serde_json::json!({ "uid": 5, "gid": 5 });
    bundle
}

#[test]
fn every_fault_is_told_with_its_place() {
    if !is_ours() {
        return;
    }
    let bundle = base();
    let mut wrong = String::new();
    assert!(FAULTS.len() > 150);
    assert_eq!(FAULTS.iter().collect::<BTreeSet<_>>().len(), FAULTS.len());
    for (pointer, text, wanted) in FAULTS {
        let message = refused(&bundle, with(&bundle.spec, pointer, text).as_bytes(), pointer);
        if !reason(&bundle, &message).starts_with(wanted) {
            let _ = writeln!(wrong, "{pointer} {text}\n  wanted {wanted}\n  said   {message}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn maps_of_ids_are_whole_and_granted() {
    if !is_ours() {
        return;
    }
    let mut bundle = base();
    let whole = serde_json::json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    bundle.spec["linux"]["namespaces"][3]["type"] = "user".into();
    bundle.spec.as_object_mut().unwrap().remove("hostname");
    bundle.spec["linux"]["gidMappings"] = whole.clone();
    let many: Vec<String> =
        (0..341).map(|id| format!("{{\"containerID\": {id}, \"hostID\": {id}, \"size\": 1}}")).collect();
    let many = format!("[{}]", many.join(","));
    let maps = MAPS.iter().copied().chain([(many.as_str(), "linux.uidMappings: 341 lines")]);
    for (text, wanted) in maps {
        let config = with(&bundle.spec, "/linux/uidMappings", text);
        let message = refused(&bundle, config.as_bytes(), text);
        assert!(reason(&bundle, &message).starts_with(wanted), "{text}: {message}");
    }
    let groups = with(&bundle.spec, "/linux/gidMappings", "");
    let config: Value = serde_json::from_str(&groups).unwrap();
    let config = with(&config, "/linux/uidMappings", &whole.to_string());
    let message = refused(&bundle, config.as_bytes(), "no groups");
    assert!(reason(&bundle, &message).starts_with("linux.gidMappings: is missing"), "{message}");
    bundle.spec["linux"]["uidMappings"] = whole;
    // A joined one may be described by them, as containerd does in pods; without any they mean nothing.
    bundle.spec["linux"]["namespaces"].as_array_mut().unwrap().remove(3);
    let message = refused(&bundle, bundle.spec.to_string().as_bytes(), "none");
    assert!(reason(&bundle, &message).starts_with("linux.uidMappings: needs a user"), "{message}");
}

#[test]
fn nobody_gives_ids_that_they_do_not_have() {
    if !is_ours() {
        return;
    }
    let mut bundle = base();
    bundle.spec["process"]["user"] = serde_json::json!({ "uid": 0, "gid": 0 });
    bundle.spec["linux"]["namespaces"].as_array_mut().unwrap().push(serde_json::json!({ "type": "user" }));
    let map = |host: u32, size: u32| serde_json::json!([{ "containerID": 0, "hostID": host, "size": size }]);
    // Everybody may look at the bundle, to come as far as the check.
    let open =
        |path: &Path| fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    open(bundle.path());
    let program = bundle.path().join("runtime");
    fs::copy(runtime(), &program).unwrap();
    for (wrapper, host, size, by) in [
        (["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"].as_slice(), 0, 1, "/etc/subuid"),
        (&["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"], 54321, 2, "/etc/subuid"),
        // Root in a user namespace has what was mapped there.
        (&["unshare", "-Ur"], 0, 2, "/proc/self/uid_map"),
        (&["unshare", "-Ur"], 100_000, 65536, "/proc/self/uid_map"),
    ] {
        bundle.spec["linux"]["uidMappings"] = map(host, size);
        bundle.spec["linux"]["gidMappings"] = map(host, size);
        fs::write(bundle.path().join("config.json"), bundle.spec.to_string()).unwrap();
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(&program).arg("--root").arg("/nonexistent/root");
        let said = command.args(["create", "-b"]).arg(bundle.path()).arg(&bundle.id).output().unwrap();
        let message = String::from_utf8_lossy(&said.stderr);
        let wanted = format!("{size} ids from {host} on are not granted by {by}");
        assert!(message.contains("linux.uidMappings[0].hostID: ") && message.contains(&wanted), "{message}");
    }
}

#[test]
fn what_is_no_config_at_all_is_refused() {
    if !is_ours() {
        return;
    }
    let bundle = base();
    let good = bundle.spec.to_string();
    let deep = |open: &str, close: &str| {
        good.replacen('{', &format!("{{\"x\": {}1{}, ", open.repeat(100_000), close.repeat(100_000)), 1)
    };
    let args = |text: &str| with(&bundle.spec, "/process/args", text);
    let mounts = vec!["{\"destination\":\"/a\"}"; 150_000].join(",");
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nothing", b"".to_vec(), "EOF while parsing"),
        ("null", b"null".to_vec(), "invalid type: null"),
        ("an array", b"[]".to_vec(), "invalid type: sequence"),
        ("a word", b"\"config\"".to_vec(), "invalid type: string"),
        ("binary", vec![0x7f, b'E', b'L', b'F', 0, 1, 2], "expected value"),
        ("cut short", good.as_bytes()[..good.len() - 1].to_vec(), "EOF while parsing"),
        ("more after it", format!("{good}{{}}").into_bytes(), "trailing characters"),
        ("a comma too many", good.replacen("}}", "},}", 1).into_bytes(), ""),
        ("twice", good.replacen('{', "{\"hostname\": \"a\", ", 1).into_bytes(), "hostname: duplicate field"),
        (
            "not UTF-8",
            args("[\"sh\", \"\u{1}\"]")
                .replace('\u{1}', "@")
                .into_bytes()
                .iter()
                .map(|byte| if *byte == b'@' { 0xff } else { *byte })
                .collect(),
            "process.args[1]: is not UTF-8",
        ),
        ("half a surrogate", args("[\"\\ud800\"]").into_bytes(), "process.args[0]: "),
        ("a raw control character", args("[\"a\nb\"]").into_bytes(), "process.args[0]: control character"),
        ("deep arguments", args(&"[".repeat(100_000)).into_bytes(), "process.args[0]"),
        ("deep, unknown and unfinished", deep("[", "").into_bytes(), "x[0]"),
        (
            "a huge exponent",
            with(&bundle.spec, "/process/user/uid", "1e99999").into_bytes(),
            "process.user.uid: ",
        ),
        (
            "many mounts",
            with(&bundle.spec, "/mounts", &format!("[{mounts}]")).into_bytes(),
            "mounts: 150000 are more than",
        ),
        (
            "a million mounts",
            with(&bundle.spec, "/mounts", &format!("[{}]", [mounts.as_str(); 7].join(","))).into_bytes(),
            "is larger than",
        ),
        ("endless spaces", " ".repeat(17 << 20).into_bytes(), "is larger than"),
    ];
    for (label, config, wanted) in cases {
        let message = refused(&bundle, &config, label);
        assert!(
            reason(&bundle, &message).contains(wanted),
            "{label}: {}",
            &message[..message.len().min(500)]
        );
        assert!(message.len() < 2000, "{label}: a message is for people");
    }
    fs::remove_file(bundle.path().join("config.json")).unwrap();
    let said = bundle.call(&["create", "-b", bundle.path().to_str().unwrap()]);
    assert!(said.err.contains("config.json: ENOENT"), "{}", said.err);
}

#[test]
fn what_is_unusual_and_right_is_taken() {
    let mut bundle = base();
    bundle.spec["ociVersion"] = "1.0.2-dev".into();
    bundle.spec["mounts"][6]["destination"] = "dev/shm".into();
    bundle.spec["hooks"] = serde_json::json!({});
    bundle.spec["x-ours"] = serde_json::json!({ "anything": [1, 2, { "a": null }] });
    bundle.spec["linux"]["sysctl"] = serde_json::json!({});
    bundle.spec["process"]["rlimits"] = serde_json::json!([{ "type": "RLIMIT_CORE", "soft": 0, "hard": 0 }]);
    bundle.spec["process"]["args"] = serde_json::json!(["sh", "-c", "grep -c /dev/shm /proc/self/mountinfo"]);
    assert_eq!(bundle.output(), "1");
}
