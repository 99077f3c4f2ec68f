//! Subvolumes of btrfs (`btrfs-ioctl(2)`): trees that are copied in no time and share their blocks.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

/// Inode number of every subvolume's root (`BTRFS_FIRST_FREE_OBJECTID`).
pub const ROOT_INODE: u64 = 256;

const SUBVOL_CREATE: libc::Ioctl = request(1, 14, 4096);
const SNAP_DESTROY: libc::Ioctl = request(1, 15, 4096);
const SNAP_CREATE_V2: libc::Ioctl = request(1, 23, 4096);
const QUOTA_CTL: libc::Ioctl = request(3, 40, 16);
const QGROUP_LIMIT: libc::Ioctl = request(2, 43, 48);

/// `_IOC` with btrfs' letter; 1 writes, 2 reads.
const fn request(direction: u32, number: u32, size: u32) -> libc::Ioctl {
    (direction << 30 | size << 16 | 0x94 << 8 | number) as libc::Ioctl
}

/// `struct btrfs_ioctl_vol_args` and `_v2`: both are one page, and zero where nothing is said.
#[repr(C, align(8))]
struct Page([u8; 4096]);

impl Page {
    fn new(fd: i64, name: &CStr, at: usize) -> io::Result<Self> {
        let mut page = Self([0; 4096]);
        page.0[..8].copy_from_slice(&fd.to_ne_bytes());
        let name = name.to_bytes_with_nul();
        // The kernel's BTRFS_SUBVOL_NAME_MAX is below it.
        let room = page.0.get_mut(at..at + name.len()).filter(|_| name.len() <= 256);
        room.ok_or(io::ErrorKind::InvalidFilename)?.copy_from_slice(name);
        Ok(page)
    }
}

fn ioctl<T>(fd: BorrowedFd<'_>, request: libc::Ioctl, argument: &mut T) -> io::Result<()> {
    // SAFETY: every request of this file takes a structure whose size is in its number and is `T`'s.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request, std::ptr::from_mut(argument)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes an empty subvolume `name` in the directory `at`.
pub fn create(at: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    ioctl(at, SUBVOL_CREATE, &mut Page::new(0, name, 8)?)
}

/// Makes a writable copy of the subvolume whose root is `of`.
pub fn snapshot(of: BorrowedFd<'_>, at: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    ioctl(at, SNAP_CREATE_V2, &mut Page::new(of.as_raw_fd().into(), name, 56)?)
}

/// Removes a subvolume with all that is in it, unless that is another subvolume.
pub fn destroy(at: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    ioctl(at, SNAP_DESTROY, &mut Page::new(0, name, 8)?)
}

/// Lets the file system count what each subvolume uses; fine if it does already.
pub fn enable_quota(of: BorrowedFd<'_>) -> io::Result<()> {
    const ENABLE: u64 = 1;
    ioctl(of, QUOTA_CTL, &mut [ENABLE, 0_u64])
}

/// Limits what only the subvolume of `root` uses, to `bytes`.
pub fn limit(root: BorrowedFd<'_>, bytes: u64) -> io::Result<()> {
    const MAX_EXCLUSIVE: u64 = 2;
    // The group 0 is the subvolume's own.
    ioctl(root, QGROUP_LIMIT, &mut [0, MAX_EXCLUSIVE, 0, bytes, 0, 0_u64])
}
