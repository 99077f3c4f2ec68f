//! Id-mapped mounts, and mounts and devices in user namespaces.

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    process::Command,
};

use bundle::{Bundle, Said, is_ours, runtime};
use serde_json::{Value, json};

fn add(bundle: &mut Bundle, mount: Value) {
    bundle.spec["mounts"].as_array_mut().unwrap().push(mount);
}

fn map(inside: u32, outside: u32, size: u32) -> Value {
    json!([{ "containerID": inside, "hostID": outside, "size": size }])
}

fn mapped(bundle: &mut Bundle, source: &str, destination: &str, options: &[&str], ids: &Value) {
    add(
        bundle,
        json!({ "destination": destination, "type": "bind", "source": source, "options": options,
            "uidMappings": ids, "gidMappings": ids }),
    );
}

/// A directory of the host with a file that belongs to `owner`.
fn host(bundle: &Bundle, name: &str, owner: u32) {
    let path = bundle.path().join(name);
    fs::create_dir(&path).unwrap();
    fs::write(path.join("file"), "x\n").unwrap();
    chown(path.join("file"), Some(owner), Some(owner)).unwrap();
    chown(&path, Some(owner), Some(owner)).unwrap();
}

/// Root in the container is 100000 on the host.
fn user_namespace(bundle: &mut Bundle) {
    bundle.spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    bundle.spec["linux"]["uidMappings"] = map(0, 100_000, 65_536);
    bundle.spec["linux"]["gidMappings"] = map(0, 100_000, 65_536);
    let owned = Command::new("chown").args(["-R", "100000:100000"]).arg(bundle.rootfs()).status().unwrap();
    assert!(owned.success());
    fs::set_permissions(bundle.path(), fs::Permissions::from_mode(0o755)).unwrap();
}

fn drop_namespace(bundle: &mut Bundle, kind: &str) {
    bundle.spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != kind);
}

/// Other runtimes on this machine are from before id-mapped mounts (runc 1.2, crun 1.9).
fn others() -> bool {
    if !is_ours() {
        println!("skipped: this runtime has no id-mapped mounts");
    }
    !is_ours()
}

#[test]
fn ids_are_mapped_without_a_user_namespace() {
    if others() {
        return;
    }
    let mut bundle = Bundle::sh("stat -c '%u %g' /a/file /b/file /c/file; touch /a/new; stat -c %u /a/new");
    for name in ["a", "b", "c"] {
        host(&bundle, name, 1000);
        // The file system's 1000 is shown as 0; the same map twice, and once none.
        let ids = if name == "c" { json!([]) } else { map(1000, 0, 1) };
        mapped(&mut bundle, name, &format!("/{name}"), &["bind"], &ids);
    }
    assert_eq!(bundle.output(), "0 0\n0 0\n1000 1000\n0");
    let made = fs::metadata(bundle.path().join("a/new")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), 1000, "it belongs to the volume's owner");
}

#[test]
fn ids_are_mapped_into_a_user_namespace() {
    if others() {
        return;
    }
    let mut bundle = Bundle::sh(
        "stat -c '%u %g' /own/file /same/file /other/file /plain/file; touch /own/new; stat -c %u /own/new; cat /own/file",
    );
    for name in ["own", "same", "other", "plain"] {
        host(&bundle, name, 5);
    }
    user_namespace(&mut bundle);
    mapped(&mut bundle, "own", "/own", &["rbind", "idmap"], &json!([]));
    mapped(&mut bundle, "same", "/same", &["rbind", "ridmap", "ro"], &map(0, 100_000, 65_536));
    mapped(&mut bundle, "other", "/other", &["bind", "idmap"], &map(5, 100_007, 1));
    mapped(&mut bundle, "plain", "/plain", &["bind"], &json!([]));
    let wanted = "5 5\n5 5\n7 7\n65534 65534\n0\nx";
    assert_eq!(bundle.output(), wanted);
    let made = fs::metadata(bundle.path().join("own/new")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), 0, "on the disk it is root's");
}

#[test]
fn the_map_is_for_one_mount_or_for_all_below() {
    if others() {
        return;
    }
    let mut bundle = Bundle::sh("stat -c %u /one /one/inner /all /all/inner");
    mapped(&mut bundle, "host", "/one", &["rbind", "idmap"], &map(0, 7, 1));
    mapped(&mut bundle, "host", "/all", &["rbind", "ridmap"], &map(0, 7, 1));
    fs::write(bundle.path().join("config.json"), bundle.spec.to_string()).unwrap();
    let script = format!(
        "set -e; cd {0}; mkdir -p host/inner below; mount --bind host host; mount --bind below host/inner
        {1} --root {0}/state run -b {0} {2}",
        bundle.path().display(),
        runtime(),
        bundle.id
    );
    let said: Said =
        Command::new("unshare").args(["-m", "sh", "-c", &script]).output().expect("unshare").into();
    assert_eq!(said.out, "7\n0\n7\n7\n", "{}", said.err);
}

#[test]
fn what_cannot_be_mapped_is_refused() {
    if others() {
        return;
    }
    let whole = map(0, 100_000, 65_536);
    let cases = [
        (
            json!({ "type": "bind", "source": "/proc/sys", "uidMappings": whole, "gidMappings": whole }),
            "file system proc cannot be id-mapped",
        ),
        (json!({ "type": "bind", "source": "/tmp", "uidMappings": whole }), "both are needed"),
        (
            json!({ "type": "bind", "source": "/tmp", "options": ["idmap"] }),
            "needs uidMappings and gidMappings",
        ),
        (json!({ "type": "tmpfs", "uidMappings": whole, "gidMappings": whole }), "are for bind mounts"),
        (
            json!({ "type": "bind", "source": "/tmp", "uidMappings": map(0, 0, 0), "gidMappings": whole }),
            "make an id map",
        ),
    ];
    for (mut mount, wanted) in cases {
        let mut bundle = Bundle::sh("true");
        mount["destination"] = json!("/m");
        add(&mut bundle, mount);
        let said = bundle.run();
        assert_ne!(said.code, 0);
        let place = said.err.contains(" on /m") || said.err.contains("mounts[7]");
        assert!(said.err.contains(wanted) && place, "{wanted}: {}", said.err);
        bundle.assert_gone();
    }
}

#[test]
fn sources_that_the_containers_root_may_not_reach() {
    let mut bundle = Bundle::sh("cat /m/file; stat -c %u /m/file");
    let closed = bundle.path().join("closed");
    fs::create_dir(&closed).unwrap();
    host(&bundle, "closed/source", 100_000);
    user_namespace(&mut bundle);
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    add(
        &mut bundle,
        json!({ "destination": "/m", "type": "bind", "source": closed.join("source"), "options": ["bind", "ro"] }),
    );
    assert_eq!(bundle.output(), "x\n0");
}

#[test]
fn a_root_that_the_containers_root_may_not_reach() {
    if !is_ours() {
        println!("skipped: other runtimes want the way to the root open for everybody");
        return;
    }
    let mut bundle = Bundle::sh(
        "cat /m/file; stat -c %u /; ls -d /proc/1 /tmp/knarr-* 2>/dev/null; grep -c . /proc/self/mountinfo",
    );
    host(&bundle, "source", 100_000);
    user_namespace(&mut bundle);
    add(&mut bundle, json!({ "destination": "/m", "type": "bind", "source": "source", "options": ["bind"] }));
    let open = bundle.output();
    fs::set_permissions(bundle.path(), fs::Permissions::from_mode(0o700)).unwrap();
    assert!(open.starts_with("x\n0\n/proc/1\n"), "{open}");
    assert_eq!(bundle.output(), open);
    let path = bundle.path().display().to_string();
    let said = bundle.call(&["run", "--no-pivot", "-b", &path]);
    assert!(said.out.starts_with("x\n0\n/proc/1\n"), "{}{}", said.out, said.err);
    bundle.assert_gone();
}

#[test]
fn every_default_mount_works_in_a_user_namespace() {
    let script = "for p in /proc /dev /dev/pts /sys /dev/mqueue /dev/shm; do grep -q \" $p \" /proc/self/mountinfo || echo no $p; done
        ls /sys/fs/cgroup > /dev/null; touch /sys/x 2>&1 | grep -o 'Read-only.*'; for d in null zero full random urandom tty; do stat -c '%F %t:%T' /dev/$d; done
        echo x > /dev/null && head -c 2 /dev/zero | wc -c; readlink /dev/ptmx; readlink /dev/stdin; wc -c < /proc/keys; echo 1 2>/dev/null > /proc/sysrq-trigger || echo refused";
    let mut bundle = Bundle::sh(script);
    user_namespace(&mut bundle);
    let wanted = "Read-only file system
character special file 1:3\ncharacter special file 1:5\ncharacter special file 1:7
character special file 1:8\ncharacter special file 1:9\ncharacter special file 5:0
2\npts/ptmx\n/proc/self/fd/0\n0\nrefused";
    assert_eq!(bundle.output(), wanted);
}

#[test]
fn namespaces_of_the_host_are_shown_by_the_hosts_mounts() {
    if !is_ours() {
        println!("skipped: runc leaves this to the engine");
        return;
    }
    let mut bundle = Bundle::sh(
        "ls -d /sys/class/net/lo; touch /sys/x /sys/class/x 2>&1 | grep -c Read-only; grep ' / /sys ' /proc/self/mountinfo | grep -c noexec
        ls /proc/1/status; cat /proc/sys/kernel/hostname",
    );
    user_namespace(&mut bundle);
    for kind in ["network", "pid"] {
        drop_namespace(&mut bundle, kind);
    }
    // Read-only also if nobody says so.
    let mounts = bundle.spec["mounts"].as_array_mut().unwrap();
    let sys = mounts.iter_mut().find(|mount| mount["type"] == "sysfs").unwrap();
    sys["options"] = json!(["nosuid", "noexec", "nodev"]);
    let said = bundle.run();
    let wanted = "/sys/class/net/lo\n2\n1\n/proc/1/status\nship\n";
    assert_eq!((said.code, said.out.as_str()), (0, wanted), "{}", said.err);
}

#[test]
fn message_queues_of_the_host() {
    if !is_ours() {
        println!("skipped: runc leaves this to the engine");
        return;
    }
    let mut bundle =
        Bundle::sh("ls /dev/mqueue; grep ' /dev/mqueue ' /proc/self/mountinfo | grep -c nosuid,nodev,noexec");
    user_namespace(&mut bundle);
    drop_namespace(&mut bundle, "ipc");
    fs::write(bundle.path().join("config.json"), bundle.spec.to_string()).unwrap();
    // Not every host has them mounted: over a copy of /dev, of a mount and an ipc namespace of its own.
    let script = format!(
        "set -e; cd {0}; mkdir dev; mount -t tmpfs t dev; mkdir dev/upper dev/work
        mount -t overlay o -o lowerdir=/dev,upperdir=dev/upper,workdir=dev/work /dev
        mkdir -p /dev/mqueue; mount -t mqueue m /dev/mqueue; touch /dev/mqueue/of-the-host
        {1} --root {0}/state run -b {0} {2}",
        bundle.path().display(),
        runtime(),
        bundle.id
    );
    let said: Said =
        Command::new("unshare").args(["-m", "-i", "sh", "-c", &script]).output().expect("unshare").into();
    assert_eq!(said.out, "of-the-host\n1\n", "{}", said.err);
}

#[test]
fn locked_attributes_stay() {
    let mut bundle =
        Bundle::sh("grep ' /m ' /proc/self/mountinfo | cut -d' ' -f6; touch /m/x 2>&1 | grep -o Read-only");
    user_namespace(&mut bundle);
    add(
        &mut bundle,
        json!({ "destination": "/m", "type": "bind", "source": "host", "options": ["bind", "ro"] }),
    );
    add(
        &mut bundle,
        json!({ "destination": "/m", "type": "bind", "source": "host", "options": ["bind", "remount", "ro"] }),
    );
    let run = |bundle: &Bundle| -> Said {
        fs::write(bundle.path().join("config.json"), bundle.spec.to_string()).unwrap();
        let script = format!(
            "set -e; cd {0}; mkdir -p host; mount -t tmpfs -o nosuid,nodev,noexec,noatime t host
            {1} --root {0}/state run -b {0} {2}",
            bundle.path().display(),
            runtime(),
            bundle.id
        );
        Command::new("unshare").args(["-m", "sh", "-c", &script]).output().expect("unshare").into()
    };
    let said = run(&bundle);
    if is_ours() {
        assert_eq!(said.out, "ro,nosuid,nodev,noexec,noatime\nRead-only\n", "{}", said.err);
        let last = bundle.spec["mounts"].as_array_mut().unwrap().last_mut().unwrap();
        last["options"] = json!(["bind", "remount", "ro", "dev"]);
        let said = run(&bundle);
        assert!(said.code != 0 && said.err.contains("locked"), "{}", said.err);
    }
}
