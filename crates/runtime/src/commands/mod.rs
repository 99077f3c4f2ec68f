//! One verb, one file; and what they share: reading the call, writing the log, the trace and the exit code.

mod checkpoint;
mod create;
mod delete;
mod events;
mod exec;
mod features;
mod kill;
mod list;
mod notify;
mod pause;
mod ps;
mod relay;
mod spec;
mod start;
mod state;
mod update;

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
    process::ExitCode,
};

use trace::Room;

use crate::{
    cli::{self, Call, Global, Misuse, Wanted},
    container,
    error::{During, Error, Result},
    record::Recorder,
};

/// What every command gets.
struct Context {
    global: Global,
    call: Call,
    recorder: Recorder,
}

/// Does what the words say.
pub fn main(words: Vec<OsString>) -> ExitCode {
    let words = words.into_iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let (global, call) = match cli::parse(words) {
        Ok(Wanted::Call(global, call)) => (global, call),
        Ok(Wanted::Help(text)) => return print(&text),
        Ok(Wanted::Version) => {
            let version = env!("CARGO_PKG_VERSION");
            return print(&format!("knarr-runtime version {version}\nspec: {}\n", oci::spec::NEWEST));
        }
        Err(misuse) => return misused(*misuse),
    };
    // Callers read this file when a call has failed, so it is there from the first moment on, as under runc.
    if let Some(Err(error)) = global.log.as_deref().map(open_log) {
        say(&error.to_string());
        return ExitCode::FAILURE;
    }
    let traced = global.trace.is_some();
    let mut context = Context { global, call, recorder: Recorder::new(Room::Runtime, traced) };
    let result = dispatch(&mut context);
    let traced = write_trace(&mut context);
    match result.and_then(|code| traced.map(|()| code)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            fail(&context.global, &error.to_string());
            // As runc: what `exec` cannot start ends with a code that programs seldom end with themselves.
            if context.call.command == "exec" { ExitCode::from(255) } else { ExitCode::FAILURE }
        }
    }
}

fn dispatch(context: &mut Context) -> Result<u8> {
    match context.call.command {
        "create" => create::create(context),
        "run" => create::run(context),
        "plan" => create::plan(context),
        "start" => start::start(context),
        "state" => state::state(context),
        "kill" => kill::kill(context),
        "checkpoint" => checkpoint::checkpoint(context),
        "restore" => checkpoint::restore(context),
        "delete" => delete::delete(context),
        "exec" => exec::exec(context),
        "list" => list::list(context),
        "ps" => ps::ps(context),
        "pause" => pause::pause(context, true),
        "resume" => pause::pause(context, false),
        "update" => update::update(context),
        "events" => events::events(context),
        "features" => features::features(),
        "spec" => spec::spec(context),
        other => Err(Error::new(format!("{other}: not supported"))),
    }
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Prints a value as JSON for people.
fn print_json(value: &impl serde::Serialize) -> Result<u8> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::new(format!("encode: {error}")))?;
    put(&text)
}

/// Prints a value as one line of JSON for programs.
fn print_line(value: &impl serde::Serialize) -> Result<u8> {
    let text = serde_json::to_string(value).map_err(|error| Error::new(format!("encode: {error}")))?;
    put(&text)
}

fn put(text: &str) -> Result<u8> {
    std::io::stdout().write_all(format!("{text}\n").as_bytes()).during(|| "write to standard output")?;
    Ok(0)
}

/// Told on standard output how it would be said, on standard error what is wrong.
fn misused(misuse: Misuse) -> ExitCode {
    let Misuse { global, message, help, code } = misuse;
    if !help.is_empty() {
        print(&format!("Incorrect Usage.\n\n{help}"));
    }
    match global {
        Some(global) => fail(&global, &message),
        None => say(&message),
    }
    ExitCode::from(code)
}

fn say(message: &str) {
    let _ = writeln!(std::io::stderr(), "{message}");
}

/// The reason why a call failed: into the log, and to whoever looks at standard error.
fn fail(global: &Global, message: &str) {
    if global.log.is_some() || !global.log_json {
        say(message);
    }
    if global.log.is_some() || global.log_json {
        log(global, "error", message);
    }
}

fn open_log(path: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.during(|| format!("open {}", path.display()))
}

/// Appends a line to the log, as runc writes them; without one it goes to standard error.
fn log(global: &Global, level: &str, message: &str) {
    let time = container::now();
    let line = match (&global.log, global.log_json) {
        (_, true) => serde_json::json!({ "level": level, "msg": message, "time": time }).to_string(),
        (Some(_), false) => format!("time={time:?} level={level} msg={message:?}"),
        (None, false) => format!("{level}: {message}"),
    };
    let Some(path) = &global.log else {
        return say(&line);
    };
    if let Err(error) = open_log(path).and_then(|mut file| writeln!(file, "{line}").during(|| "write")) {
        say(&format!("{}: {error}", path.display()));
    }
}

fn write_trace(context: &mut Context) -> Result<()> {
    let Some(path) = &context.global.trace else {
        return Ok(());
    };
    let text = serde_json::to_vec(&context.recorder.take()).map_err(|error| Error::new(error.to_string()))?;
    std::fs::write(path, text).during(|| format!("write {}", path.display()))
}
