//! `sd_notify(3)` for containers: what the program says at a socket of its own is passed on to the service manager.

use std::{
    fs,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{fs::PermissionsExt, net::UnixDatagram},
    },
    path::{Path, PathBuf},
};

use oci::{Mount, spec::Spec};
use rustix::event::{PollFd, PollFlags, poll};

use super::start;
use crate::{
    container::Container,
    error::{During, Result},
};

/// Where the container sees the directory with the socket; the same as runc's.
const INSIDE: &str = "/run/notify";

fn manager() -> Option<PathBuf> {
    std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn directory(container: &Path) -> PathBuf {
    container.join("notify")
}

/// If this call was made by a service manager: shows the container a directory for the socket, and tells it where.
pub(super) fn show(spec: &mut Spec, container: &Path) {
    if manager().is_none() {
        return;
    }
    spec.mounts.push(Mount {
        destination: INSIDE.to_owned(),
        kind: Some("bind".to_owned()),
        source: Some(directory(container).display().to_string()),
        options: ["bind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned).to_vec(),
        ..Mount::default()
    });
    if let Some(process) = &mut spec.process {
        process.env.retain(|entry| !entry.starts_with("NOTIFY_SOCKET="));
        process.env.push(format!("NOTIFY_SOCKET={INSIDE}/notify.sock"));
    }
}

/// Makes that directory; anybody in the container may reach the socket in it.
pub(super) fn prepare(container: &Path) -> Result<()> {
    if manager().is_none() {
        return Ok(());
    }
    let directory = directory(container);
    let what = || format!("make {}", directory.display());
    fs::create_dir(&directory).during(what)?;
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).during(what)
}

/// The socket of a container that is about to start.
pub(super) struct Notify {
    socket: UnixDatagram,
    manager: PathBuf,
}

impl Notify {
    /// Opens it, if the container was made for it and somebody wants to know.
    pub(super) fn open(container: &Path) -> Result<Option<Self>> {
        let (Some(manager), directory) = (manager(), directory(container)) else {
            return Ok(None);
        };
        if !directory.exists() {
            return Ok(None);
        }
        let what = || "make the container's notify socket";
        let opened = fs::File::open(&directory).during(what)?;
        let path = start::short(opened.as_fd(), "notify.sock");
        let socket = UnixDatagram::bind(&path).during(what)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).during(what)?;
        Ok(Some(Self { socket, manager }))
    }

    /// Waits until the container says that it is ready, or has ended; then tells the manager, and who is in charge.
    pub(super) fn pass_on(self, container: &Container) -> Result<()> {
        let Some(process) = container.process() else {
            return Ok(());
        };
        loop {
            let mut fds = [
                PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other.during(|| "wait for the container to be ready")?,
            };
            if fds[0].revents().is_empty() {
                return Ok(());
            }
            if self.hear(container.record.pid)? {
                return Ok(());
            }
        }
    }

    /// To wait for.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Reads one message; true if it said that the container is ready. `main` is the process in charge, if it is not us.
    pub(super) fn hear(&self, main: i32) -> Result<bool> {
        let mut message = [0; 4096];
        let length = self.socket.recv(&mut message).during(|| "read what the container notifies")?;
        self.tell(&message[..length], main)
    }

    /// Only that it is ready, and as whom it is: anything else is not for a container to say to the host.
    fn tell(&self, message: &[u8], main: i32) -> Result<bool> {
        let mut ready = message.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"READY="));
        let Some(line) = ready.next() else {
            return Ok(false);
        };
        let what = || format!("notify {}", self.manager.display());
        let manager = UnixDatagram::unbound().during(what)?;
        send(&manager, line, &self.manager).during(what)?;
        if main != 0 {
            send(&manager, format!("MAINPID={main}").as_bytes(), &self.manager).during(what)?;
        }
        Ok(true)
    }
}

/// A path, or with `@` a name that is in no file system.
fn send(socket: &UnixDatagram, message: &[u8], to: &Path) -> std::io::Result<usize> {
    use std::os::{linux::net::SocketAddrExt, unix::ffi::OsStrExt, unix::net::SocketAddr};
    match to.as_os_str().as_bytes().strip_prefix(b"@") {
        Some(name) => socket.send_to_addr(message, &SocketAddr::from_abstract_name(name)?),
        None => socket.send_to(message, to),
    }
}
