//! All containers of an engine, by id and by name; both are computed at start, never stored.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use crate::{
    error::{Error, Kind, Result},
    handle::Handle,
    locked, names,
};

#[derive(Debug, Default)]
struct Tables {
    handles: BTreeMap<String, Arc<Handle>>,
    /// Name → id. A name is taken before its container exists.
    names: BTreeMap<String, String>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Registry(Mutex<Tables>);

impl Registry {
    /// By id, name, or unambiguous beginning of an id, in Docker's order.
    pub(crate) fn find(&self, key: &str) -> Result<Arc<Handle>> {
        let tables = locked(&self.0);
        let name = key.strip_prefix('/').unwrap_or(key);
        let exact = tables.handles.get(key).or_else(|| tables.handles.get(tables.names.get(name)?));
        if let Some(handle) = exact {
            return Ok(handle.clone());
        }
        let missing = || Error::new(Kind::NotFound, format!("No such container: {key}"));
        if key.is_empty() {
            return Err(missing());
        }
        let mut alike = tables.handles.range(key.to_owned()..).take_while(|(id, _)| id.starts_with(key));
        match (alike.next(), alike.next()) {
            (Some((_, handle)), None) => Ok(handle.clone()),
            (Some(_), Some(_)) => {
                Err(Error::new(Kind::Invalid, format!("multiple IDs found with provided prefix: {key}")))
            }
            (None, _) => Err(missing()),
        }
    }

    /// All of them, newest first.
    pub(crate) fn all(&self) -> Vec<Arc<Handle>> {
        let mut all: Vec<_> =
            locked(&self.0).handles.values().map(|handle| (handle.now().created, handle.clone())).collect();
        all.sort_by(|(a, _), (b, _)| b.cmp(a));
        all.into_iter().map(|(_, handle)| handle).collect()
    }

    /// Takes `name`, or makes one up, for the container `id`.
    pub(crate) fn take_name(&self, name: Option<&str>, id: &str) -> Result<String> {
        let Some(name) = name else {
            for attempt in 0.. {
                let suggested = names::suggest(attempt)?;
                if self.try_name(&suggested, id).is_ok() {
                    return Ok(suggested);
                }
            }
            unreachable!("the loop ends only by returning");
        };
        let name = names::check(name)?;
        self.try_name(&name, id)?;
        Ok(name)
    }

    fn try_name(&self, name: &str, id: &str) -> Result<()> {
        let mut tables = locked(&self.0);
        if let Some(owner) = tables.names.get(name) {
            let message = format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". \
                 You have to remove (or rename) that container to be able to reuse that name."
            );
            return Err(Error::new(Kind::Conflict, message));
        }
        tables.names.insert(name.to_owned(), id.to_owned());
        Ok(())
    }

    /// Gives `name` back.
    pub(crate) fn free_name(&self, name: &str) {
        locked(&self.0).names.remove(name);
    }

    /// Makes a container findable; its name was taken before.
    pub(crate) fn insert(&self, handle: Arc<Handle>) {
        locked(&self.0).handles.insert(handle.id.clone(), handle);
    }

    /// Makes a container, and its name, free.
    pub(crate) fn remove(&self, id: &str) {
        let mut tables = locked(&self.0);
        tables.handles.remove(id);
        tables.names.retain(|_, owner| owner != id);
    }
}
