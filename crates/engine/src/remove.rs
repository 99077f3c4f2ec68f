//! `rm`: the name and the id are free when it returns; space follows.

use std::{fs, io, sync::Arc};

use crate::{
    Engine,
    error::{Error, Kind, Result},
    handle::{CONTAINERS, Handle, durability},
    locked, signal,
    state::Event,
};

impl Engine {
    /// Removes a container; one that runs only by `force`.
    pub async fn remove(&self, key: &str, force: bool) -> Result<()> {
        let handle = self.0.containers.find(key)?;
        if force && handle.verb.try_lock().is_err() && handle.now().state.pid().is_some() {
            // A stop that waits for a patient container need not wait any longer.
            let _ = self.signal(&handle, signal::KILL).await;
        }
        let _verb = handle.hold(key).await?;
        let container = handle.now();
        if container.state.pid().is_some() {
            if !force {
                let message = format!(
                    "cannot remove container \"/{}\": container is {}: stop the container before removing or force remove",
                    container.name,
                    container.state.word()
                );
                return Err(Error::new(Kind::Conflict, message));
            }
            self.kill_held(&handle).await?;
        }
        self.remove_held(&handle)
    }

    /// The same, by a verb that already holds a container that does not run.
    pub(crate) fn remove_held(&self, handle: &Arc<Handle>) -> Result<()> {
        handle.pass(Event::Remove, |_| {})?;
        let container = handle.now();
        let removed = self.take_apart(handle);
        if let Err(error) = removed {
            handle.pass(Event::RemoveFailed, |container| {
                error.message.clone_into(&mut container.last.error);
            })?;
            return Err(error);
        }
        self.0.containers.remove(&handle.id);
        locked(&self.0.execs).retain(|_, session| session.container != handle.id);
        handle.vanish();
        self.0.events.container(&container, "destroy", &[]);
        self.forget_layers_of(&handle.chain);
        Ok(())
    }

    /// Data first, record last: a crash in between leaves a container that can be removed again.
    fn take_apart(&self, handle: &Handle) -> Result<()> {
        let mut forgotten = locked(&handle.forgotten);
        self.0.snapshots.remove(&handle.id)?;
        let home = self.home(&handle.id);
        match fs::remove_dir_all(&home) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::at("remove", &home, &error));
            }
            _ => {}
        }
        let how = durability(&handle.now().config);
        self.0.store.delete(CONTAINERS, &handle.id, how).map_err(Error::internal)?;
        *forgotten = true;
        Ok(())
    }
}
