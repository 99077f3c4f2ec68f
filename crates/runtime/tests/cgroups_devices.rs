//! Devices outside of a container's list: S-704's whole matrix, by v1's lists and by v2's filter.

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;
mod groups;

use std::{collections::BTreeMap, fs};

use bundle::{Bundle, CAPABILITIES};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use serde_json::{Value, json};

/// Kind, major, minor: memory, terminals, disks, tun, fuse, device-mapper.
const MATRIX: [(char, u32, u32); 15] = [
    ('c', 1, 1),
    ('c', 1, 2),
    ('c', 1, 3),
    ('c', 1, 5),
    ('c', 1, 7),
    ('c', 1, 8),
    ('c', 1, 9),
    ('c', 5, 0),
    ('c', 5, 1),
    ('c', 5, 2),
    ('b', 8, 0),
    ('c', 10, 200),
    ('c', 10, 229),
    ('c', 136, 0),
    ('b', 253, 0),
];
/// A disk that may be this machine's own, which the kernel may keep from being opened at all.
const DISK: (char, u32, u32) = ('b', 254, 0);

/// Tries each node: what was not denied by the list. That there is no such device is another matter.
const SCRIPT: &str = r#"
denied() { case "$1" in *"not permitted"*) printf -- -;; *"ermission denied"*) printf "?";; *) printf "$2";; esac; }
for node in /nodes/*; do
    name=${node##*/}; rest=${name#*-}
    printf "$name "
    denied "$( (: < $node) 2>&1 )" r
    denied "$( (: > $node) 2>&1 )" w
    denied "$(mknod /made-$name ${name%%-*} ${rest%-*} ${rest#*-} 2>&1)" m
    echo
done"#;

fn tried(devices: &Value, only_v2: bool) -> BTreeMap<String, String> {
    let mut bundle = Bundle::sh(SCRIPT);
    bundle.only_v2 = only_v2;
    let nodes = bundle.path().join("nodes");
    fs::create_dir(&nodes).unwrap();
    for (kind, major, minor) in MATRIX.into_iter().chain([DISK]) {
        let file_type = if kind == 'b' { FileType::BlockDevice } else { FileType::CharacterDevice };
        let path = nodes.join(format!("{kind}-{major}-{minor}"));
        mknodat(CWD, &path, file_type, Mode::from_raw_mode(0o666), makedev(major, minor)).unwrap();
    }
    // Temporary directories may be mounted such that no device opens there.
    let mount =
        json!({ "destination": "/nodes", "type": "bind", "source": nodes, "options": ["bind", "dev"] });
    bundle.spec["mounts"].as_array_mut().unwrap().push(mount);
    // /dev/mem asks for more than the list.
    let all: Vec<&str> = CAPABILITIES.iter().copied().chain(["CAP_SYS_RAWIO"]).collect();
    for set in ["bounding", "effective", "permitted"] {
        bundle.spec["process"]["capabilities"][set] = json!(all);
    }
    bundle.spec["linux"]["resources"]["devices"] = devices.clone();
    let lines = bundle.output();
    lines
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(node, can)| (node.into(), can.into()))
        .collect()
}

fn check(only_v2: bool) {
    let everything = json!([{ "allow": true, "access": "rwm" }]);
    let free = tried(&everything, only_v2);
    for (node, can) in &free {
        assert!(can == "rwm" || node == "b-254-0", "{node}: the matrix does not see what is allowed: {can}");
    }
    let some = json!([
        { "allow": false, "access": "rwm" },
        { "allow": true, "type": "c", "major": 10, "minor": 200, "access": "r" },
        { "allow": true, "type": "c", "major": 10, "minor": 200, "access": "w" },
        { "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm" },
        { "allow": false, "type": "c", "major": 10, "minor": 229, "access": "w" },
        { "allow": true, "type": "b", "major": 8, "access": "m" },
        { "allow": true, "type": "b", "major": 254, "minor": 0, "access": "r" },
        { "allow": true, "type": "b", "major": 1, "minor": 1, "access": "rwm" },
    ]);
    let always = ["c-1-3", "c-1-5", "c-1-7", "c-1-8", "c-1-9", "c-5-0", "c-5-2", "c-136-0"];
    for (node, can) in tried(&some, only_v2) {
        let wanted = match node.as_str() {
            "c-10-200" => "rw-",
            "c-10-229" => "r-m",
            "b-8-0" => "--m",
            "b-254-0" if free["b-254-0"].contains('r') => "r--",
            node if always.contains(&node) => "rwm",
            _ => "---",
        };
        assert_eq!(can, wanted, "{node}");
    }
    let none = json!([{ "allow": true, "access": "rwm" }, { "allow": false, "access": "rwm" }]);
    for (node, can) in tried(&none, only_v2) {
        assert_eq!(can, if always.contains(&node.as_str()) { "rwm" } else { "---" }, "{node}");
    }
}

#[test]
fn nothing_outside_of_the_list_is_opened_or_made() {
    if !bundle::is_ours() {
        return eprintln!(
            "skipped: runc lets every device be made (`c *:* m`), and none be denied after that"
        );
    }
    check(false);
}

#[test]
fn nor_where_only_v2_is_to_be_seen() {
    if !bundle::is_ours() {
        return eprintln!(
            "skipped: runc lets every device be made (`c *:* m`), and none be denied after that"
        );
    }
    check(true);
}

/// A list that denies some, and allows the rest.
#[test]
fn single_devices_are_denied() {
    if !bundle::is_ours() {
        return eprintln!(
            "skipped: runc lets every device be made (`c *:* m`), and none be denied after that"
        );
    }
    for only_v2 in [false, true] {
        let list = json!([
            { "allow": true, "access": "rwm" },
            { "allow": false, "type": "c", "major": 10, "minor": 200, "access": "rw" },
            { "allow": false, "type": "b", "major": 8, "access": "rwm" },
        ]);
        for (node, can) in tried(&list, only_v2) {
            let wanted = match node.as_str() {
                "c-10-200" => "--m",
                "b-8-0" => "---",
                "b-254-0" => continue,
                _ => "rwm",
            };
            assert_eq!(can, wanted, "{node}, only v2: {only_v2}");
        }
    }
}

/// v1 ignores such a rule without a word, and the device would stay open; v2's filter can do it.
#[test]
fn a_hole_in_a_range_is_no_silent_failure() {
    if !bundle::is_ours() {
        return eprintln!(
            "skipped: runc lets every device be made (`c *:* m`), and none be denied after that"
        );
    }
    let list = json!([
        { "allow": false, "access": "rwm" },
        { "allow": true, "type": "c", "major": 10, "access": "rwm" },
        { "allow": false, "type": "c", "major": 10, "minor": 200, "access": "rwm" },
    ]);
    let by_v2 = tried(&list, true);
    assert_eq!((by_v2["c-10-200"].as_str(), by_v2["c-10-229"].as_str()), ("---", "rwm"));
    if !bundle::is_pure_v2() && bundle::is_ours() {
        let mut bundle = Bundle::sh("true");
        bundle.spec["linux"]["resources"]["devices"] = list;
        let said = bundle.run();
        assert!(said.code != 0 && said.err.contains("cannot take one device out"), "{}", said.err);
    }
}
