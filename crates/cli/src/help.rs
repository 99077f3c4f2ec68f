//! `--help` and usage errors, in the words and columns of Docker's.

use std::fmt::Write;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command};

use crate::terminal;

/// The commands that most people need, in the order in which they need them.
const COMMON: &[&str] = &["run", "exec", "ps", "images", "version", "info"];

/// Docker's commands that people will try and that are not here yet.
const ABSENT: &[&str] = &[
    "build", "builder", "buildx", "commit", "compose", "context", "cp", "diff", "export", "login", "logout",
    "manifest", "plugin", "push", "save", "search", "stats", "swarm", "trust", "update", "volume",
];

/// A command and the words that lead to it.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    root: &'a Command,
    words: Vec<String>,
    command: &'a Command,
}

impl<'a> Found<'a> {
    /// The command that the arguments name, as deep as they do.
    pub(crate) fn by(root: &'a Command, program: &str, args: &[String]) -> Found<'a> {
        let mut found = Found { root, words: vec![program.to_owned()], command: root };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            if let Some(flag) = arg.strip_prefix('-') {
                let takes_value = |a: &&Arg| {
                    a.get_action().takes_values()
                        && (a.get_short().is_some_and(|s| flag.chars().eq([s]))
                            || a.get_long().is_some_and(|l| flag.strip_prefix('-') == Some(l)))
                };
                if found.command.get_arguments().any(|a| takes_value(&a)) {
                    args.next();
                }
                continue;
            }
            let Some(next) = found.command.find_subcommand(arg) else {
                break;
            };
            found.words.push(arg.clone());
            found.command = next;
        }
        found
    }

    fn path(&self) -> String {
        self.words.join(" ")
    }

    pub(crate) fn command(&self) -> &'a Command {
        self.command
    }

    pub(crate) fn usage(&self) -> String {
        let command = self.command;
        let rest = if command.has_subcommands() {
            if self.words.len() == 1 { "[OPTIONS] COMMAND".into() } else { "COMMAND".into() }
        } else {
            let flags = command
                .get_arguments()
                .any(|a| !a.is_positional() && !a.is_hide_set() && a.get_id() != "help");
            let positionals = command.get_positionals().filter_map(|a| a.get_value_names());
            let mut words: Vec<&str> = positionals.flatten().map(AsRef::as_ref).collect();
            if flags {
                words.insert(0, "[OPTIONS]");
            }
            words.join(" ")
        };
        format!("Usage:  {} {rest}", self.path())
    }

    /// The whole help text.
    pub(crate) fn help(&self) -> String {
        let width = terminal::size().map_or(80, |(_, columns)| usize::from(columns)).clamp(40, 200);
        let mut out = format!("{}\n\n", self.usage().trim_end());
        let about = self.command.get_about().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(out, "{about}");
        let names = self.names();
        if names.len() > 1 {
            let _ = writeln!(out, "\nAliases:\n  {}", names.join(", "));
        }
        self.commands(&mut out);
        self.options(&mut out, width);
        if self.command.has_subcommands() {
            let _ =
                writeln!(out, "\nRun '{} COMMAND --help' for more information on a command.", self.path());
        }
        out
    }

    /// Every way to say the same command, those of its group first.
    fn names(&self) -> Vec<String> {
        if self.command.has_subcommands() {
            return Vec::new();
        }
        let about = self.command.get_about().map(ToString::to_string);
        let same = |c: &&Command| c.get_about().map(ToString::to_string) == about && !c.has_subcommands();
        let mut names = Vec::new();
        for group in self.root.get_subcommands().filter(|c| c.has_subcommands()) {
            for verb in group.get_subcommands().filter(same) {
                let all = [verb.get_name()].into_iter().chain(verb.get_all_aliases());
                names.extend(all.map(|name| format!("{} {} {name}", self.words[0], group.get_name())));
            }
        }
        names.extend(
            self.root.get_subcommands().filter(same).map(|c| format!("{} {}", self.words[0], c.get_name())),
        );
        names
    }

    fn commands(&self, out: &mut String) {
        let mut rest: Vec<&Command> = self.command.get_subcommands().filter(|c| !c.is_hide_set()).collect();
        rest.sort_by_key(|c| c.get_name());
        let mut sections: Vec<(&str, Vec<&Command>)> = Vec::new();
        if self.words.len() == 1 {
            let common =
                COMMON.iter().filter_map(|name| rest.iter().find(|c| c.get_name() == *name).copied());
            sections.push(("Common Commands", common.collect()));
            let (groups, plain) = rest.into_iter().partition(|c| c.has_subcommands());
            sections.push(("Management Commands", groups));
            rest = plain;
            rest.retain(|c| !COMMON.contains(&c.get_name()));
        }
        sections.push(("Commands", rest));
        for (title, commands) in sections.iter().filter(|(_, commands)| !commands.is_empty()) {
            let _ = writeln!(out, "\n{title}:");
            for command in commands {
                let about = command.get_about().map(ToString::to_string).unwrap_or_default();
                let _ = writeln!(out, "  {:<11} {about}", command.get_name());
            }
        }
    }

    fn options(&self, out: &mut String, width: usize) {
        let mut flags: Vec<&Arg> =
            self.command.get_arguments().filter(|a| !a.is_positional() && !a.is_hide_set()).collect();
        // Docker's help names itself only where a flag took the short form of it.
        flags.retain(|a| a.get_id() != "help");
        flags.sort_by_key(|a| a.get_long().unwrap_or_default());
        if flags.is_empty() {
            return;
        }
        let _ = writeln!(out, "\n{}:", if self.words.len() == 1 { "Global Options" } else { "Options" });
        let heads: Vec<String> = flags.iter().map(|a| head(a)).collect();
        let column = heads.iter().map(String::len).max().unwrap_or(0) + 3;
        for (flag, head) in flags.iter().zip(&heads) {
            let about = flag.get_help().map(ToString::to_string).unwrap_or_default();
            let mut lines = wrap(&about, width.saturating_sub(column + 1).max(24)).into_iter();
            let _ = writeln!(out, "{head:<column$}{}", lines.next().unwrap_or_default());
            for line in lines {
                let _ = writeln!(out, "{:column$}{line}", "");
            }
        }
    }

    /// What a usage error says, and the exit code that goes with it.
    pub(crate) fn complain(&self, error: &clap::Error, args: &[String]) -> (String, u8) {
        let text = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => text.clone(),
            _ => String::new(),
        };
        let path = self.path();
        match error.kind() {
            ErrorKind::InvalidSubcommand => self.unknown_command(&text(ContextKind::InvalidSubcommand)),
            ErrorKind::UnknownArgument => match text(ContextKind::InvalidArg) {
                flag if flag.starts_with("--") => self.flag_error(&format!("unknown flag: {flag}")),
                flag if flag.starts_with('-') => {
                    let letter = flag.trim_start_matches('-');
                    let whole = args
                        .iter()
                        .find(|a| a.starts_with('-') && !a.starts_with("--") && a.contains(letter));
                    let whole = whole.map_or(flag.as_str(), String::as_str);
                    self.flag_error(&format!("unknown shorthand flag: '{letter}' in {whole}"))
                }
                word if self.command.has_subcommands() => self.unknown_command(&word),
                _ => self.arity_error(),
            },
            ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
                let arg = self.named(&text(ContextKind::InvalidArg));
                let value = text(ContextKind::InvalidValue);
                if value.is_empty() && error.kind() == ErrorKind::InvalidValue {
                    return self.flag_error(&needs_argument(arg, args));
                }
                let why = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
                self.flag_error(&format!("invalid argument {value:?} for \"{}\" flag: {why}", display(arg)))
            }
            ErrorKind::MissingRequiredArgument | ErrorKind::WrongNumberOfValues | ErrorKind::TooFewValues => {
                self.arity_error()
            }
            _ => (format!("{path}: {}", error.to_string().trim_start_matches("error: ").trim_end()), 1),
        }
    }

    fn named(&self, shown: &str) -> Option<&Arg> {
        let word = shown.split([' ', '=', '[']).next().unwrap_or_default();
        let (long, short) = (word.strip_prefix("--"), word.strip_prefix('-'));
        self.command.get_arguments().find(|a| {
            long.is_some() && a.get_long() == long
                || short.is_some_and(|s| a.get_short().is_some_and(|have| s.chars().eq([have])))
        })
    }

    fn flag_error(&self, what: &str) -> (String, u8) {
        let path = self.path();
        (format!("{what}\n\n{}\n\nRun '{path} --help' for more information", self.usage()), 125)
    }

    fn unknown_command(&self, word: &str) -> (String, u8) {
        let (program, path) = (&self.words[0], self.path());
        if self.words.len() == 1 && ABSENT.contains(&word) {
            let text =
                format!("{program}: '{path} {word}' is not there yet\n\nRun '{path} --help' for what is");
            return (text, 1);
        }
        let usage = if self.words.len() > 1 { format!("Usage:  {path}\n\n") } else { String::new() };
        (
            format!(
                "{program}: unknown command: {path} {word}\n\n{usage}Run '{path} --help' for more information"
            ),
            1,
        )
    }

    fn arity_error(&self) -> (String, u8) {
        let (least, most) = arity(self.command);
        let plural = |n: usize| if n == 1 { "argument" } else { "arguments" };
        let needs = match (least, most) {
            (_, Some(0)) => "accepts no arguments".to_owned(),
            (0, Some(most)) => format!("requires at most {most} {}", plural(most)),
            (least, Some(most)) if least == most => format!("requires {least} {}", plural(least)),
            (least, Some(most)) => format!("requires at least {least} and at most {most} {}", plural(most)),
            (least, None) => format!("requires at least {least} {}", plural(least)),
        };
        let (program, path) = (&self.words[0], self.path());
        let see = if most.is_none() { "See" } else { "Run" };
        (
            format!(
                "{program}: '{path}' {needs}\n\n{}\n\n{see} '{path} --help' for more information",
                self.usage()
            ),
            1,
        )
    }
}

/// How many positional words a command takes; the most is none where there is no end.
fn arity(command: &Command) -> (usize, Option<usize>) {
    command.get_positionals().fold((0, Some(0)), |(least, most), arg| {
        let range = arg.get_num_args().unwrap_or_else(|| 1.into());
        let least = least + if arg.is_required_set() { range.min_values().max(1) } else { 0 };
        let endless = range.max_values() == usize::MAX || matches!(arg.get_action(), ArgAction::Append);
        (least, if endless { None } else { most.map(|most| most + range.max_values()) })
    })
}

fn needs_argument(arg: Option<&Arg>, args: &[String]) -> String {
    let Some(arg) = arg else {
        return "flag needs an argument".into();
    };
    if let (Some(short), Some(last)) = (arg.get_short(), args.last())
        && last.starts_with('-')
        && !last.starts_with("--")
    {
        return format!("flag needs an argument: '{short}' in {last}");
    }
    format!("flag needs an argument: --{}", arg.get_long().unwrap_or_default())
}

fn display(arg: Option<&Arg>) -> String {
    let long = arg.and_then(Arg::get_long).unwrap_or_default();
    arg.and_then(Arg::get_short).map_or(format!("--{long}"), |short| format!("-{short}, --{long}"))
}

fn head(arg: &Arg) -> String {
    let mut out = arg.get_short().map_or("      ".to_owned(), |short| format!("  -{short}, "));
    let _ = write!(out, "--{}", arg.get_long().unwrap_or_default());
    if !arg.is_require_equals_set()
        && let Some([name]) = arg.get_value_names()
    {
        let _ = write!(out, " {}", name.as_str());
    }
    out
}

/// Lines of `width` less five; the last one may use the five, so that no single short word is left over.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut rest: Vec<char> = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().collect();
    let mut lines = Vec::new();
    while rest.len() >= width {
        let Some(end) = rest[..width - 5].iter().rposition(|c| *c == ' ').filter(|end| *end > 0) else {
            break;
        };
        lines.push(rest[..end].iter().collect());
        rest.drain(..=end);
    }
    lines.push(rest.into_iter().collect());
    lines
}
