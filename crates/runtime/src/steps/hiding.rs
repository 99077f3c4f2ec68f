//! What is hidden in the container's root, and what is made read-only.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{FileType, Mode, OFlags, fstat, open},
    io::Errno,
};
use sys::Root;

use super::{
    Child, devices,
    mounting::{self, PLACE, attach, change, copy},
};
use crate::{
    error::{During, Error, Result},
    options::{Change, attr},
};

const READONLY: Change = Change { set: attr::RDONLY, clear: 0 };

/// Makes a mount read-only once everything inside it has been made.
pub(super) fn readonly_mount(root: &Root, path: &Path) -> Result<()> {
    let what = || format!("make mount {} read-only", path.display());
    let mount = root.get(path, OFlags::PATH, Mode::empty()).during(what)?;
    change(&mount, false, READONLY, 0).during(what)
}

/// Opens a path to protect; `None` if there is nothing.
fn protected(root: &Root, path: &Path, what: impl Fn() -> String) -> Result<Option<OwnedFd>> {
    match root.get(path, OFlags::PATH, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(error)
            if matches!(
                error.raw_os_error().map(Errno::from_raw_os_error),
                Some(Errno::NOENT | Errno::NOTDIR)
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(Error::refused(what(), &error)),
    }
}

/// Covers a path with itself, read-only.
pub(super) fn readonly_path(root: &Root, path: &Path) -> Result<()> {
    let what = || format!("make {} read-only", path.display());
    let Some(place) = protected(root, path, what)? else {
        return Ok(());
    };
    let tree = copy(place.as_fd(), true).during(what)?;
    change(&tree, true, READONLY, 0).during(what)?;
    attach(&tree, &place).during(what)
}

/// Covers a file with the null device and a directory with nothing.
pub(super) fn mask(child: &mut Child<'_>, path: &Path, label: Option<&str>) -> Result<()> {
    let what = || format!("mask {}", path.display());
    let Some(place) = protected(child.root()?, path, what)? else {
        return Ok(());
    };
    if FileType::from_raw_mode(fstat(&place).during(what)?.st_mode) == FileType::Directory {
        // One superblock for all: each would be torn down on its own when the container ends.
        if let Some(empty) = &child.empty {
            let again = copy(empty.as_fd(), false).during(what)?;
            return attach(again, &place).during(what);
        }
        let hardened = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
        let empty = mounting::tmpfs(hardened, label).during(what)?;
        attach(&empty, &place).during(what)?;
        child.empty = Some(empty);
        return Ok(());
    }
    // The host's own node, which the container has no way to exchange (CVE-2025-31133), and verified all the same.
    if child.null.is_none() {
        let null = open("/dev/null", PLACE | OFlags::NOFOLLOW, Mode::empty()).during(what)?;
        devices::verify(null.as_fd(), 'c', (1, 3)).map_err(|error| error.during(what()))?;
        child.null = Some(null);
    }
    let null = child.null.as_ref().ok_or_else(|| Error::new("no null device"))?;
    attach(copy(null.as_fd(), false).during(what)?, &place).during(what)
}
