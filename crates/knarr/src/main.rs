//! `knarr`: what a person types; `knarr daemon` is the service; called as `docker` it behaves the same.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    ExitCode::from(cli::main(args))
}
