//! The cgroup v2 device filter, loaded into the real kernel. Needs a v2 hierarchy, which may be a hybrid host's.

#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use runtime::cgroup::{Action, DeviceRule, Held};

struct Group(PathBuf);

impl Group {
    fn new() -> Self {
        let unified = Path::new("/sys/fs/cgroup/unified");
        let root = if unified.exists() { unified } else { Path::new("/sys/fs/cgroup") };
        assert!(root.join("cgroup.procs").exists(), "needs a cgroup v2 hierarchy at {}", root.display());
        let group = root.join(format!("knarr/filter-{}", std::process::id()));
        fs::create_dir_all(&group).unwrap();
        Self(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

fn rule(allow: bool, minor: Option<u32>, access: &str) -> DeviceRule {
    DeviceRule { allow, kind: 'c', major: Some(1), minor, access: access.to_owned() }
}

#[test]
fn devices_open_as_the_rules_say() {
    let group = Group::new();
    let nothing = DeviceRule { allow: false, kind: 'a', major: None, minor: None, access: "rwm".into() };
    let rules = vec![nothing, rule(true, None, "r"), rule(false, Some(8), "r"), rule(true, Some(3), "rwm")];
    Action::FilterDevices { group: group.0.clone(), rules }.run(&mut Held::default()).unwrap();
    let script = "echo $$ > $0/cgroup.procs || exit 1
        try() { if (eval \"$2\") 2>/dev/null; then echo $1 yes; else echo $1 no; fi; }
        try null-write ': > /dev/null'; try null-read ': < /dev/null'; try zero-read ': < /dev/zero'
        try zero-write ': > /dev/zero'; try random-read ': < /dev/random'; try ptmx-read ': < /dev/ptmx'";
    let output = Command::new("/bin/busybox").args(["sh", "-c", script]).arg(&group.0).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines,
        [
            "null-write yes",
            "null-read yes",
            "zero-read yes",
            "zero-write no",
            "random-read no",
            "ptmx-read no"
        ],
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
