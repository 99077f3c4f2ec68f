//! `cargo xtask test`: everything that the tests need, then all of them, then a look at what they left behind.

use std::{collections::BTreeSet, env, fs, path::Path, thread, time::Duration};

use anyhow::{Result, bail};

use crate::{
    Unfit,
    shell::{self, cargo, command, installed, run},
    vm,
};

/// Debian's packages that tests use, and for what.
const PACKAGES: &[(&str, &str)] = &[
    ("busybox-static", "the content of the test images"),
    ("apache2-utils", "htpasswd: the passwords of a registry"),
    ("btrfs-progs", "makes file systems for the storage driver btrfs"),
    ("buildah", "makes and reads images, to hold ours against"),
    ("binutils", "links an i386 program to be filtered"),
    ("bsdutils", "`script` holds the other end of a terminal"),
    ("bzip2", "packs archives, to be told that knarr does not unpack these"),
    ("containerd", "under dockerd"),
    ("crun", "an OCI runtime to hold ours against"),
    ("criu", "saves and restores processes; to see what the runtime makes of it"),
    ("curl", "asks the API as a stranger does"),
    ("debootstrap", "a whole Debian as a root file system to import"),
    ("docker.io", "docker's client, and dockerd to hold our answers and times against"),
    ("docker-registry", "a registry to pull from and push to"),
    ("e2fsprogs", "makes files that cannot be changed, disks of guests, and file systems with project quota"),
    ("fuse-overlayfs", "the storage driver of that name"),
    ("gcc", "reads the kernel's headers; makes an i386 program to be filtered"),
    (
        "iproute2",
        "private network namespaces for the peers, links for the runtime; says what links there are",
    ),
    ("jq", "reads JSON as users' scripts do"),
    ("libcap2-bin", "sets and shows capabilities"),
    ("linux-libc-dev", "the kernel's headers, to hold our numbers of system calls against"),
    ("openssl", "makes authorities and certificates, good and bad ones"),
    ("libseccomp-dev", "builds youki, to be measured against"),
    ("musl-tools", "compiles the C program that is the benchmark's floor"),
    ("nftables", "reads the packet rules that we made"),
    ("podman", "makes archives as it saves them; a peer to be measured against"),
    ("procps", "the table of ps, which the runtime shows"),
    ("python3-seccomp", "asks libseccomp for numbers of system calls"),
    ("qemu-system-x86", "starts guests with another kernel"),
    ("runc", "an OCI runtime to hold ours against"),
    ("skopeo", "makes docker-archives and oci-archives"),
    ("socat", "speaks to sockets and ptys"),
    ("strace", "shows that something was not done"),
    ("systemd", "hands sockets over; checks our units"),
    ("uidmap", "gives ordinary users their ids, for containers without root"),
    ("umoci", "unpacks images, to hold our unpacking against"),
    ("xfsprogs", "makes file systems with project quota"),
    ("xz-utils", "packs archives, to be told that knarr does not unpack these"),
    ("zstd", "packs archives"),
];

/// Runs the tests whose name holds one of `filters`; all, if there is none. `thorough`: also the slow ones.
pub(crate) fn test(thorough: bool, filters: &[&str]) -> Result<()> {
    shell::want_root("the test run")?;
    install()?;
    let before = census()?;
    run(&mut cargo(&["build", "--workspace", "--bins"]))?;
    let mut tests = cargo(&["test", "--workspace", "--no-fail-fast", "--"]);
    if thorough {
        tests.arg("--include-ignored");
    }
    tests.args(filters);
    let outcome = run(&mut tests);
    let left = left_behind(&before, 20)?;
    for thing in &left {
        eprintln!("left behind: {thing}");
    }
    outcome?;
    if !left.is_empty() {
        bail!("the tests, or something beside them, left {} things behind", left.len());
    }
    if filters.is_empty() { vm::test(&[]) } else { Ok(()) }
}

/// Installs what is missing, and only that.
pub(crate) fn install() -> Result<()> {
    if !installed("apt-get") || !installed("dpkg-query") {
        let list =
            PACKAGES.iter().map(|(name, why)| format!("  {name:<15} {why}")).collect::<Vec<_>>().join("\n");
        return Err(Unfit(format!("the tests want a Debian with apt, for these packages:\n{list}")).into());
    }
    let missing: Vec<_> = PACKAGES.iter().filter(|(name, _)| !has_package(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("installing what the tests need and this machine lacks:");
    for (name, why) in &missing {
        eprintln!("  {name:<15} {why}");
    }
    let _quiet = NoServices::new()?;
    let apt = |words: &[&str]| {
        run(command(&[&["apt-get", "-qq"], words].concat()).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    apt(&["update"])?;
    let mut words = vec!["install", "--yes", "--no-install-recommends"];
    words.extend(missing.iter().map(|(name, _)| *name));
    apt(&words)
}

fn has_package(name: &str) -> bool {
    let status =
        shell::output(&mut command(&["dpkg-query", "--show", "--showformat=${db:Status-Status}", name]));
    status.is_ok_and(|status| status == b"installed")
}

/// While it lives, packages that are installed start no service: a dockerd that nobody asked for would change the
/// machine's firewall. Debian asks `policy-rc.d`, and 101 is its word for no.
struct NoServices {
    ours: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoServices {
    fn new() -> Result<Self> {
        let ours = !Path::new(POLICY).exists();
        if ours {
            fs::write(POLICY, "#!/bin/sh\nexit 101\n")?;
            fs::set_permissions(POLICY, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        }
        Ok(Self { ours })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            let _ = fs::remove_file(POLICY);
        }
    }
}

/// What a test can leave on a machine: mounts, control groups below `/knarr`, network interfaces, temporary files,
/// our processes.
fn census() -> Result<BTreeSet<String>> {
    let mut things = BTreeSet::new();
    for line in fs::read_to_string("/proc/self/mountinfo")?.lines() {
        things.extend(line.split(' ').nth(4).map(|point| format!("mount {point}")));
    }
    for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        groups(&hierarchy.path().join("knarr"), &mut things);
    }
    groups(Path::new("/sys/fs/cgroup/knarr"), &mut things);
    for link in fs::read_dir("/sys/class/net").into_iter().flatten().flatten() {
        things.insert(format!("interface {}", link.file_name().display()));
    }
    for folder in [env::temp_dir(), "/dev/shm".into()] {
        for file in fs::read_dir(folder).into_iter().flatten().flatten() {
            // `.tmp…` is how temporary files are called that nobody has named.
            let name = file.file_name().to_string_lossy().into_owned();
            if name.starts_with("knarr") || name.starts_with(".tmp") {
                things.insert(format!("file {}", file.path().display()));
            }
        }
    }
    let target = shell::target()?;
    for process in fs::read_dir("/proc")?.flatten() {
        let program = fs::read_link(process.path().join("exe")).unwrap_or_default();
        // A build under way replaces this very program, and the kernel says so in its name.
        let name = program.file_name().unwrap_or_default().to_string_lossy().replace(" (deleted)", "");
        if program.starts_with(&target) && name != "xtask" {
            things.insert(format!("process {} {}", process.file_name().display(), program.display()));
        }
    }
    Ok(things)
}

fn groups(path: &Path, things: &mut BTreeSet<String>) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            things.insert(format!("control group {}", entry.path().display()));
        }
    }
}

/// What is there now and was not before. The kernel takes its time with some of it, so it gets some: quarters of a second.
fn left_behind(before: &BTreeSet<String>, patience: u32) -> Result<Vec<String>> {
    let mut left = Vec::new();
    for _ in 0..patience {
        left = census()?.difference(before).cloned().collect();
        if left.is_empty() {
            break;
        }
        thread::sleep(Duration::from_millis(250));
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_named_once_and_say_why() {
        let names: BTreeSet<_> = PACKAGES.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), PACKAGES.len());
        assert!(PACKAGES.iter().all(|(_, why)| !why.is_empty()));
    }

    #[test]
    fn what_is_new_is_left_behind() {
        let mut before = census().unwrap();
        assert!(before.contains("mount /proc"), "{before:?}");
        before.remove("mount /proc");
        assert!(left_behind(&before, 1).unwrap().contains(&"mount /proc".to_owned()));
    }
}
