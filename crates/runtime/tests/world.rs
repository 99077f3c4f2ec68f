//! What a container's process finds around it, and what it may do.

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;

use std::{fs, process::Command};

use bundle::{Bundle, CAPABILITIES, is_ours};
use serde_json::json;

fn push(list: &mut serde_json::Value, value: serde_json::Value) {
    if list.is_null() {
        *list = json!([]);
    }
    list.as_array_mut().unwrap().push(value);
}

#[test]
fn environment_directory_and_hostname() {
    let mut bundle = Bundle::sh("env | grep -v SHLVL; pwd; hostname; readlink /proc/self/cwd");
    bundle.spec["process"]["env"] = json!(["PATH=/bin", "HOME=/h", "A=b c"]);
    bundle.spec["process"]["cwd"] = json!("/made/for/it");
    let output = bundle.output();
    for line in ["A=b c", "HOME=/h", "/made/for/it", "ship"] {
        assert!(output.lines().any(|found| found == line), "{line}: {output}");
    }
}

#[test]
fn user_groups_umask_and_capabilities() {
    let mut bundle = Bundle::sh("id -u; id -G; umask; grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status");
    bundle.spec["process"]["user"] =
        json!({ "uid": 1000, "gid": 100, "additionalGids": [7, 8], "umask": 0o027 });
    let output = bundle.output();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[..3], ["1000", "100 7 8", "0027"], "{output}");
    for (name, value) in
        [("CapInh", 0_u64), ("CapPrm", 0), ("CapEff", 0), ("CapBnd", 0xa804_25fb), ("CapAmb", 0)]
    {
        let wanted = format!("{name}:\t{value:016x}");
        assert!(lines.contains(&wanted.as_str()), "{wanted}: {output}");
    }
    assert_eq!(CAPABILITIES.len(), 14);
    let root = Bundle::sh("grep -E 'Cap(Prm|Eff)' /proc/self/status; id -G").output();
    assert!(root.contains("CapEff:\t00000000a80425fb"), "{root}");
    assert!(root.ends_with("\n0"), "the caller's groups must not leak in: {root}");
}

#[test]
fn ambient_capabilities_reach_another_user() {
    let mut bundle = Bundle::sh("grep CapEff /proc/self/status");
    let set = json!(["CAP_NET_BIND_SERVICE"]);
    bundle.spec["process"]["user"]["uid"] = json!(1000);
    bundle.spec["process"]["capabilities"] =
        json!({ "bounding": set, "effective": set, "permitted": set, "inheritable": set, "ambient": set });
    assert_eq!(bundle.output(), "CapEff:\t0000000000000400");
}

#[test]
fn limits_of_resources() {
    let mut bundle = Bundle::sh("ulimit -n; ulimit -Hn; ulimit -c");
    bundle.spec["process"]["rlimits"] = json!([
        { "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }, { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 }
    ]);
    assert_eq!(bundle.output(), "100\n200\n0");
    bundle.spec["process"]["rlimits"] = json!([{ "type": "RLIMIT_NONSENSE", "soft": 1, "hard": 1 }]);
    assert_ne!(bundle.run().code, 0);
}

#[test]
fn masked_and_readonly_paths() {
    let script = "cat /proc/keys /proc/timer_list | wc -c; ls /proc/acpi /sys/firmware 2>/dev/null | grep -v : | grep -c .;
        echo x 2>/dev/null > /proc/sys/kernel/domainname && echo wrote; echo x 2>/dev/null > /proc/sysrq-trigger && echo wrote;
        grep -c -E ' /proc/(keys|timer_list) ' /proc/self/mountinfo; grep ' /proc/keys ' /proc/self/mountinfo";
    let output = Bundle::sh(&format!("{script}; true")).output();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[..3], ["0", "0", "2"], "{output}");
    assert!(lines[3].contains(" /null /proc/keys "), "{output}");
}

#[test]
fn devices_are_there_and_others_cannot_be_made() {
    let script = "stat -c '%F %t:%T %a' /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty;
        readlink /dev/fd; readlink /dev/stdin; readlink /dev/ptmx; head -c 3 /dev/zero | wc -c;
        mknod /dev/sda b 8 0 && head -c 1 /dev/sda; mknod /dev/mem c 1 1 && head -c 1 /dev/mem; true";
    let said = Bundle::sh(script).run();
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines[0], "character special file 1:3 666", "{}", said.out);
    assert_eq!(lines[6..10], ["/proc/self/fd", "/proc/self/fd/0", "pts/ptmx", "3"]);
    assert_eq!(lines.len(), 10, "{}", said.out);
}

#[test]
fn a_device_of_the_spec() {
    let mut bundle =
        Bundle::sh("stat -c '%F %t:%T %a %u %g' /dev/sub/fuse; head -c 0 /dev/sub/fuse && echo open");
    bundle.spec["linux"]["devices"] = json!([{ "type": "c", "path": "/dev/sub/fuse", "major": 10, "minor": 229, "fileMode": 0o640, "uid": 3, "gid": 4 }]);
    push(
        &mut bundle.spec["linux"]["resources"]["devices"],
        json!({ "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm" }),
    );
    let said = bundle.run();
    assert!(said.out.starts_with("character special file a:e5 640 3 4\n"), "{}{}", said.out, said.err);
}

#[test]
fn tmpfs_binds_and_a_readonly_root() {
    let script = "touch /x 2>/dev/null || echo root is read-only; touch /tmp/x && stat -c %a /tmp; grep ' /tmp ' /proc/self/mountinfo;
        cat /data/file; touch /data/new 2>/dev/null || echo data is read-only; cat /etc/one; touch /rw/new && echo written";
    let mut bundle = Bundle::sh(script);
    for directory in ["data", "rw"] {
        fs::create_dir(bundle.path().join(directory)).unwrap();
    }
    fs::write(bundle.path().join("data/file"), "content\n").unwrap();
    bundle.spec["root"]["readonly"] = json!(true);
    // What a read-only root needs as mount points is there before.
    for target in ["tmp", "data", "rw", "etc", "proc", "dev", "sys"] {
        fs::create_dir_all(bundle.rootfs().join(target)).unwrap();
    }
    let path = |name: &str| bundle.path().join(name).to_str().unwrap().to_owned();
    let mounts = [
        json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "size=1m", "mode=1777"] }),
        json!({ "destination": "/data", "type": "bind", "source": path("data"), "options": ["rbind", "ro", "rprivate"] }),
        json!({ "destination": "/etc/one", "type": "bind", "source": path("data/file"), "options": ["bind", "ro"] }),
        json!({ "destination": "/rw", "type": "bind", "source": path("rw"), "options": ["rbind", "nosuid"] }),
    ];
    for mount in mounts {
        push(&mut bundle.spec["mounts"], mount);
    }
    let output = bundle.output();
    let lines: Vec<&str> = output.lines().collect();
    // Old runcs give a tmpfs the mode of what it covers, whatever its options say.
    let mode = if is_ours() { "1777" } else { lines[1] };
    assert_eq!(lines[..2], ["root is read-only", mode], "{output}");
    assert!(lines[2].contains("nosuid") && lines[2].contains("size=1024k"), "{output}");
    assert_eq!(lines[3..], ["content", "data is read-only", "content", "written"], "{output}");
    assert!(bundle.path().join("rw/new").exists());
}

#[test]
fn namespaces_are_its_own() {
    let names = ["pid", "net", "ipc", "uts", "mnt", "cgroup"];
    let script = "for n in pid net ipc uts mnt cgroup; do readlink /proc/self/ns/$n; done; cat /proc/self/cgroup; ip link show lo; echo $$";
    let output = Bundle::sh(script).output();
    for (name, line) in names.iter().zip(output.lines()) {
        let host = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(host.to_str().unwrap(), line);
    }
    let groups = output.lines().filter(|line| line.split(':').count() == 3 && !line.contains(' '));
    assert!(groups.clone().all(|line| line.ends_with(":/")), "{output}");
    assert!(output.contains("LOOPBACK,UP"), "{output}");
    assert!(output.ends_with("\n1"), "{output}");
}

#[test]
fn a_namespace_can_be_joined() {
    let first = Bundle::sh("sleep 100");
    first.start();
    let pid = first.state()["pid"].to_string();
    let mut second = Bundle::sh("readlink /proc/self/ns/net; readlink /proc/self/ns/pid; echo $$");
    for (index, name) in [(1, "net"), (0, "pid")] {
        second.spec["linux"]["namespaces"][index]["path"] = json!(format!("/proc/{pid}/ns/{name}"));
    }
    let output = second.output();
    let lines: Vec<&str> = output.lines().collect();
    for (line, name) in lines.iter().zip(["net", "pid"]) {
        let theirs = fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        assert_eq!(theirs.to_str().unwrap(), *line);
    }
    assert_ne!(lines[2], "1");
}

#[test]
fn a_user_namespace_maps_ids() {
    let mut bundle = Bundle::sh(
        "id -u; cat /proc/self/uid_map; touch /dev/shm/x && stat -c %u /dev/shm/x; head -c 1 /dev/zero | wc -c",
    );
    push(&mut bundle.spec["linux"]["namespaces"], json!({ "type": "user" }));
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    bundle.spec["linux"]["uidMappings"] = map.clone();
    bundle.spec["linux"]["gidMappings"] = map;
    let rootfs = bundle.rootfs();
    let owned = Command::new("chown").args(["-R", "100000:100000"]).arg(&rootfs).status().unwrap();
    assert!(owned.success());
    fs::set_permissions(bundle.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let output = bundle.output();
    let words: Vec<&str> = output.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "100000", "65536", "0", "1"], "{output}");
}

#[test]
fn sysctls_and_oom_score() {
    let mut bundle = Bundle::sh("cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/self/oom_score_adj");
    bundle.spec["linux"]["sysctl"] = json!({ "net.ipv4.ip_unprivileged_port_start": "0" });
    bundle.spec["process"]["oomScoreAdj"] = json!(100);
    assert_eq!(bundle.output(), "0\n100");
    for key in ["kernel.core_pattern", "kernel/../vm/x", "vm.swappiness"] {
        let mut bad = Bundle::sh("true");
        bad.spec["linux"]["sysctl"] = json!({ key: "1" });
        assert_ne!(bad.run().code, 0, "{key}");
    }
}

#[test]
fn no_new_privileges_and_nothing_leaks() {
    let mut bundle = Bundle::sh(
        "grep NoNewPrivs /proc/self/status; ls /proc/self/fd | wc -l; cat /proc/self/status | grep -E 'SigBlk|SigIgn'",
    );
    bundle.spec["process"]["noNewPrivileges"] = json!(true);
    let output = bundle.output();
    let lines: Vec<&str> = output.lines().collect();
    // 0, 1, 2 and the one that `ls` itself reads the directory by.
    assert_eq!(lines, ["NoNewPrivs:\t1", "4", "SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"]);
}

#[test]
fn a_directory_outside_of_the_root_is_refused() {
    for cwd in ["/proc/self/fd/3", "/proc/self/fd/7/../..", "/proc/1/cwd"] {
        let mut bundle = Bundle::sh("readlink /proc/self/cwd; ls /proc/self/cwd/etc/debian_version");
        bundle.spec["process"]["cwd"] = json!(cwd);
        let said = bundle.run();
        assert!(said.code != 0 && !said.out.contains("debian_version"), "{cwd}: {}", said.out);
    }
}

#[test]
fn links_in_an_image_lead_nowhere_else() {
    let canary = tempfile::tempdir().unwrap();
    for (path, at) in [("dev", "/dev"), ("etc", "/etc/file"), ("var", "/var/deep/dir")] {
        let mut bundle = Bundle::sh("true");
        std::os::unix::fs::symlink(canary.path(), bundle.rootfs().join(path)).unwrap();
        let mounts = bundle.spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
        mounts.push(json!({ "destination": at, "type": "tmpfs", "source": "tmpfs", "options": [] }));
        bundle.run();
        assert_eq!(fs::read_dir(canary.path()).unwrap().count(), 0, "{path}");
    }
    for path in ["proc", "sys"] {
        let bundle = Bundle::sh("true");
        fs::create_dir(bundle.rootfs().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", bundle.rootfs().join(path)).unwrap();
        let said = bundle.run();
        assert_ne!(said.code, 0);
        assert!(said.err.contains("ordinary director"), "{}", said.err);
    }
}

#[test]
fn an_overlay_of_layers_and_a_time_namespace() {
    let mut bundle =
        Bundle::sh("cat /layers/one /layers/two; echo x > /layers/one; readlink /proc/self/ns/time");
    let path = |name: &str| bundle.path().join(name).to_str().unwrap().to_owned();
    for name in ["lower1", "lower2", "upper", "work"] {
        fs::create_dir(path(name)).unwrap();
    }
    fs::write(path("lower1/one"), "1\n").unwrap();
    fs::write(path("lower2/two"), "2\n").unwrap();
    let options = [
        format!("lowerdir={}:{}", path("lower1"), path("lower2")),
        format!("upperdir={}", path("upper")),
        format!("workdir={}", path("work")),
    ];
    let (upper, lower) = (path("upper/one"), path("lower1/one"));
    push(
        &mut bundle.spec["mounts"],
        json!({ "destination": "/layers", "type": "overlay", "source": "overlay", "options": options }),
    );
    if is_ours() {
        // runc learnt time namespaces in 1.2.
        push(&mut bundle.spec["linux"]["namespaces"], json!({ "type": "time" }));
        bundle.spec["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 1_000_000 } });
        bundle.spec["process"]["args"][2] = json!(
            "cat /layers/one /layers/two; echo x > /layers/one; readlink /proc/self/ns/time; cat /proc/uptime"
        );
    }
    let output = bundle.output();
    assert!(output.starts_with("1\n2\n"), "{output}");
    assert_eq!(fs::read_to_string(upper).unwrap(), "x\n");
    assert_eq!(fs::read_to_string(lower).unwrap(), "1\n");
    if is_ours() {
        let host = fs::read_link("/proc/self/ns/time").unwrap();
        assert_ne!(output.lines().nth(2), host.to_str());
        let uptime: f64 = output.lines().nth(3).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!(uptime > 1_000_000.0, "{uptime}");
    }
}
