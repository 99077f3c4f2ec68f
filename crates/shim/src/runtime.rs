//! The OCI runtime, by its command line.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read},
    os::{fd::AsRawFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

use crate::protocol::Config;

/// Longest piece of a runtime's log or complaint that is looked at.
const LONGEST: u64 = 256 << 10;

/// How to call the runtime.
#[derive(Debug)]
pub(crate) struct Runtime {
    program: PathBuf,
    /// What `program` leads to, kept open.
    _file: File,
    name: OsString,
    words: Vec<OsString>,
}

impl Runtime {
    /// Opens the runtime's program once: the daemon that holds it may be replaced while the container runs.
    pub(crate) fn open(config: &Config) -> io::Result<Self> {
        let mut file = File::open(&config.runtime)?;
        let mut magic = [0; 2];
        // A script's interpreter opens it by name, after our descriptor is closed.
        let script = matches!(file.read(&mut magic), Ok(2)) && &magic == b"#!";
        let program = if script {
            config.runtime.clone()
        } else {
            Path::new("/proc/self/fd").join(file.as_raw_fd().to_string())
        };
        let mut words: Vec<OsString> = config.runtime_args.iter().map(Into::into).collect();
        words.extend(["--root".into(), config.runtime_root.clone().into()]);
        let name = config.runtime.file_name().unwrap_or_default().to_owned();
        Ok(Self { program, _file: file, name, words })
    }

    /// A call that logs to `log`, up to its subcommand.
    pub(crate) fn command(&self, log: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.arg0(&self.name).args(&self.words);
        command.arg("--log").arg(log).args(["--log-format", "json"]);
        command
    }
}

/// Why a call failed: the last error in its log, else the last line it printed, else how it ended.
pub(crate) fn last_word(log: &Path, printed: &str, ended: &str) -> String {
    #[derive(Deserialize)]
    struct Line {
        #[serde(default)]
        level: String,
        msg: String,
    }
    let log = File::open(log).map(read_some).unwrap_or_default();
    let lines: Vec<Line> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let error = lines.iter().rev().find(|line| ["error", "fatal", "panic"].contains(&line.level.as_str()));
    if let Some(line) = error.or(lines.last()) {
        return line.msg.trim().to_owned();
    }
    let printed = printed.trim().lines().next_back().unwrap_or_default();
    if printed.is_empty() { ended.to_owned() } else { printed.to_owned() }
}

/// What `file` has, within reason.
pub(crate) fn read_some(file: impl Read) -> String {
    let mut bytes = Vec::new();
    // A read that fails has given what there was.
    let _ = file.take(LONGEST).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::last_word;

    #[test]
    fn the_last_error_counts() {
        let log = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(last_word(log.path(), "usage\nunknown flag\n", "ended with 1"), "unknown flag");
        assert_eq!(last_word(log.path(), "", "ended with 1"), "ended with 1");
        let lines = "{\"level\":\"error\",\"msg\":\"no such program\"}\nrubbish\n{\"level\":\"warning\",\"msg\":\"w\"}\n";
        std::fs::write(log.path(), lines).unwrap();
        assert_eq!(last_word(log.path(), "x", "y"), "no such program");
    }
}
