//! Ending what waits for the network, at once.

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ureq::Agent;

use crate::Error;

/// A switch that many hands hold; who waits with it stops waiting when it is thrown.
#[derive(Clone, Default)]
pub struct Cancel(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    thrown: Condvar,
}

#[derive(Default)]
struct State {
    cancelled: bool,
    agents: Vec<Agent>,
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cancel").field(&self.is_cancelled()).finish()
    }
}

impl Cancel {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends every request made with it, and those to come.
    pub fn cancel(&self) {
        let agents = {
            let mut state = self.state();
            state.cancelled = true;
            std::mem::take(&mut state.agents)
        };
        self.0.thrown.notify_all();
        agents.into_iter().for_each(Agent::shutdown);
    }

    /// Whether that happened.
    pub fn is_cancelled(&self) -> bool {
        self.state().cancelled
    }

    /// For the places between two steps.
    pub fn check(&self) -> Result<(), Error> {
        if self.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Waits, unless it is cancelled.
    pub fn sleep(&self, duration: Duration) -> Result<(), Error> {
        let end = Instant::now() + duration;
        let mut state = self.state();
        while !state.cancelled {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            state = self.0.thrown.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Err(Error::Cancelled)
    }

    /// Makes `agent` end with the others.
    pub(crate) fn hold(&self, agent: &Agent) -> Result<(), Error> {
        let mut state = self.state();
        if state.cancelled {
            return Err(Error::Cancelled);
        }
        state.agents.push(agent.clone());
        Ok(())
    }
}
