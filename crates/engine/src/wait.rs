//! `wait`: until a container does not run, ends the next time, or is gone.

use tokio::sync::watch;

use crate::{Engine, WaitFor, Waited, error::Result, handle::Published};

/// A wait that knows its container.
#[derive(Debug)]
pub struct Waiting {
    follow: watch::Receiver<Published>,
    /// Ends that had happened when the wait began.
    exits: u64,
    what: WaitFor,
}

impl Engine {
    /// Resolves the container now (an unknown one fails at once); the handle then waits.
    pub fn wait(&self, key: &str, what: WaitFor) -> Result<Waiting> {
        let follow = self.0.containers.find(key)?.follow();
        let exits = follow.borrow().exits;
        Ok(Waiting { follow, exits, what })
    }
}

impl Waiting {
    /// Until it is so.
    pub async fn done(mut self) -> Waited {
        let Self { exits, what, .. } = self;
        let over = |seen: &Published| match what {
            WaitFor::NotRunning => seen.gone || seen.exits > exits || seen.container.state.pid().is_none(),
            WaitFor::NextExit => seen.gone || seen.exits > exits,
            WaitFor::Removed => seen.gone,
        };
        // An error means that it was forgotten; its last state is still here.
        let _ = self.follow.wait_for(over).await;
        let seen = self.follow.borrow();
        let code = if seen.exits > exits { seen.code } else { seen.container.last.exit_code };
        Waited { code, error: None }
    }
}
