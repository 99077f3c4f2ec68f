//! Descriptors that came with the process.

use std::io;

/// Closes every descriptor from `first` on, whoever left it open (`close_range(2)`, Linux 5.9). To be called
/// before the program has opened anything of its own.
pub fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: the caller has opened nothing yet, so no owner in this process loses a descriptor.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    if closed == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() != Some(libc::ENOSYS) {
        return Err(error);
    }
    close_listed(first)
}

/// Before Linux 5.9.
fn close_listed(first: u32) -> io::Result<()> {
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&number: &i32| number >= first as i32)
        .collect();
    for number in open {
        // SAFETY: as in `close_from`; the directory's own descriptor, closed by now, gives a harmless EBADF.
        unsafe { libc::close(number) };
    }
    Ok(())
}
