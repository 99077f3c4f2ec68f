//! Exec sessions.

use api::{
    exec::{ExecCreate, ExecInspect, ExecStart, ProcessConfig},
    message::Created,
};
use engine::{AttachOptions, Engine, ExecConfig, Frame, State, Streams};
use hyper::StatusCode;
use tokio::sync::mpsc;

use super::containers;
use crate::{
    body::{self, Reply},
    convert, detach,
    failure::{Failure, Result},
    pump::{self, Session},
    router::Call,
};

pub(super) async fn create(call: Call) -> Result<Reply> {
    let request: ExecCreate = body::json(&call.headers, call.body, false).await?;
    let command = request.cmd.unwrap_or_default().0;
    if command.is_empty() {
        return Err(Failure::invalid("No exec command specified"));
    }
    detach::parse(&request.detach_keys)?;
    let env = request.env.unwrap_or_default();
    convert::check_env(&env)?;
    let config = ExecConfig {
        command,
        env,
        working_dir: request.working_dir,
        user: request.user,
        tty: request.tty,
        console_size: request.console_size.and_then(convert::console_size),
        privileged: request.privileged,
        detach_keys: request.detach_keys,
        attach: AttachOptions {
            stdin: request.attach_stdin,
            stdout: request.attach_stdout,
            stderr: request.attach_stderr,
        },
    };
    let id = call.door.engine.exec_create(&call.name, config).await?;
    Ok(body::reply(StatusCode::CREATED, api::JSON, body::line(&Created { id })))
}

pub(super) async fn start(call: Call) -> Result<Reply> {
    let Call { door, version, name, headers, body, upgrade, .. } = call;
    let engine = &door.engine;
    let exec = engine.exec_inspect(&name)?;
    // With an upgrade the body is the request, without one it ends where the input would begin.
    let request: ExecStart = body::json(&headers, body, true).await?;
    if request.detach {
        engine.exec_start(&name, None).await?;
        return Ok(body::empty(StatusCode::OK));
    }
    let detach = detach::parse(&exec.config.detach_keys)?;
    let (tty, wants) = (exec.config.tty, exec.config.attach);
    let fresh = !exec.running && exec.exit_code.is_none();
    let early = if fresh && matches!(engine.inspect(&exec.container)?.state, State::Running { .. }) {
        None
    } else {
        // It cannot start, and the engine says why.
        engine.exec_start(&name, Some(wants)).await?
    };
    let size = request.console_size.and_then(convert::console_size).filter(|_| tty);
    let begin = async move {
        let streams = match early {
            Some(streams) => streams,
            None => run(&door.engine, &name, &exec.config, size).await,
        };
        Session { streams: Some(streams), tty, wants, closes_stdin: true, detach, replay: None }
    };
    Ok(pump::join(tty, begin, upgrade, None, version))
}

/// Runs a session once its client listens: docker-py loses what comes together with the head of the answer. What goes
/// wrong from here on is told in the stream, as in Docker.
async fn run(engine: &Engine, id: &str, config: &ExecConfig, size: Option<(u16, u16)>) -> Streams {
    let streams = match engine.exec_start(id, Some(config.attach)).await {
        Ok(Some(streams)) => streams,
        Ok(None) => return last_words(config.tty, &format!("exec {id} was started without its streams")),
        Err(error) => return last_words(config.tty, &error.message),
    };
    if let Some((rows, columns)) = size
        && let Err(error) = engine.exec_resize(id, rows, columns).await
    {
        tracing::debug!("exec {id}: first size: {error}");
    }
    streams
}

/// The streams of a process that never was: why, and the end.
fn last_words(tty: bool, message: &str) -> Streams {
    let (sender, output) = mpsc::channel(1);
    // There is room for one.
    let _ = sender.try_send(Frame::Stdout(format!("{message}\r\n").into()));
    let (input, _) = mpsc::channel(1);
    Streams { tty, output, input }
}

pub(super) async fn resize(call: Call) -> Result<Reply> {
    let (rows, columns) = containers::window(&call)?;
    call.engine().exec_resize(&call.name, rows, columns).await?;
    Ok(body::empty(StatusCode::OK))
}

pub(super) async fn inspect(call: Call) -> Result<Reply> {
    let exec = call.engine().exec_inspect(&call.name)?;
    let mut words = exec.config.command.into_iter();
    let answer = ExecInspect {
        id: exec.id,
        running: exec.running,
        exit_code: exec.exit_code,
        process_config: ProcessConfig {
            tty: exec.config.tty,
            entrypoint: words.next().unwrap_or_default(),
            arguments: words.collect(),
            privileged: exec.config.privileged,
            user: exec.config.user,
        },
        open_stdin: exec.config.attach.stdin,
        open_stderr: exec.config.attach.stderr,
        open_stdout: exec.config.attach.stdout,
        can_remove: false,
        container_id: exec.container,
        detach_keys: String::new(),
        pid: exec.pid.into(),
    };
    call.json(StatusCode::OK, &answer)
}
