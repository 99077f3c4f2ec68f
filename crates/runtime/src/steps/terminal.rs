//! A terminal from the container's own devpts; its other end goes to who asked for it.

use std::{
    io::IoSlice,
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use oci::spec::ConsoleSize;
use rustix::{
    fs::{FileType, Mode, OFlags, Uid, fchown, fstat, fstatfs, openat},
    io::Errno,
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
    pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use sys::Root;

use super::{Child, devices, mounting};
use crate::error::{During, Error, Result};

/// `DEVPTS_SUPER_MAGIC` of `linux/magic.h`.
const DEVPTS: u64 = 0x1cd1;

/// Opens a terminal, makes it the standard streams and the controlling terminal, and hands over its other end.
pub(super) fn open(child: &mut Child<'_>, size: Option<ConsoleSize>, uid: u32, console: bool) -> Result<()> {
    let slash;
    let root = if let Some(root) = &child.root {
        root
    } else {
        slash = Root::open(Path::new("/")).during(|| "open /")?;
        &slash
    };
    let (master, slave) = pair(root)?;
    if let Some(size) = size {
        let size = Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).during(|| "set the terminal's size")?;
    }
    fchown(&slave, Some(Uid::from_raw(uid)), None).during(|| "give the terminal to the user")?;
    if console {
        let what = || "bind the terminal on /dev/console";
        let place = console_place(root)?;
        let tree = mounting::copy(slave.as_fd(), false).during(what)?;
        mounting::attach(tree, place).during(what)?;
    }
    let socket = child.console.take();
    let socket = socket.ok_or_else(|| Error::new("a terminal needs --console-socket"))?;
    send(&socket, master.as_fd(), "/dev/ptmx").during(|| "send the terminal over the console socket")?;
    sys::process::set_controlling_terminal(slave.as_fd()).during(|| "set the controlling terminal")?;
    for number in 0..3 {
        sys::process::install_stdio(slave.as_fd(), number).during(|| "install the terminal")?;
    }
    Ok(())
}

/// `/dev/console`, made if missing. A link would have the terminal mounted somewhere else, before anything is hidden
/// there (CVE-2025-52565).
fn console_place(root: &Root) -> Result<OwnedFd> {
    let what = || "make /dev/console";
    let dev = root.create_dir_all(Path::new("/dev"), Mode::from_raw_mode(0o755)).during(what)?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let new = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = match openat(&dev, c"console", new, Mode::RUSR | Mode::WUSR) {
        Err(Errno::EXIST) => openat(&dev, c"console", flags, Mode::empty()).during(what)?,
        made => made.during(what)?,
    };
    match FileType::from_raw_mode(fstat(&place).during(what)?.st_mode) {
        FileType::Symlink | FileType::Directory => {
            Err(Error::new("/dev/console: must be an ordinary file or device"))
        }
        _ => Ok(place),
    }
}

/// Both ends, the second by the first's descriptor and not by a name that somebody could exchange.
fn pair(root: &Root) -> Result<(OwnedFd, OwnedFd)> {
    let what = || "open a terminal at /dev/pts/ptmx";
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let master = root.get_no_links(Path::new("/dev/pts/ptmx"), flags, Mode::empty()).map_err(|error| {
        Error::refused(what(), &error).hint_on(Errno::NOENT, "mount a devpts on /dev/pts")
    })?;
    devices::verify(master.as_fd(), 'c', (5, 2)).map_err(|error| error.during(what()))?;
    if fstatfs(&master).during(what)?.f_type as u64 != DEVPTS {
        return Err(Error::new(format!("{}: is not on a devpts", what())));
    }
    unlockpt(&master).during(what)?;
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
        .during(what)?;
    Ok((master, slave))
}

/// Sends a descriptor with a name, as runc does.
fn send(socket: impl AsFd, fd: BorrowedFd<'_>, name: &str) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(socket, &[IoSlice::new(name.as_bytes())], &mut control, SendFlags::empty()).map(drop)
}
