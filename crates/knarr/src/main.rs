//! `knarr`: what a person types; `knarr daemon` is the service; called as `docker` it behaves the same.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

/// Run the service that all other commands talk to
///
/// It finds again every container that is there, and leaves them alone when it ends.
#[derive(Debug, Parser)]
#[command(name = "daemon", bin_name = "knarr daemon")]
struct Service {
    #[command(flatten)]
    args: daemon::Args,
}

fn main() -> ExitCode {
    let mut words: Vec<String> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    match words.get(1).map(String::as_str) {
        Some("daemon") => serve(words),
        Some(cli::DETACHED_DAEMON) => {
            words[1] = "daemon".into();
            // Fails only for the leader of a group, which is away from its parent's terminal already.
            let _ = rustix::process::setsid();
            serve(words)
        }
        _ => ExitCode::from(cli::main(&words, Service::command())),
    }
}

fn serve(mut words: Vec<String>) -> ExitCode {
    words.remove(0);
    let matches = Service::command().get_matches_from(&words);
    match daemon::with_file(words, &matches) {
        Ok(words) => daemon::main(&Service::parse_from(words).args),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
