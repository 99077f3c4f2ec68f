//! What happened, for whoever listens, and the last of it for whoever comes late.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Mutex,
};

use jiff::Timestamp;
use tokio::sync::broadcast;

use crate::{Container, Event, Network, locked};

const KEPT: usize = 256;
/// A listener that is further behind loses the oldest.
const BEHIND: usize = 1024;

/// The engine's newsroom.
#[derive(Debug)]
pub(crate) struct Events {
    sender: broadcast::Sender<Event>,
    recent: Mutex<VecDeque<Event>>,
}

impl Events {
    pub(crate) fn new() -> Self {
        Self { sender: broadcast::channel(BEHIND).0, recent: Mutex::default() }
    }

    pub(crate) fn listen(&self) -> broadcast::Receiver<Event> {
        self.sender.subscribe()
    }

    pub(crate) fn recent(&self) -> Vec<Event> {
        locked(&self.recent).iter().cloned().collect()
    }

    fn tell(&self, event: Event) {
        let mut recent = locked(&self.recent);
        if recent.len() == KEPT {
            recent.pop_front();
        }
        recent.push_back(event.clone());
        // Nobody listening is no failure.
        let _ = self.sender.send(event);
    }

    /// `action` of a container, with its name, image and labels beside `more`.
    pub(crate) fn container(&self, container: &Container, action: &str, more: &[(&str, String)]) {
        let mut attributes = container.config.labels.clone();
        attributes.insert("image".to_owned(), container.config.image.clone());
        attributes.insert("name".to_owned(), container.name.clone());
        attributes.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        self.tell(Event {
            at: Timestamp::now(),
            kind: "container",
            action: action.to_owned(),
            id: container.id.clone(),
            attributes,
        });
    }

    /// `action` of a network.
    pub(crate) fn network(&self, network: &Network, action: &str, more: &[(&str, String)]) {
        let mut attributes = BTreeMap::from([
            ("name".to_owned(), network.name.clone()),
            ("type".to_owned(), network.driver.clone()),
        ]);
        attributes.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        self.tell(Event {
            at: Timestamp::now(),
            kind: "network",
            action: action.to_owned(),
            id: network.id.clone(),
            attributes,
        });
    }

    /// `action` of an image under `name`.
    pub(crate) fn image(&self, id: &str, name: &str, action: &str) {
        let attributes = BTreeMap::from([("name".to_owned(), name.to_owned())]);
        self.tell(Event {
            at: Timestamp::now(),
            kind: "image",
            action: action.to_owned(),
            id: id.to_owned(),
            attributes,
        });
    }
}
