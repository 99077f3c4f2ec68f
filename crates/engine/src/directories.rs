//! Directories that are watched for changes, all by one inotify queue: a user has 128 of those
//! (`fs.inotify.max_user_instances`), and everyone who follows a log wants to be woken.

use std::{
    collections::HashMap,
    io,
    os::fd::OwnedFd,
    path::Path,
    sync::{Arc, Mutex, Weak},
};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::{net::unix::pipe, sync::watch, task::AbortHandle};

use crate::locked;

/// A file is written to, or is put in another's place.
const WHAT: WatchFlags = WatchFlags::MODIFY.union(WatchFlags::CREATE).union(WatchFlags::MOVED_TO);
/// Bytes of an event before its name: watch, mask, cookie, length of the name.
const HEAD: usize = 16;

/// See the module.
#[derive(Debug)]
pub(crate) struct Directories {
    queue: Arc<Queue>,
    ringing: AbortHandle,
}

#[derive(Debug)]
struct Queue {
    descriptor: OwnedFd,
    bells: Mutex<HashMap<i32, Weak<Bell>>>,
}

/// One directory, for as long as somebody listens.
#[derive(Debug)]
struct Bell {
    number: i32,
    rung: watch::Sender<()>,
    queue: Arc<Queue>,
}

/// Somebody who listens.
#[derive(Debug)]
pub(crate) struct Listener {
    rung: watch::Receiver<()>,
    _bell: Arc<Bell>,
}

impl Directories {
    /// Nothing is watched yet. Needs a tokio runtime.
    pub(crate) fn new() -> io::Result<Self> {
        let descriptor = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        // To tokio an inotify queue is a pipe: it is polled and read as one.
        let events = pipe::Receiver::from_owned_fd_unchecked(descriptor.try_clone()?)?;
        let queue = Arc::new(Queue { descriptor, bells: Mutex::default() });
        let ringing = tokio::spawn(ring(events, queue.clone())).abort_handle();
        Ok(Self { queue, ringing })
    }

    /// Listens from now on.
    pub(crate) fn listen(&self, directory: &Path) -> io::Result<Listener> {
        // Held all along: the kernel gives one directory one number, and its last listener may be leaving.
        let mut bells = locked(&self.queue.bells);
        let number = inotify::add_watch(&self.queue.descriptor, directory, WHAT)?;
        let bell = bells.get(&number).and_then(Weak::upgrade).unwrap_or_else(|| {
            let bell = Bell { number, rung: watch::Sender::new(()), queue: self.queue.clone() };
            let bell = Arc::new(bell);
            bells.insert(number, Arc::downgrade(&bell));
            bell
        });
        drop(bells);
        Ok(Listener { rung: bell.rung.subscribe(), _bell: bell })
    }
}

impl Drop for Directories {
    fn drop(&mut self) {
        self.ringing.abort();
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        let mut bells = locked(&self.queue.bells);
        if bells.get(&self.number).is_some_and(|bell| bell.strong_count() == 0) {
            bells.remove(&self.number);
            // Refused if the directory has gone, and its watch with it.
            let _ = inotify::remove_watch(&self.queue.descriptor, self.number);
        }
    }
}

impl Listener {
    /// Waits for the next change that was not waited for yet.
    pub(crate) async fn changed(&mut self) {
        // The sender lives in the bell.
        let _ = self.rung.changed().await;
    }
}

async fn ring(events: pipe::Receiver, queue: Arc<Queue>) {
    let mut buffer = [0; 4096];
    while events.readable().await.is_ok() {
        let Ok(count @ 1..) = events.try_read(&mut buffer) else { continue };
        let mut rest = &buffer[..count];
        while let Some((head, after)) = rest.split_first_chunk::<HEAD>() {
            let [n0, n1, n2, n3, .., l0, l1, l2, l3] = *head;
            let number = i32::from_ne_bytes([n0, n1, n2, n3]);
            rest = after.get(u32::from_ne_bytes([l0, l1, l2, l3]) as usize..).unwrap_or_default();
            let bells: Vec<_> = locked(&queue.bells)
                .iter()
                // -1 is an overflow: it may have been anybody's.
                .filter(|(of, _)| number == -1 || **of == number)
                .filter_map(|(_, bell)| bell.upgrade())
                .collect();
            for bell in &bells {
                bell.rung.send_replace(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn listeners_share_a_queue_and_come_and_go() {
        let directories = Directories::new().unwrap();
        let place = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let mut first: Vec<_> = (0..500).map(|_| directories.listen(place.path()).unwrap()).collect();
        let mut elsewhere = directories.listen(other.path()).unwrap();
        std::fs::write(place.path().join("file"), "x").unwrap();
        for listener in &mut first {
            listener.changed().await;
        }
        assert!(tokio::time::timeout(Duration::from_millis(50), elsewhere.changed()).await.is_err());
        first.truncate(1);
        let mut again = directories.listen(place.path()).unwrap();
        drop(first);
        std::fs::write(place.path().join("file"), "y").unwrap();
        again.changed().await;
        drop((again, elsewhere));
        assert!(locked(&directories.queue.bells).is_empty());
    }
}
