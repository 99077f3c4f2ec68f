//! Binds, new file systems, their options, and how mounts spread.

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    os::unix::net::UnixListener,
    path::Path,
    process::Command,
};

use bundle::{Bundle, Said, is_ours, runtime};
use serde_json::{Value, json};

fn add(bundle: &mut Bundle, mount: Value) {
    bundle.spec["mounts"].as_array_mut().unwrap().push(mount);
}

fn bind(bundle: &mut Bundle, source: &str, destination: &str, options: &[&str]) {
    add(bundle, json!({ "destination": destination, "type": "bind", "source": source, "options": options }));
}

fn tmpfs(bundle: &mut Bundle, destination: &str, options: &[&str]) {
    add(
        bundle,
        json!({ "destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options }),
    );
}

/// A directory of the host with a file in it.
fn host(bundle: &Bundle, name: &str) -> String {
    let path = bundle.path().join(name);
    fs::create_dir(&path).unwrap();
    fs::write(path.join("file"), format!("{name}\n")).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Runs to the end in a mount namespace in which `prepare` has run before, and `check` runs after.
fn run_between(bundle: &Bundle, prepare: &str, check: &str) -> Said {
    fs::write(bundle.path().join("config.json"), bundle.spec.to_string()).unwrap();
    let script = format!("set -e; cd {}; {prepare}\n$RUN; {check}", bundle.path().display());
    let run = format!("{} --root {1}/state run -b {1} {2}", runtime(), bundle.path().display(), bundle.id);
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-c", &script]).env("RUN", run);
    command.output().expect("unshare").into()
}

#[test]
fn binds_of_all_kinds() {
    let mut bundle = Bundle::sh(
        "cat /made/for/it/file /relative/file /one /linked/file; test -S /socket && echo socket;
        stat -c %F /device; cat /through",
    );
    let source = host(&bundle, "source");
    bind(&mut bundle, &source, "/made/for/it", &["bind"]);
    bind(&mut bundle, "source", "/relative", &["rbind", "ro"]);
    bind(&mut bundle, &format!("{source}/file"), "/one", &["bind"]);
    symlink("elsewhere", bundle.rootfs().join("linked")).unwrap();
    fs::create_dir(bundle.rootfs().join("elsewhere")).unwrap();
    bind(&mut bundle, &source, "/linked", &["bind"]);
    let _listener = UnixListener::bind(bundle.path().join("socket")).unwrap();
    bind(&mut bundle, "socket", "/socket", &["bind"]);
    bind(&mut bundle, "/dev/null", "/device", &["bind"]);
    symlink("source/file", bundle.path().join("link")).unwrap();
    bind(&mut bundle, "link", "/through", &["bind"]);
    let wanted = "source\nsource\nsource\nsource\nsocket\ncharacter special file\nsource";
    assert_eq!(bundle.output(), wanted);
    assert!(bundle.rootfs().join("made/for/it").is_dir());
    assert!(bundle.rootfs().join("elsewhere").read_dir().unwrap().next().is_none());
}

#[test]
fn a_dangling_link_is_followed_inside() {
    let mut bundle = Bundle::sh("cat /etc/resolv.conf; readlink /etc/resolv.conf");
    let source = host(&bundle, "source");
    fs::create_dir(bundle.rootfs().join("etc")).unwrap();
    symlink("../run/resolve/stub.conf", bundle.rootfs().join("etc/resolv.conf")).unwrap();
    bind(&mut bundle, &format!("{source}/file"), "/etc/resolv.conf", &["bind", "ro"]);
    assert_eq!(bundle.output(), "source\n../run/resolve/stub.conf");
    assert!(bundle.rootfs().join("run/resolve/stub.conf").is_file());
}

#[test]
fn attributes_of_one_mount_and_of_all_below() {
    // Old runtimes know no recursive attributes.
    let words: &[&str] =
        if is_ours() { &["rro", "rnosuid", "rnodev", "rnoexec", "rnoatime"] } else { &["ro"] };
    let mut bundle = Bundle::sh(
        "while read a b c d where how rest; do case $where in /tree*|/top*|/alone*) echo $where $how;; esac; done < /proc/self/mountinfo",
    );
    for name in ["tree", "top", "alone"] {
        bind(&mut bundle, "host", &format!("/{name}"), &["rbind"]);
        let options = bundle.spec["mounts"].as_array_mut().unwrap().last_mut().unwrap();
        let list = options["options"].as_array_mut().unwrap();
        match name {
            "tree" => list.extend(words.iter().map(|word| json!(word))),
            "top" => list.extend([json!("ro"), json!("nosuid"), json!("nodiratime")]),
            _ => list[0] = json!("bind"),
        }
    }
    let said = run_between(
        &bundle,
        "mkdir host; mount -t tmpfs host host; mkdir host/inner; mount -t tmpfs inner host/inner",
        "",
    );
    assert_eq!(said.code, 0, "{}", said.err);
    let lines: Vec<&str> = said.out.lines().collect();
    if is_ours() {
        assert_eq!(lines[0], "/tree ro,nosuid,nodev,noexec,noatime", "{}", said.out);
        assert_eq!(lines[1], "/tree/inner ro,nosuid,nodev,noexec,noatime");
    }
    assert!(lines[2].starts_with("/top ro,nosuid") && lines[2].contains("nodiratime"), "{}", said.out);
    assert_eq!(lines[3..], ["/top/inner rw,relatime", "/alone rw,relatime"]);
}

#[test]
fn a_tmpfs_has_the_options_it_was_given() {
    let mut bundle = Bundle::sh(
        "stat -c '%a %u %g' /like /new /given; df -k /size | tail -1; df -k /percent | tail -1; df -i /few | tail -1",
    );
    fs::create_dir(bundle.rootfs().join("like")).unwrap();
    fs::set_permissions(bundle.rootfs().join("like"), fs::Permissions::from_mode(0o711)).unwrap();
    symlink("busybox", bundle.rootfs().join("bin/df")).unwrap();
    tmpfs(&mut bundle, "/like", &[]);
    tmpfs(&mut bundle, "/new", &[]);
    tmpfs(&mut bundle, "/given", &["mode=0750", "uid=7", "gid=8"]);
    tmpfs(&mut bundle, "/size", &["size=64k"]);
    tmpfs(&mut bundle, "/percent", &["size=1%"]);
    tmpfs(&mut bundle, "/few", &["nr_inodes=10"]);
    let output = bundle.output();
    let lines: Vec<&str> = output.lines().collect();
    if is_ours() {
        // As runc since 1.2; older ones give the mount point's mode, and always; crun never does.
        assert_eq!(lines[..3], ["711 0 0", "1777 0 0", "750 7 8"], "{output}");
    }
    let field = |line: &str| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap();
    assert_eq!((field(lines[3]), field(lines[5])), (64, 10), "{output}");
    assert!(field(lines[4]) > 64, "{output}");
}

#[test]
fn wrong_options_are_named() {
    for (kind, option) in
        [("tmpfs", "sizes=3"), ("tmpfs", "size=x"), ("tmpfs", "nonsense"), ("bind", "nonsense")]
    {
        let mut bundle = Bundle::sh("true");
        let source = host(&bundle, "source");
        add(&mut bundle, json!({ "destination": "/m", "type": kind, "source": source, "options": [option] }));
        let said = bundle.run();
        if is_ours() {
            let place = said.err.contains("/m") || said.err.contains("mounts[7]");
            assert!(said.err.contains(option) && place, "{}", said.err);
        }
        assert!(said.code != 0 || (kind == "bind" && !is_ours()), "{kind} {option}");
        bundle.assert_gone();
    }
    for (kind, source, wanted) in
        [("nonsensefs", "x", "no such file system type"), ("bind", "/no/such", "does not exist on the host")]
    {
        let mut bundle = Bundle::sh("true");
        add(&mut bundle, json!({ "destination": "/m", "type": kind, "source": source }));
        let said = bundle.run();
        assert_ne!(said.code, 0);
        assert!(!is_ours() || said.err.contains(wanted), "{}", said.err);
    }
}

#[test]
fn files_and_directories_do_not_cover_each_other() {
    for (source, name, hint) in [
        ("source", "file", "a directory cannot be mounted over a file"),
        ("source/file", "directory", "a file cannot be mounted over a directory"),
    ] {
        let mut bundle = Bundle::sh("true");
        host(&bundle, "source");
        fs::create_dir(bundle.rootfs().join("directory")).unwrap();
        fs::write(bundle.rootfs().join("file"), "").unwrap();
        bind(&mut bundle, source, &format!("/{name}"), &["bind"]);
        let said = bundle.run();
        assert_ne!(said.code, 0);
        assert!(!is_ours() || said.err.contains(hint), "{}", said.err);
    }
}

#[test]
fn a_tmpfs_begins_with_what_it_covers() {
    let mut bundle = Bundle::sh(
        "cd /var; cat text; stat -c '%n %F %a %u %g' text deep deep/deeper suid pipe null;
        readlink link; cat deep/deeper/leaf; stat -c '%n %Y' text deep; touch new; test text -ef twin && echo one file; ls -A",
    );
    let var = bundle.rootfs().join("var");
    fs::create_dir_all(var.join("deep/deeper")).unwrap();
    fs::write(var.join("text"), "content\n").unwrap();
    fs::write(var.join("deep/deeper/leaf"), "leaf\n").unwrap();
    fs::write(var.join("suid"), "x").unwrap();
    symlink("/etc/nowhere", var.join("link")).unwrap();
    fs::hard_link(var.join("text"), var.join("twin")).unwrap();
    let shell = "chown 3:4 text; chmod 640 text; chown 5:6 suid; chmod 4755 suid; chmod 1777 deep; $NODES; touch -d @1000 text deep; chmod 750 .";
    // runc's copy fails on devices and pipes.
    let nodes = if is_ours() { "mkfifo -m 600 pipe; mknod -m 604 null c 1 3" } else { "touch null pipe" };
    let shell = shell.replace("$NODES", nodes);
    let made = Command::new("sh").args(["-ec", &shell]).current_dir(&var).status().unwrap();
    assert!(made.success());
    tmpfs(&mut bundle, "/var", &["tmpcopyup", "nosuid"]);
    let output = bundle.output();
    let wanted = "content\ntext regular file 640 3 4\ndeep directory 1777 0 0\ndeep/deeper directory 755 0 0
suid regular file 4755 5 6\npipe fifo 600 0 0\nnull character special file 604 0 0
/etc/nowhere\nleaf\ntext 1000\ndeep 1000\none file\ndeep\nlink\nnew\nnull\npipe\nsuid\ntext\ntwin";
    if is_ours() {
        assert_eq!(output, wanted);
    } else {
        // runc's copy forgets times, that two names are one file, and what a umask takes away.
        assert!(output.starts_with(&wanted[..wanted.find("deep").unwrap()]), "{output}");
    }
    assert!(!var.join("new").exists() && var.metadata().unwrap().mode() & 0o777 == 0o750);
}

#[test]
fn a_mount_is_changed_by_a_later_one() {
    let mut bundle = Bundle::sh("touch /m/x 2>&1; grep ' /m ' /proc/self/mountinfo; cat /m/file");
    host(&bundle, "source");
    bind(&mut bundle, "source", "/m", &["bind", "nosuid"]);
    bind(&mut bundle, "source", "/m", &["bind", "remount", "ro", "nosuid"]);
    let output = bundle.output();
    assert!(output.contains("Read-only file system") && output.contains(" ro,nosuid,"), "{output}");
    assert!(output.ends_with("\nsource"), "{output}");
}

#[test]
fn mounts_spread_as_they_are_told_to() {
    let words: [(&str, &[&str]); 6] = [
        ("rprivate", &[]),
        ("rslave", &["master:"]),
        ("rshared", &["shared:", "master:"]),
        ("private", &[]),
        ("slave", &["master:"]),
        ("unbindable", &["unbindable"]),
    ];
    // crun 1.8 makes a shared mount a slave.
    let crun = runtime().contains("crun");
    for (word, marks) in words.into_iter().filter(|(word, _)| !crun || *word != "rshared") {
        let mut bundle = Bundle::sh("grep ' /m ' /proc/self/mountinfo");
        // Without a word crun cuts everything off.
        bundle.spec["linux"]["rootfsPropagation"] = json!("rslave");
        bind(&mut bundle, "host", "/m", &["rbind", word]);
        let said =
            run_between(&bundle, "mkdir host; mount -t tmpfs host host; mount --make-rshared host", "");
        assert_eq!(said.code, 0, "{word} {}", said.err);
        for mark in ["shared:", "master:", "unbindable"] {
            assert_eq!(said.out.contains(mark), marks.contains(&mark), "{word}: {mark}: {}", said.out);
        }
    }
}

#[test]
fn a_shared_volume_carries_mounts_to_the_host_only_if_the_root_may() {
    for (root, arrives) in [("rshared", true), ("rslave", false)] {
        let mut bundle = Bundle::sh("mkdir /m/inside; mount -t tmpfs inside /m/inside && echo mounted");
        let admin = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
        bundle.spec["process"]["capabilities"] =
            json!({ "bounding": admin, "effective": admin, "permitted": admin });
        bundle.spec["linux"]["rootfsPropagation"] = json!(root);
        bind(&mut bundle, "host", "/m", &["rbind", "rshared"]);
        let said = run_between(
            &bundle,
            "mkdir host; mount -t tmpfs host host; mount --make-rshared host",
            "grep -c host/inside /proc/self/mountinfo || true",
        );
        assert_eq!(said.out, format!("mounted\n{}\n", u8::from(arrives)), "{root}: {}", said.err);
    }
}

#[test]
fn propagation_of_the_root() {
    for (word, marks) in [
        ("", ["master:"].as_slice()),
        ("private", &[]),
        ("rprivate", &[]),
        ("rslave", &["master:"]),
        ("shared", &["shared:"]),
        ("rshared", &["shared:"]),
        ("unbindable", &["unbindable"]),
    ] {
        let mut bundle = Bundle::sh("grep ' / / ' /proc/self/mountinfo || grep ' / ' /proc/self/mountinfo");
        bundle.spec["linux"]["rootfsPropagation"] = json!(word);
        let said = run_between(&bundle, "mount --bind . .; mount --make-rshared .; cd .", "");
        assert_eq!(said.code, 0, "{word}: {}", said.err);
        let line = said.out.lines().next().unwrap();
        for mark in ["shared:", "unbindable"] {
            // runc sets how the mount above the root spreads, and leaves the root itself alone.
            let wanted = marks.contains(&mark) && (is_ours() || line.contains(mark));
            assert_eq!(line.contains(mark), wanted, "{word:?}: {line}");
        }
        let private = ["private", "rprivate"].contains(&word);
        assert!(!private || !line.contains("master:"), "{word:?}: {line}");
    }
    let mut bundle = Bundle::sh("true");
    bundle.spec["linux"]["rootfsPropagation"] = json!("sideways");
    assert!(bundle.run().code != 0 || !is_ours());
}

#[test]
fn a_label_without_selinux_is_refused() {
    if Path::new("/sys/fs/selinux/enforce").exists() {
        println!("skipped: SELinux is in force here");
        return;
    }
    let mut bundle = Bundle::sh("true");
    bundle.spec["linux"]["mountLabel"] = json!("system_u:object_r:container_file_t:s0:c1,c2");
    let said = bundle.run();
    // As runc; crun leaves the label out.
    let refused = said.code != 0 && said.err.contains("linux.mountLabel: SELinux is not in force");
    assert!(refused || !is_ours(), "{}", said.err);
}

#[test]
fn without_pivot_root() {
    let script = "ls -d /etc /host 2>&1; cat /m/file; grep -c ' - proc ' /proc/self/mountinfo; mkdir -p /a/b; chmod 755 /a;
        touch /readonly 2>&1; cat /proc/1/root/../../proc/self/comm >/dev/null && echo same";
    let mut bundle = Bundle::sh(script);
    let source = host(&bundle, "source");
    bind(&mut bundle, &source, "/m", &["bind"]);
    bundle.spec["linux"]["maskedPaths"] = json!([]);
    bundle.spec["linux"]["readonlyPaths"] = json!([]);
    let (with, without) = (bundle.run(), {
        let path = bundle.path().display().to_string();
        bundle.call(&["run", "--no-pivot", "-b", &path])
    });
    assert_eq!((with.code, without.code), (0, 0), "{}{}", with.err, without.err);
    assert_eq!(without.out, with.out);
    assert!(without.out.contains("\nsource\n1\nsame"), "{}", without.out);
    bundle.assert_gone();
}
