//! The smallest init: runs one program, hands signals on to it, takes the exits of orphans, and ends as it ended.

use std::{ffi::OsString, io::Write, os::unix::process::CommandExt, process::ExitCode};

use rustix::process::{Pid, WaitOptions, wait};

/// `docker-init [flags] -- PROGRAM [ARGUMENT…]`; tini's flags before `--` change nothing that is done here.
pub fn main(words: Vec<OsString>) -> ExitCode {
    let start = words.iter().position(|word| word == "--").map_or(0, |index| index + 1);
    let mut words = words.into_iter().skip(start);
    let Some(program) = words.next() else {
        return fail("no program; usage: docker-init -- PROGRAM [ARGUMENT...]", 1);
    };
    if let Err(error) = sys::process::block_signals() {
        return fail(&format!("block signals: {error}"), 1);
    }
    let mut command = std::process::Command::new(&program);
    command.args(words).process_group(0);
    let child = match spawn(command) {
        Ok(child) => child,
        Err(error) => {
            let code = if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
            return fail(&format!("exec {}: {error}", program.display()), code);
        }
    };
    serve(child)
}

/// The program begins with signals as they were: nothing blocked, nothing ignored.
fn spawn(command: std::process::Command) -> std::io::Result<i32> {
    sys::process::spawn_with_default_signals(command).map(|child| child.id() as i32)
}

fn serve(child: i32) -> ExitCode {
    const SIGCHLD: i32 = 17;
    // Let it read from the terminal, if there is one.
    if let Some(group) = Pid::from_raw(child) {
        let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), group);
    }
    loop {
        match sys::process::wait_signal() {
            Ok(SIGCHLD) => {
                if let Some(code) = reap(child) {
                    return ExitCode::from(code);
                }
            }
            Ok(signal) => {
                // To the program, which is our child and not yet reaped, so the pid is its own.
                let _ = sys::process::kill(child, signal);
            }
            Err(_) => {}
        }
    }
}

/// Takes every exit there is; the program's own is the answer.
fn reap(child: i32) -> Option<u8> {
    let mut code = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid.as_raw_nonzero().get() == child {
            let signal = status.terminating_signal().unwrap_or(0);
            code = Some(status.exit_status().unwrap_or(128 + signal) as u8);
        }
    }
    code
}

fn fail(message: &str, code: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "docker-init: {message}");
    ExitCode::from(code)
}
