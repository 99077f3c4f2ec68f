//! One container in memory: what is published of it, and who may change it.

use std::sync::{Arc, Mutex, atomic::AtomicI32};

use jiff::Timestamp;
use oci::Digest;
use serde::{Deserialize, Serialize};
use store::{Durability, Table};
use tokio::sync::{MutexGuard, mpsc, watch};
use trace::Timeline;

use crate::{
    AttachOptions, Attachment as Place, Config, Container, Frame, Input, LastRun, PublishedPort, State,
    error::{Error, Kind, Result},
    locked,
    state::Event,
};

/// Container records.
pub(crate) const CONTAINERS: Table = Table { name: "containers", version: 1 };

/// What of a container is kept on disk; the rest is found again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) created: Timestamp,
    pub(crate) config: Config,
    pub(crate) state: State,
    pub(crate) last: LastRun,
    /// Diff ids of the image's layers: they stay while this container does, even if the image goes.
    pub(crate) chain: Vec<Digest>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) attachments: Vec<Place>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) ports: Vec<PublishedPort>,
}

/// What readers and waiters see.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    pub(crate) container: Arc<Container>,
    /// How often it has ended since the daemon started.
    pub(crate) exits: u64,
    /// The exit code of the last of those: a start in between clears what the container says.
    pub(crate) code: i32,
    pub(crate) gone: bool,
}

/// A client that attached before there was a process.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) options: AttachOptions,
    pub(crate) output: mpsc::Sender<Frame>,
    pub(crate) input: mpsc::Receiver<Input>,
}

/// One container.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) id: String,
    pub(crate) chain: Vec<Digest>,
    published: watch::Sender<Published>,
    /// Held by the verb that is at work; see [`Handle::hold`].
    pub(crate) verb: tokio::sync::Mutex<()>,
    /// Held by all who enter the container by its runtime, or by the one who freezes it: whoever entered a frozen
    /// one would hang there.
    pub(crate) freezing: tokio::sync::RwLock<()>,
    /// Held as long as a shim lives, so that a start waits for the end of the one before.
    pub(crate) shim: Arc<tokio::sync::Mutex<()>>,
    /// That shim's process; 0 without one.
    pub(crate) shim_pid: AtomicI32,
    pub(crate) waiting: Mutex<Vec<Attachment>>,
    /// Held while the record is written or taken away; whether it is gone for good.
    pub(crate) forgotten: Mutex<bool>,
    /// What `create` did, for the timeline of the first start.
    pub(crate) creation: Mutex<Timeline>,
}

impl Handle {
    pub(crate) fn new(container: Container, chain: Vec<Digest>) -> Self {
        let id = container.id.clone();
        let first = Published { container: Arc::new(container), exits: 0, code: 0, gone: false };
        Self {
            id,
            chain,
            published: watch::Sender::new(first),
            verb: tokio::sync::Mutex::default(),
            freezing: tokio::sync::RwLock::default(),
            shim: Arc::default(),
            shim_pid: AtomicI32::new(0),
            waiting: Mutex::default(),
            forgotten: Mutex::default(),
            creation: Mutex::default(),
        }
    }

    /// Waits for the verb before; after a removal there is nothing left to hold.
    pub(crate) async fn hold(&self, key: &str) -> Result<MutexGuard<'_, ()>> {
        let guard = self.verb.lock().await;
        if self.published.borrow().gone {
            return Err(Error::new(Kind::NotFound, format!("No such container: {key}")));
        }
        Ok(guard)
    }

    /// The container as it is now.
    pub(crate) fn now(&self) -> Arc<Container> {
        self.published.borrow().container.clone()
    }

    /// The container once a start that may be under way is through: its process may speak, and its clients act on
    /// that, before the start is answered and published.
    pub(crate) async fn settled(&self) -> Arc<Container> {
        let now = self.now();
        if now.state.pid().is_some() {
            return now;
        }
        drop(self.verb.lock().await);
        self.now()
    }

    /// Follows it from now on.
    pub(crate) fn follow(&self) -> watch::Receiver<Published> {
        self.published.subscribe()
    }

    /// Publishes a changed container.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Container)) {
        self.published.send_modify(|published| {
            let mut container = Container::clone(&published.container);
            change(&mut container);
            published.container = Arc::new(container);
        });
    }

    /// Goes to the state after `event`, and publishes that with what else `change` does to it.
    pub(crate) fn pass(&self, event: Event, change: impl FnOnce(&mut Container)) -> Result<()> {
        let mut outcome = Ok(());
        self.published.send_if_modified(|published| match published.container.state.next(event) {
            Ok(next) => {
                let mut container = Container::clone(&published.container);
                container.state = next;
                change(&mut container);
                if event == Event::Exited {
                    published.exits += 1;
                    published.code = container.last.exit_code;
                }
                published.container = Arc::new(container);
                true
            }
            Err(error) => {
                outcome = Err(error);
                false
            }
        });
        outcome
    }

    /// Tells everybody that it is no more.
    pub(crate) fn vanish(&self) {
        locked(&self.waiting).clear();
        self.published.send_modify(|published| published.gone = true);
    }

    /// What must be on disk of it.
    pub(crate) fn record(&self) -> Record {
        let Container { name, created, config, state, last, attachments, ports, .. } =
            Container::clone(&self.now());
        Record { name, created, config, state, last, chain: self.chain.clone(), attachments, ports }
    }
}

/// A container that vanishes on exit owes nobody a write that survives a power cut.
pub(crate) fn durability(config: &Config) -> Durability {
    if config.host.auto_remove { Durability::Relaxed } else { Durability::Durable }
}
