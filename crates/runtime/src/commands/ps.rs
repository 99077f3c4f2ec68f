//! `ps`: a container's processes, as the host's ps shows them.

use std::process::Command;

use super::{Context, list::wants_json, print, print_line};
use crate::{
    cgroup,
    container::Container,
    error::{Error, Result},
};

pub(super) fn ps(context: &mut Context) -> Result<u8> {
    let json = wants_json(context)?;
    let container = Container::load(&context.global.root, context.call.id())?;
    let mut pids = cgroup::group_pids(&container.record.places);
    pids.sort_unstable();
    if json {
        return print_line(&pids);
    }
    let options = match &context.call.words[1..] {
        [] => &["-ef".to_owned()],
        options => options,
    };
    let said = Command::new("ps").args(options).output().map_err(|error| {
        Error::refused("run ps", &error).hint_on(
            rustix::io::Errno::NOENT,
            "the table is that of ps(1), Debian's package procps; --format json needs none",
        )
    })?;
    if !said.status.success() {
        let why = String::from_utf8_lossy(&said.stderr);
        return Err(Error::new(format!("ps {}: {}", options.join(" "), why.trim_end())));
    }
    print(&only(&String::from_utf8_lossy(&said.stdout), &pids)?);
    Ok(0)
}

/// The heading and the lines of these processes.
fn only(table: &str, pids: &[i32]) -> Result<String> {
    let heading = table.lines().next().unwrap_or_default();
    let column = heading.split_whitespace().position(|title| title == "PID");
    let column = column.ok_or_else(|| Error::new("couldn't find PID field in ps output"))?;
    let wanted = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|pid| pid.parse().ok());
        pid.is_some_and(|pid: i32| pids.contains(&pid))
    };
    let lines = [heading].into_iter().chain(table.lines().skip(1).filter(wanted));
    Ok(lines.flat_map(|line| [line, "\n"]).collect())
}

#[cfg(test)]
mod tests {
    use super::only;

    #[test]
    fn lines_are_chosen_by_the_column_of_pids() {
        let table = "USER   PID CMD\nroot     7 sleep 8\nroot     8 sleep 7\n";
        assert_eq!(only(table, &[7]).unwrap(), "USER   PID CMD\nroot     7 sleep 8\n");
        assert!(only("COMMAND\nsleep\n", &[7]).is_err());
    }
}
