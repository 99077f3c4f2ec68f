//! Create, start, end; and what is left of it.

use std::{fs, path::Path, process::Command};

use oci::{Mount, spec};
use shim::{
    client::Client,
    protocol::{Event, Exit, Log, Reply, Request},
};

use crate::common::{ALL, Bundle, Shim, busybox, cgroups, collect, done, eventually, exit_event, refused};

#[test]
fn output_exit_code_and_record() {
    let mut shim = Bundle::sh("echo out; echo err >&2; exit 7").create();
    let mut client = shim.attach(ALL);
    let mut watcher = shim.watch();
    shim.start();
    assert_eq!(collect(&mut client), (b"out\n".to_vec(), b"err\n".to_vec()));
    let told = exit_event(&mut watcher, None);
    assert_eq!((told.code, told.oom_killed), (7, false));
    assert_eq!(shim.exit(), told);
    let mut log = shim.log();
    log.sort();
    assert_eq!(log, [("stderr".into(), "err\n".into()), ("stdout".into(), "out\n".into())]);
    assert_eq!(shim.trouble(), "");
    assert_eq!(cgroups(&shim.bundle.id), Vec::<std::path::PathBuf>::new());
    let left = fs::read_dir(shim.bundle.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut left: Vec<_> = left.map(|name| name.into_string().unwrap()).collect();
    left.sort();
    let expected =
        ["c.log", "config.json", "exit.json", "image", "rootfs", "runtime", "shim.json", "shim.log"];
    assert_eq!(left, expected);
}

#[test]
fn signals_and_the_state_between() {
    let mut shim = Bundle::sh("trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done").create();
    let mut client = shim.attach(ALL);
    let message = refused(&mut shim.client(), &Request::Pause);
    assert_eq!(message, "the container is not started");
    shim.start();
    let message = refused(&mut shim.client(), &Request::Start);
    assert_eq!(message, "the container is started already");
    assert!(refused(&mut shim.client(), &Request::Discard).contains("has been started"));
    crate::common::expect(&mut client, "ready");
    let state = shim.state();
    assert_eq!(state.shim_pid, shim.child.id() as i32);
    assert!(state.started_at.is_some() && state.exit.is_none());
    let steps: Vec<_> = state.timeline.steps.iter().map(|step| step.what.as_str()).collect();
    assert_eq!(steps, ["begin shim", "unshare mounts", "mount bind", "runtime create", "runtime start"]);

    done(&mut shim.client(), &Request::Pause);
    assert!(shim.state().paused);
    done(&mut shim.client(), &Request::Resume);
    assert!(!shim.state().paused);
    assert!(
        refused(&mut shim.client(), &Request::Signal { session: None, signal: 999 }).contains("signal 999")
    );
    shim.signal(15);
    assert_eq!(shim.exit().code, 3);
}

#[test]
fn a_killed_container_has_128_and_the_signal() {
    let mut shim = Bundle::sh("sleep 100").create();
    shim.start();
    shim.signal(9);
    let exit = shim.exit();
    assert_eq!((exit.code, exit.oom_killed), (137, false));
}

#[test]
fn discard_leaves_no_record_and_nothing_else() {
    let mut shim = Bundle::sh("echo never").create();
    let pid = shim.state().pid;
    assert!(!cgroups(&shim.bundle.id).is_empty());
    done(&mut shim.client(), &Request::Discard);
    shim.gone();
    assert!(!shim.bundle.path().join("exit.json").exists());
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    assert!(cgroups(&shim.bundle.id).is_empty());
}

#[test]
fn a_failing_create_says_why_and_leaves_nothing() {
    let mut bundle = Bundle::sh("");
    bundle.spec.process.as_mut().unwrap().args = vec!["/no/such/program".into()];
    let mut shim = bundle.shim();
    let Reply::Error { message } = shim.first.reply().unwrap() else { panic!("it works?") };
    assert!(message.contains("/no/such/program"), "{message}");
    shim.gone();
    assert!(cgroups(&shim.bundle.id).is_empty());
    assert!(!shim.bundle.path().join("exit.json").exists());
    assert!(
        !fs::read_to_string("/proc/self/mountinfo").unwrap().contains(shim.bundle.path().to_str().unwrap())
    );
    let ours = Command::new("pgrep").args(["-f", &shim.bundle.id]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ours.stdout), "", "processes left");
}

#[test]
fn what_cannot_be_set_up_is_named() {
    fn failure(change: impl FnOnce(&mut Bundle)) -> String {
        let mut bundle = Bundle::sh("true");
        change(&mut bundle);
        let mut shim = bundle.shim();
        let reply = shim.first.reply().unwrap();
        shim.gone();
        match reply {
            Reply::Error { message } => message,
            other => panic!("{other:?}"),
        }
    }
    let message = failure(|bundle| bundle.config.runtime = "/no/runtime".into());
    assert!(message.starts_with("cannot open the runtime /no/runtime: "), "{message}");
    let message = failure(|bundle| bundle.config.runtime_args = vec!["--nonsense".into()]);
    assert!(message.contains("nonsense"), "{message}");
    let message = failure(|bundle| bundle.config.root[0].source = Some("/no/image".into()));
    assert!(message.starts_with("cannot mount bind on / of the container's root: No such file"), "{message}");
    let message = failure(|bundle| bundle.config.root[0].options.push("nonsense".into()));
    assert!(message.contains("\"nonsense\""), "{message}");
}

#[test]
fn an_overlay_root_is_the_containers_alone() {
    let mut bundle =
        Bundle::sh("cat /etc/low /etc/lower; echo new > /etc/made; cat /proc/self/mounts; sleep 100");
    let path = bundle.path().to_owned();
    for directory in ["upper", "work", "low/etc", "lower/etc"] {
        fs::create_dir_all(path.join(directory)).unwrap();
    }
    fs::write(path.join("low/etc/low"), "from low\n").unwrap();
    fs::write(path.join("lower/etc/low"), "hidden\n").unwrap();
    fs::write(path.join("lower/etc/lower"), "from lower\n").unwrap();
    let option = |key: &str, name: &str| format!("{key}={}", path.join(name).display());
    let layers = ["low", "lower", "image"].map(|name| option("lowerdir+", name));
    let mut options = layers.to_vec();
    options.extend([option("upperdir", "upper"), option("workdir", "work"), "nosuid".into()]);
    bundle.config.root = vec![Mount {
        destination: "/".into(),
        kind: Some("overlay".into()),
        source: Some("overlay".into()),
        options,
        ..Mount::default()
    }];

    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut shim = bundle.create();
    let mut client = shim.attach(ALL);
    shim.start();
    let seen = crate::common::expect(&mut client, "devpts");
    assert!(seen.starts_with("from low\nfrom lower\n"), "{seen}");
    assert!(seen.contains("overlay / overlay rw,nosuid"), "{seen}");
    let ours = |table: &str| table.lines().filter(|line| line.contains("shimtest")).count();
    assert_eq!(ours(&fs::read_to_string("/proc/self/mountinfo").unwrap()), ours(&before));
    assert_eq!(fs::read_dir(path.join("rootfs")).unwrap().count(), 0, "the host sees an empty rootfs");
    assert_eq!(fs::read_to_string(path.join("upper/etc/made")).unwrap(), "new\n");
    shim.signal(9);
    shim.exit();
}

/// Layers hold ids as they are inside; the container's root has another one outside.
#[test]
fn an_id_mapped_root() {
    for kind in ["overlay", "bind"] {
        let mut bundle = Bundle::sh(
            "id -u; stat -c '%u %g' /etc /bin/busybox /etc/theirs; echo new > /etc/made; mkdir /etc/d; rm /etc/theirs; stat -c %u /etc/made; echo ready; sleep 100",
        );
        let path = bundle.path().to_owned();
        for directory in ["state/upper", "state/work", "image/etc"] {
            fs::create_dir_all(path.join(directory)).unwrap();
        }
        fs::write(path.join("image/etc/theirs"), "").unwrap();
        std::os::unix::fs::chown(path.join("image/etc/theirs"), Some(7), Some(8)).unwrap();
        let map = vec![oci::IdMapping { container: 0, host: 100_000, size: 65_536 }];
        let option = |key: &str, name: &str| format!("{key}={}", path.join(name).display());
        let root = &mut bundle.config.root[0];
        (root.uid_mappings, root.gid_mappings) = (map.clone(), map.clone());
        if kind == "overlay" {
            root.kind = Some("overlay".into());
            root.options = vec![
                option("lowerdir+", "image"),
                option("upperdir", "state/upper"),
                option("workdir", "state/work"),
            ];
        }
        let linux = bundle.spec.linux.as_mut().unwrap();
        linux.namespaces.push(oci::spec::Namespace { kind: oci::spec::NamespaceKind::User, path: None });
        (linux.uid_mappings, linux.gid_mappings) = (map.clone(), map);
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let mut shim = bundle.create();
        let mut client = shim.attach(ALL);
        shim.start();
        let seen = crate::common::expect(&mut client, "ready");
        assert_eq!(seen, "0\n0 0\n0 0\n7 8\n0\nready\n", "{kind}");
        let made = if kind == "overlay" { "state/upper/etc/made" } else { "image/etc/made" };
        let made = fs::metadata(path.join(made)).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), 0, "{kind}: it is root's on the disk");
        shim.signal(9);
        shim.exit();
    }
}

/// As on a host whose mounts are all shared: its mounts stay peers, and none of the shim's reaches it.
#[test]
fn shared_mounts_of_the_host_stay_shared_and_get_nothing() {
    let mut bundle = Bundle::sh("sleep 100");
    let run = bundle.path().join("run");
    for directory in ["run", "work", "upper"] {
        fs::create_dir(bundle.path().join(directory)).unwrap();
    }
    // The bundle is on a mount of its own, as below /run; the bound directory is on another.
    let volume = tempfile::tempdir().unwrap();
    bundle.spec.mounts.push(Mount {
        destination: "/etc".into(),
        kind: Some("bind".into()),
        source: Some(volume.path().to_str().unwrap().into()),
        options: vec!["rbind".into(), "rslave".into()],
        ..Mount::default()
    });
    let script = format!(
        "mount --make-rshared / && mount -t tmpfs none {run} && mkdir {run}/rootfs && cp {dir}/*.json {run} && exec 3<&0 && \
         {{ {shim} {run} <&3 & }} && exec 3<&- && wait",
        run = run.display(),
        dir = bundle.path().display(),
        shim = crate::common::SHIM
    );
    let mut unshare = Command::new("unshare");
    // Private first: mounts that are shared already would be so with this machine's.
    unshare.args(["--mount", "--propagation", "private", "/bin/sh", "-c", &script]);
    let mut shim = bundle.shim_by(&mut unshare);
    let Reply::State(state) = shim.first.reply().unwrap() else { panic!("not created") };

    let host = shim.child.id();
    let inside = |pid: u32, arguments: &[&str]| {
        let entered = Command::new("nsenter").args(["-m", "-t", &pid.to_string()]).args(arguments).output();
        let output = entered.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let table = fs::read_to_string(format!("/proc/{host}/mountinfo")).unwrap();
    assert!(table.contains("shared:") && !table.contains("/rootfs"), "{table}");
    inside(host, &["mount", "-t", "tmpfs", "later", volume.path().to_str().unwrap()]);
    let table = fs::read_to_string(format!("/proc/{}/mountinfo", state.pid)).unwrap();
    assert!(table.lines().any(|line| line.contains(" /etc ") && line.contains("later")), "{table}");
    shim.start();
    done(&mut shim.first, &Request::Signal { session: None, signal: 9 });
    shim.gone();
}

#[test]
fn the_oom_killer_is_noticed() {
    let mut bundle = Bundle::sh("tail /dev/zero; echo survived; sleep 100");
    let limit = Some(24 << 20);
    let memory = spec::Memory { limit, swap: limit, ..spec::Memory::default() };
    let resources = spec::Resources { memory: Some(memory), ..spec::Resources::default() };
    bundle.spec.linux.as_mut().unwrap().resources = Some(resources);
    bundle.spec.linux.as_mut().unwrap().devices = vec![];
    let mut shim = bundle.create();
    let mut client = shim.attach(ALL);
    let mut watcher = shim.watch();
    shim.start();
    assert!(matches!(watcher.event().unwrap(), Event::OutOfMemory));
    crate::common::expect(&mut client, "survived");
    shim.signal(9);
    let exit = shim.exit();
    assert!(exit.oom_killed, "{exit:?}");
}

#[test]
fn garbage_ends_its_connection_only() {
    use std::io::{Read, Write};
    let mut shim = Bundle::sh("sleep 100").create();
    let too_long = [0xff, 0xff, 0xff, 0xff];
    let no_json = [&[0, 0, 0, 3][..], b"{x}"].concat();
    let unknown = [&[0, 0, 0, 12][..], b"{\"op\":\"fly\"}"].concat();
    for bytes in [&too_long[..], &no_json, &unknown] {
        let client = shim.client();
        let mut socket = client.socket();
        socket.write_all(bytes).unwrap();
        assert_eq!(socket.read(&mut [0; 9]).unwrap_or(0), 0);
    }
    let mut attached = shim.attach(ALL);
    attached.socket().write_all(&[1, 0, 0, 0, 0, 0, 0, 1, 7]).unwrap();
    assert!(attached.frame().unwrap_or(None).is_none(), "only standard input goes to the process");
    let crowd: Vec<_> = (0..300).map_while(|_| Client::connect(shim.bundle.path()).ok()).collect();
    drop(crowd);
    eventually("there is room again", || {
        let Ok(mut client) = Client::connect(shim.bundle.path()) else {
            return false;
        };
        matches!(client.ask(&Request::State), Ok(Reply::State(_)))
    });
    shim.start();
    shim.signal(9);
    shim.exit();
}

#[test]
fn a_second_run_in_the_same_directory_appends_to_the_log() {
    let mut shim = Bundle::sh("echo again").create();
    for times in 1..=2 {
        shim.start();
        assert_eq!(shim.exit().code, 0);
        assert_eq!(shim.log().len(), times);
        if times == 1 {
            shim = restart(shim);
        }
    }
}

fn restart(mut shim: Shim) -> Shim {
    let fresh = Bundle::sh("");
    let old = std::mem::replace(&mut shim.bundle, fresh);
    old.create()
}

#[test]
fn signals_to_the_shim_change_nothing() {
    let mut bundle = Bundle::sh("");
    bundle.spec.process.as_mut().unwrap().args = ["/bin/sleep", "100"].map(String::from).to_vec();
    let mut shim = bundle.create();
    for signal in ["HUP", "INT", "TERM", "QUIT", "USR1", "PIPE"] {
        let pid = shim.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
    }
    shim.start();
    // None of it is handed down. (32 and 33 are the C library's own.)
    let status = fs::read_to_string(format!("/proc/{}/status", shim.state().pid)).unwrap();
    for field in ["SigBlk:", "SigIgn:"] {
        let signals = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        let signals = u64::from_str_radix(signals.trim(), 16).unwrap() & !0x1_8000_0000;
        assert_eq!(signals, 0, "{field} {signals:x}");
    }
    shim.signal(9);
    let Exit { code, .. } = shim.exit();
    assert_eq!(code, 137);
}

#[test]
fn a_long_directory_name_is_no_obstacle() {
    let mut bundle = Bundle::sh("echo here");
    let long = tempfile::Builder::new().prefix(&"d".repeat(150)).tempdir().unwrap();
    fs::create_dir(long.path().join("rootfs")).unwrap();
    busybox(&long.path().join("image"));
    bundle.config.root[0].source = Some(long.path().join("image").to_str().unwrap().into());
    bundle.config.log = Log::JsonFile { path: long.path().join("c.log"), max_size: 0, max_files: 1 };
    bundle.config.runtime_root = long.path().join("runtime");
    bundle.dir = long;
    let mut shim = bundle.terminal().create();
    let mut client = shim.attach(ALL);
    shim.start();
    crate::common::expect(&mut client, "here");
    assert_eq!(shim.exit().code, 0);
}

/// The runtime here is a script that writes down what it was told to trace, and leaves the work to the real one.
#[test]
fn the_runtimes_steps_join_the_timeline() {
    use std::os::unix::fs::PermissionsExt;
    let mut bundle = Bundle::sh("sleep 100");
    let script = bundle.path().join("runtime.sh");
    let text = r#"#!/bin/bash
if [ "$7" = --trace ]; then
    echo "[{\"start\":$EPOCHSECONDS,\"took\":2,\"room\":\"runtime\",\"what\":\"trace $9\"}]" > "$8"
    exec RUNTIME "${@:1:6}" "${@:9}"
fi
exec RUNTIME "$@"
"#;
    fs::write(&script, text.replace("RUNTIME", crate::common::runtime().to_str().unwrap())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    bundle.config.runtime = script;
    bundle.config.runtime_traces = true;
    let mut shim = bundle.create();
    shim.start();
    let steps = shim.state().timeline.steps;
    let theirs = steps.iter().filter(|step| step.room == trace::Room::Runtime);
    assert_eq!(theirs.map(|step| &step.what[..]).collect::<Vec<_>>(), ["trace create", "trace start"]);
    shim.signal(9);
    assert_eq!(shim.exit().code, 137);
}

/// The runtime here is a script that hangs in `create`.
#[test]
fn what_is_being_created_can_be_discarded() {
    use std::os::unix::fs::PermissionsExt;
    let mut bundle = Bundle::sh("");
    let script = bundle.path().join("runtime.sh");
    fs::write(&script, "#!/bin/sh\ncase \"$*\" in *create*) sleep 4321 & wait;; esac\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    bundle.config.runtime = script;
    let mut shim = bundle.shim();
    eventually("it listens", || Client::connect(shim.bundle.path()).is_ok());
    assert_eq!(refused(&mut shim.client(), &Request::Start), "the container is being created");
    done(&mut shim.client(), &Request::Discard);
    let Reply::Error { .. } = shim.first.reply().unwrap() else { panic!("created?") };
    shim.gone();
    let left = Command::new("pgrep").args(["-x", "-f", "sleep 4321"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "", "processes left");
}
