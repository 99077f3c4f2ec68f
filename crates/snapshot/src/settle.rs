//! Layers become durable after they are there, not before: waiting for a disk is most of an unpacking's time, and
//! nothing is lost without, for a layer is unpacked again from its blob.
//!
//! A new layer carries this boot's name until a thread has synced the file system once for all that came meanwhile.
//! After a crash of the machine, a layer with another boot's name may have holes where its files' content was never
//! written: it is removed when the driver is opened.

use std::{
    ffi::CStr,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
};

use rustix::{
    fs::{XattrFlags, fgetxattr, fremovexattr, fsetxattr, syncfs},
    io::Errno,
};

use crate::tree::open_directory;

/// On a layer that may not survive a crash of the machine: the boot in which it was made.
const UNSETTLED: &CStr = c"trusted.knarr.unsettled";

/// How a layer stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Settled,
    /// Whole as long as the machine runs.
    OfThisBoot,
    /// Perhaps damaged by a crash.
    Doubtful,
}

/// Marks a layer that is about to be published.
pub(crate) fn mark(layer: impl AsFd, boot: &str) -> rustix::io::Result<()> {
    fsetxattr(layer, UNSETTLED, boot.as_bytes(), XattrFlags::empty())
}

pub(crate) fn standing(layer: impl AsFd, boot: &str) -> rustix::io::Result<Standing> {
    let mut value = [0; 64];
    match fgetxattr(layer, UNSETTLED, &mut value[..]) {
        Ok(length) if value[..length] == *boot.as_bytes() => Ok(Standing::OfThisBoot),
        Ok(_) | Err(Errno::RANGE) => Ok(Standing::Doubtful),
        Err(Errno::NODATA) => Ok(Standing::Settled),
        Err(error) => Err(error),
    }
}

/// The thread that syncs; it ends, after what it is about, when dropped. What it has not come to keeps its mark.
#[derive(Debug)]
pub(crate) struct Settler {
    wishes: Option<Sender<String>>,
    thread: Option<JoinHandle<()>>,
}

impl Settler {
    pub(crate) fn new(layers: Arc<OwnedFd>) -> Self {
        let (wishes, wished) = channel();
        let thread = std::thread::Builder::new().name("knarr-settle".to_owned());
        Self { wishes: Some(wishes), thread: thread.spawn(move || settle(&layers, &wished)).ok() }
    }

    /// Makes a layer durable soon.
    pub(crate) fn wish(&self, layer: &str) {
        if let Some(wishes) = &self.wishes {
            let _ = wishes.send(layer.to_owned());
        }
    }
}

impl Drop for Settler {
    fn drop(&mut self) {
        self.wishes = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn settle(layers: &OwnedFd, wished: &Receiver<String>) {
    while let Ok(first) = wished.recv() {
        // One sync does for all that came while the last one ran.
        let all: Vec<_> = std::iter::once(first).chain(wished.try_iter()).collect();
        // A disk that fails leaves the marks, and so the doubt.
        if syncfs(layers).is_err() {
            continue;
        }
        for layer in all {
            // It may have been removed meanwhile.
            if let Ok(layer) = open_directory(layers, &*layer) {
                let _ = fremovexattr(layer, UNSETTLED);
            }
        }
    }
}
