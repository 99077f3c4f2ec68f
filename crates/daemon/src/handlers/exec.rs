//! Exec sessions.

use api::{
    exec::{ExecCreate, ExecInspect, ExecStart, ProcessConfig},
    message::Created,
};
use engine::{AttachOptions, ExecConfig, Frame, Kind, Streams};
use hyper::StatusCode;
use tokio::sync::mpsc;

use super::containers;
use crate::{
    body::{self, Reply},
    convert, detach,
    failure::{Failure, Result},
    pump,
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
    let streams = match engine.exec_start(&name, Some(exec.config.attach)).await {
        Ok(Some(streams)) => streams,
        Ok(None) => {
            return Err(Failure::internal(format!("exec {name} was started without its streams")));
        }
        Err(error) if matches!(error.kind, Kind::Conflict | Kind::NotFound) => return Err(error.into()),
        // Docker switches to the stream before it tries, so its clients look there for what went wrong.
        Err(error) => last_words(exec.config.tty, &error.message),
    };
    if let Some((rows, columns)) = request.console_size.and_then(convert::console_size)
        && exec.config.tty
        && let Err(error) = engine.exec_resize(&name, rows, columns).await
    {
        tracing::debug!("exec {name}: first size: {error}");
    }
    let session = pump::session(streams, exec.config.attach, true, &exec.config.detach_keys)?;
    Ok(pump::join(session, upgrade, None, version))
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
