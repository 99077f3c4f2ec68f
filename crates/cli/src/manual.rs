//! The manual pages, one for each command.

use std::io::{self, Write};
use std::path::Path;

use clap::Command;
use clap_mangen::Man;

use crate::help::Found;

/// Writes every command's page into a directory.
pub(crate) fn write(root: Command, directory: &Path) -> io::Result<()> {
    let mut root = root.disable_help_subcommand(true).disable_help_flag(true);
    root.build();
    let program = root.get_name().to_owned();
    one(&root, &program, &[], directory)
}

fn one(root: &Command, program: &str, words: &[String], directory: &Path) -> io::Result<()> {
    let found = Found::by(root, program, words);
    let command = found.command();
    let name = [&[program.to_owned()], words].concat().join("-");
    let page = page(command, &name, &found.usage())?;
    std::fs::write(directory.join(format!("{name}.1")), page)?;
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        one(root, program, &[words, &[below.get_name().to_owned()]].concat(), directory)?;
    }
    Ok(())
}

/// One page; the synopsis is that of `--help`.
fn page(command: &Command, name: &str, usage: &str) -> io::Result<Vec<u8>> {
    // A positional's name is in the synopsis and says all there is.
    let command = command.clone().display_name(name).mut_args(|arg| {
        let positional = arg.is_positional();
        arg.hide(positional)
    });
    let (flags, below) = (
        command.get_arguments().any(|arg| !arg.is_hide_set() && !arg.is_positional()),
        command.has_subcommands(),
    );
    let man = Man::new(command).title(name);
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    let synopsis = usage.trim_start_matches("Usage:").trim().replace('-', "\\-");
    writeln!(out, ".SH SYNOPSIS\n{synopsis}")?;
    man.render_description_section(&mut out)?;
    if flags {
        man.render_options_section(&mut out)?;
    }
    if below {
        man.render_subcommands_section(&mut out)?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_read_as_the_help_does() {
        let folder = tempfile::tempdir().unwrap();
        write(crate::cli::command().name("knarr"), folder.path()).unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let run = read("knarr-run.1");
        assert!(run.contains("knarr run [OPTIONS] IMAGE [COMMAND] [ARG...]"), "{run}");
        assert!(!run.contains("<IMAGE") && run.contains("explain"), "{run}");
        assert!(
            read("knarr-container-rm.1").contains("knarr container rm [OPTIONS] CONTAINER [CONTAINER...]")
        );
        assert!(read("knarr.1").contains("knarr [OPTIONS] COMMAND"));
        assert!(!folder.path().join("knarr-help.1").exists());
    }
}
