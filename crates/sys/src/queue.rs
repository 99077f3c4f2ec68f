//! What waits in a socket.

use std::os::fd::{AsFd, AsRawFd};

/// Whether the peer of a Unix socket has read everything that was written to it.
///
/// # Errors
/// What `ioctl(SIOCOUTQ)` fails with, for example on a descriptor that is no socket.
pub fn all_was_read(socket: impl AsFd) -> std::io::Result<bool> {
    let mut waiting: libc::c_int = 0;
    // SAFETY: the descriptor is open, and SIOCOUTQ (TIOCOUTQ) writes one int to the pointer, which is valid.
    let answer = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut waiting) };
    if answer == -1 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(waiting == 0)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::unix::net::UnixStream,
    };

    use super::*;

    #[test]
    fn unread_bytes_are_seen() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        assert!(all_was_read(&ours).unwrap());
        ours.write_all(b"head").unwrap();
        assert!(!all_was_read(&ours).unwrap());
        theirs.read_exact(&mut [0; 4]).unwrap();
        assert!(all_was_read(&ours).unwrap());
        assert!(all_was_read(std::fs::File::open("/dev/null").unwrap()).is_err());
    }
}
