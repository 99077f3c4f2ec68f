//! `delete`: removes what is left of a container.

use std::{fs, os::fd::AsFd, time::Duration};

use oci::spec::Status;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Context, log};
use crate::{
    cgroup,
    container::{Container, Making, check_id},
    error::{During, Error, Result},
    hooks, rdt,
    record::Description,
};

pub(super) fn delete(context: &mut Context) -> Result<u8> {
    let force = context.call.has("force");
    let container = match Container::load(&context.global.root, context.call.id()) {
        Ok(container) => container,
        Err(error) => return abandoned(context, force, error),
    };
    let _lock = container.lock()?;
    let status = container.status();
    if status != Status::Stopped {
        // One that was created and never started may go without force, as under runc.
        if !force && status != Status::Created {
            let id = &container.record.id;
            return Err(Error::new(format!(
                "cannot delete container {id} that is not stopped: {}",
                status.as_str()
            )));
        }
        end(&container, status)?;
    }
    remove(&container, context)?;
    Ok(0)
}

/// A directory without a record is what a runtime that was killed has left.
fn abandoned(context: &Context, force: bool, error: Error) -> Result<u8> {
    check_id(context.call.id())?;
    let directory = context.global.root.join(context.call.id());
    if directory.exists() && !directory.join("state.json").exists() {
        // A unit ends with the processes of a runtime that was killed.
        cgroup::remove(&Making::abandoned(&directory)?, None)?;
        fs::remove_dir_all(&directory).during(|| format!("remove {}", directory.display()))?;
        return Ok(0);
    }
    if force && !directory.exists() { Ok(0) } else { Err(error) }
}

fn end(container: &Container, status: Status) -> Result<()> {
    let Some(process) = container.process() else {
        return Ok(());
    };
    sys::process::signal(process.as_fd(), 9).during(|| "end the container")?;
    if status == Status::Paused {
        cgroup::freeze(&container.record.places, false)?;
    }
    let limit = Timespec { tv_sec: Duration::from_secs(10).as_secs() as i64, tv_nsec: 0 };
    match poll(&mut [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)], Some(&limit)) {
        Ok(0) => Err(Error::new("the container's process does not end, 10 s after SIGKILL")),
        _ => Ok(()),
    }
}

/// Removes groups and directory of a container whose process has ended, and runs its last hooks.
pub(super) fn remove(container: &Container, context: &mut Context) -> Result<()> {
    let places = &container.record.places;
    let removal = Description::new("remove cgroups").with("count", places.len());
    context.recorder.step(|| removal, || cgroup::remove(places, container.record.unit.as_ref()))?;
    rdt::remove(&container.record.rdt);
    let directory = &container.directory;
    fs::remove_dir_all(directory).during(|| format!("remove {}", directory.display()))?;
    let state = container.state(Status::Stopped);
    let warn = |message: &str| log(&context.global, "warning", message);
    hooks::run_all("poststop", &container.record.hooks.poststop, &state, warn);
    Ok(())
}
