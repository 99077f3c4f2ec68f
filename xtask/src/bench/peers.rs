//! The runtimes that ours is held against, and the floor below all of them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::shell::{cargo, installed, output, target};

/// A program with an OCI runtime's command line, or [the floor](FLOOR), which has its own.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) name: String,
    pub(super) program: PathBuf,
    /// Its `--root`.
    state: String,
}

/// The name of the C program.
pub(super) const FLOOR: &str = "floor";

/// A step of a container's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Create,
    Start,
    Delete,
    Run,
    Exec,
    Clear,
}

impl Peer {
    pub(super) fn new(name: &str, program: impl Into<PathBuf>, states: &Path) -> Self {
        let state = states.join(name).display().to_string();
        Self { name: name.to_owned(), program: program.into(), state }
    }

    /// youki's `run` waits for ever for a program that ends before it begins to wait.
    pub(super) fn can(&self, measure: &str) -> bool {
        !(self.name == "youki" && measure == "run")
    }

    /// A container's record, if this is ours.
    pub(super) fn record(&self, id: &str, file: &str) -> PathBuf {
        Path::new(&self.state).join(id).join(file)
    }

    /// The command line for a container.
    pub(super) fn words(&self, verb: Verb, bundle: &Path, id: &str) -> Vec<String> {
        let bundle = bundle.display().to_string();
        let program = self.program.display().to_string();
        if self.name == FLOOR {
            let word = match verb {
                Verb::Create => "create",
                Verb::Start => "start",
                Verb::Delete | Verb::Clear => "delete",
                Verb::Run => "run",
                Verb::Exec => "exec",
            };
            return vec![program, word.to_owned(), bundle];
        }
        let words: &[&str] = match verb {
            Verb::Create => &["create", "--bundle", &bundle, id],
            Verb::Start => &["start", id],
            Verb::Delete => &["delete", id],
            Verb::Run => &["run", "--bundle", &bundle, id],
            Verb::Exec => &["exec", id, "/bin/true"],
            Verb::Clear => &["delete", "--force", id],
        };
        let mut all = vec![program, "--root".to_owned(), self.state.clone()];
        all.extend(words.iter().map(|word| (*word).to_owned()));
        all
    }
}

/// Where peers that Debian lacks are kept from one run to the next.
fn cache() -> Result<PathBuf> {
    Ok(target()?.join("peers"))
}

/// youki from its registry, built once; `None`, after saying so, where that fails.
pub(super) fn youki(scratch: &Path) -> Result<Option<Peer>> {
    let root = cache()?;
    let program = root.join("bin/youki");
    if !program.exists() {
        eprintln!("building youki, once; this takes a few minutes");
        let at = root.display().to_string();
        let mut install =
            cargo(&["install", "youki", "--version", "0.7.0", "--locked", "--features", "v1", "--root", &at]);
        install.current_dir(scratch).args(["--target-dir", &root.join("build").display().to_string()]);
        if let Err(error) = output(&mut install) {
            eprintln!("youki is left out: {error:#}");
            return Ok(None);
        }
        fs::remove_dir_all(root.join("build"))?;
    }
    Ok(Some(Peer::new("youki", program, scratch)))
}

/// Debian's.
pub(super) fn packaged(scratch: &Path) -> Vec<Peer> {
    let names = ["crun", "runc"].into_iter().filter(|name| installed(name));
    names
        .map(|name| {
            let folders = ["/usr/bin", "/usr/sbin"].map(|folder| Path::new(folder).join(name));
            let program = folders.into_iter().find(|path| path.exists());
            Peer::new(name, program.unwrap_or_else(|| name.into()), scratch)
        })
        .collect()
}

/// Compiles a C program of this folder, with musl, whose start costs nothing.
pub(super) fn compile(name: &str, scratch: &Path) -> Result<PathBuf> {
    let source = crate::house().join("xtask/src/bench").join(format!("{name}.c"));
    let program = scratch.join(name);
    let machine = format!("/usr/include/{}-linux-gnu", std::env::consts::ARCH);
    let mut gcc = Command::new("musl-gcc");
    // The kernel's headers are where glibc's are.
    gcc.args([
        "-O2",
        "-Wall",
        "-Werror",
        "-static",
        "-idirafter",
        "/usr/include",
        "-idirafter",
        &machine,
        "-o",
    ]);
    output(gcc.arg(&program).arg(source)).with_context(|| format!("compile {name}.c"))?;
    Ok(program)
}
