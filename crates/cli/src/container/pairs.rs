//! `KEY=VALUE` pairs from flags and from files.

use std::path::Path;

use api::create::Pairs;

use crate::client::plain;
use crate::error::{Result, message};

/// Pairs by name; one without `=` has an empty value.
pub(crate) fn map(pairs: &[String]) -> Pairs {
    let split = |pair: &String| match pair.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => (pair.clone(), String::new()),
    };
    pairs.iter().map(split).collect()
}

/// Labels of files, then of flags.
pub(crate) fn labels(files: &[impl AsRef<Path>], flags: &[String]) -> Result<Pairs> {
    let mut all = Vec::new();
    for file in files {
        all.extend(lines(file.as_ref(), |_| None)?);
    }
    all.extend_from_slice(flags);
    if let Some(bad) = all.iter().find(|label| label.is_empty() || label.starts_with('=')) {
        return Err(message(format!("invalid label '{bad}': empty name")));
    }
    Ok(map(&all))
}

/// The environment of files, then of flags; a bare name in a file is taken from our own environment if it is there.
pub(crate) fn environment(files: &[impl AsRef<Path>], flags: &[String]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for file in files {
        all.extend(lines(file.as_ref(), |name| {
            Some(std::env::var(name).ok().map(|value| format!("{name}={value}")))
        })?);
    }
    all.extend_from_slice(flags);
    Ok(all)
}

/// The lines of a file that are neither empty nor a comment. `bare` says what a line without `=` stands for:
/// itself, something else, or nothing.
fn lines(path: &Path, bare: impl Fn(&str) -> Option<Option<String>>) -> Result<Vec<String>> {
    let shown = path.display();
    let bytes = std::fs::read(path).map_err(|e| message(format!("open {shown}: {}", plain(&e))))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| message(format!("env file {shown} contains invalid utf8 bytes")))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut out = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split_once('=').map_or(line, |(name, _)| name);
        if name.is_empty() {
            return Err(message(format!("no variable name on line '{line}' ({shown}:{})", at + 1)));
        }
        if name.contains(char::is_whitespace) {
            return Err(message(format!("variable '{name}' contains whitespaces ({shown}:{})", at + 1)));
        }
        match if line.contains('=') { None } else { bare(line) } {
            None => out.push(line.to_owned()),
            Some(other) => out.extend(other),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn files_come_before_flags() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "\u{feff}# comment\n\n A=1\nPATH\nNOT_THERE_AT_ALL\nB=x y=z \n").unwrap();
        let env = environment(&[file.path()], &["A=2".into()]).unwrap();
        let path = format!("PATH={}", std::env::var("PATH").unwrap());
        assert_eq!(env, ["A=1", &path, "B=x y=z ", "A=2"]);
        let labels = labels(&[file.path()], &["A=2".into()]).unwrap();
        assert_eq!(labels["A"], "2");
        assert_eq!(labels["PATH"], "");
    }

    #[test]
    fn bad_files_are_named() {
        let none: [&str; 0] = [];
        assert_eq!(
            environment(&["/nope"], &[]).unwrap_err().to_string(),
            "open /nope: no such file or directory"
        );
        assert!(labels(&none, &["=x".into()]).is_err());
    }
}
