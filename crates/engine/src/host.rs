//! What this host is: its control groups, its CPUs, the files of its own that containers are shown.

use std::{fs, path::Path};

/// Found once, when the engine opens.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    /// Usable CPUs.
    pub(crate) cpus: usize,
    /// 1 (also hybrid) or 2.
    pub(crate) cgroup_version: u8,
    /// In use on that version.
    pub(crate) controllers: Vec<String>,
    /// `/sys/devices/system/cpu/cpuN/thermal_throttle`, where present.
    pub(crate) thermal: Vec<String>,
}

impl Host {
    /// Looks at `/sys`.
    pub(crate) fn look() -> Self {
        let unified = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers");
        let (cgroup_version, controllers) = match unified {
            Ok(list) => (2, list.split_whitespace().map(str::to_owned).collect()),
            Err(_) => (1, v1_controllers()),
        };
        Self {
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            cgroup_version,
            controllers,
            thermal: thermal(),
        }
    }
}

fn v1_controllers() -> Vec<String> {
    let table = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let names = table.lines().filter_map(|line| line.split(':').nth(1));
    names
        .flat_map(|names| names.split(','))
        .filter(|name| !name.is_empty() && !name.contains('='))
        .map(str::to_owned)
        .collect()
}

fn thermal() -> Vec<String> {
    let directory = Path::new("/sys/devices/system/cpu");
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<String> = entries
        .map(|entry| entry.path().join("thermal_throttle"))
        .filter(|path| path.exists())
        .map(|path| path.display().to_string())
        .collect();
    found.sort();
    found
}

/// `/etc/hosts` of a container that has no network but its loopback.
pub(crate) const HOSTS: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
     ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";

/// The host's own name.
pub(crate) fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
