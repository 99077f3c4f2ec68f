//! The command line, as runc's: words in, one value out.

mod table;

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf};

use crate::{
    error::{Error, Result},
    host,
};
pub use table::{COMMANDS, Command, Flag, GLOBAL};

/// What goes before the subcommand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Global {
    /// Where containers' records are.
    pub root: PathBuf,
    /// Errors are written there too.
    pub log: Option<PathBuf>,
    /// `json` instead of `text`.
    pub log_json: bool,
    /// Say more in the log.
    pub debug: bool,
    /// Where the timeline goes.
    pub trace: Option<PathBuf>,
    /// The program that saves and restores processes.
    pub criu: String,
    /// Whether control groups that may not be made are done without; `None`: if this is not the host's root.
    pub rootless: Option<bool>,
    /// Control groups are made by systemd.
    pub systemd_cgroup: bool,
}

/// A subcommand with its flags and other words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// `create`
    pub command: &'static str,
    flags: Flags,
    /// What is no flag.
    pub words: Vec<String>,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Run a subcommand.
    Call(Global, Call),
    /// Say which version this is.
    Version,
    /// Say how all of it, or one subcommand, is used.
    Help(String),
}

/// What cannot be done because of how it was said.
#[derive(Debug, PartialEq, Eq)]
pub struct Misuse {
    /// For the log, as far as it was understood.
    pub global: Option<Global>,
    /// Why.
    pub message: String,
    /// How it would be said.
    pub help: String,
    /// runc's exit code: 3 for an unknown subcommand.
    pub code: u8,
}

type Flags = BTreeMap<&'static str, Vec<String>>;

/// What Go's `strconv.ParseBool` takes, on which callers of runc rely.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Takes flags off the front of `words`; with `mixed`, also after other words, which are returned.
fn take(words: Vec<String>, known: &[&[Flag]], mixed: bool) -> Result<(Flags, Vec<String>)> {
    let mut flags = Flags::new();
    let mut rest = Vec::new();
    let mut queue = words.into_iter();
    while let Some(word) = queue.next() {
        if word == "--" {
            rest.extend(queue);
            break;
        }
        let Some(name) = word.strip_prefix('-').filter(|name| !name.is_empty()) else {
            rest.push(word);
            if mixed {
                continue;
            }
            rest.extend(queue);
            break;
        };
        let name = name.strip_prefix('-').unwrap_or(name);
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (name, None),
        };
        let matches = |flag: &&Flag| flag.0 == name || flag.1.is_some_and(|short| name == short.to_string());
        let Some((long, _, takes, _)) = known.iter().copied().flatten().find(matches) else {
            return Err(Error::new(format!("flag provided but not defined: -{name}")));
        };
        let value = match (takes, value) {
            (true, Some(value)) => value,
            (true, None) => {
                queue.next().ok_or_else(|| Error::new(format!("flag needs an argument: -{name}")))?
            }
            (false, value) => {
                let value = value.unwrap_or_else(|| "true".to_owned());
                let Some(value) = boolean(&value) else {
                    return Err(Error::new(format!(
                        "invalid boolean value {value:?} for -{name}: parse error"
                    )));
                };
                value.to_string()
            }
        };
        flags.entry(*long).or_default().push(value);
    }
    Ok((flags, rest))
}

fn last(flags: &Flags, name: &str) -> Option<String> {
    flags.get(name).and_then(|values| values.last()).cloned()
}

fn is_set(flags: &Flags, name: &str) -> bool {
    last(flags, name).is_some_and(|value| value == "true")
}

fn global(flags: &Flags) -> Result<Global> {
    let log_json = match last(flags, "log-format").as_deref() {
        None | Some("text") => false,
        Some("json") => true,
        Some(other) => return Err(Error::new(format!("invalid log-format: {other}"))),
    };
    let rootless = match last(flags, "rootless").as_deref() {
        None | Some("auto") => None,
        Some(other) => Some(
            boolean(other)
                .ok_or_else(|| Error::new(format!("--rootless {other:?}: is not true, false or auto")))?,
        ),
    };
    let path = |name: &str| last(flags, name).filter(|path| !path.is_empty()).map(PathBuf::from);
    Ok(Global {
        root: path("root").map_or_else(host::default_root, Ok)?,
        log: path("log"),
        log_json,
        debug: is_set(flags, "debug"),
        trace: path("trace"),
        criu: last(flags, "criu").unwrap_or_else(|| "criu".to_owned()),
        rootless,
        systemd_cgroup: is_set(flags, "systemd-cgroup"),
    })
}

fn unknown(name: &str) -> Misuse {
    Misuse { global: None, message: format!("No help topic for '{name}'"), help: String::new(), code: 3 }
}

/// Reads the words after the program's name.
pub fn parse(words: Vec<String>) -> std::result::Result<Wanted, Box<Misuse>> {
    let misuse = |global: Option<Global>, error: &Error, help: String| {
        Box::new(Misuse { global, message: error.to_string(), help, code: 1 })
    };
    let (flags, mut rest) = take(words, &[GLOBAL], false).map_err(|error| misuse(None, &error, help()))?;
    if is_set(&flags, "version") {
        return Ok(Wanted::Version);
    }
    if is_set(&flags, "help") || rest.is_empty() {
        return Ok(Wanted::Help(help()));
    }
    let global = global(&flags).map_err(|error| misuse(None, &error, String::new()))?;
    let name = rest.remove(0);
    let find = |name: &str| {
        let found = COMMANDS.iter().find(|known| known.name == name);
        found.ok_or_else(|| Box::new(Misuse { global: Some(global.clone()), ..unknown(name) }))
    };
    if name == "help" || name == "h" {
        let topic = rest.first().map(|name| find(name)).transpose()?;
        return Ok(Wanted::Help(topic.map_or_else(help, help_on)));
    }
    let command = find(&name)?;
    let known = [&[table::HELP], command.flags.concat().as_slice()].concat();
    let (flags, words) = take(rest, &[&known], command.mixed)
        .map_err(|error| misuse(Some(global.clone()), &error, help_on(command)))?;
    if is_set(&flags, "help") {
        return Ok(Wanted::Help(help_on(command)));
    }
    if let Err(error) = count(command, words.len()) {
        return Err(misuse(Some(global), &error, help_on(command)));
    }
    Ok(Wanted::Call(global, Call { command: command.name, flags, words }))
}

fn count(command: &Command, words: usize) -> Result<()> {
    let (least, most) = command.words;
    let amount = if least == most {
        format!("exactly {least}")
    } else if words < least {
        format!("a minimum of {least}")
    } else {
        format!("a maximum of {most}")
    };
    if (least..=most).contains(&words) {
        return Ok(());
    }
    Err(Error::new(format!("knarr-runtime: {:?} requires {amount} argument(s)", command.name)))
}

impl Call {
    /// The last value of a flag.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.flags.get(name)?.last().map(String::as_str)
    }

    /// All values of a flag.
    pub fn values(&self, name: &str) -> &[String] {
        self.flags.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether a flag is set.
    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some_and(|value| value != "false")
    }

    /// A number.
    pub fn number(&self, name: &str) -> Result<u32> {
        let Some(text) = self.value(name) else {
            return Ok(0);
        };
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|_| digits);
        number.ok_or_else(|| Error::new(format!("invalid value {text:?} for flag -{name}: is no number")))
    }

    /// The first word: a container's id.
    pub fn id(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }
}

/// How all of it is used.
fn help() -> String {
    let mut text = "NAME:\n   knarr-runtime - an OCI runtime: bundle in, process out\n\nUSAGE:\n   \
                    knarr-runtime [global options] command [command options] [arguments...]\n\nCOMMANDS:\n"
        .to_owned();
    for command in COMMANDS {
        let _ = writeln!(text, "   {:<12}{}", command.name, command.about);
    }
    text.push_str("   help, h     say how all of it, or one command, is used\n\nGLOBAL OPTIONS:\n");
    options(&mut text, GLOBAL);
    text
}

fn help_on(command: &Command) -> String {
    let Command { name, about, arguments, flags, .. } = command;
    let mut text = format!(
        "NAME:\n   knarr-runtime {name} - {about}\n\nUSAGE:\n   knarr-runtime {name} [command options] {arguments}\n\n\
         OPTIONS:\n"
    );
    flags.iter().for_each(|flags| options(&mut text, flags));
    options(&mut text, &[table::HELP]);
    text
}

fn options(text: &mut String, flags: &[Flag]) {
    for (long, short, takes, about) in flags {
        let value = if *takes { " value" } else { "" };
        let short = short.map_or_else(String::new, |short| format!(", -{short}{value}"));
        let _ = writeln!(text, "   {:<32}{about}", format!("--{long}{value}{short}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn call(line: &str) -> (Global, Call) {
        match parse(words(line)) {
            Ok(Wanted::Call(global, call)) => (global, call),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn flags_are_read_as_runc_reads_them() {
        let (global, create) = call("--root /r --log=/l --log-format json create -b /b --pid-file /p c1");
        assert_eq!((global.root, global.log_json), (PathBuf::from("/r"), true));
        assert_eq!((create.value("bundle"), create.id()), (Some("/b"), "c1"));
        let (_, exec) = call("exec -e A=1 --env B=2 -t c1 ls -l --all");
        assert_eq!(exec.values("env"), ["A=1", "B=2"]);
        assert_eq!(exec.words, ["c1", "ls", "-l", "--all"]);
        let (_, kill) = call("kill c1 9 --all");
        assert!(kill.has("all"));
        assert!(!call("run --detach=false c").1.has("detach"));
        assert!(call("run -detach=T c").1.has("detach"));
        assert_eq!(call("--rootless false list").0.rootless, Some(false));
        assert_eq!(call("ps c1 -ef").1.words, ["c1", "-ef"]);
    }

    #[test]
    fn what_is_not_known_is_refused_with_runcs_codes() {
        for (line, code) in [
            ("create --nope c", 1),
            ("create", 1),
            ("start a b", 1),
            ("kill a b c", 1),
            ("fly c", 3),
            ("help fly", 3),
            ("--log-format x list", 1),
            ("--rootless x list", 1),
            ("--root", 1),
            ("run --detach=x c", 1),
        ] {
            assert_eq!(parse(words(line)).unwrap_err().code, code, "{line}");
        }
    }

    #[test]
    fn every_command_tells_how_it_is_used() {
        let Ok(Wanted::Help(all)) = parse(words("help")) else { panic!() };
        for command in COMMANDS {
            assert!(all.contains(&format!("   {} ", command.name)), "{}", command.name);
            let Ok(Wanted::Help(one)) = parse(words(&format!("{} --help", command.name))) else { panic!() };
            let flags: Vec<&Flag> = command.flags.iter().copied().flatten().collect();
            assert!(flags.iter().all(|flag| one.contains(&format!("--{}", flag.0)) && !flag.3.is_empty()));
            let names: std::collections::BTreeSet<_> = flags.iter().map(|flag| flag.0).collect();
            assert_eq!(names.len(), flags.len(), "{}", command.name);
        }
    }
}
