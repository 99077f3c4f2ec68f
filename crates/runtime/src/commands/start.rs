//! `start`: tells a created container's process to become its program.

use std::{
    fs,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
};

use oci::spec::Status;

use super::{Context, notify::Notify};
use crate::{
    channel::Channel,
    container::Container,
    error::{During, Error, Result},
    hooks,
    launch::{self, Starting},
};

/// A path to a socket in a directory that always fits an address.
pub(super) fn short(directory: BorrowedFd<'_>, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()))
}

pub(super) fn start(context: &mut Context) -> Result<u8> {
    let container = Container::load(&context.global.root, context.call.id())?;
    let lock = container.lock()?;
    match container.status() {
        Status::Created => {}
        Status::Stopped => return Err(Error::new("cannot start a container that has stopped")),
        Status::Running => return Err(Error::new("cannot start an already running container")),
        other => {
            return Err(Error::new(format!("cannot start a container in the {} state", other.as_str())));
        }
    }
    let pidfd = container
        .process()
        .ok_or_else(|| Error::new("the container's process ended before it could be started"))?;
    let directory = fs::File::open(&container.directory).during(|| "open the container's directory")?;
    let connection = UnixStream::connect(short(directory.as_fd(), "start.sock"))
        .during(|| "reach the container's process")?;
    let mut channel = Channel::new(connection);
    let notify = Notify::open(&container.directory)?;
    // Its first word says that it was this start that it heard.
    if channel.hear::<bool>()? != Some(true) {
        return Err(Error::new("the container's process ended before it could be started"));
    }
    fs::remove_file(container.start_socket()).during(|| "remove the start socket")?;
    let state = container.state(Status::Created);
    let agent = container.record.agent.as_ref();
    let starting = Starting { pid: container.record.pid, pidfd: pidfd.as_fd(), agent, state: &state };
    launch::started(&mut channel, &starting)?;
    let state = container.state(Status::Running);
    if let Err(error) = hooks::run("poststart", &container.record.hooks.poststart, &state) {
        // runtime-spec 1.2.1, lifecycle 9: the container is stopped.
        let _ = container.signal(9);
        return Err(error);
    }
    if let Some(notify) = notify {
        notify.pass_on(&container)?;
    }
    drop(lock);
    Ok(0)
}
