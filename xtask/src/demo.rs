//! `cargo xtask demo`: the shortest way to see a container, on a machine that has none of it installed.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell::{self, Knarr, Scratch};

pub(crate) fn run() -> Result<()> {
    shell::want_root("the demo")?;
    let programs = shell::build(true)?;
    let scratch = Scratch::new("demo")?;
    eprintln!("\nA daemon of its own, with everything it keeps in {}:", scratch.path().display());
    let knarr = Knarr::start(programs, &scratch, "demo")?;
    for words in [
        &["run", "--rm", "--network", "none", "hello"][..],
        &["run", "--rm", "--network", "none", "--explain", "hello", "--help"],
    ] {
        eprintln!("\n$ knarr {}", words.join(" "));
        show(&mut knarr.client(words))?;
    }
    let programs = knarr.programs.display().to_string();
    drop(knarr);
    eprintln!(
        "\nThe daemon has ended and {} is gone. To go on, with the default folders:",
        scratch.path().display()
    );
    eprintln!("  export PATH={programs}:$PATH\n  knarr run --rm hello\n  knarr ps");
    Ok(())
}

fn show(command: &mut Command) -> Result<()> {
    let status = command.status().context("start knarr")?;
    if status.success() { Ok(()) } else { bail!("knarr run: {status}") }
}
