//! The service alone, without the command line around it.

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: daemon::Args,
}

fn main() -> ExitCode {
    daemon::main(&Command::parse().args)
}
