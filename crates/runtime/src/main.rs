//! `knarr-runtime`, and `docker-init` when it is called so.

use std::{path::Path, process::ExitCode};

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_default();
    let words: Vec<_> = words.collect();
    let called = Path::new(&name).file_name().unwrap_or_default();
    if called == "docker-init" {
        return runtime::init::main(words);
    }
    if words.first().is_some_and(|word| word == "init-process") {
        return runtime::init::main(words.into_iter().skip(1).collect());
    }
    runtime::commands::main(words)
}
