//! The escapes that engines had on the way into a container (S-101 to S-107 of the catalogue in SECURITY.md), each as
//! the attack that it was.

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use bundle::{Bundle, Said, is_ours, runtime};
use serde_json::{Value, json};

/// Looks into every process that appears: what its descriptors are, and whether it lets itself be traced while it is
/// still the runtime. A process that runs the container's own program may be traced, and is let go.
const SPY: &str = include_str!("attackers/spy.c");

/// Takes hold of the program of every process that appears, unless it is the container's own, and tries to write to it
/// ever after.
const OVERWRITER: &str = include_str!("attackers/overwriter.c");

fn compiled(bundle: &Bundle, source: &str) -> &'static str {
    let file = bundle.path().join("program.c");
    fs::write(&file, source).unwrap();
    let mut gcc = Command::new("gcc");
    gcc.args(["-static", "-O1", "-w", "-o"]).arg(bundle.rootfs().join("bin/attacker")).arg(&file);
    assert!(gcc.status().expect("gcc is needed").success(), "libc6-dev is needed");
    "/bin/attacker"
}

fn await_line(bundle: &Bundle, line: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !bundle.printed().contains(line) {
        assert!(Instant::now() < deadline, "it never said {line:?}: {}", bundle.printed());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// S-101, CVE-2016-9962.
#[test]
fn who_joins_a_container_is_neither_traced_nor_read() {
    let mut bundle = Bundle::new(&["/bin/attacker"]);
    compiled(&bundle, SPY);
    // As much as a container's root may have without the power to trace what others hide.
    let caps: Vec<String> = runtime::caps::all().into_iter().filter(|cap| cap != "CAP_SYS_PTRACE").collect();
    let held = sys_caps();
    let caps: Vec<&String> = caps.iter().filter(|cap| held & runtime::caps::bit(cap).unwrap() != 0).collect();
    bundle.spec["process"]["capabilities"] =
        json!({ "bounding": caps, "effective": caps, "permitted": caps });
    bundle.start();
    await_line(&bundle, "spying");
    for _ in 0..150 {
        let said = bundle.call_with(&["exec"], &["true"]);
        assert!(matches!(said.code, 0 | 255), "{}", said.err);
    }
    assert_eq!(bundle.printed(), "spying\n");
}

fn sys_caps() -> u64 {
    rustix::thread::capabilities(None).unwrap().permitted.bits()
}

/// A program of the bundle's own, so that an attack that succeeds does no harm.
fn copy_of_runtime(bundle: &Bundle) -> PathBuf {
    let named = runtime();
    let source = if named.contains('/') { PathBuf::from(named) } else { Path::new("/usr/sbin").join(named) };
    let source =
        if source.exists() { source } else { Path::new("/usr/bin").join(source.file_name().unwrap()) };
    let copy = bundle.path().join("runtime");
    fs::copy(source, &copy).unwrap();
    copy
}

/// S-102, CVE-2019-5736.
#[test]
fn the_runtimes_own_program_cannot_be_overwritten() {
    for entry in ["/bin/trojan", "/proc/self/exe"] {
        let bundle = Bundle::new(&["/bin/attacker"]);
        compiled(&bundle, OVERWRITER);
        let trojan = bundle.rootfs().join("bin/trojan");
        fs::write(&trojan, "#!/proc/self/exe\n").unwrap();
        fs::set_permissions(&trojan, fs::Permissions::from_mode(0o755)).unwrap();
        // For a runtime that is linked dynamically this is code that it loads.
        fs::create_dir_all(bundle.rootfs().join("etc")).unwrap();
        fs::write(bundle.rootfs().join("etc/ld.so.preload"), "/bin/attacker\n").unwrap();
        bundle.start();
        await_line(&bundle, "waiting");
        let copy = copy_of_runtime(&bundle);
        let before = fs::read(&copy).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while !bundle.printed().contains("took ") {
            if !is_ours() && Instant::now() + Duration::from_secs(15) > deadline {
                return; // A runtime that needs libraries ends within a container before it can be caught.
            }
            assert!(Instant::now() < deadline, "the attacker never got hold of the runtime");
            let mut exec = Command::new(&copy);
            exec.arg("--root").arg(bundle.path().join("state")).args(["exec", &bundle.id, entry]);
            // Once it is overwritten it cannot be run: that is told below.
            let _ = exec.stdin(Stdio::null()).output();
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while bundle.printed().lines().count() < 3 {
            assert!(Instant::now() < deadline, "{}", bundle.printed());
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(fs::read(&copy).unwrap() == before, "overwritten: {}", bundle.printed());
        assert!(!bundle.printed().contains("wrote"), "{}", bundle.printed());
    }
}

/// S-103, CVE-2024-21626: descriptors of the host's, forgotten by the runtime or by who called it, as a way out.
#[test]
fn no_descriptor_is_a_working_directory() {
    let bundle = Bundle::sh("sleep 100");
    bundle.start();
    let mut starting = Bundle::sh("readlink /proc/self/cwd; ls -d etc/debian_version work 2>/dev/null");
    let mut leaks = Vec::new();
    for number in 0..64 {
        for tail in ["", "/../../.."] {
            let cwd = format!("/proc/self/fd/{number}{tail}");
            starting.spec["process"]["cwd"] = json!(cwd);
            starting.write();
            let path = starting.path().display().to_string();
            let run = starting.command(&["run", "-b", &path]);
            let exec = bundle.command(&["exec", "--cwd", &cwd]);
            for (call, words) in [(run, vec![&*starting.id]), (exec, vec![&*bundle.id, "sh", "-c", SHOW])] {
                // The caller has a directory of the host's open, too.
                let mut careless = Command::new("sh");
                careless.args(["-c", "exec \"$@\" 7</ 9</tmp", "sh"]).arg(call.get_program());
                careless.args(call.get_args()).args(words).stdin(Stdio::null());
                let said: Said = careless.output().unwrap().into();
                let inside = said.out.lines().next().is_none_or(|cwd| cwd.starts_with('/'));
                if !inside || said.out.contains("debian_version") || said.out.contains("work") {
                    leaks.push((cwd.clone(), said.out));
                }
            }
        }
    }
    assert!(leaks.is_empty(), "{leaks:?}");
}

const SHOW: &str = "readlink /proc/self/cwd; ls -d etc/debian_version work 2>/dev/null";

/// S-103: what the waiting process of a created container holds is closed when it becomes the program.
#[test]
fn what_a_waiting_container_holds_ends_with_it() {
    let bundle = Bundle::sh("ls /proc/self/fd | wc -l");
    bundle.write();
    let path = bundle.path().display().to_string();
    let create = bundle.command(&["create", "-b", &path]);
    let mut careless = Command::new("sh");
    careless.args(["-c", "exec \"$@\" 7</ 9</tmp >$OUT 2>&1", "sh"]).arg(create.get_program());
    careless
        .args(create.get_args())
        .arg(&bundle.id)
        .env("OUT", bundle.path().join("out"))
        .stdin(Stdio::null());
    assert!(careless.status().unwrap().success());
    let pid = bundle.state()["pid"].to_string();
    let mut held = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap().flatten() {
        let number: u32 = entry.file_name().to_str().unwrap().parse().unwrap();
        let info = fs::read_to_string(entry.path()).unwrap_or_default();
        let flags =
            info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or("0").trim().to_owned();
        let closes = u32::from_str_radix(&flags, 8).unwrap() & 0o2_000_000 != 0;
        let target = fs::read_link(format!("/proc/{pid}/fd/{number}")).unwrap_or_default();
        // What came from the caller goes as well, at the very last: that is counted below.
        let inherited = matches!(number, 7 | 9) || Path::new(&format!("/proc/self/fd/{number}")).exists();
        if number > 2 && !closes && !inherited {
            held.push((number, target));
        }
    }
    assert!(held.is_empty(), "not closed on exec: {held:?}");
    assert_eq!(bundle.call(&["start"]).code, 0);
    bundle.await_status("stopped");
    // The standard streams, and the directory that is listed.
    assert_eq!(bundle.printed().trim(), "4");
}

/// S-105, CVE-2022-36109, CVE-2014-8989: a group may have fewer rights than everybody else.
#[test]
fn a_group_that_may_less_than_others_stays() {
    let script = "id -G; cat /held 2>/dev/null && echo read || echo denied";
    for (user, groups, read) in [
        (json!({ "uid": 1000, "gid": 1000, "additionalGids": [4000] }), "1000 4000", "denied"),
        (json!({ "uid": 1000, "gid": 4000 }), "4000", "denied"),
        (json!({ "uid": 1000, "gid": 1000 }), "1000", "secret\nread"),
    ] {
        let mut bundle = Bundle::sh(&format!("{script}; sleep 100"));
        let held = bundle.rootfs().join("held");
        fs::write(&held, "secret\n").unwrap();
        fs::set_permissions(&held, fs::Permissions::from_mode(0o604)).unwrap();
        chown(&held, Some(0), Some(4000)).unwrap();
        bundle.spec["process"]["user"] = user.clone();
        bundle.write();
        // The caller's own groups are not the container's.
        let path = bundle.path().display().to_string();
        let run = bundle.command(&["create", "-b", &path]);
        let mut grouped = Command::new("setpriv");
        grouped
            .args(["--groups", "4242,4000", "--"])
            .arg(run.get_program())
            .args(run.get_args())
            .arg(&bundle.id);
        let out = bundle.path().join("out");
        assert!(
            grouped.stdout(fs::File::create(&out).unwrap()).stdin(Stdio::null()).status().unwrap().success()
        );
        assert_eq!(bundle.call(&["start"]).code, 0);
        let expected = format!("{groups}\n{read}\n");
        await_line(&bundle, read.lines().last().unwrap());
        assert_eq!(bundle.printed(), expected);
        if is_ours() {
            let exec = bundle.command(&["exec"]);
            let mut grouped = Command::new("setpriv");
            grouped.args(["--groups", "4242,4000", "--"]).arg(exec.get_program()).args(exec.get_args());
            let said: Said = grouped.arg(&bundle.id).args(["sh", "-c", script]).output().unwrap().into();
            assert_eq!(said.out, expected, "{}", said.err);
        }
    }
}

/// S-106, CVE-2022-24769 and its family, CVE-2018-10856: what the caller could inherit, the container must not.
#[test]
fn nothing_is_inheritable_that_the_spec_does_not_give() {
    for (uid, effective) in [(0, "00000000a80425fb"), (1000, "0000000000000000")] {
        let mut bundle = Bundle::sh("grep -E 'Cap(Inh|Eff|Amb)' /proc/self/status; sleep 100");
        bundle.spec["process"]["user"]["uid"] = json!(uid);
        bundle.write();
        let path = bundle.path().display().to_string();
        let expected =
            format!("CapInh:\t0000000000000000\nCapEff:\t{effective}\nCapAmb:\t0000000000000000\n");
        let rich = |call: Command, words: &[&str]| {
            let mut rich = Command::new("setpriv");
            rich.args(["--inh-caps", "+all,-sys_resource", "--ambient-caps", "+chown,+sys_admin", "--"]);
            rich.arg(call.get_program())
                .args(call.get_args())
                .arg(&bundle.id)
                .args(words)
                .stdin(Stdio::null());
            rich
        };
        let out = fs::File::create(bundle.path().join("out")).unwrap();
        let mut create = rich(bundle.command(&["create", "-b", &path]), &[]);
        assert!(create.stdout(out).status().unwrap().success());
        assert_eq!(bundle.call(&["start"]).code, 0);
        await_line(&bundle, "CapAmb");
        assert_eq!(bundle.printed(), expected);
        let words = ["grep", "-E", "Cap(Inh|Eff|Amb)", "/proc/self/status"];
        if runtime().ends_with("crun") {
            continue; // Its exec begins with root, not with the container's user.
        }
        let said: Said = rich(bundle.command(&["exec"]), &words).output().unwrap().into();
        assert_eq!(said.out, expected, "{}", said.err);
    }
}

/// S-107, CVE-2022-1227: nothing in an image is run but the program.
#[test]
fn programs_in_the_image_are_not_run_by_the_runtime() {
    let bundle = Bundle::sh("sleep 100");
    let trojans = [
        "ps",
        "nsenter",
        "tar",
        "xz",
        "gzip",
        "git",
        "getent",
        "newuidmap",
        "newgidmap",
        "modprobe",
        "runc",
        "mount.tmpfs",
        "knarr-runtime",
        "docker-init",
        "ld.so",
        "criu",
    ];
    for directory in ["usr/bin", "usr/sbin", "sbin", "lib64", "lib/x86_64-linux-gnu"] {
        fs::create_dir_all(bundle.rootfs().join(directory)).unwrap();
        for name in trojans.iter().chain(&["libnss_files.so.2", "ld-linux-x86-64.so.2", "libc.so.6"]) {
            let trojan = bundle.rootfs().join(directory).join(name);
            fs::write(&trojan, "#!/bin/sh\necho \"$0 $PPID $(env)\" >> /marker\n").unwrap();
            fs::set_permissions(&trojan, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    fs::create_dir_all(bundle.rootfs().join("etc")).unwrap();
    symlink("/usr/bin/ps", bundle.rootfs().join("etc/nsswitch.conf")).unwrap();
    bundle.start();
    let ps: Said = bundle.command(&["ps", "--format", "json"]).arg(&bundle.id).output().unwrap().into();
    let pids: Value = serde_json::from_str(&ps.out).unwrap();
    assert_eq!(pids.as_array().unwrap().len(), 1, "{}", ps.out);
    for words in [&["ps"][..], &["state"], &["pause"], &["resume"]] {
        assert_eq!(bundle.call(words).code, 0, "{words:?}");
    }
    assert_eq!(bundle.call_with(&["exec", "--user", "33"], &["true"]).code, 0);
    assert_eq!(bundle.call_with(&["kill"], &["KILL"]).code, 0);
    bundle.await_status("stopped");
    assert_eq!(bundle.call(&["delete"]).code, 0);
    let marker = fs::read_to_string(bundle.rootfs().join("marker")).unwrap_or_default();
    assert_eq!(marker, "");
}
