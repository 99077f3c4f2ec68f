//! Netlink sockets: what rustix lacks of `netlink(7)`.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use rustix::net::{
    AddressFamily, Protocol, SocketFlags, SocketType, bind, netlink::SocketAddrNetlink, socket_with,
};

/// Opens a netlink socket of `protocol` (none is `NETLINK_ROUTE`, 0) in the calling thread's network namespace, subscribed to the multicast
/// `groups` (numbers, as `RTNLGRP_*`). Errors come with the kernel's reason (`NETLINK_EXT_ACK`) and without a copy of
/// the request (`NETLINK_CAP_ACK`); dumps are filtered by the kernel (`NETLINK_GET_STRICT_CHK`, Linux 4.20).
///
/// # Errors
/// What `socket(2)`, `bind(2)` and `setsockopt(2)` fail with.
pub fn open(protocol: Option<Protocol>, groups: &[i32]) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
    bind(&socket, &SocketAddrNetlink::new(0, 0))?;
    for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK, libc::NETLINK_GET_STRICT_CHK] {
        set(&socket, option, 1)?;
    }
    for group in groups {
        set(&socket, libc::NETLINK_ADD_MEMBERSHIP, *group)?;
    }
    Ok(socket)
}

fn set(socket: &OwnedFd, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open, and the option's value is one int, which lives until the call returns.
    let answer = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_NETLINK, option, (&raw const value).cast(), size)
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
