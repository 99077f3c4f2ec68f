//! Accepts connections until told to stop.

use std::{path::Path, pin::pin, sync::Arc, time::Duration};

use anyhow::Context;
use engine::Engine;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
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
/// How long a request's head may take to come, as in dockerd: half a one does not hold a connection for ever.
const MAX_WAIT: Duration = Duration::from_mins(5);

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

fn protocol() -> http1::Builder {
    let mut protocol = http1::Builder::new();
    protocol
        // Clients close their sending half when their input ends and go on reading. hyper then no longer sees when
        // one vanishes, hence the watch on the side: `events` and `wait` must not outlive who asked for them.
        .half_close(true)
        .max_buf_size(MAX_HEAD)
        .timer(TokioTimer::new())
        .header_read_timeout(MAX_WAIT);
    protocol
}

/// Serves one connection until either side has had enough.
async fn converse(stream: UnixStream, door: Arc<Door>) {
    let hang_up = match HangUp::of(&stream) {
        Ok(hang_up) => hang_up,
        Err(error) => return tracing::warn!("serve a connection: {error}"),
    };
    let own = Arc::clone(&door);
    let service = service_fn(move |request| router::answer(Arc::clone(&own), request));
    let connection = protocol().serve_connection(TokioIo::new(stream), service).with_upgrades();
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

#[cfg(test)]
mod tests {
    use hyper::{Request, body::Incoming};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::body;

    #[tokio::test(start_paused = true)]
    async fn half_a_head_is_waited_for_in_vain_not_for_ever() {
        let (mut client, server) = tokio::io::duplex(1024);
        let service = service_fn(|_: Request<Incoming>| async {
            Ok::<_, std::io::Error>(hyper::Response::new(body::full("OK")))
        });
        let serving = tokio::spawn(protocol().serve_connection(TokioIo::new(server), service));
        client.write_all(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = vec![0; 1024];
        let length = client.read(&mut answer).await.unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 200"));

        client.write_all(b"GET /_ping HTTP/1.1\r\nHos").await.unwrap();
        let began = tokio::time::Instant::now();
        let ended = tokio::time::timeout(MAX_WAIT * 2, serving).await;
        assert!(ended.is_ok_and(|ended| ended.unwrap().is_err()));
        assert!(began.elapsed() <= MAX_WAIT + GRACE);
    }
}
