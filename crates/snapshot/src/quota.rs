//! `--storage-opt size=`: a limit on what a snapshot holds, by the project quota of the file system below (xfs and
//! ext4, both mounted with `prjquota`).

use std::{
    io,
    os::fd::AsFd,
    sync::{Mutex, PoisonError},
};

use rustix::io::Errno;

use crate::{
    Error,
    disk::{Area, Disk, Stage},
};

/// Projects of ours begin here: far above what people write into `/etc/projects` and what Docker counts up from 1.
const FIRST: u32 = 0x6b6e_0000;

/// Limits what will be below a staged snapshot's directories.
pub(crate) fn limit(disk: &Disk, stage: &Stage<'_>, size: u64) -> Result<(), Error> {
    // Two snapshots must not take the same number.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let refuse = |error: io::Error| match Errno::from_io_error(&error) {
        // No quota, not switched on, not of this file system, no quotactl_fd(2).
        Some(Errno::SRCH | Errno::OPNOTSUPP | Errno::NOTTY | Errno::NOSYS | Errno::INVAL) => {
            Error::Unusable(format!(
                "--storage-opt size is supported only over xfs or ext4 with the mount option prjquota, or over btrfs \
                 with its own storage driver: {}",
                stage.path().display()
            ))
        }
        _ => Error::at("limit the size of", stage.path())(error),
    };
    let project = free_project(disk).map_err(refuse)?;
    sys::quota::limit(stage.directory().as_fd(), project, size).map_err(refuse)?;
    sys::quota::set_project(stage.directory().as_fd(), project).map_err(refuse)?;
    for name in crate::tree::names(stage.directory()).map_err(|error| refuse(error.into()))? {
        let directory = crate::tree::open_directory(stage.directory(), &name[..]);
        let directory = directory.map_err(|error| refuse(error.into()))?;
        sys::quota::set_project(directory.as_fd(), project).map_err(refuse)?;
    }
    Ok(())
}

/// One that no snapshot has. What was written into a project that is gone lies in the trash and still counts, so its
/// number is not taken again before that is empty.
fn free_project(disk: &Disk) -> io::Result<u32> {
    let mut last = FIRST;
    for area in [Area::Snapshots, Area::Tmp, Area::Trash] {
        for name in crate::tree::names(disk.area(area))? {
            // Gone meanwhile, or no directory.
            let Ok(directory) = crate::tree::open_directory(disk.area(area), &name[..]) else { continue };
            last = last.max(sys::quota::project(directory.as_fd())?);
        }
    }
    last.checked_add(1).ok_or_else(|| io::Error::other("no free project number"))
}
