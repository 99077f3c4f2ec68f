//! One verb, one file; and what they share: reading the call, writing the log, the trace and the exit code.

mod create;
mod delete;
mod events;
mod exec;
mod features;
mod kill;
mod list;
mod pause;
mod relay;
mod spec;
mod start;
mod state;
mod update;

use std::{ffi::OsString, fs::OpenOptions, io::Write, process::ExitCode};

use trace::Room;

use crate::{
    cli::{self, Call, Global, HELP, Wanted},
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
        Ok(Wanted::Help) => return print(HELP),
        Ok(Wanted::Version) => {
            let version = env!("CARGO_PKG_VERSION");
            return print(&format!("knarr-runtime version {version}\nspec: {}\n", oci::spec::VERSION));
        }
        Err(error) => {
            say(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    let traced = global.trace.is_some();
    let mut context = Context { global, call, recorder: Recorder::new(Room::Runtime, traced) };
    let result = dispatch(&mut context);
    let traced = write_trace(&mut context);
    match result.and_then(|code| traced.map(|()| code)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            log(&context.global, "error", &error.to_string());
            say(&error.to_string());
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
        "delete" => delete::delete(context),
        "exec" => exec::exec(context),
        "list" => list::list(context),
        "ps" => list::ps(context),
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

/// Prints a value as JSON.
fn print_json(value: &impl serde::Serialize) -> Result<u8> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::new(format!("encode: {error}")))?;
    std::io::stdout().write_all(format!("{text}\n").as_bytes()).during(|| "write to standard output")?;
    Ok(0)
}

fn say(message: &str) {
    let _ = writeln!(std::io::stderr(), "{message}");
}

/// Appends a line to the log, as runc writes them.
fn log(global: &Global, level: &str, message: &str) {
    let Some(path) = &global.log else {
        if level != "error" {
            say(&format!("{level}: {message}"));
        }
        return;
    };
    let time = container::now();
    let line = if global.log_json {
        serde_json::json!({ "level": level, "msg": message, "time": time }).to_string()
    } else {
        format!("time={time:?} level={level} msg={message:?}")
    };
    let file = OpenOptions::new().create(true).append(true).open(path);
    if let Err(error) = file.and_then(|mut file| writeln!(file, "{line}")) {
        say(&format!("write {}: {error}", path.display()));
    }
}

fn write_trace(context: &mut Context) -> Result<()> {
    let Some(path) = &context.global.trace else {
        return Ok(());
    };
    let text = serde_json::to_vec(&context.recorder.take()).map_err(|error| Error::new(error.to_string()))?;
    std::fs::write(path, text).during(|| format!("write {}", path.display()))
}
