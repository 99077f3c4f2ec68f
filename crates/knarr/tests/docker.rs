//! The command line against a real dockerd, side by side with Docker's own client.

mod common;

use common::{Dockerd, said};

/// Commands that say the same whoever sends them, one after another on one daemon.
const SAME: &[&[&str]] = &[
    &["run", "--bogus", "busybox"],
    &["run"],
    &["ps", "-xa"],
    &["rename", "x"],
    &["stop", "-t", "x", "y"],
    &["rm", "nope", "nope2"],
    &["rm", "-f", "nope"],
    &["start", "nope"],
    &["kill", "nope"],
    &["logs", "nope"],
    &["exec", "nope", "true"],
    &["attach", "nope"],
    &["inspect", "nope"],
    &["inspect", "-f", "{{.Id}}", "nope"],
    &["image", "inspect", "nope"],
    &["rename", "nope", "x"],
    &["rmi", "nope"],
    &["nosuch"],
    &["container", "nosuch"],
    &["-H", "unix:///nope", "ps"],
    &["run", "--pull", "never", "nope"],
    &["run", "--pull", "sometimes", "busybox"],
    &["run", "-m", "foo", "busybox"],
    &["run", "-m", "1k", "busybox"],
    &["run", "--cpus", "99", "busybox"],
    &["run", "--env-file", "/nope", "busybox"],
    &["run", "--cidfile", "/etc/passwd", "busybox"],
    &["run", "-it", "--network", "none", "busybox"],
    &["run", "-d", "-a", "stdout", "busybox"],
    &["run", "--rm", "--network", "none", "busybox", "no-such-command"],
    &["run", "--rm", "--network", "none", "busybox", "/bin"],
    &[
        "run",
        "--rm",
        "--network",
        "none",
        "-e",
        "A=1",
        "-w",
        "/tmp",
        "busybox",
        "sh",
        "-c",
        "echo $A $PWD; exit 9",
    ],
    &["run", "--rm", "--network", "none", "--entrypoint", "echo", "busybox", "a", "--rm"],
    &[
        "run",
        "--rm",
        "--network",
        "none",
        "--read-only",
        "--tmpfs",
        "/t",
        "busybox",
        "sh",
        "-c",
        "touch /t/a && touch /a",
    ],
    &["run", "--rm", "--network", "none", "-h", "h", "--domainname", "d", "busybox", "hostname", "-f"],
    &["run", "--rm", "-t", "--network", "none", "busybox", "tty"],
    &[
        "create",
        "--name",
        "cc",
        "-l",
        "a=b",
        "-m",
        "64m",
        "--network",
        "none",
        "-v",
        "/v",
        "busybox",
        "sh",
        "-c",
        "exit 4",
    ],
    &["start", "-a", "cc"],
    &["start", "cc"],
    &["wait", "cc"],
    &["ps", "-a", "--format", "{{.Names}} {{.Image}} {{.Command}} {{.State}} {{.Label \"a\"}} {{.Networks}}"],
    &["ps", "-a", "--format", "table {{.Names}}\t{{.Labels}}"],
    &["ps", "--format", "{{"],
    &["ps", "-a", "--filter", "label=a=b", "-q", "--no-trunc"],
    &[
        "inspect",
        "-f",
        "{{.State.ExitCode}} {{json .Config.Cmd}} {{.Config.Labels}} {{.HostConfig.Binds}}",
        "cc",
    ],
    &["inspect", "-f", "{{range .Mounts}}{{.Destination}}{{end}} {{if .State.Health}}x{{end}}", "cc"],
    &["rename", "cc", "dd"],
    &["attach", "dd"],
    &["rm", "-v", "dd"],
    &["images"],
    &["images", "--digests", "busybox"],
    &["images", "--format", "json", "busy*"],
    &["history", "--no-trunc", "busybox"],
    &["inspect", "busybox"],
    &["tag", "busybox", "other:1"],
    &["rmi", "other:1"],
    &["info", "-f", "{{.NCPU}} {{.Driver}}"],
    &["network", "ls"],
    &["network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}} {{.IPv6}} {{.Internal}} {{.CreatedAt}}"],
    &["network", "ls", "--format", "json", "--filter", "driver=null"],
    &["network", "ls", "-q", "--no-trunc", "-f", "name=host"],
    &["network", "ls", "-f", "colour=red"],
    &["network", "inspect", "host"],
    &["network", "inspect", "nope"],
    &["network", "inspect", "-f", "{{.Name}} {{.Driver}} {{len .Containers}}", "host", "none", "nope"],
    &["network", "rm", "-f", "nope"],
    &["network", "create"],
    &["network", "create", "--gateway", "10.9.0.1", "x"],
    &["network", "create", "--subnet", "10.9.0.0/24", "--gateway", "10.8.0.1", "x"],
    &["network", "create", "--subnet", "10.9.0.0/24", "--ip-range", "10.8.0.0/28", "x"],
    &["network", "create", "--subnet", "10.9.0.0/24", "--aux-address", "a=10.8.0.1", "x"],
    &["network", "create", "--subnet", "10.9.0.0/24,10.9.0.0/25", "x"],
    &["network", "create", "-d", "nope", "x"],
    &["network", "create", "host"],
    &["network", "connect", "nope", "nope"],
    &["network", "connect", "--driver-opt", "x", "host", "nope"],
    &["network", "disconnect", "nope", "nope"],
    &["network", "prune"],
    &["port", "nope"],
    &["run", "-p", "x", "busybox"],
    &["run", "-p", "80-81:90", "-p", "1:2:3:4", "busybox"],
    &["run", "-p", "1-3:80-81", "busybox"],
    &["run", "-p", "80/quic", "busybox"],
    &["run", "--expose", "80:80", "busybox"],
    &["run", "--expose", "9-1", "busybox"],
    &["run", "--network", "name=a,b=c", "busybox"],
    &["run", "--network", "alias=c", "busybox"],
    &["run", "--network", "a", "--network", "host", "busybox"],
    &["run", "--network", "a", "--network", "a", "busybox"],
    &["run", "--network-alias", "a", "busybox"],
    &["run", "--network", "name=a,ip=10.0.0.1", "--ip", "10.0.0.2", "busybox"],
    &["run", "--network", "name=a,gw-priority=x", "busybox"],
    &["run", "--mac-address", "x", "busybox"],
    &["run", "--ip", "x", "busybox"],
    &["run", "--add-host", "x", "busybox"],
    &["run", "--add-host", "x:y", "busybox"],
    &["run", "--dns", "x", "busybox"],
    &["run", "--dns-search", "x..y", "busybox"],
    &["run", "--link", "x:y:z", "busybox"],
    &["network", "create", "--help"],
    &["network", "connect", "--help"],
    &["network", "disconnect", "--help"],
    &["network", "prune", "--help"],
    &["network", "--help"],
    &["port", "--help"],
    &["exec", "--help"],
    &["rename", "--help"],
    &["kill", "--help"],
    &["logs", "--help"],
];

#[test]
fn both_clients_say_the_same() {
    let daemon = Dockerd::start("same");
    let mut wrong = Vec::new();
    for args in SAME {
        let (theirs, ours) = (said(&daemon.docker(args)), said(&daemon.knarr(args)));
        if *args.first().expect("a word") == "create" {
            // The second one finds the name taken.
            assert!(theirs.ends_with("[0]") && ours.contains("is already in use"), "{theirs}\n{ours}");
        } else if !matches!(args, ["rename", "cc", _] | ["rm", "-v", _] | ["rmi", "other:1"])
            && theirs != ours
        {
            wrong.push(format!("{args:?}\n--- docker\n{theirs}\n--- knarr\n{ours}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Flags whose request must not depend on who sends it.
const MADE: &[&str] = &[
    "busybox",
    "-it -e HOME -u 1:2 -w /w -h hh --domainname dd busybox x -y",
    "-m 512m --memory-swap -1 --memory-reservation 256m --cpus 1.5 --cpu-shares 3 busybox",
    "--cpu-period 50000 --cpu-quota 25000 --cpuset-cpus 0-1 --pids-limit 5 busybox",
    "-v /tmp:/b:ro -v /anon --tmpfs /t:size=1m --shm-size 9m --read-only busybox",
    "--mount type=bind,src=/tmp,dst=/d,ro --mount type=tmpfs,dst=/m,tmpfs-size=1m,tmpfs-mode=700 busybox",
    "--network host --init -l a=b -l c --stop-signal INT --stop-timeout 3 busybox",
    "--log-driver json-file --log-opt max-size=1m --expose 80 --expose 90-91/udp busybox",
    "-a stdout --entrypoint  --rm busybox sh",
    "-p 80 -p 8080:80 -p 127.0.0.1::53/udp -p [::1]:90-91:90-91 -p 5000-5010:50 -P --expose 7-8 busybox",
    "-p published=8080,target=80,protocol=udp --network host busybox",
    "--dns 10.0.0.1 --dns-search a.b --dns-option ndots:2 --add-host a=[::1] --add-host b:host-gateway busybox",
    "--network own --network-alias a --network-alias b --ip 10.9.0.9 busybox",
    "--network name=own,alias=c,ip=10.9.0.8,driver-opt=x=y --ip6 fd00::9 busybox",
    "--link web:www --network own busybox",
];

const MEMBERS: &str = "{{json .Config}}\n{{json .HostConfig}}\n{{json .NetworkSettings.Networks}}";

#[test]
fn a_container_made_by_either_client_is_the_same() {
    let daemon = Dockerd::start("made");
    for name in ["web", "own"] {
        let made = match name {
            "web" => daemon.docker(&["create", "--name", name, "busybox"]),
            _ => daemon.knarr(&["network", "create", "--subnet", "10.9.0.0/24", "--label", "a=b", name]),
        };
        assert!(made.status.success(), "{made:?}");
    }
    for flags in MADE {
        let args: Vec<&str> = ["create"].into_iter().chain(flags.split(' ')).collect();
        let made = |output: std::process::Output| {
            assert!(output.status.success(), "{flags}: {output:?}");
            let id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            let shown = daemon.docker(&["inspect", "-f", MEMBERS, &id]);
            // The host name is the daemon's own choice.
            String::from_utf8_lossy(&shown.stdout).replace(&id[..12], "ID")
        };
        let (theirs, ours) = (made(daemon.docker(&args)), made(daemon.knarr(&args)));
        assert_eq!(theirs, ours, "{flags}");
    }
}

#[test]
fn streams_go_where_they_belong() {
    let daemon = Dockerd::start("streams");
    let run = ["run", "-i", "--rm", "--network", "none", "busybox"];
    let with = |rest: &[&'static str]| [&run[..], rest].concat();
    let both = daemon.knarr(&with(&["sh", "-c", "echo out; echo err >&2"]));
    assert_eq!((both.stdout.as_slice(), both.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    // The end of the input reaches the program, and what it says afterwards still comes.
    let counted = daemon.knarr_reads(b"one\ntwo\n", &with(&["sh", "-c", "cat; echo end"]));
    assert_eq!(counted.stdout, b"one\ntwo\nend\n");
    let much: Vec<u8> = (0..4_000_000_u32).map(|n| (n % 251) as u8).collect();
    assert!(daemon.knarr_reads(&much, &with(&["cat"])).stdout == much, "four megabytes there and back");
    for (script, code) in [("exit 7", 7), ("kill -TERM $$", 0), ("true", 0)] {
        assert_eq!(daemon.knarr(&with(&["sh", "-c", script])).status.code(), Some(code), "{script}");
    }
    let name = daemon.knarr(&["run", "-d", "--name", "xx", "--network", "none", "busybox", "sleep", "100"]);
    assert_eq!(name.stdout.len(), 65, "{name:?}");
    let exec =
        daemon.knarr_reads(b"hi", &["exec", "-i", "-e", "A=b", "xx", "sh", "-c", "cat; echo $A >&2; exit 5"]);
    assert_eq!(
        (exec.stdout.as_slice(), exec.stderr.as_slice(), exec.status.code()),
        (&b"hi"[..], &b"b\n"[..], Some(5))
    );
    let missing = ["exec", "xx", "no-such-command"];
    assert_eq!(said(&daemon.knarr(&missing)), said(&daemon.docker(&missing)));
    let explained = daemon.knarr(&["run", "--rm", "--network", "none", "--explain", "busybox", "true"]);
    assert_eq!(explained.stderr, b"--explain: this daemon keeps no timeline of a start\n");
}

#[test]
fn logs_follow_until_the_end() {
    let daemon = Dockerd::start("logs");
    let script = "for i in 1 2 3; do echo o$i; echo e$i >&2; sleep 0.2; done";
    daemon.knarr(&["run", "-d", "--name", "xx", "--network", "none", "busybox", "sh", "-c", script]);
    let all = daemon.knarr(&["logs", "-f", "xx"]);
    assert_eq!((all.stdout.as_slice(), all.stderr.as_slice()), (&b"o1\no2\no3\n"[..], &b"e1\ne2\ne3\n"[..]));
    for args in [
        &["logs", "--tail", "1", "xx"][..],
        &["logs", "-t", "xx"],
        &["logs", "--since", "1h", "xx"],
        &["logs", "--until", "1h", "xx"],
    ] {
        assert_eq!(said(&daemon.docker(args)), said(&daemon.knarr(args)), "{args:?}");
    }
}

#[test]
fn signals_reach_the_container() {
    let daemon = Dockerd::start("signals");
    let script = "trap 'echo caught; exit 42' TERM; echo ready; while :; do sleep 0.05; done";
    let mut child = daemon.knarr_runs(&[
        "run",
        "--rm",
        "--name",
        "xx",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    let mut out = std::io::BufReader::new(child.stdout.take().expect("its output"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut out, &mut line).expect("a line");
    assert_eq!(line, "ready\n");
    let pid = rustix::process::Pid::from_raw(child.id() as i32).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a signal");
    assert_eq!(child.wait().expect("its end").code(), Some(42));
    line.clear();
    std::io::BufRead::read_line(&mut out, &mut line).expect("a line");
    assert_eq!(line, "caught\n");
    // A reader that goes away ends the client, not with a panic but as SIGPIPE would.
    let mut child = daemon.knarr_runs(&[
        "run",
        "--rm",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "while :; do echo y; done",
    ]);
    drop(child.stdout.take());
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while child.try_wait().expect("its state").is_none() {
        assert!(std::time::Instant::now() < end, "it runs on without a reader");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(child.wait().expect("its end").code(), Some(141));
}

#[test]
fn a_terminal_is_passed_through_and_given_back() {
    let daemon = Dockerd::start("tty");
    let size = daemon
        .terminal("docker run --rm -it --network none busybox sh -c 'sleep 0.5; stty size'; stty -a", &[]);
    assert!(size.contains("33 77"), "{size}");
    assert!(size.contains(" icanon") && size.contains(" echo "), "the terminal was left raw: {size}");
    let resized = "(sleep 1; stty rows 44 cols 99 </dev/tty) & docker run --rm -it --network none busybox sh -c 'sleep 2; stty size'";
    let resized = daemon.terminal(resized, &[]);
    assert!(resized.contains("44 99"), "{resized}");
    let failed =
        daemon.terminal("docker run --rm -it --network none busybox no-such; echo code $?; stty -a", &[]);
    assert!(failed.contains("code 127") && failed.contains(" icanon"), "{failed}");
    let typed = daemon.terminal(
        "docker run --rm -it --network none busybox sh; echo code $?",
        &[(1500, b"echo a$((40+2))\nexit 6\n")],
    );
    assert!(typed.contains("a42") && typed.contains("code 6"), "{typed}");
    // Left with the usual keys: it runs on, and can be joined again.
    let left = daemon
        .terminal("docker run -it --name xx --network none busybox sh; echo code $?", &[(1500, b"\x10\x11")]);
    assert!(left.trim_end().ends_with("code 0"), "{left}");
    let state = daemon.knarr(&["inspect", "-f", "{{.State.Status}}", "xx"]);
    assert_eq!(state.stdout, b"running\n");
    let joined =
        daemon.terminal("docker attach --detach-keys ctrl-e,e xx; echo code $?", &[(800, b"exit 5\n")]);
    assert!(joined.contains("code 5"), "{joined}");
    daemon.knarr(&["start", "xx"]);
    let exec = daemon.terminal("docker exec -it xx sh -c 'sleep 0.5; stty size; tty'; echo code $?", &[]);
    assert!(exec.contains("33 77") && exec.contains("/dev/pts/") && exec.contains("code 0"), "{exec}");
}

#[test]
fn images_come_in_from_files_and_pipes() {
    let daemon = Dockerd::start("images");
    let tar = daemon.dir().join("saved.tar").display().to_string();
    assert!(daemon.docker(&["save", "-o", &tar, "busybox"]).status.success());
    for args in [&["load", "-i", &tar][..], &["load", "-q", "-i", &tar], &["load", "-i", "/nope"]] {
        assert_eq!(said(&daemon.docker(args)), said(&daemon.knarr(args)), "{args:?}");
    }
    let bytes = std::fs::read(&tar).expect("the archive");
    assert_eq!(daemon.knarr_reads(&bytes, &["load"]).stdout, b"Loaded image: busybox:latest\n");
    let root = std::fs::read(daemon.dir().join("root.tar")).expect("the archive");
    let made = daemon.knarr_reads(&root, &["import", "-m", "why", "-c", "ENV A=b", "-", "made:1"]);
    assert!(made.stdout.starts_with(b"sha256:"), "{made:?}");
    let shown = daemon.knarr(&["inspect", "-f", "{{.Comment}} {{index .Config.Env 0}}", "made:1"]);
    assert_eq!(shown.stdout, b"why A=b\n");
    assert_eq!(daemon.knarr(&["load", "-i", "/etc"]).stderr, b"read /etc: is a directory\n");
}
