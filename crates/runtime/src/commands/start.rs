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

use super::{Context, log};
use crate::{
    channel::Channel,
    container::Container,
    error::{During, Error, Result},
    hooks,
    launch::{self, Starting},
};

/// A path to the start socket that always fits an address.
pub(super) fn short(directory: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/start.sock", directory.as_raw_fd()))
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
    let connection =
        UnixStream::connect(short(directory.as_fd())).during(|| "reach the container's process")?;
    let mut channel = Channel::new(connection);
    // Its first word says that it was this start that it heard.
    if channel.hear::<bool>()? != Some(true) {
        return Err(Error::new("the container's process ended before it could be started"));
    }
    fs::remove_file(container.start_socket()).during(|| "remove the start socket")?;
    let state = container.state(Status::Created);
    let agent = container.record.agent.as_ref();
    let starting = Starting { pid: container.record.pid, pidfd: pidfd.as_fd(), agent, state: &state };
    launch::started(&mut channel, &starting)?;
    drop(lock);
    let state = container.state(Status::Running);
    if let Err(error) = hooks::run("poststart", &container.record.hooks.poststart, &state) {
        log(&context.global, "warning", &error.to_string());
    }
    Ok(0)
}
