//! Names, properties and bytes.

use serde_json::json;

use super::{
    bus::{socket, unit_path},
    wire::{Call, Message, Writer},
    *,
};

fn read(path: &str) -> std::result::Result<Unit, String> {
    Unit::read(Some(path), "c1", Manager::System).map_err(|error| error.to_string())
}

#[test]
fn units_are_named_as_under_runc() {
    for (path, name, group) in [
        ("", "knarr-c1.scope", "/system.slice/knarr-c1.scope"),
        ("system.slice:docker:0a1b", "docker-0a1b.scope", "/system.slice/docker-0a1b.scope"),
        (":libpod:x", "libpod-x.scope", "/system.slice/libpod-x.scope"),
        ("a-b-c.slice:p:x", "p-x.scope", "/a.slice/a-b.slice/a-b-c.slice/p-x.scope"),
        ("-.slice:p:x", "p-x.scope", "/p-x.scope"),
        ("user.slice::x", "x.scope", "/user.slice/x.scope"),
    ] {
        let unit = read(path).unwrap();
        assert_eq!((unit.name.as_str(), unit.group()), (name, PathBuf::from(group)), "{path}");
    }
    let user = Unit::read(None, "c1", Manager::User(1000)).unwrap();
    let group = "/user.slice/user-1000.slice/user@1000.service/user.slice/knarr-c1.scope";
    assert_eq!(user.group(), PathBuf::from(group));
}

#[test]
fn names_that_are_no_units_are_refused() {
    for path in [
        "/knarr/c1",
        "a:b",
        "a:b:c:d",
        "system:p:x",
        "a--b.slice:p:x",
        "-a.slice:p:x",
        "../x.slice:p:x",
        "...slice:p:x",
        "a.slice:p:../../x",
        "a.slice:p/q:x",
        "a.slice:p:x y",
        "a.slice:p:x\nExecStart=/bin/sh",
        "a.slice::",
        ".slice:p:x",
    ] {
        assert!(read(path).is_err(), "{path:?}");
    }
    assert!(read(&format!("a.slice:p:{}", "x".repeat(300))).is_err());
}

fn resources() -> Resources {
    serde_json::from_value(json!({
        "memory": { "limit": 1000, "swap": 1500, "reservation": 500 },
        "cpu": { "shares": 1024, "quota": 33_333, "cpus": "0-2,9" },
        "pids": { "limit": 9 },
        "devices": [{ "allow": false, "access": "rwm" }, { "allow": true, "type": "b", "major": 8, "access": "r" }],
        "unified": { "memory.high": "max", "cpu.max": "20000 50000", "memory.oom.group": "1" }
    }))
    .unwrap()
}

fn found(properties: &[(String, Value)], name: &str) -> Vec<Value> {
    properties.iter().filter(|(known, _)| known == name).map(|(_, value)| value.clone()).collect()
}

#[test]
fn limits_become_properties() {
    let v2 = properties(true, &resources()).unwrap();
    for (name, value) in [
        ("MemoryMax", 1000),
        ("MemoryLow", 500),
        ("MemorySwapMax", 500),
        ("CPUWeight", 100),
        ("TasksMax", 9),
        ("MemoryHigh", u64::MAX),
        ("CPUQuotaPeriodUSec", 50_000),
    ] {
        assert_eq!(found(&v2, name), [Value::Number(value)], "{name}");
    }
    assert_eq!(found(&v2, "AllowedCPUs"), [Value::Bytes(vec![0b111, 0b10])]);
    // Rounded up to whole percents; `unified` comes after and holds.
    assert_eq!(found(&v2, "CPUQuotaPerSecUSec"), [Value::Number(340_000), Value::Number(400_000)]);
    let allowed = found(&v2, "DeviceAllow");
    assert_eq!(allowed[0], Value::Pairs(Vec::new()));
    let Value::Pairs(pairs) = &allowed[1] else { panic!("{allowed:?}") };
    assert!(pairs.contains(&("block-8".into(), "r".into())), "{pairs:?}");
    assert!(pairs.contains(&("/dev/char/1:3".into(), "rwm".into())), "{pairs:?}");
    let v1 = properties(false, &resources()).unwrap();
    assert_eq!(found(&v1, "MemoryLimit"), [Value::Number(1000)]);
    assert_eq!(found(&v1, "CPUShares"), [Value::Number(1024)]);
    assert!(found(&v1, "AllowedCPUs").is_empty() && found(&v1, "MemoryMax").is_empty());
}

#[test]
fn calls_are_the_bytes_of_the_specification() {
    let mut body = Writer::default();
    body.text("a.scope");
    let call = Call { destination: "d.e", path: "/p", interface: "i.f", member: "Get", signature: "s" };
    let expected: Vec<u8> = [
        &b"l\x01\x00\x01"[..],
        b"\x0c\x00\x00\x00",
        b"\x07\x00\x00\x00",
        b"\x47\x00\x00\x00",
        b"\x01\x01o\x00\x02\x00\x00\x00/p\x00\x00\x00\x00\x00\x00",
        b"\x02\x01s\x00\x03\x00\x00\x00i.f\x00\x00\x00\x00\x00",
        b"\x03\x01s\x00\x03\x00\x00\x00Get\x00\x00\x00\x00\x00",
        b"\x06\x01s\x00\x03\x00\x00\x00d.e\x00\x00\x00\x00\x00",
        b"\x08\x01g\x00\x01s\x00\x00",
        b"\x07\x00\x00\x00a.scope\x00",
    ]
    .concat();
    assert_eq!(call.message(7, body), expected);
}

#[test]
fn what_is_no_message_is_no_message() {
    let mut body = Writer::default();
    body.text("one");
    body.u32(2);
    body.text("three");
    let call = Call { destination: "d", path: "/p", interface: "i", member: "M", signature: "sus" };
    let bytes = call.message(1, body);
    let message = Message::read(&bytes).unwrap();
    assert_eq!(
        (message.member.as_str(), message.texts().unwrap()),
        ("M", vec!["one".into(), "three".into()])
    );
    for length in 0..bytes.len() {
        assert_eq!(Message::read(&bytes[..length]), None, "{length}");
    }
    // Whatever one byte says: no panic, and no memory for what is not there.
    for index in 0..bytes.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bytes = bytes.clone();
            bytes[index] = value;
            if let Some(message) = Message::read(&bytes) {
                let _ = message.texts();
            }
        }
    }
}

#[test]
fn addresses_and_paths() {
    assert_eq!(unit_path("knarr-c1.scope"), "/org/freedesktop/systemd1/unit/knarr_2dc1_2escope");
    assert_eq!(unit_path("1a"), "/org/freedesktop/systemd1/unit/_31a");
    assert_eq!(socket("unix:path=/run/user/0/bus,guid=ab"), Some("/run/user/0/bus".into()));
    assert_eq!(socket("tcp:host=x;unix:abstract=/tmp/d%2dbus"), Some("@/tmp/d-bus".into()));
    assert_eq!(socket(""), None);
    assert_eq!(bits("3").unwrap(), [8]);
    assert!(bits("3-1").is_err() && bits("x").is_err() && bits("0-99999999").is_err());
}
