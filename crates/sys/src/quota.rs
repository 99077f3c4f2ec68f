//! Project quota of xfs and ext4: a limit on what lies below a directory, whoever it belongs to.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

/// `FS_IOC_FSGETXATTR` and `FS_IOC_FSSETXATTR`.
const GET: libc::Ioctl = (2_u32 << 30 | 28 << 16 | 0x58 << 8 | 31) as libc::Ioctl;
const SET: libc::Ioctl = (1_u32 << 30 | 28 << 16 | 0x58 << 8 | 32) as libc::Ioctl;
/// New entries belong to the directory's project.
const INHERIT: u32 = 0x200;
/// Quota counts in these.
const BLOCK: u64 = 512;

/// `struct fsxattr`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

/// `struct fs_disk_quota` (`linux/dqblk_xfs.h`).
#[repr(C)]
#[derive(Default)]
struct Limits {
    version: i8,
    flags: i8,
    fields: u16,
    id: u32,
    hard_blocks: u64,
    soft_blocks: u64,
    rest: [u64; 11],
}

fn attributes(fd: BorrowedFd<'_>, request: libc::Ioctl, value: &mut Attributes) -> io::Result<()> {
    // SAFETY: both requests take this structure, of which the kernel reads or writes the 28 bytes it has.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request, std::ptr::from_mut(value)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The project of a directory; 0 is none.
pub fn project(directory: BorrowedFd<'_>) -> io::Result<u32> {
    let mut value = Attributes::default();
    attributes(directory, GET, &mut value)?;
    Ok(value.project)
}

/// Puts an empty directory, and all that will be below it, into a project.
pub fn set_project(directory: BorrowedFd<'_>, project: u32) -> io::Result<()> {
    let mut value = Attributes::default();
    attributes(directory, GET, &mut value)?;
    value.project = project;
    value.flags |= INHERIT;
    attributes(directory, SET, &mut value)
}

/// Limits a project on the file system that `on` lies on (`quotactl_fd(2)`, Linux 5.14), 0 for no limit.
pub fn limit(on: BorrowedFd<'_>, project: u32, bytes: u64) -> io::Result<()> {
    const SET_LIMITS: u32 = 0x5804 << 8 | 2;
    const HARD_AND_SOFT_BLOCKS: u16 = 1 << 3 | 1 << 2;
    const OF_PROJECT: i8 = 2;
    let blocks = bytes.div_ceil(BLOCK);
    let limits = Limits {
        version: 1,
        flags: OF_PROJECT,
        fields: HARD_AND_SOFT_BLOCKS,
        id: project,
        hard_blocks: blocks,
        soft_blocks: blocks,
        ..Limits::default()
    };
    // SAFETY: the command takes this structure, which lives through the call and is only read.
    let result = unsafe {
        libc::syscall(libc::SYS_quotactl_fd, on.as_raw_fd(), SET_LIMITS, project, std::ptr::from_ref(&limits))
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
