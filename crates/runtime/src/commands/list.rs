//! `list` and `ps`.

use std::fmt::Write as _;

use super::{Context, print, print_json, state::Shown};
use crate::{
    cgroup,
    container::Container,
    error::{Error, Result},
};

fn wants_json(context: &Context) -> Result<bool> {
    match context.call.value("format") {
        None | Some("table") => Ok(false),
        Some("json") => Ok(true),
        Some(_) => Err(Error::new("invalid format option")),
    }
}

pub(super) fn list(context: &mut Context) -> Result<u8> {
    let json = wants_json(context)?;
    let entries = std::fs::read_dir(&context.global.root).into_iter().flatten().flatten();
    let mut shown: Vec<Shown> = entries
        .filter_map(|entry| Container::load(&context.global.root, &entry.file_name().to_string_lossy()).ok())
        .map(|container| Shown::of(&container))
        .collect();
    shown.sort_by(|one, other| one.id.cmp(&other.id));
    if json {
        return print_json(&shown);
    }
    let mut text = String::new();
    if context.call.has("quiet") {
        text.extend(shown.iter().map(|container| format!("{}\n", container.id)));
    } else {
        let _ = writeln!(text, "{:<24}{:<12}{:<12}{:<40}CREATED", "ID", "PID", "STATUS", "BUNDLE");
        for container in &shown {
            let Shown { id, pid, bundle, created, .. } = container;
            let status = container.status.as_str();
            let _ = writeln!(text, "{id:<24}{pid:<12}{status:<12}{bundle:<40}{created}");
        }
    }
    print(&text);
    Ok(0)
}

pub(super) fn ps(context: &mut Context) -> Result<u8> {
    let json = wants_json(context)?;
    let container = Container::load(&context.global.root, context.call.id())?;
    let mut pids = cgroup::group_pids(&container.record.places);
    pids.sort_unstable();
    if json {
        return print_json(&pids);
    }
    let mut text = format!("{:<12}CMD\n", "PID");
    for pid in pids {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let _ = writeln!(text, "{pid:<12}{}", command.trim_end());
    }
    print(&text);
    Ok(0)
}
