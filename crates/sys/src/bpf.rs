//! `bpf(2)`, as far as a cgroup v2 device filter needs it.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

/// Linux 4.15; the rest of the kernel's union stays zero.
type Attributes = [u64; 16];

fn bpf(command: u32, attributes: &mut Attributes) -> io::Result<i32> {
    // SAFETY: the attributes live through the call and their size is told; the kernel reads them, writes answers into
    // them, and writes to what they point at as far as the caller says that it reaches.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of::<Attributes>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result as i32)
}

fn pair(low: u32, high: u32) -> u64 {
    u64::from(low.to_le()) | u64::from(high.to_le()) << 32
}

/// Loads a program of type `BPF_PROG_TYPE_CGROUP_DEVICE`; each instruction as eight bytes.
pub fn load_device_filter(code: &[[u8; 8]]) -> io::Result<OwnedFd> {
    const PROG_LOAD: u32 = 5;
    const CGROUP_DEVICE: u32 = 15;
    let license = c"Apache-2.0";
    let mut attributes = Attributes::default();
    attributes[0] = pair(CGROUP_DEVICE, code.len() as u32);
    attributes[1] = code.as_ptr() as u64;
    attributes[2] = license.as_ptr() as u64;
    let fd = bpf(PROG_LOAD, &mut attributes)?;
    // SAFETY: a new descriptor that belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `BPF_CGROUP_DEVICE`
const DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;
/// Linux 5.6
const REPLACE: u32 = 4;
const PROG_ATTACH: u32 = 8;

/// Attaches a device filter to a cgroup v2 directory; filters of groups above hold as well.
pub fn attach_device_filter(group: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = Attributes::default();
    attributes[0] = pair(group.as_raw_fd() as u32, program.as_raw_fd() as u32);
    attributes[1] = pair(DEVICE, ALLOW_MULTI);
    bpf(PROG_ATTACH, &mut attributes).map(drop)
}

/// Attaches a device filter in place of `old`, in one step (Linux 5.6).
pub fn replace_device_filter(
    group: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    old: BorrowedFd<'_>,
) -> io::Result<()> {
    let mut attributes = Attributes::default();
    attributes[0] = pair(group.as_raw_fd() as u32, program.as_raw_fd() as u32);
    attributes[1] = pair(DEVICE, ALLOW_MULTI | REPLACE);
    attributes[2] = pair(old.as_raw_fd() as u32, 0);
    bpf(PROG_ATTACH, &mut attributes).map(drop)
}

/// Takes a device filter away from a cgroup v2 directory.
pub fn detach_device_filter(group: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    const PROG_DETACH: u32 = 9;
    let mut attributes = Attributes::default();
    attributes[0] = pair(group.as_raw_fd() as u32, program.as_raw_fd() as u32);
    attributes[1] = pair(DEVICE, 0);
    bpf(PROG_DETACH, &mut attributes).map(drop)
}

/// The device filters of a cgroup v2 directory itself, in the order in which they were attached.
pub fn device_filters(group: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    const PROG_GET_FD_BY_ID: u32 = 13;
    const PROG_QUERY: u32 = 16;
    /// `BPF_CGROUP_MAX_PROGS`: the kernel attaches no more.
    const MOST: usize = 64;
    let mut ids = [0_u32; MOST];
    let mut attributes = Attributes::default();
    attributes[0] = pair(group.as_raw_fd() as u32, DEVICE);
    attributes[2] = ids.as_mut_ptr() as u64;
    attributes[3] = pair(MOST as u32, 0);
    bpf(PROG_QUERY, &mut attributes)?;
    let count = attributes[3].to_le() as u32 as usize;
    let mut filters = Vec::new();
    for id in &ids[..count.min(MOST)] {
        let mut attributes = Attributes::default();
        attributes[0] = pair(*id, 0);
        let fd = bpf(PROG_GET_FD_BY_ID, &mut attributes)?;
        // SAFETY: a new descriptor that belongs to nobody else.
        filters.push(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    Ok(filters)
}
