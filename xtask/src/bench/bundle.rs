//! What the runtimes are given to run.

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::{chown, symlink},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// One way to ask for a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Case {
    /// Bind mounts beside the eight that every container has.
    pub(super) mounts: usize,
    pub(super) user_namespace: bool,
    pub(super) seccomp: bool,
}

impl Case {
    pub(super) const ALL: [Self; 5] = [
        Self { mounts: 0, user_namespace: false, seccomp: true },
        Self { mounts: 0, user_namespace: false, seccomp: false },
        Self { mounts: 10, user_namespace: false, seccomp: true },
        Self { mounts: 100, user_namespace: false, seccomp: true },
        Self { mounts: 0, user_namespace: true, seccomp: true },
    ];

    pub(super) fn name(self) -> String {
        let mut name = format!("{} mounts", self.mounts);
        if self.seccomp {
            name += ", seccomp";
        }
        if self.user_namespace {
            name += ", user namespace";
        }
        name
    }
}

/// The first id outside of a user namespace's root.
const OUTSIDE: u32 = 100_000;

/// Docker's default profile.
const PROFILE: &str = include_str!("../../../crates/runtime/src/seccomp/default.json");

/// Devices that Docker's containers may use: major, minor.
const DEVICES: [(i64, Option<i64>); 8] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(2)),
    (136, None),
];

const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SYS_CHROOT",
    "CAP_MKNOD",
    "CAP_AUDIT_WRITE",
    "CAP_SETFCAP",
];

const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// A bundle of busybox for `case`, whose container's groups are `group` in every hierarchy.
pub(super) fn make(path: &Path, case: Case, program: &str, group: &str) -> Result<()> {
    root_file_system(&path.join("rootfs"), case)?;
    fs::create_dir_all(path.join("volume"))?;
    fs::write(path.join("config.json"), spec(path, case, program, group).to_string())?;
    if case.user_namespace {
        give(path)?;
    }
    Ok(())
}

/// Every mount point is there before: making them is not what is measured.
fn root_file_system(root: &Path, case: Case) -> Result<()> {
    for folder in ["bin", "proc", "sys", "dev", "volumes"] {
        fs::create_dir_all(root.join(folder))?;
    }
    for index in 0..case.mounts {
        fs::create_dir_all(root.join(format!("volumes/{index}")))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).context("/bin/busybox, of busybox-static")?;
    for applet in ["true", "sleep"] {
        if !root.join("bin").join(applet).exists() {
            symlink("busybox", root.join("bin").join(applet))?;
        }
    }
    Ok(())
}

/// To the root of the user namespace, with every folder on the way open to it.
fn give(path: &Path) -> Result<()> {
    std::os::unix::fs::lchown(path, Some(OUTSIDE), Some(OUTSIDE))?;
    if !path.is_symlink() && path.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path())?;
        }
    } else if !path.is_symlink() {
        chown(path, Some(OUTSIDE), Some(OUTSIDE))?;
    }
    Ok(())
}

fn spec(path: &Path, case: Case, program: &str, group: &str) -> Value {
    let mut namespaces: Vec<Value> = ["pid", "network", "ipc", "uts", "mount", "cgroup"]
        .iter()
        .map(|kind| json!({ "type": kind }))
        .collect();
    let mut spec = json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": program.split(' ').collect::<Vec<_>>(),
            "env": ["PATH=/bin", "HOME=/"],
            "cwd": "/",
            "noNewPrivileges": true,
            "capabilities": { "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES }
        },
        "root": { "path": "rootfs" },
        "hostname": "ship",
        "mounts": mounts(path, case),
        "linux": {
            "cgroupsPath": group,
            "resources": { "devices": devices() },
            "maskedPaths": MASKED,
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    });
    if case.user_namespace {
        namespaces.push(json!({ "type": "user" }));
        let map = json!([{ "containerID": 0, "hostID": OUTSIDE, "size": 65536 }]);
        spec["linux"]["uidMappings"] = map.clone();
        spec["linux"]["gidMappings"] = map;
    }
    spec["linux"]["namespaces"] = json!(namespaces);
    if case.seccomp {
        spec["linux"]["seccomp"] = serde_json::from_str(PROFILE).unwrap_or_default();
    }
    spec
}

fn devices() -> Vec<Value> {
    let allowed = DEVICES.iter().map(|(major, minor)| {
        let mut rule = json!({ "allow": true, "type": "c", "major": major, "access": "rwm" });
        if let Some(minor) = minor {
            rule["minor"] = json!(minor);
        }
        rule
    });
    std::iter::once(json!({ "allow": false, "access": "rwm" })).chain(allowed).collect()
}

fn mounts(path: &Path, case: Case) -> Vec<Value> {
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": kind, "options": options });
    let mut mounts = vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ];
    mounts.extend((0..case.mounts).map(|index| {
        let source = path.join("volume");
        json!({ "destination": format!("/volumes/{index}"), "type": "bind", "source": source, "options": ["rbind"] })
    }));
    mounts
}

/// The same for the C program, which reads lines.
pub(super) fn write_list(
    path: &Path,
    case: Case,
    program: &str,
    groups: &[PathBuf],
    filter: &Path,
) -> Result<()> {
    let mut lines = format!("args {program}\n");
    for group in groups {
        writeln!(lines, "group {}", group.display())?;
        if group.parent().is_some_and(|parent| parent.join("devices.deny").exists()) {
            writeln!(lines, "write {}/devices.deny a", group.display())?;
            for (major, minor) in DEVICES {
                let minor = minor.map_or_else(|| "*".to_owned(), |minor| minor.to_string());
                writeln!(lines, "write {}/devices.allow c {major}:{minor} rwm", group.display())?;
            }
        }
    }
    for index in 0..case.mounts {
        writeln!(lines, "bind {} /volumes/{index}", path.join("volume").display())?;
    }
    if case.user_namespace {
        writeln!(lines, "user")?;
    }
    if case.seccomp {
        writeln!(lines, "filter {}", filter.display())?;
    }
    fs::write(path.join("floor"), lines)?;
    Ok(())
}
