//! The command line beside runc's: the same words in, the same exit code and the same meaning out.

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;

use std::{
    fs,
    io::Read,
    os::unix::net::{UnixDatagram, UnixListener},
    process::{Command, Stdio},
    time::Duration,
};

use bundle::{Bundle, Said, is_ours, runtime};
use serde_json::Value;

/// Words, exit code, what standard output has, what standard error has. `{root}` is an empty directory, `{bundle}` one
/// with a config; `running` and `stopped` are containers.
const CALLS: &[(&str, i32, &str, &str)] = &[
    ("", 0, "COMMANDS:", ""),
    ("help", 0, "GLOBAL OPTIONS:", ""),
    ("--help", 0, "GLOBAL OPTIONS:", ""),
    ("-h", 0, "GLOBAL OPTIONS:", ""),
    ("help list", 0, "--quiet", ""),
    ("h list", 0, "--quiet", ""),
    ("list --help", 0, "--quiet", ""),
    ("create -h", 0, "--bundle", ""),
    ("--version", 0, "spec: 1.", ""),
    ("-v", 0, "spec: 1.", ""),
    ("fly", 3, "", "No help topic for 'fly'"),
    ("help fly", 3, "", "No help topic for 'fly'"),
    ("--nope list", 1, "Incorrect Usage", "flag provided but not defined: -nope"),
    ("--root", 1, "Incorrect Usage", "flag needs an argument: -root"),
    ("--log-format xml list", 1, "", "invalid log-format: xml"),
    ("--log /nonexistent/log list", 1, "", "no such file or directory"),
    ("--debug list", 0, "OWNER", ""),
    ("--criu /x list", 0, "OWNER", ""),
    ("--rootless true list", 0, "OWNER", ""),
    ("--rootless=auto list", 0, "OWNER", ""),
    ("list", 0, "ID          PID         STATUS      BUNDLE", ""),
    ("list x", 1, "Incorrect Usage", "requires exactly 0 argument(s)"),
    ("list -f xml", 1, "", "invalid format option"),
    ("list -f table", 0, "OWNER", ""),
    ("list --format=json", 0, "\"status\":\"running\"", ""),
    ("list -q", 0, "running", ""),
    ("list -q=false", 0, "OWNER", ""),
    ("list -q=maybe", 1, "Incorrect Usage", "parse error"),
    ("create", 1, "Incorrect Usage", "requires exactly 1 argument(s)"),
    ("create a b", 1, "Incorrect Usage", "requires exactly 1 argument(s)"),
    ("create --nope a", 1, "Incorrect Usage", "flag provided but not defined: -nope"),
    ("create --pid-file", 1, "Incorrect Usage", "flag needs an argument: -pid-file"),
    ("create -b /nonexistent a", 1, "", "no such file or directory"),
    ("create -b {root} a", 1, "", "config.json"),
    ("create -b {bundle} a/b", 1, "", "invalid"),
    ("create -b {bundle} running", 1, "", "container with given ID already exists"),
    ("create -b {bundle} --console-socket /nonexistent/s a", 1, "", ""),
    ("create -b {bundle} --preserve-fds 3000 a", 1, "", ""),
    ("run", 1, "Incorrect Usage", "requires exactly 1 argument(s)"),
    ("run -b {bundle} running", 1, "", "container with given ID already exists"),
    ("start", 1, "Incorrect Usage", "requires exactly 1 argument(s)"),
    ("start nope", 1, "", "container does not exist"),
    ("start running", 1, "", "cannot start an already running container"),
    ("start stopped", 1, "", "cannot start a container that has stopped"),
    ("state", 1, "Incorrect Usage", "requires exactly 1 argument(s)"),
    ("state nope", 1, "", "container does not exist"),
    ("state running", 0, "\"status\": \"running\"", ""),
    ("state stopped", 0, "\"pid\": 0", ""),
    ("kill", 1, "Incorrect Usage", "requires a minimum of 1 argument(s)"),
    ("kill a b c", 1, "Incorrect Usage", "requires a maximum of 2 argument(s)"),
    ("kill nope", 1, "", "container does not exist"),
    ("kill running FOO", 1, "", "unknown signal"),
    ("kill running 0", 0, "", ""),
    ("kill running SIGCONT", 0, "", ""),
    ("kill running cont", 0, "", ""),
    ("kill running 18", 0, "", ""),
    ("kill --all running CONT", 0, "", ""),
    ("kill stopped", 1, "", "container not running"),
    ("kill --all stopped KILL", 0, "", ""),
    ("delete", 1, "Incorrect Usage", "requires exactly 1 argument(s)"),
    ("delete nope", 1, "", "container does not exist"),
    ("delete --force nope", 0, "", ""),
    ("delete -f nope", 0, "", ""),
    ("delete running", 1, "", "cannot delete container running that is not stopped: running"),
    ("ps", 1, "Incorrect Usage", "requires a minimum of 1 argument(s)"),
    ("ps nope", 1, "", "container does not exist"),
    ("ps running", 0, "sleep 1000", ""),
    ("ps running -o pid,comm", 0, "COMMAND", ""),
    ("ps running -o comm", 1, "", "couldn't find PID field in ps output"),
    ("ps -f json running", 0, "[", ""),
    ("ps stopped", 0, "CMD", ""),
    ("pause", 1, "Incorrect Usage", "requires exactly 1 argument(s)"),
    ("pause nope", 1, "", "container does not exist"),
    ("pause stopped", 1, "", "container not running"),
    ("resume nope", 1, "", "container does not exist"),
    ("resume running", 1, "", "container not paused"),
    ("exec", 1, "Incorrect Usage", "requires a minimum of 1 argument(s)"),
    ("exec nope true", 255, "", "container does not exist"),
    ("exec running", 255, "", "process"),
    ("exec running nope", 255, "", "executable file not found in $PATH"),
    ("exec running true", 0, "", ""),
    ("exec running sh -c exit\u{a0}7", 7, "", ""),
    ("exec -e A=1 -u 3:4 --cwd /bin running id", 0, "uid=3 gid=4", ""),
    ("exec -u x running id", 255, "", ""),
    ("exec -t -d running true", 255, "", "cannot allocate tty"),
    ("exec -p /nonexistent running", 255, "", "no such file or directory"),
    ("exec stopped true", 255, "", "cannot exec in a stopped container"),
    ("features", 0, "\"ociVersionMin\": \"1.0.0\"", ""),
    ("spec -b /nonexistent", 1, "", "no such file or directory"),
    ("spec -b {bundle}", 1, "", "File config.json exists"),
];

fn say(program: &str, root: &str, bundle: &Bundle, line: &str) -> Said {
    let empty = bundle.path().join("empty");
    fs::create_dir_all(&empty).unwrap();
    let fill = |word: &str| {
        let word = word.replace("{bundle}", bundle.path().to_str().unwrap());
        word.replace("{root}", empty.to_str().unwrap()).replace('\u{a0}', " ")
    };
    let words: Vec<String> = line.split(' ').filter(|word| !word.is_empty()).map(fill).collect();
    // The log's own flag comes from some of the lines; a second --root would hide the containers.
    let root = if line.starts_with("--root ") || line == "--root" { vec![] } else { vec!["--root", root] };
    let mut command = Command::new(program);
    command.args(root).args(&words).stdin(Stdio::null()).output().unwrap().into()
}

#[test]
fn every_call_ends_as_runcs_does() {
    let mut peers = vec![(runtime(), "ours")];
    if is_ours() {
        peers.push(("runc".to_owned(), "runc"));
    }
    let mut wrong = Vec::new();
    for (program, name) in peers {
        let bundle = Bundle::new(&["/bin/sleep", "1000"]);
        let root = bundle.path().join(name).display().to_string();
        let make = |id: &str| {
            let mut spec = bundle.spec.clone();
            spec["linux"]["cgroupsPath"] = format!("/knarr/{}-{name}-{id}", bundle.id).into();
            fs::write(bundle.path().join("config.json"), spec.to_string()).unwrap();
            let out = fs::File::create(bundle.path().join("out")).unwrap();
            let mut command = Command::new(&program);
            command.args(["--root", &root, "run", "-d", "-b", bundle.path().to_str().unwrap(), id]);
            let status = command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out).status();
            assert!(status.unwrap().success(), "{}", bundle.printed());
        };
        make("running");
        make("stopped");
        say(&program, &root, &bundle, "kill stopped KILL");
        let gone = || say(&program, &root, &bundle, "state stopped").out.contains("stopped");
        bundle::until("it has stopped", gone);
        for (line, code, out, err) in CALLS {
            let said = say(&program, &root, &bundle, line);
            // We tell the kernel's refusals by their names.
            let told = said.err.replace("ENOENT", "no such file or directory");
            if said.code != *code || !said.out.contains(out) || !told.contains(err) {
                wrong.push(format!("{name} {line}: {} {:?} {:?}", said.code, said.out, said.err));
            }
        }
        for id in ["running", "stopped"] {
            assert_eq!(say(&program, &root, &bundle, &format!("delete -f {id}")).code, 0);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The member names of an object, in their order.
fn keys(text: &str) -> Vec<String> {
    let quoted = text.split('"').skip(1).step_by(2).zip(text.split('"').skip(2).step_by(2));
    quoted.filter(|(_, after)| after.starts_with(':')).map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn state_and_list_have_runcs_shape() {
    let mut bundle = Bundle::sh("sleep 1000");
    bundle.spec["annotations"] = serde_json::json!({ "org.example.a": "1" });
    bundle.start();
    let state = bundle.call(&["state"]).out;
    let names = [
        "ociVersion",
        "id",
        "pid",
        "status",
        "bundle",
        "rootfs",
        "created",
        "annotations",
        "org.example.a",
        "owner",
    ];
    assert_eq!(keys(&state), names);
    assert!(state.starts_with("{\n  \"ociVersion\": \"1.0.2"), "{state}");
    let state: Value = serde_json::from_str(&state).unwrap();
    assert_eq!(state["rootfs"], bundle.rootfs().to_str().unwrap());
    assert_eq!(state["owner"], "");
    let created = state["created"].as_str().unwrap();
    assert!(created.len() > 20 && &created[10..11] == "T" && created.ends_with('Z'), "{created}");
    let listed = Said::from(bundle.command(&["list", "-f", "json"]).output().unwrap()).out;
    assert_eq!(keys(&listed), names);
    assert_eq!(listed.trim_end().lines().count(), 1);
    assert_eq!(serde_json::from_str::<Value>(&listed).unwrap()[0]["owner"], "root");
    let root = bundle.path().join("none");
    let none = Command::new(runtime()).arg("--root").arg(root).args(["list", "-f", "json"]).output().unwrap();
    assert_eq!(none.stdout, b"null\n");
}

#[test]
fn the_log_has_what_went_wrong_as_json() {
    let bundle = Bundle::sh("true");
    let log = bundle.path().join("log.json");
    let flags = ["--log", log.to_str().unwrap(), "--log-format", "json"];
    assert_eq!(bundle.command(&flags).args(["list"]).output().unwrap().status.code(), Some(0));
    assert!(log.exists(), "callers read it whenever a call fails");
    for words in [["state"].as_slice(), &["create", "--nope"]] {
        let before = fs::read_to_string(&log).unwrap().lines().count();
        let said = bundle.call(&[&flags, words].concat());
        assert_eq!(said.code, 1);
        let text = fs::read_to_string(&log).unwrap();
        assert_eq!(text.lines().count(), before + 1, "{text}");
        let line: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(line["level"], "error");
        assert!(line["time"].is_string());
        assert!(said.err.contains(line["msg"].as_str().unwrap()), "{} {line}", said.err);
    }
    let line = bundle.call(&["--log-format", "json", "state"]).err;
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["msg"], "container does not exist");
}

#[test]
fn sockets_and_descriptors_are_handed_on() {
    let bundle = Bundle::sh("echo $LISTEN_FDS $LISTEN_PID; ls /proc/self/fd | wc -w; cat <&4");
    fs::write(bundle.path().join("config.json"), bundle.spec.to_string()).unwrap();
    fs::write(bundle.path().join("given"), "given\n").unwrap();
    let run = |fds: &str| -> Said {
        let script =
            format!("exec 3</dev/null 4<{0}/given; LISTEN_PID=$$ {fds} exec \"$@\"", bundle.path().display());
        let state = bundle.path().join("state");
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh"]).arg(runtime()).arg("--root").arg(state);
        command.args(["run", "--preserve-fds", "1", "-b"]).arg(bundle.path()).arg(&bundle.id);
        command.stdin(Stdio::null()).output().unwrap().into()
    };
    let said = run("LISTEN_FDS=1");
    // 0 to 2, the two that were given, and that of the directory that ls reads.
    assert_eq!((said.code, said.out.as_str()), (0, "1 1\n6\ngiven\n"), "{}", said.err);
    let refused = run("LISTEN_FDS=7");
    assert_ne!(refused.code, 0, "{}", refused.out);
    bundle.assert_gone();
}

#[test]
fn a_container_that_is_ready_says_so_to_the_service_manager() {
    let script = "import socket, os\ns = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
        s.sendto(b'STATUS=getting up\\nREADY=1', os.environ['NOTIFY_SOCKET'])";
    let bundle = Bundle::sh("echo $NOTIFY_SOCKET; while ! test -e /said; do sleep 0.01; done; sleep 100");
    let manager = bundle.path().join("manager.sock");
    let socket = UnixDatagram::bind(&manager).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    fs::write(bundle.path().join("config.json"), bundle.spec.to_string()).unwrap();
    let out = fs::File::create(bundle.path().join("out")).unwrap();
    let call = |words: &[&str]| {
        let mut command = bundle.command(words);
        command.arg(&bundle.id).env("NOTIFY_SOCKET", &manager);
        command.stdout(out.try_clone().unwrap()).stderr(out.try_clone().unwrap());
        command
    };
    assert!(call(&["create", "-b", bundle.path().to_str().unwrap()]).status().unwrap().success());
    let mut start = call(&["start"]).spawn().unwrap();
    bundle::until("it runs", || bundle.printed() == "/run/notify/notify.sock\n");
    assert!(start.try_wait().unwrap().is_none(), "start waits for the container to be ready");
    let pid = bundle.state()["pid"].to_string();
    let inside = format!("/proc/{pid}/root/run/notify/notify.sock");
    let spoke = Command::new("python3").args(["-c", script]).env("NOTIFY_SOCKET", inside).status();
    assert!(spoke.expect("python3 is needed").success());
    let heard = || {
        let mut message = [0; 200];
        let length = socket.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    };
    assert_eq!((heard().as_str(), heard()), ("READY=1", format!("MAINPID={pid}")));
    assert!(start.wait().unwrap().success());
}

#[test]
fn a_starter_config_runs() {
    for flags in [["spec"].as_slice(), &["spec", "--rootless"]] {
        let mut bundle = Bundle::sh("true");
        let said =
            Said::from(bundle.command(flags).args(["-b", bundle.path().to_str().unwrap()]).output().unwrap());
        assert_eq!(said.code, 0, "{}", said.err);
        let path = bundle.path().join("config.json");
        let mut spec: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        spec["process"]["terminal"] = false.into();
        spec["process"]["args"] = serde_json::json!(["sh", "-c", "id -u; cat /proc/self/uid_map"]);
        spec["process"]["env"] = serde_json::json!(["PATH=/bin"]);
        spec["linux"]["cgroupsPath"] = format!("/knarr/{}", bundle.id).into();
        bundle.spec = spec;
        let said = bundle.output();
        let rootless = flags.len() > 1;
        let lines: Vec<String> =
            said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines, ["0", if rootless { "0 0 1" } else { "0 0 4294967295" }]);
    }
}

#[test]
fn a_terminal_comes_to_the_console_socket() {
    let mut bundle = Bundle::sh("tty");
    bundle.spec["process"]["terminal"] = true.into();
    let path = bundle.path().join("console.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let created = bundle.create_with(&["--console-socket", path.to_str().unwrap()]);
    assert_eq!(created.code, 0, "{}", created.err);
    let (mut connection, _) = listener.accept().unwrap();
    let mut name = [0; 64];
    assert!(connection.read(&mut name).unwrap() > 0);
}

#[test]
fn features_have_the_whole_structure_of_the_spec() {
    if !is_ours() {
        return;
    }
    let features = Said::from(Command::new(runtime()).arg("features").output().unwrap()).out;
    let features: Value = serde_json::from_str(&features).unwrap();
    for place in [
        "/ociVersionMin",
        "/ociVersionMax",
        "/hooks/5",
        "/mountOptions/20",
        "/linux/namespaces/7",
        "/linux/capabilities/40",
        "/linux/cgroup/v1",
        "/linux/cgroup/v2",
        "/linux/cgroup/systemd",
        "/linux/cgroup/systemdUser",
        "/linux/cgroup/rdma",
        "/linux/seccomp/enabled",
        "/linux/seccomp/actions/6",
        "/linux/seccomp/operators/6",
        "/linux/seccomp/archs/2",
        "/linux/seccomp/knownFlags/0",
        "/linux/seccomp/supportedFlags/0",
        "/linux/apparmor/enabled",
        "/linux/selinux/enabled",
        "/linux/intelRdt/enabled",
        "/linux/intelRdt/schemata",
        "/linux/intelRdt/monitoring",
        "/linux/memoryPolicy/modes",
        "/linux/memoryPolicy/flags",
        "/linux/mountExtensions/idmap/enabled",
        "/linux/netDevices/enabled",
        "/annotations",
        "/potentiallyUnsafeConfigAnnotations",
    ] {
        assert!(features.pointer(place).is_some(), "{place} is missing");
    }
    // What is claimed is done: a container with each of these runs, and one with any other word is told so.
    let has =
        |list: &str, word: &str| features.pointer(list).unwrap().as_array().unwrap().contains(&word.into());
    for (word, known) in [("ro", true), ("rnosuid", true), ("fly", false)] {
        assert_eq!(has("/mountOptions", word), known, "{word}");
        let mut bundle = Bundle::sh("true");
        let source = bundle.path().join("rootfs/bin");
        bundle.spec["mounts"].as_array_mut().unwrap().push(serde_json::json!({
            "destination": "/x", "type": "bind", "source": source, "options": ["rbind", word]
        }));
        assert_eq!(bundle.run().code == 0, known, "{word}");
    }
}
