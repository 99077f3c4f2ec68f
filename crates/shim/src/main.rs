//! `knarr-shim DIR`: see [`shim::protocol`].

use std::{env::args_os, path::Path, process::ExitCode};

fn main() -> ExitCode {
    let words: Vec<_> = args_os().skip(1).collect();
    match &words[..] {
        [dir] if !dir.to_string_lossy().starts_with('-') => shim::run(Path::new(dir)),
        [word] if word == "--version" => {
            println!("knarr-shim {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("usage: knarr-shim DIR\nThe engine starts one for each container; people use `knarr`.");
            ExitCode::from(2)
        }
    }
}
