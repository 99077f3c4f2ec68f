//! `cargo xtask lint`: form, lints, and what the dependencies are.

use std::process::Command;

use anyhow::Result;

use crate::shell::{self, cargo, run};

/// The version that is fetched where there is none.
const CARGO_DENY: &str = "0.20.2";

pub(crate) fn lint() -> Result<()> {
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"]))?;
    // Cargo looks at tests for guests only when they are named.
    let guests = ["--package", "knarr-runtime", "--test", "guest_*"];
    run(cargo(&["clippy", "--quiet"]).args(guests).args(["--", "--deny", "warnings"]))?;
    let deny = deny()?;
    // Advisories live in a git repository of their own, which not every machine can reach: `cargo deny check advisories`.
    run(Command::new(deny).current_dir(crate::house()).args([
        "--all-features",
        "check",
        "bans",
        "licenses",
        "sources",
    ]))?;
    eprintln!(
        "not run here: `cargo deny check advisories`, which fetches the advisory database over the network"
    );
    Ok(())
}

/// `cargo-deny`: the installed one, or one built once into the target folder.
fn deny() -> Result<std::path::PathBuf> {
    if shell::installed("cargo-deny") {
        return Ok("cargo-deny".into());
    }
    let tools = shell::target()?.join("tools");
    let program = tools.join("bin/cargo-deny");
    if !program.exists() {
        eprintln!("cargo-deny is not installed; it is built once into {} (some minutes)", tools.display());
        let root = tools.display().to_string();
        run(&mut cargo(&["install", "cargo-deny", "--locked", "--version", CARGO_DENY, "--root", &root]))?;
    }
    Ok(program)
}
