//! What was typed: global flags, the verb, and what is said when it cannot be understood.

use std::io::{self, Write};
use std::rc::Rc;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::autostart::Autostart;
use crate::client::Client;
use crate::commands::{Context, Verb};
use crate::error::{Error, Result, message};
use crate::help::Found;
use crate::host::Host;
use crate::terminal::{self, Plain};

/// A container engine for Linux
#[derive(Debug, Parser)]
#[command(
    name = "knarr",
    disable_help_flag = true,
    disable_help_subcommand = true,
    args_override_self = true
)]
struct Typed {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Option<Typable>,
}

#[derive(Debug, Args)]
struct Global {
    /// Daemon socket to connect to
    #[arg(short = 'H', long, value_name = "list")]
    host: Option<String>,
    /// Do not start a daemon where none answers
    #[arg(long)]
    no_autostart: bool,
    /// Print version information and quit
    #[arg(short, long)]
    version: bool,
}

#[derive(Debug, Subcommand)]
enum Typable {
    #[command(flatten)]
    Verb(Verb),
    /// Run the service that all other commands talk to
    Daemon(Rest),
    /// Print a completion script for a shell
    Completion(Completion),
    #[command(hide = true)]
    /// Write the manual pages into a directory
    Man(Man),
}

/// Run the service that all other commands talk to
#[derive(Debug, Args)]
struct Rest {
    /// Its own flags; see `knarr daemon --help`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "[OPTIONS]")]
    flags: Vec<String>,
}

/// Print a completion script for a shell
#[derive(Debug, Args)]
struct Completion {
    /// The shell.
    #[arg(value_name = "bash|zsh|fish", value_parser = shell)]
    shell: clap_complete::Shell,
}

/// Write the manual pages into a directory
#[derive(Debug, Args)]
struct Man {
    /// It must be there.
    #[arg(value_name = "DIRECTORY")]
    directory: std::path::PathBuf,
}

fn shell(text: &str) -> Result<clap_complete::Shell, String> {
    text.parse().map_err(|_| "use bash, zsh or fish".to_owned())
}

/// Reads the command line, does what it says and returns the exit code. The first word is the program's own name;
/// `service` is what `daemon` takes, for help, completions and manual pages.
pub fn main(args: &[String], service: Command) -> u8 {
    let name = args.first().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    let program = if name == "docker" { "docker" } else { "knarr" };
    let root = command().name(program);
    let typed = match root.clone().try_get_matches_from(args).and_then(|m| Typed::from_arg_matches(&m)) {
        Ok(typed) => typed,
        Err(e) => return not_understood(&e, root, program, &args[1..]),
    };
    let done = act(typed, root, service, program);
    terminal::restore();
    exit_code(done)
}

/// The whole command line, as data.
pub(crate) fn command() -> Command {
    go_flags(Typed::command().arg(help_flag()))
        .mut_subcommands(|verb| go_flags(verb).mut_subcommands(go_flags))
}

fn help_flag() -> Arg {
    Arg::new("help").long("help").global(true).action(ArgAction::Help).help("Print usage")
}

/// Flags as Go's clients read them: a flag may be said again, takes the next word whatever it looks like, and one
/// without a value may be given one (`--rm=false`).
fn go_flags(command: Command) -> Command {
    command.args_override_self(true).disable_help_subcommand(true).mut_args(|arg| {
        if arg.is_positional() {
            return arg;
        }
        match arg.get_action() {
            ArgAction::SetTrue => arg
                .action(ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .default_value("false")
                .value_parser(go_bool),
            ArgAction::Set | ArgAction::Append if !arg.is_require_equals_set() => {
                arg.allow_hyphen_values(true)
            }
            _ => arg,
        }
    })
}

fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

fn not_understood(error: &clap::Error, mut root: Command, program: &str, args: &[String]) -> u8 {
    root.build();
    let found = Found::by(&root, program, args);
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            | ErrorKind::MissingSubcommand
    ) {
        return exit_code(Plain::Out.write_all(found.help().as_bytes()).map(|()| 0).map_err(Error::from));
    }
    let (text, code) = found.complain(error, args);
    exit_code(Err(Error::Status { message: text, code }))
}

fn act(typed: Typed, mut root: Command, service: Command, program: &'static str) -> Result<u8> {
    let Typed { global, verb } = typed;
    if global.version {
        let name = if program == "docker" { "Docker" } else { "knarr" };
        writeln!(Plain::Out, "{name} version {}", env!("CARGO_PKG_VERSION"))?;
        return Ok(0);
    }
    match verb {
        None => {
            root.build();
            Plain::Out.write_all(Found::by(&root, program, &[]).help().as_bytes())?;
            Ok(0)
        }
        Some(Typable::Verb(verb)) => talk(&global, verb, program),
        Some(Typable::Daemon(rest)) => {
            let flags = rest.flags.join(" ");
            Err(message(format!("say 'daemon' first: {program} daemon {flags}").trim_end()))
        }
        Some(Typable::Completion(wanted)) => {
            let mut script = Vec::new();
            let mut root = root.mut_subcommand("daemon", |_| service);
            clap_complete::generate(wanted.shell, &mut root, program, &mut script);
            Plain::Out.write_all(&script)?;
            Ok(0)
        }
        Some(Typable::Man(man)) => {
            let root = Typed::command().name(program).mut_subcommand("daemon", |_| service);
            crate::manual::write(root, &man.directory).map_err(|e| {
                message(format!("cannot write the manual pages to {}: {e}", man.directory.display()))
            })?;
            Ok(0)
        }
    }
}

fn talk(global: &Global, verb: Verb, program: &'static str) -> Result<u8> {
    let refused =
        std::env::var_os("KNARR_NO_AUTOSTART").is_some_and(|value| !value.is_empty() && value != "0");
    let autostart = Autostart { allowed: !global.no_autostart && !refused, program };
    let client = Rc::new(Client::new(Host::choose(global.host.as_deref())?, autostart));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = tokio::task::LocalSet::new().block_on(&runtime, verb.run(&Context { client, program }));
    // A thread may still be reading the terminal.
    runtime.shutdown_background();
    done
}

fn exit_code(done: Result<u8>) -> u8 {
    let (text, code) = match done {
        Ok(code) => return code,
        // Nobody reads any more: end as a program that is not told otherwise does.
        Err(Error::Io(e)) if e.kind() == io::ErrorKind::BrokenPipe => return 128 + 13,
        Err(Error::Status { message, code }) => (message, code),
        Err(other) => (other.to_string(), 1),
    };
    // Where standard error is closed, the exit code has to do.
    let _ = Plain::Err.write_all(format!("{}\n", text.trim_end()).as_bytes());
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(line: &str) -> (String, u8) {
        let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let mut root = command().name("docker");
        let error =
            root.clone().try_get_matches_from(&args).and_then(|m| Typed::from_arg_matches(&m)).unwrap_err();
        root.build();
        let (text, code) = Found::by(&root, "docker", &args[1..]).complain(&error, &args[1..]);
        (text.lines().next().unwrap_or_default().to_owned(), code)
    }

    #[test]
    fn the_whole_tree_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn usage_errors_in_docker_s_words() {
        for (line, want, code) in [
            ("docker run --bogus busybox", "unknown flag: --bogus", 125),
            ("docker ps -xa", "unknown shorthand flag: 'x' in -xa", 125),
            ("docker run", "docker: 'docker run' requires at least 1 argument", 1),
            ("docker exec a", "docker: 'docker exec' requires at least 2 arguments", 1),
            ("docker ps extra", "docker: 'docker ps' accepts no arguments", 1),
            ("docker rename x", "docker: 'docker rename' requires 2 arguments", 1),
            ("docker images a b", "docker: 'docker images' requires at most 1 argument", 1),
            (
                "docker run -m foo busybox",
                "invalid argument \"foo\" for \"-m, --memory\" flag: invalid size: 'foo'",
                125,
            ),
            ("docker run -h", "flag needs an argument: 'h' in -h", 125),
            ("docker run --name", "flag needs an argument: --name", 125),
            (
                "docker stop -t x foo",
                "invalid argument \"x\" for \"-t, --timeout\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
                125,
            ),
            (
                "docker ps --filter x",
                "invalid argument \"x\" for \"-f, --filter\" flag: bad format of filter (expected name=value)",
                125,
            ),
            ("docker cp a b:c", "docker: 'docker cp' is not there yet", 1),
            ("docker nosuch", "docker: unknown command: docker nosuch", 1),
            ("docker container nosuch", "docker: unknown command: docker container nosuch", 1),
        ] {
            assert_eq!(complaint(line), (want.to_owned(), code), "{line}");
        }
    }

    #[test]
    fn flags_end_where_the_image_stands() {
        let read = |line: &str| {
            command().try_get_matches_from(line.split(' ')).map(|m| Typed::from_arg_matches(&m).unwrap())
        };
        for line in [
            "knarr run -it --rm=false busybox sh --rm -x --bogus",
            "knarr run --memory-swap -1 -m 1g -m 2g busybox",
            "knarr exec -it c ls -l --help",
            "knarr -H unix:///x ps -aq -n -1",
            "knarr top c -o pid",
            "knarr container ls -a",
            "knarr container ps -a",
            "knarr image rm x",
        ] {
            assert!(read(line).is_ok(), "{line}: {:?}", read(line).err());
        }
    }
}
