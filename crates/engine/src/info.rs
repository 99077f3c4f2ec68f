//! What only the engine knows of itself, and what it keeps of the last starts.

use tokio::sync::broadcast;
use trace::Timeline;

use crate::{
    Container, Engine, Event, Info, blocking,
    error::{Error, Kind, Result},
    locked,
};
use std::sync::Arc;

impl Engine {
    /// One container as it is now.
    pub fn inspect(&self, key: &str) -> Result<Arc<Container>> {
        Ok(self.0.containers.find(key)?.now())
    }

    /// All containers, newest first.
    pub fn list(&self) -> Vec<Arc<Container>> {
        self.0.containers.all().iter().map(|handle| handle.now()).collect()
    }

    /// Bytes of the writable layer.
    pub async fn size(&self, key: &str) -> Result<u64> {
        let id = self.0.containers.find(key)?.id.clone();
        let snapshots = self.0.snapshots.clone();
        Ok(blocking(move || snapshots.usage(&id)).await??.bytes)
    }

    /// The name of the driver that keeps layers.
    pub fn storage_driver(&self) -> &'static str {
        self.0.snapshots.name()
    }

    /// Pids of all processes in the container, as the host sees them.
    pub async fn processes(&self, key: &str) -> Result<Vec<i32>> {
        let container = self.inspect(key)?;
        let Some(pid) = container.state.pid() else {
            return Err(Error::new(Kind::Conflict, format!("Container {} is not running", container.id)));
        };
        blocking(move || processes_with(pid)).await?
    }

    /// What was done at the last start; kept for a while after the container is gone.
    pub fn timeline(&self, key: &str) -> Result<Timeline> {
        let id = self.0.containers.find(key).map_or_else(|_| key.to_owned(), |handle| handle.id.clone());
        let kept = locked(&self.0.timelines);
        let found = kept.iter().rev().find(|(have, _)| have.starts_with(&id) && !id.is_empty());
        let missing = || Error::new(Kind::NotFound, format!("no timeline is kept of container {key}"));
        found.map(|(_, timeline)| timeline.clone()).ok_or_else(missing)
    }

    /// Facts for `info` and `version`.
    pub async fn info(&self) -> Result<Info> {
        let images = self.images().await?.len();
        let inner = &self.0;
        Ok(Info {
            engine_id: inner.engine_id.clone(),
            options: inner.options.clone(),
            storage_driver: inner.snapshots.name(),
            cgroup_version: inner.host.cgroup_version,
            controllers: inner.host.controllers.clone(),
            images,
            warnings: inner.warnings.clone(),
        })
    }

    /// What happens from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.0.events.listen()
    }

    /// The last few hundred events.
    pub fn recent_events(&self) -> Vec<Event> {
        self.0.events.recent()
    }
}

/// All processes in the pid namespace of `first` or below it, found by their cgroup: the one that `first` is in.
fn processes_with(first: i32) -> Result<Vec<i32>> {
    let groups = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/cgroup"));
    let own = groups(&first.to_string())
        .map_err(|error| Error::internal(format!("read the cgroup of {first}: {error}")))?;
    let entries = std::fs::read_dir("/proc").map_err(Error::internal)?.flatten();
    let mut pids: Vec<i32> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|pid| groups(pid).is_ok_and(|theirs| theirs == own))
        .filter_map(|pid| pid.parse().ok())
        .collect();
    pids.sort_unstable();
    Ok(pids)
}
