//! What engines weigh: proportional set sizes, which share out shared pages.

use std::{fs, thread, time::Duration};

use anyhow::{Context, Result, bail};

use super::engines::{Engine, IMAGE};
use crate::shell::output;

/// The engine's own processes while nothing runs, and those that one sleeping container adds, in KiB.
pub(super) fn of(engine: &dyn Engine) -> Result<Vec<(&'static str, u64)>> {
    let (standing, each) = engine.programs();
    let mut found = Vec::new();
    // Some engines go on tidying for a moment after a run.
    thread::sleep(Duration::from_secs(2));
    for program in standing {
        found.push((*program, weigh(engine, program)?));
    }
    output(&mut engine.client(&[
        "run",
        "--detach",
        "--name",
        "sleeper",
        "--network",
        "none",
        IMAGE,
        "sleep",
        "1000",
    ]))?;
    thread::sleep(Duration::from_secs(1));
    let weights: Result<Vec<_>> =
        each.iter().map(|program| Ok((*program, weigh(engine, program)?))).collect();
    let removed = output(&mut engine.client(&["rm", "--force", "sleeper"]));
    found.extend(weights?);
    removed?;
    Ok(found)
}

/// The sum of an engine's processes of this name.
fn weigh(engine: &dyn Engine, program: &str) -> Result<u64> {
    let mut sum = 0;
    for process in fs::read_dir("/proc")?.flatten() {
        let path = process.path();
        let line = fs::read(path.join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        let own = line.contains(engine.mark())
            || engine.service().is_some_and(|pid| path.ends_with(pid.to_string()));
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
        // The kernel keeps fifteen characters of a name.
        if own && name.trim() == &program[..program.len().min(15)] {
            sum +=
                pss(&fs::read_to_string(path.join("smaps_rollup")).unwrap_or_default()).context("no Pss")?;
        }
    }
    if sum == 0 {
        bail!("found no process {program} that names {}", engine.mark());
    }
    Ok(sum)
}

fn pss(rollup: &str) -> Option<u64> {
    rollup.lines().find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_line_counts() {
        assert_eq!(pss("Rss:  9 kB\nPss_Dirty: 7 kB\nPss:   8 kB\n"), Some(8));
        assert_eq!(pss(""), None);
    }
}
