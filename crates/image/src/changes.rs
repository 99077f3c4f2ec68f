//! `Dockerfile` instructions that change a config: those of `import --change`.

mod words;

use std::collections::BTreeSet;

use oci::image::{Config, Healthcheck};

use crate::Error;
use words::{Quotes, words};

/// One instruction: what comes after its name goes into the config.
type Apply = fn(&mut Config, &str) -> Result<(), Error>;

const INSTRUCTIONS: [(&str, Apply); 11] = [
    ("CMD", |config, rest| {
        config.cmd = command(rest);
        Ok(())
    }),
    ("ENTRYPOINT", |config, rest| {
        config.entrypoint = command(rest);
        Ok(())
    }),
    ("ENV", |config, rest| {
        for (name, value) in pairs("ENV", rest, config)? {
            set_env(&mut config.env, &name, &value);
        }
        Ok(())
    }),
    ("EXPOSE", |config, rest| {
        for port in some("EXPOSE", rest, config)? {
            config.exposed_ports.extend(ports(&port)?);
        }
        Ok(())
    }),
    ("HEALTHCHECK", |config, rest| {
        config.healthcheck = Some(healthcheck(rest)?);
        Ok(())
    }),
    ("LABEL", |config, rest| {
        config.labels.extend(pairs("LABEL", rest, config)?);
        Ok(())
    }),
    ("ONBUILD", |config, rest| {
        let trigger = rest.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        match trigger.as_str() {
            "" => return Err(Error::invalid("ONBUILD requires at least one argument")),
            "ONBUILD" => {
                return Err(Error::invalid("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"));
            }
            "MAINTAINER" | "FROM" => {
                return Err(Error::Invalid(format!("{trigger} isn't allowed as an ONBUILD trigger")));
            }
            _ => config.on_build.push(rest.to_owned()),
        }
        Ok(())
    }),
    ("STOPSIGNAL", |config, rest| {
        let signal = single("STOPSIGNAL", rest, config)?;
        if !is_signal(&signal) {
            return Err(Error::Invalid(format!("Invalid signal: {signal}")));
        }
        config.stop_signal = Some(signal);
        Ok(())
    }),
    ("USER", |config, rest| {
        config.user = single("USER", rest, config)?;
        Ok(())
    }),
    ("VOLUME", |config, rest| {
        let paths = match serde_json::from_str::<Vec<String>>(rest) {
            Ok(paths) => paths,
            Err(_) => some("VOLUME", rest, config)?,
        };
        if paths.iter().any(|path| path.trim().is_empty()) {
            return Err(Error::invalid("VOLUME specified can not be an empty string"));
        }
        config.volumes.extend(paths);
        Ok(())
    }),
    ("WORKDIR", |config, rest| {
        let path = single("WORKDIR", rest, config)?;
        config.working_dir = clean(&config.working_dir, &path);
        Ok(())
    }),
];

/// The config with these changes.
pub(crate) fn apply(mut config: Config, changes: &[String]) -> Result<Config, Error> {
    let mut given_command = false;
    for change in changes.iter().flat_map(|text| logical_lines(text)) {
        let (name, rest) = change.split_once(char::is_whitespace).unwrap_or((&change, ""));
        let upper = name.to_ascii_uppercase();
        let Some((_, apply)) = INSTRUCTIONS.iter().find(|(known, _)| *known == upper) else {
            return Err(Error::Invalid(format!("{name} is not a valid change command")));
        };
        apply(&mut config, rest.trim())?;
        given_command |= upper == "CMD";
        // A new entrypoint leaves the old command behind, as in a Dockerfile.
        if upper == "ENTRYPOINT" && !given_command {
            config.cmd = None;
        }
    }
    Ok(config)
}

/// Fills what `config` leaves open with what `below` says, as Docker does when a config comes with a commit.
pub(crate) fn inherit(config: &mut Config, below: &Config) {
    for (own, other) in [(&mut config.user, &below.user), (&mut config.working_dir, &below.working_dir)] {
        if own.is_empty() {
            own.clone_from(other);
        }
    }
    config.exposed_ports.extend(below.exposed_ports.iter().cloned());
    config.volumes.extend(below.volumes.iter().cloned());
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let given: Vec<_> = config.env.iter().map(|entry| name(entry)).collect();
    config.env.extend(below.env.iter().filter(|entry| !given.contains(&name(entry))).cloned());
    for (key, value) in &below.labels {
        config.labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    if config.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        if config.cmd.as_ref().is_none_or(Vec::is_empty) {
            config.cmd.clone_from(&below.cmd);
        }
        config.entrypoint.clone_from(&below.entrypoint);
    }
    if config.healthcheck.is_none() {
        config.healthcheck.clone_from(&below.healthcheck);
    }
    if config.stop_signal.is_none() {
        config.stop_signal.clone_from(&below.stop_signal);
    }
    if config.shell.is_none() {
        config.shell.clone_from(&below.shell);
    }
}

/// Lines without comments, with those that end in a backslash joined to their next.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for part in text.lines().map(str::trim).filter(|part| !part.starts_with('#')) {
        if let Some(begun) = part.strip_suffix('\\') {
            line.push_str(begun);
            continue;
        }
        line.push_str(part);
        lines.push(std::mem::take(&mut line));
    }
    lines.push(line);
    lines.retain(|line| !line.trim().is_empty());
    lines
}

/// Exec form if it is a list of strings, else shell form; nothing takes it away.
fn command(rest: &str) -> Option<Vec<String>> {
    let shell = || vec!["/bin/sh".into(), "-c".into(), rest.to_owned()];
    (!rest.is_empty()).then(|| serde_json::from_str(rest).unwrap_or_else(|_| shell()))
}

/// `NONE`, or `[--interval=…] CMD …` as a command is written.
fn healthcheck(rest: &str) -> Result<Healthcheck, Error> {
    let mut probe = Healthcheck::default();
    let mut rest = rest.trim_start();
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, after) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
        let time = || {
            words::duration(value).ok_or_else(|| Error::Invalid(format!("time: invalid duration {value:?}")))
        };
        match name {
            "interval" => probe.interval = time()?,
            "timeout" => probe.timeout = time()?,
            "start-period" => probe.start_period = time()?,
            "start-interval" => probe.start_interval = time()?,
            "retries" => {
                let count = value.parse().ok().filter(|count| *count >= 0);
                probe.retries = count
                    .ok_or_else(|| Error::Invalid(format!("--retries must be a number, not {value:?}")))?;
            }
            _ => return Err(Error::Invalid(format!("unknown flag: --{name}"))),
        }
        rest = after.trim_start();
    }
    let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let command = command.trim();
    probe.test = match (kind.to_ascii_uppercase().as_str(), command) {
        ("", _) => return Err(Error::invalid("HEALTHCHECK requires at least one argument")),
        ("NONE", "") => vec!["NONE".to_owned()],
        ("NONE", _) => return Err(Error::invalid("HEALTHCHECK NONE takes no arguments")),
        ("CMD", "") => return Err(Error::invalid("missing command after HEALTHCHECK CMD")),
        ("CMD", text) => match serde_json::from_str::<Vec<String>>(text) {
            Ok(words) => [vec!["CMD".to_owned()], words].concat(),
            Err(_) => vec!["CMD-SHELL".to_owned(), text.to_owned()],
        },
        (other, _) => {
            return Err(Error::Invalid(format!("Unknown type {other:?} in HEALTHCHECK (try CMD)")));
        }
    };
    Ok(probe)
}

fn some(name: &str, rest: &str, config: &Config) -> Result<Vec<String>, Error> {
    let words = words(rest, &config.env, Quotes::Removed)?;
    if words.is_empty() {
        return Err(Error::Invalid(format!("{name} requires at least one argument")));
    }
    Ok(words)
}

/// Everything after the name, spaces included, as Docker takes it.
fn single(name: &str, rest: &str, config: &Config) -> Result<String, Error> {
    if rest.is_empty() {
        return Err(Error::Invalid(format!("{name} requires exactly one argument")));
    }
    words::expand(rest, &config.env)
}

/// `NAME=value NAME="other value"`, or the old `NAME value to the end of the line`.
fn pairs(instruction: &str, rest: &str, config: &Config) -> Result<Vec<(String, String)>, Error> {
    let quoted = words(rest, &config.env, Quotes::Kept)?;
    let first = quoted
        .first()
        .ok_or_else(|| Error::Invalid(format!("{instruction} requires at least one argument")))?;
    if !first.contains('=') {
        let (name, value) = rest
            .split_once(char::is_whitespace)
            .ok_or_else(|| Error::Invalid(format!("{instruction} must have two arguments")))?;
        return Ok(vec![(name.to_owned(), words::expand(value.trim_start(), &config.env)?)]);
    }
    let pair = |word: &String| {
        let (name, value) = word.split_once('=').ok_or_else(|| {
            Error::Invalid(format!(
                "Syntax error - can't find = in {word:?}. Must be of the form: name=value"
            ))
        })?;
        if name.is_empty() {
            return Err(Error::Invalid(format!("{instruction} names can not be blank")));
        }
        Ok((words::expand(name, &config.env)?, words::expand(value, &config.env)?))
    };
    quoted.iter().map(pair).collect()
}

fn set_env(env: &mut Vec<String>, name: &str, value: &str) {
    let entry = format!("{name}={value}");
    match env.iter_mut().find(|old| old.split('=').next() == Some(name)) {
        Some(old) => *old = entry,
        None => env.push(entry),
    }
}

/// `80`, `80/udp`, `8000-8010/tcp`.
fn ports(text: &str) -> Result<BTreeSet<String>, Error> {
    let wrong = || Error::Invalid(format!("invalid containerPort: {text}"));
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(Error::Invalid(format!("invalid proto: {protocol}")));
    }
    let (from, to) = range.split_once('-').unwrap_or((range, range));
    let port = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| digits).ok_or_else(wrong)
    };
    let (from, to) = (port(from)?, port(to)?);
    if from > to {
        return Err(wrong());
    }
    Ok((from..=to).map(|port| format!("{port}/{protocol}")).collect())
}

/// The absolute path that `path` is from `from`, by its text alone: there is no file system to ask yet.
fn clean(from: &str, path: &str) -> String {
    let joined = if path.starts_with('/') { path.to_owned() } else { format!("{from}/{path}") };
    let mut parts = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// A number, or a name with or without `SIG`.
fn is_signal(text: &str) -> bool {
    const NAMES: [&str; 38] = [
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
        "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
        "TTIN", "TTOU", "UNUSED", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
        "EMT",
    ];
    if let Ok(number) = text.parse::<u8>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |start: &str, most: u8| {
        name.strip_prefix(start).and_then(|n| n.parse::<u8>().ok()).is_some_and(|n| (1..=most).contains(&n))
    };
    NAMES.contains(&name) || real_time("RTMIN+", 15) || real_time("RTMAX-", 14)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(changes: &[&str]) -> Result<Config, String> {
        let changes: Vec<_> = changes.iter().map(|c| (*c).to_owned()).collect();
        apply(Config::default(), &changes).map_err(|e| e.to_string())
    }

    #[test]
    fn every_instruction_changes_the_config() {
        let config = config(&[
            "CMD [\"a\", \"b c\"]",
            "entrypoint echo $HOME \"x\"",
            "ENV A=1 B=\"two words\" C='single $A' D=$A-${A}\\ x",
            "ENV OLD style value",
            "ENV A=2",
            "EXPOSE 80 53/udp 8000-8002/TCP",
            "LABEL a.b=\"c d\" e=f",
            "STOPSIGNAL SIGRTMIN+3",
            "USER 1000:1000",
            "VOLUME [\"/data\", \"/with space\"]",
            "VOLUME /a /b",
            "WORKDIR /srv",
            "HEALTHCHECK --interval=1m30s --retries=3 CMD curl -f http://localhost/ || exit 1",
            "ONBUILD RUN make",
            "# a comment",
            "WORKDIR \\\n  app/../www",
        ])
        .unwrap();
        assert_eq!(config.cmd.unwrap(), ["a", "b c"]);
        assert_eq!(config.entrypoint.unwrap(), ["/bin/sh", "-c", "echo $HOME \"x\""]);
        assert_eq!(
            config.env,
            ["A=2", "B=two words", "C=single $A", "D=-\\ x".replace('\\', "").as_str(), "OLD=style value"]
        );
        let ports: Vec<_> = config.exposed_ports.into_iter().collect();
        assert_eq!(ports, ["53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp"]);
        assert_eq!(config.labels["a.b"], "c d");
        assert_eq!(config.labels["e"], "f");
        assert_eq!(config.stop_signal.unwrap(), "SIGRTMIN+3");
        assert_eq!(config.user, "1000:1000");
        let volumes: Vec<_> = config.volumes.into_iter().collect();
        assert_eq!(volumes, ["/a", "/b", "/data", "/with space"]);
        assert_eq!(config.working_dir, "/srv/www");
        let probe = config.healthcheck.unwrap();
        assert_eq!(probe.test, ["CMD-SHELL", "curl -f http://localhost/ || exit 1"]);
        assert_eq!((probe.interval, probe.retries), (90_000_000_000, 3));
        assert_eq!(config.on_build, ["RUN make"]);
    }

    #[test]
    fn variables_come_from_the_changes_before() {
        let config = config(&["ENV A=1", "ENV B=${A}2 C=\\$A D=${X:-else}${A:+yes}", "USER $B"]).unwrap();
        assert_eq!(config.env, ["A=1", "B=12", "C=$A", "D=elseyes"]);
        assert_eq!(config.user, "12");
    }

    #[test]
    fn errors_are_dockers() {
        for (change, error) in [
            ("RUN x", "RUN is not a valid change command"),
            ("nonsense", "nonsense is not a valid change command"),
            ("ENV", "ENV requires at least one argument"),
            ("ENV A", "ENV must have two arguments"),
            ("ENV A=1 B", "Syntax error - can't find = in \"B\". Must be of the form: name=value"),
            ("LABEL =x", "LABEL names can not be blank"),
            ("EXPOSE", "EXPOSE requires at least one argument"),
            ("EXPOSE 70000", "invalid containerPort: 70000"),
            ("EXPOSE +80", "invalid containerPort: +80"),
            ("EXPOSE 9-8", "invalid containerPort: 9-8"),
            ("EXPOSE 80/x", "invalid proto: x"),
            ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
            ("HEALTHCHECK --interval=x CMD true", "time: invalid duration \"x\""),
            ("HEALTHCHECK CMD", "missing command after HEALTHCHECK CMD"),
            ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
            ("ONBUILD from x", "FROM isn't allowed as an ONBUILD trigger"),
            ("STOPSIGNAL x", "Invalid signal: x"),
            ("STOPSIGNAL 65", "Invalid signal: 65"),
            ("USER", "USER requires exactly one argument"),
            ("VOLUME [\"\"]", "VOLUME specified can not be an empty string"),
            ("WORKDIR", "WORKDIR requires exactly one argument"),
            (
                "ENV A=\"x",
                r#"failed to process "\"x": unexpected end of statement while looking for matching double-quote"#,
            ),
            ("ENV A=${B", r#"failed to process "${B": syntax error: missing '}'"#),
        ] {
            assert_eq!(config(&[change]).unwrap_err(), error, "{change}");
        }
    }
}
