//! Signals of this program that belong to the container's.

use std::rc::Rc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::client::{Client, encode};

/// Every signal that can be caught and is not about this program itself (SIGCHLD, SIGPIPE, SIGURG, SIGWINCH).
const PASSED_ON: &[(i32, &str)] = &[
    (1, "HUP"),
    (2, "INT"),
    (3, "QUIT"),
    (10, "USR1"),
    (12, "USR2"),
    (14, "ALRM"),
    (15, "TERM"),
    (18, "CONT"),
    (20, "TSTP"),
    (21, "TTIN"),
    (22, "TTOU"),
    (24, "XCPU"),
    (25, "XFSZ"),
    (26, "VTALRM"),
    (27, "PROF"),
    (29, "IO"),
    (30, "PWR"),
];

/// Signals that arrived and were not yet passed on.
#[derive(Debug)]
pub(crate) struct Signals(mpsc::UnboundedReceiver<&'static str>);

impl Signals {
    /// Catches from now on.
    pub(crate) fn catch() -> Signals {
        let (sender, receiver) = mpsc::unbounded_channel();
        for &(number, name) in PASSED_ON {
            let Ok(mut arrivals) = signal(SignalKind::from_raw(number)) else {
                continue;
            };
            let sender = sender.clone();
            tokio::task::spawn_local(async move {
                while arrivals.recv().await.is_some() && sender.send(name).is_ok() {}
            });
        }
        Signals(receiver)
    }

    /// Sends each to the container, for as long as the program runs.
    pub(crate) fn pass_on(mut self, client: &Rc<Client>, container: &str) {
        let (client, container) = (Rc::clone(client), container.to_owned());
        tokio::task::spawn_local(async move {
            while let Some(name) = self.0.recv().await {
                // A container that has just ended cannot be signalled; its exit code is on its way.
                let _ = client.post(&format!("/containers/{}/kill?signal={name}", encode(&container))).await;
            }
        });
    }
}

/// Keeps the size of the terminal at `path` (`/containers/x/resize`) the same as ours.
pub(crate) fn follow_size(client: &Rc<Client>, path: String) {
    let client = Rc::clone(client);
    tokio::task::spawn_local(async move {
        let Ok(mut changes) = signal(SignalKind::window_change()) else {
            return;
        };
        let mut tries = 10;
        loop {
            let done = match crate::terminal::size() {
                Some((rows, columns)) => client.post(&format!("{path}?h={rows}&w={columns}")).await.is_ok(),
                None => true,
            };
            if done || tries == 0 {
                tries = 10;
                changes.recv().await;
            } else {
                // The process is not there yet.
                tries -= 1;
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
    });
}
