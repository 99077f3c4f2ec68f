//! `hello`: tells what a process sees from inside its container.
//!
//! Only the standard library, and only `/proc` and `/sys`: it runs in an image that holds nothing else.

mod facts;
mod json;
mod parse;
mod serve;
mod signal;
mod text;

use std::{
    io::{self, Write},
    process::ExitCode,
};

const USAGE: &str = "\
usage: hello              tell what I see from inside
       hello --json       the same as JSON
       hello serve [PORT] answer the same over HTTP (port 8080): GET / as text, GET /json as JSON
";

fn main() -> ExitCode {
    let args: Vec<String> =
        std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words[..] {
        [] => say(&text::render(&facts::Facts::gather())),
        ["--json"] => say(&json::render(&facts::Facts::gather())),
        ["--help" | "-h"] => say(USAGE),
        ["serve"] => serve::run(8080),
        ["serve", port] => match port.parse() {
            Ok(port) if port > 0 => serve::run(port),
            _ => return refuse(&format!("{port:?} is not a port: a number from 1 to 65535 is")),
        },
        ["serve", ..] => return refuse("serve takes one PORT"),
        _ => return refuse(&format!("I do not know {:?}", words.join(" "))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn complain(message: &str) {
    // Where standard error is closed there is nobody left to tell.
    let _ = writeln!(io::stderr(), "hello: {message}");
}

fn refuse(message: &str) -> ExitCode {
    complain(&format!("{message}\n{USAGE}"));
    ExitCode::from(2)
}
