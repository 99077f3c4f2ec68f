//! The test programs that cargo builds, and the tests in each.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::Value;

use super::guests::{GUESTS, Guest};
use crate::shell::{cargo, output};

/// A program with tests in it.
pub(super) struct Program {
    pub(super) package: String,
    /// As cargo calls the target.
    pub(super) name: String,
    /// Where cargo has put it, which is also where it is in a guest.
    pub(super) path: PathBuf,
    /// The package's folder, which tests run in.
    pub(super) folder: PathBuf,
    tests: Vec<String>,
}

/// A program's tests that are to run in one guest.
pub(super) struct Suite<'a> {
    pub(super) program: &'a Program,
    pub(super) tests: Vec<&'a str>,
    /// Tests that do not, with the reason.
    pub(super) left_out: BTreeMap<&'a str, &'static str>,
}

/// Builds every test program that some guest runs.
pub(super) fn build() -> Result<Vec<Program>> {
    let mut packages: Vec<&str> =
        GUESTS.iter().flat_map(|guest| guest.runs).map(|runs| runs.package).collect();
    packages.sort_unstable();
    packages.dedup();
    let mut words = vec!["test", "--quiet", "--no-run", "--message-format=json-render-diagnostics"];
    let mut found = Vec::new();
    for package in &packages {
        words.extend(["--package", package]);
    }
    found.extend(artifacts(&words)?);
    // Cargo builds these only when they are named: on other machines than a guest they can do nothing but fail.
    words.truncate(4);
    found.extend(artifacts(&[&words[..], &["--package", "knarr-runtime", "--test", "guest_*"]].concat())?);
    Ok(found)
}

fn artifacts(words: &[&str]) -> Result<Vec<Program>> {
    let said = output(&mut cargo(words))?;
    let mut found = Vec::new();
    for line in said.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let message: Value = serde_json::from_slice(line).context("cargo's messages")?;
        if let (Some(true), Some(path)) =
            (message["profile"]["test"].as_bool(), message["executable"].as_str())
        {
            let manifest = Path::new(message["manifest_path"].as_str().unwrap_or_default());
            let folder = manifest.parent().unwrap_or(manifest).to_owned();
            let name = message["target"]["name"].as_str().unwrap_or_default().to_owned();
            let package = package_of(message["package_id"].as_str().unwrap_or_default());
            let tests = tests_of(path)?;
            found.push(Program { package, name, path: path.into(), folder, tests });
        }
    }
    Ok(found)
}

/// `path+file:///house/crates/runtime#knarr-runtime@0.1.0`, or without the name if it is the folder's.
fn package_of(id: &str) -> String {
    let (before, after) = id.split_once('#').unwrap_or((id, ""));
    match after.split_once('@') {
        Some((name, _)) => name.to_owned(),
        None => before.rsplit('/').next().unwrap_or_default().to_owned(),
    }
}

fn tests_of(program: &str) -> Result<Vec<String>> {
    let said = output(Command::new(program).args(["--list", "--format", "terse"]))?;
    let said = String::from_utf8(said)?;
    Ok(said.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}

impl Program {
    /// What `guest` is to run of it; `filters` are parts of names, of tests or of the program.
    pub(super) fn suite(&self, guest: &Guest, filters: &[&str]) -> Option<Suite<'_>> {
        let wanted = |test: &&String| {
            guest.takes(&self.package, &self.name, test)
                && (filters.is_empty()
                    || filters.iter().any(|part| test.contains(part) || self.name.contains(part)))
        };
        let mut suite = Suite { program: self, tests: Vec::new(), left_out: BTreeMap::new() };
        for test in self.tests.iter().filter(wanted) {
            match guest.leaves_out(&self.package, &self.name, test) {
                Some(left) => drop(suite.left_out.insert(test, left.why)),
                None => suite.tests.push(test),
            }
        }
        (!suite.tests.is_empty() || !suite.left_out.is_empty()).then_some(suite)
    }
}

impl Suite<'_> {
    /// Room and program.
    pub(super) fn title(&self) -> String {
        let room = self.program.package.trim_start_matches("knarr-");
        let unit = room == self.program.name || self.program.package == self.program.name;
        format!("{room} {}", if unit { "(unit tests)" } else { &self.program.name })
    }
}

/// Programs without what only a debugger reads, which is most of their size.
pub(super) fn strip(program: &Path, folder: &Path) -> Result<PathBuf> {
    let name = program.file_name().context("a program has a name")?;
    let slim = folder.join(name);
    output(Command::new("strip").arg("-o").arg(&slim).arg(program))?;
    fs::metadata(&slim).with_context(|| slim.display().to_string())?;
    Ok(slim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_read_from_ids() {
        assert_eq!(package_of("path+file:///w/crates/runtime#knarr-runtime@0.1.0"), "knarr-runtime");
        assert_eq!(package_of("path+file:///w/xtask#0.1.0"), "xtask");
    }
}
