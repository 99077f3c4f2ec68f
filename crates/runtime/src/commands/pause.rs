//! `pause` and `resume`.

use oci::spec::Status;

use super::Context;
use crate::{
    cgroup,
    container::Container,
    error::{Error, Result},
};

pub(super) fn pause(context: &mut Context, frozen: bool) -> Result<u8> {
    let container = Container::load(&context.global.root, context.call.id())?;
    let _lock = container.lock()?;
    match (container.status(), frozen) {
        (Status::Running | Status::Created, true) | (Status::Paused, false) => {}
        (_, true) => return Err(Error::new("container not running")),
        (_, false) => return Err(Error::new("container not paused")),
    }
    cgroup::freeze(&container.record.places, frozen)?;
    Ok(0)
}
