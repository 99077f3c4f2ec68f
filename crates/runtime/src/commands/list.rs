//! `list`: the containers below a root.

use std::{fmt::Write as _, fs, os::unix::fs::MetadataExt, path::Path};

use super::{Context, print, print_line, state::Shown};
use crate::{
    container::Container,
    error::{Error, Result},
};

/// Whether `--format` asks for JSON.
pub(super) fn wants_json(context: &Context) -> Result<bool> {
    match context.call.value("format") {
        None | Some("table") => Ok(false),
        Some("json") => Ok(true),
        Some(_) => Err(Error::new("invalid format option")),
    }
}

pub(super) fn list(context: &mut Context) -> Result<u8> {
    let json = wants_json(context)?;
    let entries = fs::read_dir(&context.global.root).into_iter().flatten().flatten();
    let found = entries
        .filter_map(|entry| Container::load(&context.global.root, &entry.file_name().to_string_lossy()).ok());
    let mut shown: Vec<Shown> = found
        .map(|container| {
            let mut shown = Shown::of(&container);
            shown.owner = owner(&container.directory);
            shown
        })
        .collect();
    shown.sort_by(|one, other| one.id.cmp(&other.id));
    if context.call.has("quiet") {
        print(&shown.into_iter().map(|container| container.id + "\n").collect::<String>());
        return Ok(0);
    }
    if json {
        // An empty list is `null` to those who parse what runc prints; both are read as no containers.
        return if shown.is_empty() { print_line(&()) } else { print_line(&shown) };
    }
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let rows = shown.into_iter().map(|container| {
        let Shown { id, pid, status, bundle, created, owner, .. } = container;
        [id, pid.to_string(), status.as_str().to_owned(), bundle, created, owner]
    });
    print(&table(&[head].into_iter().chain(rows).collect::<Vec<_>>()));
    Ok(0)
}

/// Columns that are at least twelve wide and three apart, as runc's.
fn table(rows: &[[String; 6]]) -> String {
    let width = |column: usize| {
        let widest = rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        (widest + 3).max(12)
    };
    let widths: [usize; 5] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(text, "{cell:<width$}");
        }
        let _ = writeln!(text, "{}", row[5]);
    }
    text
}

/// Who made it: a name, or `#` and a number.
fn owner(directory: &Path) -> String {
    let uid = fs::metadata(directory).map_or(0, |found| found.uid());
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| format!("#{uid}"))
}
