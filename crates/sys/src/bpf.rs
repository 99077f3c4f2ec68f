//! `bpf(2)`, as far as a cgroup v2 device filter needs it.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

/// Linux 4.15; the rest of the kernel's union stays zero.
type Attributes = [u64; 16];

fn bpf(command: u32, attributes: &Attributes) -> io::Result<i32> {
    // SAFETY: the attributes live through the call, their size is told, and the kernel only reads them here.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size_of::<Attributes>()) };
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
    let fd = bpf(PROG_LOAD, &attributes)?;
    // SAFETY: a new descriptor that belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a device filter to a cgroup v2 directory; filters of groups above hold as well.
pub fn attach_device_filter(group: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    const PROG_ATTACH: u32 = 8;
    const DEVICE: u32 = 6;
    const ALLOW_MULTI: u32 = 2;
    let mut attributes = Attributes::default();
    attributes[0] = pair(group.as_raw_fd() as u32, program.as_raw_fd() as u32);
    attributes[1] = pair(DEVICE, ALLOW_MULTI);
    bpf(PROG_ATTACH, &attributes).map(drop)
}
