//! `daemon.json`: Docker's keys, each a flag by another spelling.
//!
//! What the file says becomes words of the command line, so that there is one place that checks values. A key that is
//! also given as a flag is a conflict, and one that is not known is refused by its name, as dockerd does both.

use std::{
    ffi::OsString,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use clap::{ArgMatches, parser::ValueSource};
use serde_json::{Map, Value};

/// What a key's value looks like.
enum Shape {
    Flag,
    Number,
    Text,
    Texts,
    /// `{NAME: {"path": PATH}}`
    Runtimes,
    /// May be said, and is always so.
    AlwaysOn,
}

/// Key, the id of its argument, its flag.
const KEYS: &[(&str, &str, &str, Shape)] = &[
    ("add-runtime", "add_runtime", "--add-runtime", Shape::Texts),
    ("bridge", "bridge", "--bridge", Shape::Text),
    ("cgroup-parent", "cgroup_parent", "--cgroup-parent", Shape::Text),
    ("data-root", "data_root", "--data-root", Shape::Text),
    ("debug", "debug", "--debug", Shape::Flag),
    ("exec-root", "exec_root", "--exec-root", Shape::Text),
    ("hosts", "host", "--host", Shape::Texts),
    ("insecure-registries", "insecure_registry", "--insecure-registry", Shape::Texts),
    ("live-restore", "", "", Shape::AlwaysOn),
    ("log-format", "log_format", "--log-format", Shape::Text),
    ("log-level", "log_level", "--log-level", Shape::Text),
    ("max-concurrent-downloads", "max_concurrent_downloads", "--max-concurrent-downloads", Shape::Number),
    ("max-concurrent-uploads", "max_concurrent_uploads", "--max-concurrent-uploads", Shape::Number),
    ("max-download-attempts", "max_download_attempts", "--max-download-attempts", Shape::Number),
    ("registry-mirrors", "registry_mirror", "--registry-mirror", Shape::Texts),
    ("runtimes", "add_runtime", "--add-runtime", Shape::Runtimes),
];

/// Longer files are not read.
const MAX_FILE: u64 = 1 << 20;

/// A file that cannot be used; says which and why.
#[derive(Debug)]
pub struct Unusable(String);

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unusable {}

/// `words` (a command line, which reads as `matches`), with what `--config-file` says behind it.
pub fn with_file(words: Vec<String>, matches: &ArgMatches) -> Result<Vec<OsString>, Unusable> {
    let path: &PathBuf =
        matches.get_one("config_file").ok_or_else(|| Unusable("no --config-file".to_owned()))?;
    let given = matches.value_source("config_file") == Some(ValueSource::CommandLine);
    let complain = |why: String| {
        Unusable(format!("unable to configure the knarr daemon with file {}: {why}", path.display()))
    };
    let said = match read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !given => Map::new(),
        Err(error) => return Err(complain(error.to_string())),
        Ok(text) if text.trim().is_empty() => Map::new(),
        Ok(text) => match serde_json::from_str(text.trim_start_matches('\u{feff}')) {
            Ok(Value::Object(said)) => said,
            Ok(_) => return Err(complain("it is not a JSON object".to_owned())),
            Err(error) => return Err(complain(error.to_string())),
        },
    };
    let mut all: Vec<OsString> = words.into_iter().map(OsString::from).collect();
    all.extend(arguments(&said, matches).map_err(complain)?);
    Ok(all)
}

fn read(path: &Path) -> io::Result<String> {
    use io::Read;
    let mut text = String::new();
    fs::File::open(path)?.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

/// The file's keys as words of a command line.
fn arguments(said: &Map<String, Value>, matches: &ArgMatches) -> Result<Vec<OsString>, String> {
    let known = |key: &str| KEYS.iter().find(|(name, ..)| *name == key);
    let unknown: Vec<_> = said.keys().filter(|key| known(key).is_none()).map(String::as_str).collect();
    if !unknown.is_empty() {
        let list = unknown.join(", ");
        return Err(format!("the following directives don't match any configuration option: {list}"));
    }
    let mut words = Vec::new();
    let mut conflicts = Vec::new();
    for (key, value) in said {
        let Some((_, id, flag, shape)) = known(key) else { continue };
        let given = !id.is_empty() && matches.value_source(id) == Some(ValueSource::CommandLine);
        if given {
            let raw =
                matches.get_raw(id).into_iter().flatten().map(|word| word.to_string_lossy().into_owned());
            let raw: Vec<_> = raw.collect();
            conflicts.push(format!("{key}: (from flag: {}, from file: {value})", raw.join(", ")));
            continue;
        }
        let bad = |want: &str| format!("{key} must be {want}, not {value}");
        words.extend(values(value, shape).map_err(bad)?.into_iter().map(|text| match shape {
            Shape::Flag => OsString::from(flag),
            _ => OsString::from(format!("{flag}={text}")),
        }));
    }
    if conflicts.is_empty() {
        return Ok(words);
    }
    let list = conflicts.join(", ");
    Err(format!(
        "the following directives are specified both as a flag and in the configuration file: {list}"
    ))
}

/// The flag's values; or what they should be.
fn values(value: &Value, shape: &Shape) -> Result<Vec<String>, &'static str> {
    match shape {
        Shape::Flag => {
            value.as_bool().map(|on| if on { vec![String::new()] } else { Vec::new() }).ok_or("true or false")
        }
        Shape::AlwaysOn => value
            .as_bool()
            .filter(|on| *on)
            .map(|_| Vec::new())
            .ok_or("true: containers always outlive the daemon"),
        Shape::Number => value.as_u64().map(|number| vec![number.to_string()]).ok_or("a number"),
        Shape::Text => value.as_str().map(|text| vec![text.to_owned()]).ok_or("a text"),
        Shape::Texts => {
            let all = value
                .as_array()
                .and_then(|all| all.iter().map(|one| Some(one.as_str()?.to_owned())).collect());
            all.ok_or("a list of texts")
        }
        Shape::Runtimes => {
            let one = |(name, runtime): (&String, &Value)| {
                let known = runtime.as_object().filter(|said| said.keys().all(|key| key == "path"))?;
                Some(format!("{name}={}", known.get("path")?.as_str()?))
            };
            let all = value.as_object().and_then(|all| all.iter().map(one).collect());
            all.ok_or("{NAME: {\"path\": PATH}}, without runtimeArgs, runtimeType or options")
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Service {
        #[command(flatten)]
        args: crate::Args,
    }

    fn read_with(text: &str, flags: &[&str]) -> Result<crate::Args, String> {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("daemon.json");
        fs::write(&file, text).unwrap();
        let mut words = vec!["knarr".to_owned(), format!("--config-file={}", file.display())];
        words.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let matches = Service::command().try_get_matches_from(&words).unwrap();
        let words = with_file(words, &matches).map_err(|error| error.to_string())?;
        let matches = Service::command().try_get_matches_from(words).map_err(|error| error.to_string())?;
        Ok(Service::from_arg_matches(&matches).unwrap().args)
    }

    #[test]
    fn every_key_is_a_flag() {
        let command = Service::command();
        for (key, id, flag, _) in KEYS.iter().filter(|(_, id, ..)| !id.is_empty()) {
            let argument = command.get_arguments().find(|argument| argument.get_id() == id);
            let long = argument.unwrap_or_else(|| panic!("{key}")).get_long().unwrap();
            assert_eq!(format!("--{long}"), *flag);
        }
    }

    #[test]
    fn docker_s_keys() {
        let args = read_with(
            r#"{"debug": true, "registry-mirrors": ["https://a", "https://b"], "hosts": ["unix:///x"], "live-restore": true,
                "max-concurrent-downloads": 7, "data-root": "/d", "runtimes": {"runc": {"path": "/usr/bin/runc"}}}"#,
            &["--insecure-registry", "r:5000"],
        )
        .unwrap();
        assert!(args.debug);
        assert_eq!(args.registry_mirror, ["https://a", "https://b"]);
        assert_eq!(
            (args.host.as_slice(), args.insecure_registry.as_slice()),
            (&["unix:///x".to_owned()][..], &["r:5000".to_owned()][..])
        );
        assert_eq!((args.max_concurrent_downloads, args.data_root.to_str()), (7, Some("/d")));
        assert_eq!(args.add_runtime[0].0, "runc");
        assert!(!read_with("", &[]).unwrap().debug);
        assert!(!read_with(r#"{"debug": false}"#, &[]).unwrap().debug);
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        for (text, flags, says) in [
            (
                r#"{"a": 1, "debug": true, "b": 2}"#,
                &[][..],
                "the following directives don't match any configuration option: a, b",
            ),
            (
                r#"{"debug": true, "registry-mirrors": ["https://a"]}"#,
                &["--registry-mirror=https://b"],
                "the following directives are specified both as a flag and in the configuration file: registry-mirrors: (from flag: https://b, from file: [\"https://a\"])",
            ),
            (r#"{"debug": "x"}"#, &[], "debug must be true or false, not \"x\""),
            (r#"{"max-download-attempts": -1}"#, &[], "max-download-attempts must be a number, not -1"),
            (r#"{"hosts": "unix:///x"}"#, &[], "hosts must be a list of texts"),
            (r#"{"live-restore": false}"#, &[], "containers always outlive the daemon"),
            ("[]", &[], "not a JSON object"),
            ("{\"debug\": tr", &[], "EOF while parsing"),
            (r#"{"max-concurrent-downloads": 0}"#, &[], "0 is not in"),
        ] {
            let error = read_with(text, flags).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        let words = vec!["knarr".to_owned(), "--config-file=/none/daemon.json".to_owned()];
        let matches = Service::command().try_get_matches_from(&words).unwrap();
        assert!(with_file(words, &matches).unwrap_err().to_string().contains("/none/daemon.json"));
    }
}
