//! Device nodes: made, found, bound, refused.

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use bundle::{Bundle, Said, is_ours, runtime};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use serde_json::{Value, json};

fn device(bundle: &mut Bundle, device: Value) {
    let devices = &mut bundle.spec["linux"]["devices"];
    if devices.is_null() {
        *devices = json!([]);
    }
    devices.as_array_mut().unwrap().push(device);
    let every = json!({ "allow": true, "access": "m" });
    bundle.spec["linux"]["resources"]["devices"].as_array_mut().unwrap().push(every);
}

fn user_namespace(bundle: &mut Bundle) {
    bundle.spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    bundle.spec["linux"]["uidMappings"] = map.clone();
    bundle.spec["linux"]["gidMappings"] = map;
    let owned = Command::new("chown").args(["-R", "100000:100000"]).arg(bundle.rootfs()).status().unwrap();
    assert!(owned.success());
    fs::set_permissions(bundle.path(), fs::Permissions::from_mode(0o755)).unwrap();
}

fn without_dev(bundle: &mut Bundle) {
    let mounts = bundle.spec["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    fs::create_dir_all(bundle.rootfs().join("dev")).unwrap();
}

#[test]
fn nodes_of_every_type() {
    let mut bundle = Bundle::sh("stat -c '%n %F %t:%T %a %u %g' /dev/a/c /dev/u /dev/b /dev/p /elsewhere");
    device(
        &mut bundle,
        json!({ "type": "c", "path": "/dev/a/c", "major": 10, "minor": 229, "fileMode": 0o600, "uid": 3, "gid": 4 }),
    );
    device(&mut bundle, json!({ "type": "u", "path": "/dev/u", "major": 1, "minor": 5 }));
    device(&mut bundle, json!({ "type": "b", "path": "/dev/b", "major": 7, "minor": 9, "fileMode": 0o640 }));
    device(&mut bundle, json!({ "type": "p", "path": "/dev/p", "fileMode": 0o622 }));
    device(
        &mut bundle,
        json!({ "type": "c", "path": "/elsewhere", "major": 1, "minor": 3, "fileMode": 0o4666 }),
    );
    let output = bundle.output();
    let lines: Vec<&str> = output.lines().collect();
    let wanted = [
        "/dev/a/c character special file a:e5 600 3 4",
        "/dev/u character special file 1:5 666 0 0",
        "/dev/b block special file 7:9 640 0 0",
        "/dev/p fifo 0:0 622 0 0",
    ];
    assert_eq!(lines[..4], wanted, "{output}");
    assert!(lines[4].starts_with("/elsewhere character special file 1:3"), "{output}");
}

#[test]
fn nodes_that_are_there_already() {
    let mut bundle =
        Bundle::sh("stat -c '%F %t:%T %a' /dev/null /dev/zero; echo x > /dev/null && echo works");
    without_dev(&mut bundle);
    let node = |name: &str, number: (u32, u32)| {
        let path = bundle.rootfs().join("dev").join(name);
        mknodat(
            CWD,
            path,
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o600),
            makedev(number.0, number.1),
        )
        .unwrap();
    };
    node("null", (1, 3));
    let output = bundle.output();
    assert!(output.starts_with("character special file 1:3") && output.ends_with("works"), "{output}");
    // Twice: what the first run made is right for the second.
    assert_eq!(bundle.output(), output);

    for (name, kind) in [("zero", "another device"), ("full", "a file"), ("random", "a link")] {
        let mut bundle = Bundle::sh("true");
        without_dev(&mut bundle);
        let path = bundle.rootfs().join("dev").join(name);
        match kind {
            "another device" => {
                mknodat(CWD, &path, FileType::CharacterDevice, Mode::RUSR, makedev(1, 3)).unwrap();
            }
            "a file" => fs::write(&path, "mine").unwrap(),
            _ => std::os::unix::fs::symlink("zero", &path).unwrap(),
        }
        let said = bundle.run();
        // runc 1.1 takes whatever is there.
        assert!(said.code != 0 || !is_ours(), "{name} is {kind}");
        assert!(!is_ours() || said.err.contains(&format!("/dev/{name}: is not the device")), "{}", said.err);
    }
}

#[test]
fn user_namespaces_get_the_hosts_nodes() {
    let script = "stat -c '%F %t:%T' /dev/kmsg /dev/other; head -c 2 /dev/other | wc -c; echo x > /dev/null && echo works";
    let mut bundle = Bundle::sh(script);
    user_namespace(&mut bundle);
    device(&mut bundle, json!({ "type": "c", "path": "/dev/kmsg", "major": 1, "minor": 11 }));
    if !is_ours() {
        // Found by path only.
        return;
    }
    device(&mut bundle, json!({ "type": "c", "path": "/dev/other", "major": 1, "minor": 5 }));
    let wanted = "character special file 1:b\ncharacter special file 1:5\n2\nworks";
    assert_eq!(bundle.output(), wanted);

    for (path, number) in [("/dev/full", 9999), ("/dev/none", 9999)] {
        let mut bundle = Bundle::sh("true");
        user_namespace(&mut bundle);
        device(&mut bundle, json!({ "type": "c", "path": path, "major": 1, "minor": number }));
        let said = bundle.run();
        assert!(said.code != 0 && said.err.contains(&format!("bind device {path}")), "{}", said.err);
    }
}

#[test]
fn a_runtime_that_may_not_make_nodes_binds_them() {
    if !is_ours() {
        println!("skipped: others do so only where they are root of a user namespace");
        return;
    }
    let bundle = Bundle::sh("stat -c '%F %t:%T' /dev/null /dev/tty; head -c 2 /dev/zero | wc -c");
    fs::write(bundle.path().join("config.json"), bundle.spec.to_string()).unwrap();
    let mut spec = bundle.spec.clone();
    for set in ["bounding", "effective", "permitted"] {
        let set = spec["process"]["capabilities"][set].as_array_mut().unwrap();
        set.retain(|name| name != "CAP_MKNOD");
    }
    fs::write(bundle.path().join("config.json"), spec.to_string()).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-mknod", "--inh-caps=-mknod", &runtime(), "--root"]);
    command.arg(bundle.path().join("state")).arg("run").arg("-b").arg(bundle.path()).arg(&bundle.id);
    let said: Said = command.output().expect("setpriv").into();
    assert_eq!(said.out, "character special file 1:3\ncharacter special file 5:0\n2\n", "{}", said.err);
}
