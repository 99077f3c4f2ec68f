//! The rules of the house that a compiler does not know, kept by `cargo xtask tidy` and by a test.

mod arrows;
mod docs;
mod source;

use std::{
    cmp::Ordering,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::house;
use source::Source;

/// Lines of a function.
const LONG_FUNCTION: usize = 70;
/// How many functions may be longer. This number only falls.
const LONG_FUNCTIONS: usize = 0;
/// Lines of a file.
const LONG_FILE: usize = 700;

/// Where `unsafe` may stand: the room for it, and the signal handlers of the program of the `hello` image, which runs
/// in containers only and is linked into nothing.
const FENCE: [&str; 2] = ["crates/sys/", "crates/hello/program/signal.rs"];

/// Documents that every command of `knarr` appears in one of.
const DOCUMENTS: [&str; 2] = ["README.md", "docs/life-of-a-run.md"];

/// Where the command line's verbs are listed.
const VERBS: &str = "crates/cli/src/commands/mod.rs";

/// Prints what is untidy and fails if anything is.
pub(crate) fn run() -> Result<()> {
    let found = complaints(&house())?;
    for complaint in &found {
        eprintln!("{complaint}");
    }
    match found.len() {
        0 => Ok(()),
        count => bail!("{count} untidy places"),
    }
}

fn complaints(house: &Path) -> Result<Vec<String>> {
    let mut found = rooms(house)?;
    found.extend(sources(house)?);
    found.extend(documents(house)?);
    Ok(found)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

fn rooms(house: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for folder in folders(&house.join("crates"))? {
        match arrows::ROOMS.iter().find(|room| room.name == folder) {
            Some(room) => {
                let manifest = read(&house.join("crates").join(&folder).join("Cargo.toml"))?;
                found.extend(
                    arrows::complaints(room, &manifest)
                        .into_iter()
                        .map(|what| format!("crates/{folder}: {what}")),
                );
            }
            None => found.push(format!("crates/{folder}: no floor; enter it in xtask/src/tidy/arrows.rs")),
        }
    }
    Ok(found)
}

fn folders(path: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).with_context(|| path.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn sources(house: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for top in ["crates", "xtask", "e2e"] {
        walk(&house.join(top), &mut files)?;
    }
    let mut found = Vec::new();
    let mut long = Vec::new();
    for path in files {
        let name = path.strip_prefix(house)?.display().to_string();
        let text = read(&path)?;
        let source = Source::new(&text);
        found.extend(in_file(&name, &source));
        found.extend(
            machine_paths(house, &text).map(|line| format!("{name}:{line}: names a folder of this machine")),
        );
        let over = source.functions().into_iter().filter(|function| function.lines > LONG_FUNCTION);
        long.extend(over.map(|f| {
            format!("{name}:{}: fn {} has {} lines, over {LONG_FUNCTION}", f.line, f.name, f.lines)
        }));
    }
    match long.len().cmp(&LONG_FUNCTIONS) {
        Ordering::Greater => found.extend(long),
        Ordering::Less => {
            found.push(format!("only {} long functions are left: lower LONG_FUNCTIONS", long.len()));
        }
        Ordering::Equal => {}
    }
    Ok(found)
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(());
    };
    let mut entries = entries.collect::<std::io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if entry.file_name() != "target" {
                walk(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn in_file(name: &str, source: &Source<'_>) -> Vec<String> {
    let mut found = Vec::new();
    if !source.introduced() {
        found.push(format!("{name}:1: does not open with `//!`"));
    }
    if source.text.len() > LONG_FILE {
        found.push(format!("{name}: {} lines, over {LONG_FILE}", source.text.len()));
    }
    if FENCE.iter().any(|room| name.starts_with(room)) {
        found.extend(
            source.unexplained().iter().map(|line| format!("{name}:{line}: unsafe without a SAFETY: reason")),
        );
    } else {
        found.extend(
            source.unsafe_lines().iter().map(|line| format!("{name}:{line}: unsafe outside crates/sys")),
        );
    }
    found.extend(source.unfinished().iter().map(|(line, word)| format!("{name}:{line}: {word}")));
    found
}

/// Lines that name the folder that this is built in.
fn machine_paths<'t>(house: &Path, text: &'t str) -> impl Iterator<Item = usize> + use<'t> {
    let here = format!("{}/", house.display());
    text.lines().enumerate().filter(move |(_, line)| line.contains(&here)).map(|(at, _)| at + 1)
}

fn documents(house: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let architecture = read(&house.join("ARCHITECTURE.md"))?;
    let rows: Vec<_> = architecture.lines().filter_map(docs::row).collect();
    let rooms = folders(&house.join("crates"))?;
    // `knarr` is the program that the doors come out in, no room.
    for room in rooms.iter().filter(|room| *room != "knarr" && !rows.iter().any(|(name, _)| name == room)) {
        found.push(format!("ARCHITECTURE.md: its table lacks crates/{room}"));
    }
    for (name, leans_on) in rows {
        found.extend(arrows::differs(name, &leans_on).map(|what| format!("ARCHITECTURE.md: {what}")));
    }

    let mut shown = String::new();
    for document in markdown(house)? {
        let text = read(&house.join(&document))?;
        let folder = document.parent().unwrap_or(Path::new(""));
        for link in docs::links(&text).into_iter().filter(|link| !house.join(folder).join(link).exists()) {
            found.push(format!("{}: links to {link}, which is not there", document.display()));
        }
        for (file, test) in docs::named_tests(&text) {
            let there =
                fs::read_to_string(house.join(file)).is_ok_and(|code| code.contains(&format!("fn {test}(")));
            if !there {
                found.push(format!(
                    "{}: names the test {file}::{test}, which is not there",
                    document.display()
                ));
            }
        }
        if DOCUMENTS.iter().any(|name| Path::new(name) == document) {
            shown.push_str(&text);
        }
    }
    let commands = docs::commands(&read(&house.join(VERBS))?);
    if commands.is_empty() {
        found.push(format!("{VERBS}: no table of verbs is found in it"));
    }
    for command in commands.iter().filter(|command| !docs::shows(&shown, command)) {
        found.push(format!("`knarr {command}` is in none of {}", DOCUMENTS.join(", ")));
    }
    Ok(found)
}

/// The documents: Markdown at the top and in `docs/`.
fn markdown(house: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in ["", "docs"] {
        let Ok(entries) = fs::read_dir(house.join(folder)) else {
            continue;
        };
        for entry in entries {
            let name = PathBuf::from(folder).join(entry?.file_name());
            if name.extension().is_some_and(|extension| extension == "md") {
                found.push(name);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_is_tidy() {
        let found = complaints(&house()).unwrap();
        assert!(found.is_empty(), "\n{}", found.join("\n"));
    }

    #[test]
    fn machine_paths_are_found() {
        let house = Path::new("/srv/build/knarr");
        assert_eq!(
            machine_paths(house, "a\n\"/srv/build/knarr/x\"\n/srv/build/knarr2").collect::<Vec<_>>(),
            [2]
        );
    }

    #[test]
    fn each_rule_bites() {
        let text = "fn a() { unsafe { b() } }\n";
        let found = in_file("crates/engine/src/x.rs", &Source::new(text));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("//!") && found[1].contains("unsafe outside"));
        let found = in_file("crates/sys/src/x.rs", &Source::new(text));
        assert!(found[1].contains("SAFETY"), "{found:?}");
        let long = format!("//! x\n{}", "\n".repeat(LONG_FILE));
        assert_eq!(in_file("x.rs", &Source::new(&long)).len(), 1);
    }
}
