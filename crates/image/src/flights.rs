//! One download per blob, however many ask: the first fetches, the others wait and find it there.

use std::{
    collections::HashMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use oci::Digest;

/// How often who waits looks whether it still wants to.
const LOOK: Duration = Duration::from_millis(100);

/// Blobs that somebody is fetching or unpacking, and how many bytes have come.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    under_way: Mutex<HashMap<Digest, Arc<AtomicU64>>>,
    landed: Condvar,
}

/// The right to fetch one blob; whoever waits for it goes on when it is dropped.
#[derive(Debug)]
pub(crate) struct Flight<'a> {
    flights: &'a Flights,
    blob: Digest,
    received: Arc<AtomicU64>,
}

impl Flights {
    fn under_way(&self) -> MutexGuard<'_, HashMap<Digest, Arc<AtomicU64>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else fetches `blob`. `waiting` is told now and then what the other one has received; its
    /// error ends the wait.
    pub(crate) fn take<E>(
        &self,
        blob: &Digest,
        mut waiting: impl FnMut(u64) -> Result<(), E>,
    ) -> Result<Flight<'_>, E> {
        loop {
            let mut under_way = self.under_way();
            let Some(other) = under_way.get(blob) else {
                let received = Arc::new(AtomicU64::new(0));
                under_way.insert(blob.clone(), received.clone());
                return Ok(Flight { flights: self, blob: blob.clone(), received });
            };
            let received = other.load(Ordering::Relaxed);
            drop(self.landed.wait_timeout(under_way, LOOK));
            waiting(received)?;
        }
    }
}

impl Flight<'_> {
    /// For those who wait.
    pub(crate) fn received(&self, bytes: u64) {
        self.received.store(bytes, Ordering::Relaxed);
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.flights.under_way().remove(&self.blob);
        self.flights.landed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicUsize, thread};

    use super::*;

    #[test]
    fn one_at_a_time() {
        let flights = Flights::default();
        let blob = Digest::sha256([1; 32]);
        let inside = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let _flight = flights.take(&blob, |_| Ok::<_, ()>(())).unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        let held = flights.take(&blob, |_| Ok::<_, ()>(())).unwrap();
        held.received(7);
        assert_eq!(flights.take(&blob, Err).unwrap_err(), 7);
    }
}
