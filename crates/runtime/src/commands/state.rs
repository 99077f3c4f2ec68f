//! `state`: how a container is, as JSON.

use oci::spec::Status;
use serde::Serialize;

use super::{Context, print_json};
use crate::{container::Container, error::Result};

/// What `state` and `list` print, with runc's members.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    oci_version: String,
    pub(super) id: String,
    pub(super) pid: i32,
    pub(super) status: Status,
    pub(super) bundle: String,
    rootfs: String,
    pub(super) created: String,
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    annotations: std::collections::BTreeMap<String, String>,
    pub(super) owner: String,
}

impl Shown {
    pub(super) fn of(container: &Container) -> Self {
        let status = container.status();
        let record = &container.record;
        Self {
            oci_version: record.oci_version.clone(),
            id: record.id.clone(),
            pid: if status == Status::Stopped { 0 } else { record.pid },
            status,
            bundle: record.bundle.display().to_string(),
            rootfs: record.rootfs.display().to_string(),
            created: record.created.clone(),
            annotations: record.annotations.clone(),
            // runc tells it in its list only.
            owner: String::new(),
        }
    }
}

pub(super) fn state(context: &mut Context) -> Result<u8> {
    let container = Container::load(&context.global.root, context.call.id())?;
    print_json(&Shown::of(&container))
}
