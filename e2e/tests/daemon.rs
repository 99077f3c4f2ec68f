//! The daemon's own manners: sockets, flags, signals, and what it does not do yet.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    process::Command,
};

use e2e::{Engine, Setup, knarr_only, program};

knarr_only![
    two_sockets,
    a_socket_from_systemd,
    the_units_are_sound,
    the_socket_is_for_a_group,
    the_roots_are_closed_to_others,
    debug_logs_more,
    what_is_not_implemented_says_so,
    wrong_flags,
    events_tell,
    a_v2_hierarchy_alone,
    idle_it_is_light,
];

fn two_sockets() {
    let other = std::env::temp_dir().join(format!("knarr-e2e-{}.sock", std::process::id()));
    let args = vec![format!("--host=unix://{}", other.display())];
    let engine = Engine::start(Setup { args, ..Default::default() });
    let output = Command::new("docker")
        .args(["-H", &format!("unix://{}", other.display()), "ps"])
        .output()
        .expect("run docker");
    assert!(output.status.success());
    engine.any_client().run("ps").ok();
    drop(engine);
    assert!(!other.exists(), "the socket is left behind");
}

fn a_socket_from_systemd() {
    let wrapper = ["systemd-socket-activate", "-l", "{socket}"].map(str::to_owned).to_vec();
    let engine = Engine::with_busybox(Setup { wrapper, host: Some("fd://".into()), ..Default::default() });
    engine.any_client().run("run --rm busybox ls /proc/self/fd").ok().out("0\n1\n2\n3\n");
    // It is systemd's: the next daemon finds it.
    engine.stop_daemon();
    assert!(engine.socket().exists());
}

fn the_units_are_sound() {
    let place = e2e::Place::new("units");
    let script = "cp packaging/systemd/knarr.service packaging/systemd/knarr.socket $1 && \
        sed -i \"s|^ExecStart=[^ ]*|ExecStart=$2|\" $1/knarr.service && \
        systemd-analyze verify --man=no $1/knarr.service $1/knarr.socket";
    let output = Command::new("sh")
        .args(["-euc", script, "sh"])
        .args([&place.dir, &program("knarr")])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("run sh");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
}

fn the_socket_is_for_a_group() {
    let engine = Engine::start(Setup::default());
    let socket = fs::metadata(engine.socket()).expect("it is there");
    assert_eq!(socket.permissions().mode() & 0o777, 0o660);
    let groups = fs::read_to_string("/etc/group").expect("read the groups");
    let group = |name: &str| {
        let line = groups.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        line.split(':').nth(2)?.parse::<u32>().ok()
    };
    let expected = group("docker").or_else(|| group("knarr")).unwrap_or(0);
    assert!(socket.gid() == expected || Some(socket.gid()) == group("knarr"), "group {}", socket.gid());
}

fn the_roots_are_closed_to_others() {
    let engine = Engine::with_busybox(Setup::default());
    let c = engine.any_client();
    let id = c.start("busybox sleep 100");
    for (path, mode) in
        [(engine.exec_root(), 0o711), (engine.exec_root().join("containers").join(&id), 0o700)]
    {
        let found = fs::metadata(&path).expect("it is there").permissions().mode() & 0o777;
        assert_eq!(found, mode, "{}", path.display());
    }
    // A set-uid program in a layer must not be reachable by the machine's users.
    let script = format!("ls {}/overlay", engine.data_root().display());
    let status = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "sh", "-c", &script])
        .output();
    assert!(!status.expect("run setpriv").status.success());
    c.run(&format!("rm -f {id}")).ok();
}

fn debug_logs_more() {
    let length = |args: &[&str]| {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let engine = Engine::with_busybox(Setup { args, ..Default::default() });
        engine.any_client().run("run --rm busybox true").ok();
        engine.log().len()
    };
    assert!(length(&["--debug"]) > length(&[]));
}

fn what_is_not_implemented_says_so() {
    let engine = Engine::start(Setup::default());
    for (method, path) in
        [("POST", "/v1.47/build"), ("POST", "/v1.47/volumes/create"), ("POST", "/v1.47/swarm/init")]
    {
        let (status, body) = engine.request(method, path, "").expect("answer");
        assert_eq!(status, 501, "{path}: {body}");
        assert!(
            body["message"].as_str().is_some_and(|text| text.contains("not implement")),
            "{path}: {body}"
        );
    }
}

fn wrong_flags() {
    for (flags, part) in [
        (vec!["--no-such-flag"], "--no-such-flag"),
        (vec!["-H", "http://nonsense"], "http://nonsense"),
        (vec!["--cgroup-parent", "relative/../x"], "cgroup"),
    ] {
        let place = e2e::Place::new("flags");
        let roots = [
            format!("--data-root={}/data", place.dir.display()),
            format!("--exec-root={}/run", place.dir.display()),
        ];
        let output = Command::new("timeout")
            .arg("10")
            .arg(program("knarr"))
            .arg("daemon")
            .args(roots)
            .args(&flags)
            .output()
            .expect("run knarr");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && output.status.code() != Some(124), "{flags:?}: {said}");
        assert!(said.contains(part), "{flags:?}: {said}");
    }
}

fn events_tell() {
    let engine = Engine::with_busybox(Setup::default());
    let c = engine.any_client();
    let mut events = c.spawn("events --format '{{.Type}} {{.Action}}'");
    e2e::rest(300);
    c.run("run --name told busybox sh -c 'exit 3'").code(3);
    c.run("rm told").ok();
    let told: Vec<String> =
        std::iter::from_fn(|| Some(events.line())).take_while(|line| line != "container destroy").collect();
    for action in ["create", "start", "die"] {
        assert!(told.contains(&format!("container {action}")), "{told:?}");
    }
}

fn a_v2_hierarchy_alone() {
    // In a mount namespace of its own.
    const VIEW: &str = "v2=$(mktemp -d) && mount --bind /sys/fs/cgroup/unified $v2 && umount -R -l /sys/fs/cgroup && \
        mount --move $v2 /sys/fs/cgroup && rmdir $v2 && exec \"$@\"";
    if !std::path::Path::new("/sys/fs/cgroup/unified").exists() {
        return; // The whole suite runs on v2 there.
    }
    let wrapper =
        ["unshare", "-m", "--propagation=private", "sh", "-c", VIEW, "sh"].map(str::to_owned).to_vec();
    let engine = Engine::with_busybox(Setup { wrapper, ..Default::default() });
    let c = engine.any_client();
    c.run("run --rm busybox sh -c 'echo out; exit 3'").code(3).out("out\n");
    let id = c.start("busybox sh -c 'while :; do echo tick; sleep 0.05; done'");
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", c.pid(&id))).expect("it runs");
    let v2 = groups.lines().find(|line| line.starts_with("0::")).unwrap_or_default();
    assert!(v2.ends_with(&format!("{}/{id}", engine.place.cgroup)), "{groups}");
    c.run(&format!("exec {id} echo in")).ok().out("in\n");
    c.run(&format!("pause {id}")).ok();
    e2e::rest(200);
    let count = || c.run(&format!("logs {id}")).ok().lines().len();
    let before = count();
    e2e::rest(300);
    assert_eq!(count(), before, "it is not frozen");
    c.run(&format!("unpause {id}")).ok();
    c.run(&format!("rm -f {id}")).ok();
    // The controllers are elsewhere on this machine: a limit that cannot be held is not promised.
    if !fs::read_to_string("/sys/fs/cgroup/unified/cgroup.controllers").unwrap_or_default().contains("memory")
    {
        let limited = c.run("run --rm -m 64m busybox true");
        assert!(limited.code == 125 || limited.stderr.contains("WARNING"), "{limited:?}");
        limited.err_has("memory");
    }
}

fn idle_it_is_light() {
    let engine = Engine::with_busybox(Setup::default());
    let c = engine.any_client();
    let id = c.start("busybox sleep 100");
    c.run("run --rm busybox true").ok();
    let pss = |pid: u32| {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let line = rollup.lines().find(|line| line.starts_with("Pss:")).unwrap_or_default().to_owned();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(u64::MAX)
    };
    // Docker's daemons take 110 MiB and more, and 3.7 MiB for each shim.
    assert!(pss(engine.pid()) < 40 << 10, "{} KiB", pss(engine.pid()));
    c.run(&format!("rm -f {id}")).ok();
}
