//! Accepts connections until told to stop.

use std::{path::Path, pin::pin, sync::Arc, time::Duration};

use anyhow::Context;
use engine::Engine;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{UnixListener, UnixStream},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
};

use crate::{
    listen::{self, Listener},
    pump::HangUp,
    router::{self, Door},
};

/// How long requests may take to finish once the service is told to stop.
const GRACE: Duration = Duration::from_secs(5);
/// Bytes of a request's head (R13).
const MAX_HEAD: usize = 64 << 10;

/// Opens the engine, listens, and serves until SIGTERM or SIGINT.
pub(crate) async fn run(options: engine::Options, hosts: &[String], debug: bool) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let data_root = options.data_root.clone();
    // First the engine: it holds the lock on its roots.
    let engine =
        Engine::open(options).await.with_context(|| format!("open the engine at {}", data_root.display()))?;
    let listeners = listen::all(hosts)?;
    let door = Arc::new(Door::new(engine, debug));
    let mut conversations = JoinSet::new();
    let (hand_in, mut accepted) = mpsc::channel(16);
    let mut accepting = JoinSet::new();
    for listener in &listeners {
        accepting.spawn(accept(tokio_listener(listener)?, hand_in.clone()));
    }
    announce(hosts, &data_root);
    loop {
        tokio::select! {
            Some(stream) = accepted.recv() => {
                conversations.spawn(converse(stream, Arc::clone(&door)));
            }
            Some(_) = conversations.join_next() => {}
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    tracing::info!("stopping; containers go on");
    accepting.shutdown().await;
    drop(listeners);
    door.stop();
    let ended = async { while conversations.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, ended).await.is_err() {
        tracing::warn!("requests that did not end within {} s are dropped", GRACE.as_secs());
    }
    Ok(())
}

fn announce(hosts: &[String], data_root: &Path) {
    tracing::info!("listening on {}; data in {}", hosts.join(", "), data_root.display());
}

fn tokio_listener(listener: &Listener) -> anyhow::Result<UnixListener> {
    let socket = listener.socket.try_clone()?;
    socket.set_nonblocking(true)?;
    Ok(UnixListener::from_std(socket)?)
}

/// Accepts for ever. Running out of descriptors is waited out.
async fn accept(listener: UnixListener, hand_in: mpsc::Sender<UnixStream>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if hand_in.send(stream).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!("accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Serves one connection until either side has had enough.
async fn converse(stream: UnixStream, door: Arc<Door>) {
    let hang_up = match HangUp::of(&stream) {
        Ok(hang_up) => hang_up,
        Err(error) => return tracing::warn!("serve a connection: {error}"),
    };
    let own = Arc::clone(&door);
    let service = service_fn(move |request| router::answer(Arc::clone(&own), request));
    let connection = http1::Builder::new()
        // Clients close their sending half when their input ends and go on reading. hyper then no longer sees when
        // one vanishes, hence the watch on the side: `events` and `wait` must not outlive who asked for them.
        .half_close(true)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = hang_up.wait() => return,
        () = door.stopped() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!("connection: {error}");
    }
}
