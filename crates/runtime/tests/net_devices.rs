//! `linux.netDevices`: interfaces of the host (here: of a network namespace of the test's own) in a container.

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;

use std::{fs, process::Command};

use bundle::{Bundle, Said, is_ours, runtime};
use serde_json::{Value, json};

/// Two ends of a cable: `left` has addresses, `right` stays.
const LINKS: &str = "ip link add left type veth peer name right; ip link set left mtu 1400 address 02:00:00:00:00:07;
    ip addr add 192.0.2.7/24 brd 192.0.2.255 dev left; ip addr add 2001:db8::7/64 dev left nodad;
    ip addr add 198.51.100.1/32 scope link dev left; ip link set right up; ip link set left up; ip link set lo up";

/// Other runtimes on this machine are from before runtime-spec 1.3 (runc 1.4, crun 1.22).
fn others() -> bool {
    if !is_ours() {
        println!("skipped: this runtime does not know linux.netDevices");
    }
    !is_ours()
}

fn with_devices(script: &str, devices: Value) -> Bundle {
    let mut bundle = Bundle::sh(script);
    bundle.spec["linux"]["netDevices"] = devices;
    bundle
}

/// Runs in a network namespace with the two links; then `check`.
fn run(bundle: &Bundle, check: &str) -> Said {
    fs::write(bundle.path().join("config.json"), bundle.spec.to_string()).unwrap();
    let script = format!(
        "set -e; {LINKS}; code=0; {0} --root {1}/state run -b {1} {2} || code=$?; {check}; exit $code",
        runtime(),
        bundle.path().display(),
        bundle.id
    );
    Command::new("unshare").args(["-n", "sh", "-c", &script]).output().expect("unshare").into()
}

#[test]
fn an_interface_moves_with_its_name_and_addresses() {
    if others() {
        return;
    }
    let script = "ip -o addr show dev eth7; ip link show eth7";
    let bundle = with_devices(script, json!({ "left": { "name": "eth7" } }));
    let said = run(&bundle, "ip link show left 2>&1 || true");
    assert_eq!(said.code, 0, "{}", said.err);
    for wanted in [
        "192.0.2.7/24 brd 192.0.2.255 scope global",
        "2001:db8::7/64 scope global",
        "mtu 1400",
        "02:00:00:00:00:07",
        ",UP",
    ] {
        assert!(said.out.contains(wanted), "{wanted}: {}", said.out);
    }
    assert!(!said.out.contains("198.51.100.1"), "an address of the link's own stays behind: {}", said.out);
    // It was virtual: it went with the namespace.
    assert!(said.out.contains("\"left\" does not exist"), "{}", said.out);
    bundle.assert_gone();
}

#[test]
fn it_keeps_its_name_and_reaches_its_peer() {
    if others() {
        return;
    }
    let mut bundle = with_devices(
        "ip -o link show left | grep -c UP; test -e /sys/class/net/left && echo seen",
        json!({ "left": {} }),
    );
    assert_eq!(run(&bundle, "true").out, "1\nseen\n");
    // Also where root is not the host's.
    bundle.spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    bundle.spec["linux"]["uidMappings"] = map.clone();
    bundle.spec["linux"]["gidMappings"] = map;
    assert!(
        Command::new("chown").args(["-R", "100000:100000"]).arg(bundle.rootfs()).status().unwrap().success()
    );
    fs::set_permissions(bundle.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let said = run(&bundle, "true");
    assert_eq!(said.out, "1\nseen\n", "{}", said.err);
}

#[test]
fn a_container_that_is_not_made_gives_everything_back() {
    if others() {
        return;
    }
    let devices = json!({ "left": { "name": "eth7" }, "right": { "name": "eth8" } });
    let mut bundle = with_devices("true", devices.clone());
    bundle.spec["process"]["args"] = json!(["/no/such/program"]);
    let check = "ip -o addr show dev left; ip -o link show right; ip link show left";
    let said = run(&bundle, check);
    assert_ne!(said.code, 0);
    for wanted in ["192.0.2.7/24", "2001:db8::7/64", "mtu 1400", ": right@"] {
        assert!(said.out.contains(wanted), "{wanted}: {}{}", said.out, said.err);
    }
    bundle.assert_gone();

    // The second cannot: what has moved comes back.
    let mut bundle = with_devices("true", devices);
    bundle.spec["linux"]["netDevices"]["zzz"] = json!({});
    let said = run(&bundle, check);
    assert!(
        said.code != 0 && said.err.contains("interface zzz") && said.err.contains("no such interface"),
        "{}",
        said.err
    );
    assert!(said.out.contains("192.0.2.7/24") && said.out.contains(": right@"), "{}", said.out);
}

#[test]
fn what_cannot_be_moved_is_refused() {
    if others() {
        return;
    }
    for (devices, wanted) in [
        (json!({ "left": { "name": "lo" } }), "the container has one of that name"),
        (json!({ "lo": { "name": "eth0" } }), "cannot leave its network namespace"),
        (json!({ "left": { "name": "eth%d" } }), "is no name of an interface"),
        (json!({ "left": { "name": "a-name-that-is-too-long" } }), "is no name of an interface"),
        (json!({ "left": { "name": "x" }, "right": { "name": "x" } }), "two are to be called"),
    ] {
        let bundle = with_devices("true", devices);
        let said = run(&bundle, "ip link show left > /dev/null");
        assert!(said.code != 0 && said.err.contains(wanted), "{wanted}: {}", said.err);
        bundle.assert_gone();
    }
    let mut bundle = with_devices("true", json!({ "left": {} }));
    bundle.spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|kind| kind["type"] != "network");
    let said = run(&bundle, "true");
    assert!(said.code != 0 && said.err.contains("needs a network namespace"), "{}", said.err);
}
