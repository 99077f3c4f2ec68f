//! The chores: `cargo xtask CHORE`.

mod bench;
mod conformance;
mod demo;
mod dist;
mod elf;
mod lint;
mod shell;
mod test;
mod tidy;
mod vm;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;

const USAGE: &str = "\
usage: cargo xtask CHORE

  demo                  build, and run the embedded image in a container; touches nothing of yours
  test [--all] [NAME…]  install what the tests need, run them and `tidy`; root on a Debian
                        --all: also those that take minutes, and those in guests; NAME: only tests with NAME in their name
  conformance [RUNTIME…]
                        hold the runtime's tests against ours, runc and crun (or those named), and print a table
  vm test [NAME…]       the tests that want other kernels' ways, in guests under QEMU; root on a Debian
  vm shell GUEST        a shell in one of these guests: v2, v1 or debian
  tidy                  floors, fences, lengths, documents
  lint                  formatting, clippy, licences and sources of dependencies
  bench run [--json FILE]
                        time and memory of one container, beside podman and docker; root on a Debian
  bench image           loading, saving, committing and removing large images, beside podman, docker and skopeo
  bench runtime [NAME=PROGRAM…]
                        time and memory of OCI runtimes: ours, crun, runc, youki, and those that are named
  dist                  the release archive
";

/// A wrong call, or a machine that a chore cannot run on: exit code 2, where 1 is a failed check.
#[derive(Debug)]
pub(crate) struct Unfit(pub(crate) String);

impl std::fmt::Display for Unfit {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Unfit {}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match chore(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(if error.is::<Unfit>() { 2 } else { 1 })
        }
    }
}

fn chore(words: &[&str]) -> Result<()> {
    match words {
        ["demo"] => demo::run(),
        ["test", "--all", filters @ ..] => test::test(true, filters),
        ["test", filters @ ..] => test::test(false, filters),
        ["conformance", runtimes @ ..] => conformance::run(runtimes),
        ["vm", "test", filters @ ..] => vm::test(filters),
        ["vm", "shell", guest] => vm::shell(guest),
        ["tidy"] => tidy::run(),
        ["lint"] => lint::lint(),
        ["bench", "run"] => bench::run(None),
        ["bench", "run", "--json", file] => bench::run(Some(file)),
        ["bench", "image"] => bench::image::run(),
        ["bench", "runtime", more @ ..] => bench::runtime::run(more),
        ["dist"] => dist::run(),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(())
        }
        [] => Err(Unfit(USAGE.to_owned()).into()),
        _ => Err(Unfit(format!("there is no chore {:?}\n{USAGE}", words.join(" "))).into()),
    }
}

/// The folder of the repository.
pub(crate) fn house() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}
