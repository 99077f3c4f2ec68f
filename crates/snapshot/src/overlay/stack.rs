//! A stack of directories as overlayfs wants to hear it, on every kernel, and its detached read-only mount.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
};

/// The kernel's `OVL_MAX_STACK`.
pub(super) const MOST_LAYERS: usize = 500;
/// mount(2) takes one page of options; room is left for the others.
const LONGEST_LOWERDIR: usize = 3500;
/// `fsconfig(2)` takes strings below this.
const LONGEST_VALUE: usize = 256;

/// Chosen, so that no kernel or module setting changes what a writable layer means:
/// `index` would tie it to one mount for ever; `metacopy` and `redirect_dir` would keep data and names out of it,
/// and would follow what a hostile image says about them (`nofollow`).
const OPTIONS: [(&str, &str); 3] = [("index", "off"), ("metacopy", "off"), ("redirect_dir", "nofollow")];

/// How this kernel takes the lower directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// One by one, as many as it likes: `lowerdir+`, Linux 6.5.
    Appending,
    /// One string with colons, no longer than a page.
    Joined,
    /// `fuse-overlayfs`: one string with colons, as long as an argument may be.
    Program,
}

impl Dialect {
    /// Asks the kernel, which checks a directory as soon as it hears it.
    pub(super) fn of_this_kernel(directory: &Path) -> io::Result<Self> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|error| {
            let why = match error {
                Errno::NOSYS => "this kernel has no fsopen(2): knarr needs Linux 5.2 or later".to_owned(),
                _ => format!("this kernel has no overlayfs ({error}): try `modprobe overlay`"),
            };
            io::Error::new(io::ErrorKind::Unsupported, why)
        })?;
        Ok(match fsconfig_set_string(&context, "lowerdir+", directory) {
            Ok(()) => Dialect::Appending,
            Err(_) => Dialect::Joined,
        })
    }

    /// The mount options for `lower`, uppermost first.
    pub(super) fn options(self, lower: &[PathBuf]) -> io::Result<Vec<String>> {
        let mut options = match self {
            Dialect::Appending => lower.iter().map(|path| format!("lowerdir+={}", path.display())).collect(),
            Dialect::Joined => {
                let joined = join(lower);
                if joined.len() > LONGEST_LOWERDIR {
                    return Err(io::Error::new(
                        io::ErrorKind::Unsupported,
                        format!(
                            "{} layers are more than this kernel can stack; Linux 6.5 and later can",
                            lower.len()
                        ),
                    ));
                }
                vec![format!("lowerdir={joined}")]
            }
            Dialect::Program => return Ok(vec![format!("lowerdir={}", join(lower))]),
        };
        options.extend(OPTIONS.iter().map(|(key, value)| format!("{key}={value}")));
        Ok(options)
    }

    /// `lower`, at least two directories, as one read-only mount that is attached nowhere.
    pub(super) fn view(self, lower: &[OwnedFd]) -> io::Result<OwnedFd> {
        use std::os::fd::AsRawFd;
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&context, "source", "overlay")?;
        let paths: Vec<_> = lower
            .iter()
            .map(|directory| PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())))
            .collect();
        match self {
            Dialect::Appending => {
                for path in &paths {
                    fsconfig_set_string(&context, "lowerdir+", path)?;
                }
            }
            Dialect::Joined => {
                let joined = join(&paths);
                if joined.len() >= LONGEST_VALUE {
                    let why = format!(
                        "{} layers are more than this kernel can look into; Linux 6.5 can",
                        lower.len()
                    );
                    return Err(io::Error::new(io::ErrorKind::Unsupported, why));
                }
                fsconfig_set_string(&context, "lowerdir", joined)?;
            }
            Dialect::Program => {
                let why = "fuse-overlayfs mounts only where a container runs";
                return Err(io::Error::new(io::ErrorKind::Unsupported, why));
            }
        }
        for (key, value) in OPTIONS {
            fsconfig_set_string(&context, key, value)?;
        }
        fsconfig_create(&context)?;
        let quiet = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, quiet)?)
    }
}

fn join(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::open_directory;

    /// Both dialects work on a kernel that has both; only the newer has no limit below the kernel's own.
    #[test]
    fn both_dialects_show_the_same() {
        let base = tempfile::tempdir().unwrap();
        let paths: Vec<_> = (0..60).map(|number| base.path().join(format!("layer-{number}"))).collect();
        for path in &paths {
            std::fs::create_dir_all(path.join("d").join(path.file_name().unwrap())).unwrap();
        }
        let open = |paths: &[PathBuf]| -> Vec<OwnedFd> {
            paths.iter().map(|path| open_directory(rustix::fs::CWD, path).unwrap()).collect()
        };
        for dialect in [Dialect::Appending, Dialect::Joined] {
            let view = dialect.view(&open(&paths[..9])).unwrap();
            let merged = open_directory(&view, "d").unwrap();
            assert_eq!(crate::tree::names(merged).unwrap().len(), 9, "{dialect:?}");
        }
        let error = Dialect::Joined.view(&open(&paths)).unwrap_err().to_string();
        assert!(error.contains("60 layers are more than this kernel can look into"), "{error}");
        assert_eq!(
            Dialect::Appending.view(&open(&paths)).map(drop).map_err(|error| error.to_string()),
            Ok(())
        );

        let short = Dialect::Joined.options(&[PathBuf::from("/a"), PathBuf::from("/b")]).unwrap();
        assert_eq!(short, ["lowerdir=/a:/b", "index=off", "metacopy=off", "redirect_dir=nofollow"]);
        let appended = Dialect::Appending.options(&[PathBuf::from("/a"), PathBuf::from("/b")]).unwrap();
        assert_eq!(appended[..2], ["lowerdir+=/a", "lowerdir+=/b"]);
        let long = vec![PathBuf::from("/d".repeat(60)); 60];
        assert!(Dialect::Joined.options(&long).is_err());
    }
}
