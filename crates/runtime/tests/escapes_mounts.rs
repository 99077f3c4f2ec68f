//! Attacks on what the runtime mounts, hides and makes in a root that is not to be trusted: each must fail here, and is
//! known to work somewhere (see SECURITY.md).

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use bundle::{Bundle, Said, is_ours, runtime};
use rustix::fs::{CWD, FileType, Mode, RenameFlags, makedev, mknodat, renameat_with};
use serde_json::{Value, json};

/// A harmless file of the container's own network namespace.
const TARGET: &str = "/proc/sys/net/ipv4/ip_default_ttl";

/// A directory of the host that nobody may touch, with one known file.
struct Canary(tempfile::TempDir);

impl Canary {
    fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("knarr-canary-").tempdir().unwrap();
        fs::write(directory.path().join("f"), "known").unwrap();
        Self(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn assert_untouched(&self, story: &str) {
        let names: Vec<_> =
            fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["f"], "{story}");
        assert_eq!(fs::read(self.path().join("f")).unwrap(), b"known", "{story}");
    }
}

/// Runs to the end, which must come soon.
fn run(bundle: &Bundle) -> Said {
    run_with(bundle, &[])
}

fn run_with(bundle: &Bundle, flags: &[&str]) -> Said {
    fs::write(bundle.path().join("config.json"), bundle.spec.to_string()).unwrap();
    let mut command = Command::new("timeout");
    command.args(["20", &runtime(), "--root"]).arg(bundle.path().join("state")).args(["run", "-b"]);
    let said: Said = command.arg(bundle.path()).args(flags).arg(&bundle.id).output().unwrap().into();
    assert_ne!(said.code, 124, "it hangs");
    said
}

fn add(bundle: &mut Bundle, mount: Value) {
    bundle.spec["mounts"].as_array_mut().unwrap().push(mount);
}

fn without_mounts_below(bundle: &mut Bundle, path: &str) {
    let mounts = bundle.spec["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !Path::new(mount["destination"].as_str().unwrap()).starts_with(path));
}

fn add_fuse(bundle: &mut Bundle) {
    bundle.spec["linux"]["devices"] =
        json!([{ "type": "c", "path": "/dev/sub/fuse", "major": 10, "minor": 229 }]);
    let allowed = json!({ "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm" });
    bundle.spec["linux"]["resources"]["devices"].as_array_mut().unwrap().push(allowed);
}

/// A hook at the one point between the devices and the masks.
fn winner(bundle: &mut Bundle, script: &str) {
    let script = format!("R={}; {script}", bundle.rootfs().display());
    bundle.spec["hooks"] = json!({ "createContainer": [{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"] }] });
}

#[test]
fn a_mask_is_the_null_device_whatever_dev_null_has_become() {
    let swaps = [
        format!("rm -f $R/dev/null; ln -s {TARGET} $R/dev/null"),
        "rm -f $R/dev/null".to_owned(),
        "rm -f $R/dev/null; mknod $R/dev/null c 1 5".to_owned(),
    ];
    for swap in swaps {
        let mut bundle = Bundle::sh(
            "head -c 60 /proc/interrupts | wc -c; grep ' /proc/interrupts ' /proc/self/mountinfo | cut -d' ' -f4; readlink /proc/self/fd/0",
        );
        bundle.spec["linux"]["maskedPaths"] = json!(["/proc/interrupts"]);
        winner(&mut bundle, &swap);
        let said = run(&bundle);
        assert_eq!(said.out, "0\n/null\n/dev/null\n", "{swap}: {}", said.err);
    }
}

#[test]
fn nothing_is_mounted_over_the_containers_procfs() {
    let places = [
        "/proc",
        "/proc/",
        "/proc/./",
        "/proc/self",
        "/proc/1",
        "/proc/sys",
        "/proc/self/attr",
        "/proc/cpuinfo/x",
        "/way/self",
        "/way",
    ];
    for place in places {
        for kind in ["tmpfs", "bind"] {
            let mut bundle = Bundle::sh("grep -E ' /(proc|way)' /proc/self/mountinfo");
            symlink("proc", bundle.rootfs().join("way")).unwrap();
            fs::create_dir(bundle.path().join("fake")).unwrap();
            add(&mut bundle, json!({ "destination": place, "type": kind, "source": "fake", "options": [] }));
            let said = run(&bundle);
            assert_ne!(said.code, 0, "{kind} on {place}: {}", said.out);
            assert!(!is_ours() || said.err.contains("/proc"), "{place}: {}", said.err);
        }
    }
    for place in ["/", "", "/..", "/../x", "proc", "/a/../../proc"] {
        let mut bundle = Bundle::sh("true");
        add(&mut bundle, json!({ "destination": place, "type": "tmpfs", "source": "tmpfs" }));
        let said = run(&bundle);
        assert!(said.code != 0 || !is_ours(), "{place:?}");
    }
    // What lxcfs fakes is faked.
    let mut bundle = Bundle::sh("cat /proc/uptime /proc/meminfo");
    fs::write(bundle.path().join("fake"), "fake\n").unwrap();
    for file in ["/proc/uptime", "/proc//meminfo"] {
        let source = bundle.path().join("fake");
        add(
            &mut bundle,
            json!({ "destination": file, "type": "bind", "source": source, "options": ["bind", "ro"] }),
        );
    }
    assert_eq!(run(&bundle).out, "fake\nfake\n");
}

#[test]
fn proc_and_sys_must_be_ordinary_directories() {
    for name in ["proc", "sys"] {
        for how in ["link inside", "link outside", "dangling link", "file", "pipe"] {
            let canary = Canary::new();
            let bundle = Bundle::sh("true");
            let path = bundle.rootfs().join(name);
            match how {
                "link inside" => {
                    fs::create_dir(bundle.rootfs().join("elsewhere")).unwrap();
                    symlink("elsewhere", &path).unwrap();
                }
                "link outside" => symlink(canary.path(), &path).unwrap(),
                "dangling link" => symlink("nowhere", &path).unwrap(),
                "file" => fs::write(&path, "").unwrap(),
                _ => place(&path, FileType::Fifo),
            }
            let said = run(&bundle);
            assert_ne!(said.code, 0, "{name}: {how}");
            assert!(!is_ours() || said.err.contains("ordinary directory"), "{name}: {how}: {}", said.err);
            canary.assert_untouched(how);
        }
    }
}

fn place(path: &Path, kind: FileType) {
    mknodat(CWD, path, kind, Mode::from_raw_mode(0o666), makedev(1, 3)).unwrap();
}

#[test]
fn directories_of_the_image_that_lead_out() {
    for name in ["dev", "dev/pts", "dev/shm", "dev/mqueue", "etc", "run", "tmp", "work"] {
        for mounted in [true, false] {
            let canary = Canary::new();
            let mut bundle = Bundle::sh("true");
            bundle.spec["process"]["cwd"] = json!("/work/deep");
            let path = bundle.rootfs().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(canary.path(), &path).unwrap();
            if !mounted {
                without_mounts_below(&mut bundle, "/dev");
            }
            fs::write(bundle.path().join("hosts"), "").unwrap();
            let source = bundle.path().join("hosts");
            add(
                &mut bundle,
                json!({ "destination": "/etc/hosts", "type": "bind", "source": source, "options": ["bind"] }),
            );
            for place in ["/run/secrets", "/tmp/deep/er"] {
                add(&mut bundle, json!({ "destination": place, "type": "tmpfs", "source": "tmpfs" }));
            }
            add_fuse(&mut bundle);
            run(&bundle);
            canary.assert_untouched(&format!("{name}, mounted: {mounted}"));
        }
    }
}

#[test]
fn a_container_that_replaced_its_own_directories_by_links() {
    let canary = Canary::new();
    let script = format!(
        "for d in etc dev run data var; do mv /$d /old.$d 2>/dev/null; rm -rf /$d; ln -s {} /$d; done",
        canary.path().display()
    );
    let mut bundle = Bundle::sh(&format!("{script}; true"));
    without_mounts_below(&mut bundle, "/dev");
    fs::write(bundle.path().join("hosts"), "").unwrap();
    let source = bundle.path().join("hosts");
    for place in ["/etc/hosts", "/run/secrets/one"] {
        add(
            &mut bundle,
            json!({ "destination": place, "type": "bind", "source": source, "options": ["bind"] }),
        );
    }
    for place in ["/data", "/var/lib/x"] {
        add(
            &mut bundle,
            json!({ "destination": place, "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"] }),
        );
    }
    for round in 0..25 {
        run(&bundle);
        canary.assert_untouched(&format!("start {round}"));
    }
}

/// Swaps two names for each other until it is dropped.
struct Storm(Arc<AtomicBool>, Option<JoinHandle<u64>>);

impl Storm {
    fn new(one: PathBuf, two: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let swap = move || {
            let mut count = 0;
            while !stopped.load(Ordering::Relaxed) {
                count += u64::from(renameat_with(CWD, &one, CWD, &two, RenameFlags::EXCHANGE).is_ok());
            }
            count
        };
        Self(stop, Some(std::thread::spawn(swap)))
    }

    fn end(mut self) -> u64 {
        self.0.store(true, Ordering::Relaxed);
        self.1.take().unwrap().join().unwrap()
    }
}

#[test]
fn a_neighbour_swaps_what_is_on_the_way_to_a_mount_point() {
    let canary = Canary::new();
    let mut bundle = Bundle::sh("grep -c /shared/ /proc/self/mountinfo; true");
    // The neighbour has this volume too.
    let volume = bundle.path().join("volume");
    fs::create_dir_all(volume.join("a")).unwrap();
    symlink(canary.path(), volume.join("b")).unwrap();
    fs::write(bundle.path().join("secret"), "").unwrap();
    let (source, secret) = (volume.clone(), bundle.path().join("secret"));
    add(
        &mut bundle,
        json!({ "destination": "/shared", "type": "bind", "source": source, "options": ["rbind"] }),
    );
    for number in 0..8 {
        let place = |name: &str| format!("/shared/a/{name}{number}/deeper");
        add(
            &mut bundle,
            json!({ "destination": place("tmpfs"), "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"] }),
        );
        add(
            &mut bundle,
            json!({ "destination": place("file"), "type": "bind", "source": secret, "options": ["bind", "ro"] }),
        );
    }
    add(
        &mut bundle,
        json!({ "destination": "/shared/a/groups/deeper", "type": "cgroup", "source": "cgroup", "options": ["ro"] }),
    );
    bundle.spec["linux"]["devices"] =
        json!([{ "type": "c", "path": "/shared/a/nodes/deeper/null", "major": 1, "minor": 3 }]);
    let allowed = json!({ "allow": true, "access": "m" });
    bundle.spec["linux"]["resources"]["devices"].as_array_mut().unwrap().push(allowed);
    bundle.spec["linux"]["maskedPaths"] = json!(["/shared/a/secret", "/shared/a/f"]);
    bundle.spec["linux"]["readonlyPaths"] = json!(["/shared/a/readonly", "/shared/a"]);
    bundle.spec["process"]["cwd"] = json!("/shared/a/work/deep/er");
    // While the host's root is still there: is anything mounted where it should not?
    let leak = bundle.path().join("leak");
    winner(
        &mut bundle,
        &format!("grep ' {}' /proc/self/mountinfo >> {}; true", canary.path().display(), leak.display()),
    );
    let storm = Storm::new(volume.join("a"), volume.join("b"));
    let mut started = 0;
    for _ in 0..60 {
        started += u32::from(run(&bundle).code == 0);
        let dirty = fs::read_dir(canary.path()).unwrap().count() > 1;
        if dirty {
            break;
        }
        // Something to make next time.
        for entry in fs::read_dir(volume.join("a")).into_iter().flatten().flatten() {
            if entry.path().canonicalize().is_ok_and(|real| real.starts_with(&volume)) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
    let swaps = storm.end();
    println!("{started} starts of 60 went through {swaps} swaps");
    assert!(swaps > 1000, "{swaps} swaps are no storm");
    canary.assert_untouched(&format!("{swaps} swaps, {started} starts"));
    assert_eq!(fs::read_to_string(leak).unwrap_or_default(), "");
    bundle.assert_gone();
}

#[test]
fn a_copy_up_reads_no_link() {
    let canary = Canary::new();
    let mut bundle = Bundle::sh("cat /data/* /data/*/* 2>/dev/null; true");
    let data = bundle.rootfs().join("data");
    fs::create_dir_all(data.join("real")).unwrap();
    fs::write(data.join("real/f"), "mine").unwrap();
    symlink(canary.path(), data.join("false")).unwrap();
    fs::write(data.join("plain"), "mine").unwrap();
    symlink(canary.path().join("f"), data.join("not-plain")).unwrap();
    add(
        &mut bundle,
        json!({ "destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"] }),
    );
    let storms = [
        Storm::new(data.join("real"), data.join("false")),
        Storm::new(data.join("plain"), data.join("not-plain")),
    ];
    for _ in 0..40 {
        let said = run(&bundle);
        assert!(!said.out.contains("known"), "{}", said.out);
    }
    assert!(storms.into_iter().map(Storm::end).sum::<u64>() > 1000);
    canary.assert_untouched("copy-up");
    // An image may nest directories without end: an error, and no crash.
    let mut deep = Bundle::sh("true");
    let nest = "mkdir data; cd -P data; i=0; while [ $i -lt 1500 ]; do mkdir d; cd -P d; i=$((i+1)); done";
    assert!(Command::new("sh").args(["-c", nest]).current_dir(deep.rootfs()).status().unwrap().success());
    add(
        &mut deep,
        json!({ "destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"] }),
    );
    let said = run(&deep);
    assert!(!is_ours() || (said.code == 1 && said.err.contains("inside each other")), "{}", said.err);
}

/// Runs with a terminal, whose other end is `script`'s.
fn run_on_terminal(bundle: &mut Bundle) -> Said {
    bundle.spec["process"]["terminal"] = json!(true);
    fs::write(bundle.path().join("config.json"), bundle.spec.to_string()).unwrap();
    let line = format!("{} --root {1}/state run -b {1} {2}", runtime(), bundle.path().display(), bundle.id);
    let mut command = Command::new("timeout");
    command.args(["20", "script", "-qec", &line, "/dev/null"]).stdin(std::process::Stdio::null());
    let mut said: Said = command.output().expect("script").into();
    // The terminal shows the end of `script`'s own input.
    said.out.retain(|letter| !['\r', '\u{8}', '\u{4}', '\0'].contains(&letter));
    said.out = said.out.replace("^@", "").replace("^D", "");
    said
}

#[test]
fn a_terminal_is_one_and_its_own() {
    let canary = Canary::new();
    let test = "stat -c '%F %t' /dev/console; tty; readlink /proc/self/fd/0; grep -c ' /dev/console ' /proc/self/mountinfo";
    let mut plain = Bundle::sh(test);
    let said = run_on_terminal(&mut plain);
    let wanted = ["character special file 88", "/dev/pts/0", "/dev/pts/0", "1"];
    assert_eq!(said.out.lines().collect::<Vec<_>>(), wanted, "{}", said.err);

    for (name, target) in [
        ("dev/console", canary.path().join("f")),
        ("dev/console", "/etc/swapped".into()),
        ("dev/console", canary.path().join("new")),
        ("dev/pts", canary.path().into()),
        ("dev/ptmx", canary.path().join("f")),
    ] {
        let story = format!("{name} is a link to {}", target.display());
        let mut bundle =
            Bundle::sh(&format!("grep -c -E '/etc/swapped|canary' /proc/self/mountinfo; {test}"));
        without_mounts_below(&mut bundle, "/dev");
        fs::create_dir_all(bundle.rootfs().join("dev")).unwrap();
        fs::create_dir_all(bundle.rootfs().join("etc")).unwrap();
        fs::write(bundle.rootfs().join("etc/swapped"), "").unwrap();
        symlink(&target, bundle.rootfs().join(name)).unwrap();
        if name != "dev/pts" {
            add(
                &mut bundle,
                json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"] }),
            );
        }
        let said = run_on_terminal(&mut bundle);
        canary.assert_untouched(&story);
        let outcome = said.out.lines().next().unwrap_or_default();
        assert!(said.code != 0 || outcome == "0", "{story}: {}", said.out);
        assert!(!is_ours() || name != "dev/console" || said.out.contains("/dev/console"), "{}", said.out);
    }

    // A node that the image brings is no terminal of the container's devpts.
    let mut bundle = Bundle::sh(test);
    without_mounts_below(&mut bundle, "/dev");
    fs::create_dir_all(bundle.rootfs().join("dev/pts")).unwrap();
    mknodat(
        CWD,
        bundle.rootfs().join("dev/pts/ptmx"),
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o666),
        makedev(5, 2),
    )
    .unwrap();
    let said = run_on_terminal(&mut bundle);
    assert!(said.code != 0 || !is_ours(), "{}", said.out);
}

#[test]
fn kernel_settings_are_written_to_the_kernel() {
    let canary = Canary::new();
    let mut bundle = Bundle::sh(
        "mkdir /true; mount -t proc proc /true && cat /true/sys/net/ipv4/ip_unprivileged_port_start; cat /proc/sys/net/ipv4/other",
    );
    let admin = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
    bundle.spec["process"]["capabilities"] =
        json!({ "bounding": admin, "effective": admin, "permitted": admin });
    // No procfs is mounted, and the image has its own idea of one.
    without_mounts_below(&mut bundle, "/proc");
    bundle.spec["linux"]["maskedPaths"] = json!([]);
    bundle.spec["linux"]["readonlyPaths"] = json!([]);
    let fake = bundle.rootfs().join("proc/sys/net/ipv4");
    fs::create_dir_all(&fake).unwrap();
    fs::write(fake.join("other"), "untouched\n").unwrap();
    symlink("other", fake.join("ip_unprivileged_port_start")).unwrap();
    bundle.spec["linux"]["sysctl"] = json!({ "net.ipv4.ip_unprivileged_port_start": "77" });
    let said = run(&bundle);
    assert_eq!(said.out, "77\nuntouched\n", "{}", said.err);
    canary.assert_untouched("sysctl");
}

#[test]
fn what_the_runtime_makes_and_the_image_has_already() {
    let made =
        ["dev/null", "dev/fd", "dev/stdin", "dev/ptmx", "dev/sub/fuse", "etc/hosts", "data", "work/here"];
    let kinds = ["link", "dangling", "loop", "pipe", "device", "directory", "file", "immutable"];
    for name in made {
        for kind in kinds {
            let story = format!("{name} is a {kind}");
            let canary = Canary::new();
            let mut bundle = Bundle::sh("true");
            bundle.spec["process"]["cwd"] = json!("/work/here");
            without_mounts_below(&mut bundle, "/dev");
            let path = bundle.rootfs().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match kind {
                "link" => symlink(canary.path().join("f"), &path).unwrap(),
                "dangling" => symlink(canary.path().join("new"), &path).unwrap(),
                "loop" => symlink(path.file_name().unwrap(), &path).unwrap(),
                "pipe" => place(&path, FileType::Fifo),
                "device" => {
                    mknodat(CWD, &path, FileType::CharacterDevice, Mode::RUSR, makedev(1, 5)).unwrap();
                }
                "directory" => fs::create_dir(&path).unwrap(),
                _ => fs::write(&path, "mine").unwrap(),
            }
            let immutable = (kind == "immutable").then(|| Immutable::new(&path));
            fs::write(bundle.path().join("hosts"), "").unwrap();
            let source = bundle.path().join("hosts");
            add(
                &mut bundle,
                json!({ "destination": "/etc/hosts", "type": "bind", "source": source, "options": ["bind"] }),
            );
            add(&mut bundle, json!({ "destination": "/data", "type": "tmpfs", "source": "tmpfs" }));
            add_fuse(&mut bundle);
            let said = run(&bundle);
            drop(immutable);
            canary.assert_untouched(&story);
            // Refused by name, or done.
            let named = said.err.contains(name.split('/').next_back().unwrap());
            assert!(!is_ours() || said.code == 0 || named, "{story}: {}", said.err);
            if matches!(kind, "file" | "immutable") && !name.starts_with("dev/") {
                assert_eq!(fs::read(&path).unwrap(), b"mine", "{story}");
            }
        }
    }
}

/// `chattr +i`, undone when dropped.
struct Immutable(PathBuf);

impl Immutable {
    fn new(path: &Path) -> Self {
        assert!(Command::new("chattr").arg("+i").arg(path).status().expect("chattr").success());
        Self(path.to_owned())
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        let _ = Command::new("chattr").arg("-i").arg(&self.0).status();
    }
}

#[test]
fn hidden_and_readonly_paths_by_every_way() {
    let script = r#"
        see() { for p in /proc/keys /proc/timer_list; do for w in "$1$p" "$1/proc/1/../${p#/proc/}" "$1/sys/../$p"; do n=$(cat $w 2>/dev/null | wc -c); [ $n = 0 ] || echo "$w can be read"; done; done
            [ -z "$(ls -A $1/sys/firmware 2>/dev/null)" ] || echo "$1/sys/firmware can be read"
            for p in /proc/sys/net/ipv4/ip_default_ttl /proc/sysrq-trigger; do ( echo 64 > $1$p ) 2>/dev/null && echo "$1$p can be written"; done; }
        see ""; see /proc/self/root; see /proc/1/root; see /proc/self/task/1/root; see /proc/1/cwd
        for p in /proc/keys /proc/timer_list /sys/firmware /proc/sys; do
            umount $p 2>/dev/null && echo "umount $p"; umount -l $p 2>/dev/null && echo "umount -l $p"
            mount -o remount,rw,bind $p 2>/dev/null && echo "remount $p"; mkdir -p /m; mount --move $p /m 2>/dev/null && echo "move $p"
        done
        mount -t proc proc /m 2>/dev/null && echo "another procfs"
        unshare -U -r -m -p -f sh -c '
            for p in /proc/keys /proc/timer_list /sys/firmware /proc/sys; do
                umount $p 2>/dev/null && echo "umount $p as root of a namespace"; umount -l $p 2>/dev/null && echo "umount -l $p as root"
                [ -d $p ] && mount -o remount,rw,bind $p 2>/dev/null && echo "remount $p as root"; mount --move $p /m 2>/dev/null && echo "move $p as root"
                mount --bind $p /m 2>/dev/null; [ -d $p ] || [ "$(cat /m 2>/dev/null | wc -c)" = 0 ] || echo "bind $p"
            done
            mount -t proc proc /m 2>/dev/null && echo "another procfs as root"; mount --bind /proc /m 2>/dev/null && cat /m/keys | grep . && echo "bind /proc"
            mount --rbind /proc /m 2>/dev/null && umount /m/keys 2>/dev/null && echo "rbind /proc"; exit 0' || echo no namespace
        echo done"#;
    let bundle = Bundle::sh(script);
    for applet in ["unshare", "tr"] {
        symlink("busybox", bundle.rootfs().join("bin").join(applet)).unwrap();
    }
    for flags in [&[][..], &["--no-pivot"]] {
        let said = run_with(&bundle, flags);
        assert_eq!(said.out, "done\n", "{flags:?}: {}", said.err);
    }
}

#[test]
fn a_moved_root_cannot_be_left_by_another_chroot() {
    // This program again, inside, with the right to change its root.
    if let Some(canary) = std::env::var_os("ATTACK_BY_CHROOT") {
        fs::create_dir_all("/hole").unwrap();
        rustix::process::chdir("/").unwrap();
        rustix::process::chroot("/hole").unwrap();
        rustix::process::chdir("../../../../../../../..").unwrap();
        let inside = Path::new(&canary).strip_prefix("/").unwrap();
        println!("SEEN {}", inside.exists());
        return;
    }
    let canary = Canary::new();
    for flag in ["--no-pivot", "--no-new-keyring"] {
        let words = ["/attack", "--exact", "a_moved_root_cannot_be_left_by_another_chroot", "--nocapture"];
        let mut bundle = Bundle::new(&words);
        fs::copy(std::env::current_exe().unwrap(), bundle.rootfs().join("attack")).unwrap();
        let env = bundle.spec["process"]["env"].as_array_mut().unwrap();
        env.push(json!(format!("ATTACK_BY_CHROOT={}", canary.path().display())));
        let said = run_with(&bundle, &[flag]);
        assert!(said.out.contains("SEEN false"), "{flag}: {}{}", said.out, said.err);
    }
}
