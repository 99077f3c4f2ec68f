//! `top`: the host's `ps`, asked about a container's processes.

use std::collections::HashSet;

use api::container::Top;
use hyper::StatusCode;
use tokio::process::Command;

use crate::{
    body::Reply,
    failure::{Failure, Result},
    router::Call,
};

pub(super) async fn top(call: Call) -> Result<Reply> {
    let container = call.engine().inspect(&call.name)?;
    if container.state.pid().is_none() {
        let text = format!("Container {} is not running", container.id);
        return Err(Failure::new(StatusCode::CONFLICT, text));
    }
    let pids: HashSet<i32> = call.engine().processes(&container.id).await?.into_iter().collect();
    let asked = match call.query.get("ps_args") {
        "" => "-ef",
        asked => asked,
    };
    let ran = Command::new("ps").args(asked.split_whitespace()).kill_on_drop(true).output().await;
    let ran = ran.map_err(|error| Failure::internal(format!("run ps on the host: {error}")))?;
    if !ran.status.success() {
        let said = String::from_utf8_lossy(&ran.stderr);
        return Err(Failure::invalid(format!("ps {asked}: {}", said.trim())));
    }
    call.json(StatusCode::OK, &table(&String::from_utf8_lossy(&ran.stdout), &pids)?)
}

/// The lines whose PID is among `pids`; the last column keeps its spaces.
fn table(printed: &str, pids: &HashSet<i32>) -> Result<Top> {
    let mut lines = printed.lines();
    let titles: Vec<String> =
        lines.next().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let column = titles.iter().position(|title| title == "PID");
    let column = column.ok_or_else(|| Failure::invalid("Couldn't find PID field in ps output"))?;
    let mut processes = Vec::new();
    for line in lines {
        let fields = fields(line, titles.len());
        let pid = fields.get(column).and_then(|pid| pid.parse().ok());
        if pid.is_some_and(|pid| pids.contains(&pid)) {
            processes.push(fields);
        }
    }
    Ok(Top { processes, titles })
}

fn fields(line: &str, count: usize) -> Vec<String> {
    let mut fields = Vec::with_capacity(count);
    let mut rest = line.trim();
    while fields.len() + 1 < count {
        let Some((field, after)) = rest.split_once(char::is_whitespace) else {
            break;
        };
        fields.push(field.to_owned());
        rest = after.trim_start();
    }
    if !rest.is_empty() {
        fields.push(rest.to_owned());
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_chosen_by_their_pid() {
        let printed = "UID          PID    PPID CMD\nroot           1       0 /sbin/init\nroot          42       1 sleep  10 20\n";
        let top = table(printed, &HashSet::from([42])).unwrap();
        assert_eq!(top.titles, ["UID", "PID", "PPID", "CMD"]);
        assert_eq!(top.processes, [["root", "42", "1", "sleep  10 20"]]);
        assert!(table("CMD\nx\n", &HashSet::new()).is_err());
    }
}
