//! What guests are made of: Debian's kernel and a small Debian, unpacked from its packages and kept below `target/vm`.
//!
//! Nothing is installed on this machine. What is kept is named by the versions it was made from, and made again when
//! Debian has others.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    Unfit,
    shell::{self, command, output},
};

const KERNEL: &str = "linux-image-cloud-amd64";

/// What Debian's guest has beside the essential packages, and for what.
const PACKAGES: [(&str, &str); 12] = [
    ("apparmor", "loads profiles"),
    ("binutils", "links a program to be filtered"),
    ("busybox-static", "the content of the test images"),
    ("crun", "an OCI runtime to hold ours against"),
    ("dbus", "carries calls to systemd"),
    ("gcc", "makes a program to be filtered"),
    ("iproute2", "network namespaces"),
    ("kmod", "loads modules"),
    ("procps", "lists processes"),
    ("python3-minimal", "stands for a service manager"),
    ("runc", "an OCI runtime to hold ours against"),
    ("systemd-sysv", "systemd as the first process"),
];

/// Folders of modules that small guests get.
const MODULES: [&str; 13] = [
    "block",
    "drivers/block/brd.ko",
    "drivers/block/loop.ko",
    "drivers/block/virtio_blk.ko",
    "drivers/net/dummy.ko",
    "drivers/net/tun.ko",
    "drivers/net/veth.ko",
    "drivers/virtio",
    "fs/fuse",
    "fs/overlayfs",
    "net/802",
    "net/bridge/bridge.ko",
    "net/llc",
];

/// An unpacked kernel.
pub(super) struct Kernel {
    /// As `uname -r` says.
    pub(super) release: String,
    /// What the machine starts.
    pub(super) image: PathBuf,
    modules: PathBuf,
}

impl Kernel {
    /// The one in `cache`, or fetched from Debian.
    pub(super) fn get(cache: &Path) -> Result<Self> {
        let package = newest_kernel()?;
        let release = package.trim_start_matches("linux-image-").to_owned();
        let version = candidate(&package)?;
        let home = cache.join(format!("{package}_{version}"));
        if !home.exists() {
            fetch(&package, cache, &home)?;
        }
        let image = home.join("boot").join(format!("vmlinuz-{release}"));
        let modules = home.join("lib/modules").join(&release);
        Ok(Self { release, image, modules })
    }

    /// Every module's file for a small guest, relative to `/lib/modules/RELEASE`, and the lists that `modprobe` reads.
    pub(super) fn small_set(&self) -> impl Iterator<Item = (PathBuf, PathBuf)> {
        let inside =
            |name: &str| (self.modules.join(name), Path::new("/lib/modules").join(&self.release).join(name));
        let modules = MODULES.map(|name| inside(&format!("kernel/{name}")));
        modules.into_iter().chain(["modules.dep", "modules.alias"].map(inside))
    }
}

/// What the kernel's metapackage stands for today.
fn newest_kernel() -> Result<String> {
    let ask = || {
        let said = output(&mut command(&["apt-cache", "depends", "--important", KERNEL])).ok()?;
        let said = String::from_utf8_lossy(&said).into_owned();
        said.lines().find_map(|line| Some(line.trim().strip_prefix("Depends: ")?.to_owned()))
    };
    if let Some(package) = ask() {
        return Ok(package);
    }
    update()?;
    ask().ok_or_else(|| {
        Unfit(format!("the guest wants Debian's package {KERNEL}, which apt does not know")).into()
    })
}

fn update() -> Result<()> {
    output(&mut command(&["apt-get", "-qq", "update"])).map(drop)
}

/// The version that apt would install.
fn candidate(package: &str) -> Result<String> {
    let said = output(command(&["apt-cache", "policy", package]).env("LC_ALL", "C"))?;
    let said = String::from_utf8_lossy(&said);
    let version = said.lines().find_map(|line| line.trim().strip_prefix("Candidate: "));
    Ok(version.with_context(|| format!("apt does not know the package {package}"))?.to_owned())
}

fn fetch(package: &str, cache: &Path, home: &Path) -> Result<()> {
    eprintln!("fetching {package} and unpacking it into {}", home.display());
    let making = Making::new(cache, "kernel")?;
    let download = || {
        let mut apt = command(&["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", package]);
        output(apt.current_dir(making.path())).map(drop)
    };
    // Lists of yesterday name versions that mirrors have dropped.
    download().or_else(|_| update().and_then(|()| download()))?;
    let archive = fs::read_dir(making.path())?.flatten().map(|entry| entry.path()).next();
    let archive = archive.with_context(|| format!("apt-get download {package} left nothing"))?;
    let tree = making.path().join("tree");
    output(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&tree))?;
    let release = package.trim_start_matches("linux-image-");
    output(Command::new("/bin/busybox").args(["depmod", "-b"]).arg(&tree).arg(release))?;
    Ok(fs::rename(tree, home)?)
}

/// Debian on a disk, in `cache` or made.
pub(super) fn debian(cache: &Path, kernel: &Kernel) -> Result<PathBuf> {
    let disk = cache.join("debian.ext4");
    let key = cache.join("debian.key");
    let names = PACKAGES.map(|(name, _)| name);
    let mut wanted = format!("{} {}\n{SCRIPT}", kernel.release, kernel.modules.display());
    for name in names {
        let _ = writeln!(wanted, "{name} {}", candidate(name)?);
    }
    if disk.exists() && fs::read_to_string(&key).is_ok_and(|made| made == wanted) {
        return Ok(disk);
    }
    eprintln!("making {}, once: a Debian with {}", disk.display(), names.join(", "));
    let _ = fs::remove_file(&key);
    let making = Making::new(cache, "debian")?;
    let within = |name: &str| making.path().join(name);
    let (script, tree, fresh) = (within("debian.sh"), within("tree"), within("disk"));
    fs::write(&script, SCRIPT)?;
    let mut make = Command::new("unshare");
    make.args(["--mount", "--propagation", "private", "--", "sh", "-eu"]).arg(script);
    output(make.arg(tree).arg(&fresh).arg(&kernel.modules).arg(names.join(",")))?;
    fs::rename(fresh, &disk)?;
    fs::write(key, wanted)?;
    Ok(disk)
}

const SCRIPT: &str = include_str!("guest/debian.sh");

/// A folder in the cache for what is not finished; gone with the value.
struct Making(PathBuf);

impl Making {
    fn new(cache: &Path, name: &str) -> Result<Self> {
        let path = cache.join(format!("making-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `target/vm`.
pub(super) fn cache() -> Result<PathBuf> {
    let target = shell::target()?;
    let Some(above) = target.parent() else { bail!("{} has nothing above it", target.display()) };
    let cache = above.join("vm");
    fs::create_dir_all(&cache).with_context(|| cache.display().to_string())?;
    Ok(cache)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_of_the_guest_are_in_order_and_say_why() {
        assert!(PACKAGES.is_sorted_by_key(|(name, _)| *name));
        assert!(PACKAGES.iter().all(|(_, why)| !why.is_empty()));
    }
}
