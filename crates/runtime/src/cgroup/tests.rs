//! What is read from the host, and what is planned for it, as text.

use serde_json::json;

use std::path::Path;

use oci::spec::Resources;

use super::{host::parse, *};

/// As without systemd.
fn planned(host: &[Hierarchy], path: Option<&str>, resources: &Resources) -> crate::error::Result<Plan> {
    plan(host, &Wanted { path, id: "c1", resources, systemd: None, owner: None })
}

fn text(plan: &Plan) -> Vec<String> {
    plan.actions.iter().map(|action| action.describe().to_string()).collect()
}

const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
36 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/x,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
52 31 0:32 / /mnt/again rw,relatime - cgroup cgroup rw,memory
";
const OWN: &str = "9:name=systemd:/\n4:memory:/mine/deep\n1:cpu,cpuacct:/\n0::/unit\n";

#[test]
fn hybrid_hosts_are_read() {
    let found = parse(HYBRID, OWN, |_, _| true);
    let names: Vec<String> = found.iter().map(Hierarchy::name).collect();
    assert_eq!(names, ["cpu,cpuacct", "memory", "systemd", "unified"]);
    assert_eq!(found[1].own, Path::new("mine/deep"));
    assert_eq!(found[3].own, Path::new("unit"));
    let relative = planned(&found, None, &Resources::default()).unwrap();
    assert_eq!(relative.places[1].group, Path::new("/sys/fs/cgroup/memory/mine/deep/c1"));
}

fn resources() -> Resources {
    serde_json::from_value(json!({
        "memory": { "limit": 1000, "swap": 1500, "reservation": 500 },
        "cpu": { "shares": 1024, "quota": 50_000, "cpus": "0-1" },
        "pids": { "limit": 9 },
        "blockIO": { "weight": 500, "throttleReadBpsDevice": [{ "major": 8, "minor": 0, "rate": 7 }] },
        "devices": [{ "allow": false, "access": "rwm" }, { "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw" }]
    }))
    .unwrap()
}

#[test]
fn unified_hosts_get_the_same_limits_in_their_words() {
    let host = [Hierarchy {
        mount: "/sys/fs/cgroup".into(),
        controllers: ["cpuset", "cpu", "io", "memory", "pids"].map(str::to_owned).to_vec(),
        unified: true,
        own: PathBuf::new(),
    }];
    let text = text(&planned(&host, Some("/knarr/c1"), &resources()).unwrap());
    let group = "/sys/fs/cgroup/knarr/c1";
    assert_eq!(
        text[..9],
        [
            format!("make cgroup {group}"),
            format!("write {group}/memory.swap.max value=500"),
            format!("write {group}/memory.max value=1000"),
            format!("write {group}/memory.low value=500"),
            format!("write {group}/cpu.weight value=100"),
            format!("write {group}/cpu.max value=50000 100000"),
            format!("write {group}/cpuset.cpus value=0-1"),
            format!("write {group}/pids.max value=9"),
            format!("write {group}/io.bfq.weight value=default 500"),
        ]
    );
    assert_eq!(text[9], format!("write {group}/io.max value=8:0 rbps=7"));
    assert!(text[10].starts_with(&format!(
        "filter devices of {group} rules=deny a; allow c 10:229 rw; allow c 1:3 rwm;"
    )));
}

#[test]
fn a_limit_without_its_controller_is_an_error() {
    let host = parse(HYBRID, OWN, |_, _| true);
    let refused = planned(&host, Some("/knarr/c1"), &resources()).unwrap_err();
    assert!(
        refused.to_string().contains("no hierarchy of this host has that cgroup controller"),
        "{refused}"
    );
    for path in ["/", "/a/../b", "../b"] {
        assert!(planned(&host, Some(path), &Resources::default()).is_err(), "{path}");
    }
}

#[test]
fn a_covered_hierarchy_does_not_count() {
    let hidden = parse(HYBRID, OWN, |_, _| false);
    assert!(hidden.is_empty(), "{hidden:?}");
    let some = parse(HYBRID, OWN, |target, _| target.ends_with("/memory"));
    assert_eq!(some.len(), 1, "{some:?}");
}
