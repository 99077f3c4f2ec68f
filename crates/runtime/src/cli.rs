//! The command line, as runc's: words in, one value out.

use std::{collections::BTreeMap, path::PathBuf};

use crate::{
    error::{Error, Result},
    host,
};

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
    /// Whether cgroups that cannot be made are done without; else it depends on who runs this.
    pub rootless: Option<bool>,
    /// Where the timeline goes.
    pub trace: Option<PathBuf>,
}

/// A subcommand with its flags and other words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// `create`
    pub command: &'static str,
    flags: BTreeMap<&'static str, Vec<String>>,
    /// What is no flag.
    pub words: Vec<String>,
}

/// Long name, short name, whether a value follows.
type Flag = (&'static str, Option<char>, bool);

/// Flags of `create` and `run`.
const MAKE: &[Flag] = &[
    ("bundle", Some('b'), true),
    ("console-socket", None, true),
    ("pid-file", None, true),
    ("preserve-fds", None, true),
    ("no-pivot", None, false),
    ("no-new-keyring", None, false),
    ("detach", Some('d'), false),
    ("keep", None, false),
    // There is never one to switch off: `run` waits for its own child only.
    ("no-subreaper", None, false),
];
const EXEC: &[Flag] = &[
    ("process", Some('p'), true),
    ("pid-file", None, true),
    ("console-socket", None, true),
    ("cwd", None, true),
    ("env", Some('e'), true),
    ("user", Some('u'), true),
    ("additional-gids", Some('g'), true),
    ("cap", Some('c'), true),
    ("apparmor", None, true),
    ("process-label", None, true),
    ("preserve-fds", None, true),
    ("detach", Some('d'), false),
    ("tty", Some('t'), false),
    ("no-new-privs", None, false),
    ("ignore-paused", None, false),
];

/// Subcommands, their flags, and how many other words they take at least and at most.
const COMMANDS: &[(&str, &[Flag], usize, usize)] = &[
    ("create", MAKE, 1, 1),
    ("run", MAKE, 1, 1),
    ("plan", MAKE, 1, 1),
    ("start", &[], 1, 1),
    ("state", &[], 1, 1),
    ("kill", &[("all", Some('a'), false)], 1, 2),
    ("delete", &[("force", Some('f'), false)], 1, 1),
    ("exec", EXEC, 1, usize::MAX),
    ("list", &[("format", Some('f'), true), ("quiet", Some('q'), false)], 0, 0),
    ("ps", &[("format", Some('f'), true)], 1, usize::MAX),
    ("pause", &[], 1, 1),
    ("resume", &[], 1, 1),
    ("features", &[], 0, 0),
    ("spec", &[("bundle", Some('b'), true)], 0, 0),
];

const GLOBAL: &[Flag] = &[
    ("root", None, true),
    ("log", None, true),
    ("log-format", None, true),
    ("trace", None, true),
    ("rootless", None, true),
    ("debug", None, false),
    ("systemd-cgroup", None, false),
    ("version", Some('v'), false),
    ("help", Some('h'), false),
];

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Run a subcommand.
    Call(Global, Call),
    /// Say which version this is.
    Version,
    /// Say how it is used.
    Help,
}

type Flags = BTreeMap<&'static str, Vec<String>>;

/// Takes flags off the front of `words`; with `mixed`, also after other words, which are returned.
fn take(words: &mut Vec<String>, known: &[Flag], mixed: bool) -> Result<(Flags, Vec<String>)> {
    let mut flags = Flags::new();
    let mut rest = Vec::new();
    let mut queue = std::mem::take(words).into_iter();
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
        let (name, value) = match name.trim_start_matches('-').split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (name.trim_start_matches('-').to_owned(), None),
        };
        let matches = |flag: &&Flag| flag.0 == name || flag.1.is_some_and(|short| name == short.to_string());
        let Some((long, _, takes)) = known.iter().find(matches) else {
            return Err(Error::new(format!("flag provided but not defined: -{name}")));
        };
        let value = match (takes, value) {
            (true, None) => {
                queue.next().ok_or_else(|| Error::new(format!("flag needs an argument: -{name}")))?
            }
            (false, None) => "true".to_owned(),
            (_, Some(value)) => value,
        };
        flags.entry(*long).or_default().push(value);
    }
    Ok((flags, rest))
}

/// Reads the words after the program's name.
pub fn parse(mut words: Vec<String>) -> Result<Wanted> {
    let (global, mut rest) = take(&mut words, GLOBAL, false)?;
    let last = |name: &str| global.get(name).and_then(|values| values.last()).cloned();
    if global.contains_key("version") {
        return Ok(Wanted::Version);
    }
    if global.contains_key("help") || rest.is_empty() || rest[0] == "help" {
        return Ok(Wanted::Help);
    }
    if last("systemd-cgroup").is_some_and(|value| value != "false") {
        return Err(Error::new(
            "--systemd-cgroup: not supported: cgroups are made directly below linux.cgroupsPath",
        ));
    }
    let log_json = match last("log-format").as_deref() {
        None | Some("text") => false,
        Some("json") => true,
        Some(other) => return Err(Error::new(format!("invalid log-format: {other}"))),
    };
    let name = rest.remove(0);
    let Some((command, known, least, most)) = COMMANDS.iter().find(|(known, ..)| *known == name) else {
        return Err(Error::new(format!("no help topic for '{name}'")));
    };
    let (flags, words) = take(&mut rest, known, *command != "exec")?;
    if words.len() < *least || words.len() > *most {
        return Err(Error::new(format!("{command}: wrong number of arguments; see --help")));
    }
    let rootless = match last("rootless").as_deref() {
        None | Some("auto") => None,
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(other) => return Err(Error::new(format!("invalid --rootless {other:?}: true, false or auto"))),
    };
    let global = Global {
        root: last("root").map_or_else(host::default_root, |root| Ok(root.into()))?,
        rootless,
        log: last("log").map(PathBuf::from),
        log_json,
        debug: global.contains_key("debug"),
        trace: last("trace").map(PathBuf::from),
    };
    Ok(Wanted::Call(global, Call { command, flags, words }))
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
        number.ok_or_else(|| Error::new(format!("--{name} {text:?}: is no number")))
    }

    /// The first word: a container's id.
    pub fn id(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }
}

/// How it is used.
pub const HELP: &str = "\
knarr-runtime: an OCI runtime

usage: knarr-runtime [global flags] COMMAND [flags] [arguments]

  create  [-b BUNDLE] [--pid-file F] [--console-socket S] [--preserve-fds N] [--no-new-keyring] ID
  start   ID
  run     [-d] [--keep] [flags of create] ID
  state   ID
  kill    [--all] ID [SIGNAL]
  delete  [--force] ID
  exec    [-d] [-t] [-u UID[:GID]] [-g GID] [-e K=V] [-c CAP] [--cwd DIR] [--process F] [--pid-file F]
          [--console-socket S] [--preserve-fds N] [--no-new-privs] [--apparmor P] [--process-label L]
          [--ignore-paused] ID COMMAND...
  list    [-q] [--format table|json]
  ps      [--format table|json] ID
  pause   ID
  resume  ID
  plan    [-b BUNDLE] ID           print what create would do
  features
  spec    [-b BUNDLE]

global flags: --root DIR  --log FILE  --log-format text|json  --debug  --trace FILE
              --rootless true|false|auto  --version
";

#[cfg(test)]
mod tests {
    use super::*;

    fn call(line: &str) -> Result<(Global, Call)> {
        match parse(line.split_whitespace().map(str::to_owned).collect())? {
            Wanted::Call(global, call) => Ok((global, call)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_are_read_as_runc_reads_them() {
        let (global, create) =
            call("--root /r --log=/l --log-format json create -b /b --pid-file /p c1").unwrap();
        assert_eq!((global.root, global.log_json), (PathBuf::from("/r"), true));
        assert_eq!((create.value("bundle"), create.id()), (Some("/b"), "c1"));
        let (_, exec) = call("exec -e A=1 --env B=2 -t c1 ls -l --all").unwrap();
        assert_eq!(exec.values("env"), ["A=1", "B=2"]);
        assert_eq!(exec.words, ["c1", "ls", "-l", "--all"]);
        let (_, kill) = call("kill c1 9 --all").unwrap();
        assert!(kill.has("all"));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for line in [
            "--systemd-cgroup create c",
            "create --nope c",
            "create",
            "start a b",
            "fly c",
            "--log-format x list",
        ] {
            assert!(call(line).is_err(), "{line}");
        }
    }
}
