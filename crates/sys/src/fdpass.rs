//! Unix sockets by path, also by paths longer than `sun_path`'s 108 bytes, and descriptors sent over them.

use std::{
    ffi::OsStr,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, open},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen,
        recvmsg, send, sendmsg, socket_with,
    },
};

/// Listens on a new socket at `path`, which must not exist; accepting does not block.
pub fn listen_at(path: &Path, backlog: i32) -> io::Result<OwnedFd> {
    let socket = stream_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    with_address(path, |address| bind(&socket, address))?;
    listen(&socket, backlog)?;
    Ok(socket)
}

/// A connection (blocking) to the socket at `path`.
pub fn connect_to(path: &Path) -> io::Result<OwnedFd> {
    let socket = stream_socket(SocketFlags::CLOEXEC)?;
    with_address(path, |address| connect(&socket, address))?;
    Ok(socket)
}

/// Bytes of `sun_path` (`unix(7)`).
const MOST_EVERYBODY_TAKES: usize = 108;

/// `path`, or when it is too long for a `sun_path` a name for it that every process of this pid namespace can use
/// while `directory`, the directory it is in, stays open here.
pub fn short_path(path: &Path, directory: impl AsFd) -> PathBuf {
    // The kernel takes 108 bytes, Go (and so runc) leaves one of them for a NUL.
    if path.as_os_str().len() < MOST_EVERYBODY_TAKES {
        return path.to_owned();
    }
    let this = std::process::id();
    let number = directory.as_fd().as_raw_fd();
    PathBuf::from(format!("/proc/{this}/fd/{number}")).join(path.file_name().unwrap_or_default())
}

/// Sends `descriptor` with one byte.
pub fn send_fd(socket: impl AsFd, descriptor: impl AsFd) -> io::Result<()> {
    send_fd_with(socket, descriptor, b"\0")
}

/// Sends `descriptor` with the first of `bytes`, then the rest of them; there must be one at least.
pub fn send_fd_with(socket: impl AsFd, descriptor: impl AsFd, bytes: &[u8]) -> io::Result<()> {
    let sent = [descriptor.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&sent));
    let mut done = sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    while done < bytes.len() {
        done += send(&socket, &bytes[done..], SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

/// Receives the first descriptor of the next message; any more are closed. None when the message carries none.
pub fn recv_fd(socket: impl AsFd) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    // Senders put a word such as the terminal's path beside it.
    let mut word = [0; 4096];
    recvmsg(socket, &mut [IoSliceMut::new(&mut word)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut received = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    Ok(received.next().and_then(|mut descriptors| descriptors.next()))
}

fn stream_socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// Calls `act` with the address of `path`, when need be through a descriptor of its directory.
fn with_address(path: &Path, act: impl FnOnce(&SocketAddrUnix) -> rustix::io::Result<()>) -> io::Result<()> {
    if let Ok(address) = SocketAddrUnix::new(path) {
        return Ok(act(&address)?);
    }
    let name = path.file_name().unwrap_or(OsStr::new(""));
    let above = path.parent().unwrap_or(Path::new("/"));
    let directory = open(above, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    Ok(act(&SocketAddrUnix::new(&short)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs::File, io::Read};

    #[test]
    fn a_descriptor_arrives_over_a_socket_with_a_very_long_path() {
        let top = tempfile::tempdir().unwrap();
        let deep = top.path().join("d".repeat(200));
        std::fs::create_dir(&deep).unwrap();
        std::fs::write(deep.join("note"), "here").unwrap();
        let path = deep.join("a.sock");
        let listener = listen_at(&path, 1).unwrap();
        assert!(listen_at(&path, 1).is_err(), "an existing path is not taken over");

        let client = connect_to(&path).unwrap();
        let server = rustix::net::accept(&listener).unwrap();
        send_fd(&client, File::open(deep.join("note")).unwrap()).unwrap();
        let mut text = String::new();
        File::from(recv_fd(&server).unwrap().unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "here");

        let directory = File::open(&deep).unwrap();
        let short = short_path(&path, &directory);
        assert!(short.as_os_str().len() < 108 && short.exists());
    }
}
