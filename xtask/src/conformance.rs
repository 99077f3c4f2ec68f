//! `cargo xtask conformance`: the runtime's tests, with other runtimes in its place. Where a peer does something else,
//! `COMPAT.md` must say so and why.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::Path,
};

use anyhow::{Context, Result, bail};

use crate::{
    house,
    shell::{self, cargo, command, want_root},
};

/// Test programs that ask a runtime for what any runtime does.
const SUITES: [&str; 14] = [
    "conformance",
    "exec",
    "lifecycle",
    "limits",
    "mounts",
    "mounts_devices",
    "mounts_ids",
    "namespaces",
    "net_devices",
    "process",
    "process_exec",
    "process_hooks",
    "rootless",
    "world",
];

/// crun refuses hybrid hierarchies: it is shown, in a mount namespace of its own, those of v1 alone.
const VIEW: &str = "test -d /sys/fs/cgroup/unified || exec \"$@\"; old=$(mktemp -d) && \
    mount --rbind /sys/fs/cgroup $old && mount -t tmpfs cgroup /sys/fs/cgroup && for one in $old/*/; do \
    name=$(basename $one); test $name = unified && continue; mkdir /sys/fs/cgroup/$name && \
    mount --bind $one /sys/fs/cgroup/$name || exit 1; done; umount -l $old && rmdir $old && exec \"$@\"";

/// What became of each test.
type Outcome = BTreeMap<String, bool>;

fn run_one(runtime: &str, suites: &[&str]) -> Result<Outcome> {
    let mut outcome = Outcome::new();
    for suite in suites {
        let test =
            ["test", "--quiet", "--package", "knarr-runtime", "--test", suite, "--", "--format=pretty"];
        let mut tests = cargo(&test);
        if runtime == "crun" {
            let program = tests.get_program().to_owned();
            tests = command(&["unshare", "--mount", "--propagation=private", "sh", "-c", VIEW, "sh"]);
            tests.arg(program).args(test);
        }
        if runtime != "ours" {
            tests.env("RUNTIME", runtime);
        }
        let output = tests.output().with_context(|| format!("run the tests of {suite}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let found = results(&text);
        if found.is_empty() {
            bail!("{suite}: no test was run\n{}{text}", String::from_utf8_lossy(&output.stderr));
        }
        outcome.extend(found.into_iter().map(|(name, ok)| (format!("{suite}::{name}"), ok)));
    }
    Ok(outcome)
}

/// Lines as `test NAME ... ok`.
fn results(text: &str) -> Vec<(String, bool)> {
    let lines = text.lines().filter_map(|line| {
        let (name, word) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
        let ok = match word {
            "ok" => true,
            "FAILED" => false,
            _ => return None,
        };
        Some((name.to_owned(), ok))
    });
    lines.collect()
}

/// Rows of a runtime, the name of a test, and why: the first two.
fn explained(markdown: &str) -> BTreeSet<(String, String)> {
    let rows = markdown.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, runtime, test, why, _] = cells[..] else { return None };
        let test = test.strip_prefix('`')?.strip_suffix('`')?;
        (!why.is_empty() && test.contains("::")).then(|| (runtime.to_owned(), test.to_owned()))
    });
    rows.collect()
}

/// Against these, or all three.
pub(crate) fn run(runtimes: &[&str]) -> Result<()> {
    want_root("the conformance run")?;
    shell::run(&mut cargo(&["build", "--package", "knarr-runtime", "--tests", "--bins"]))?;
    let runtimes = if runtimes.is_empty() { &["ours", "runc", "crun"] } else { runtimes };
    let here = |suite: &&str| house().join(format!("crates/runtime/tests/{suite}.rs")).exists();
    let suites: Vec<&str> = SUITES.into_iter().filter(here).collect();
    let explained = explained(&fs::read_to_string(house().join("COMPAT.md"))?);
    let mut columns = Vec::new();
    for runtime in runtimes {
        eprintln!("{runtime}: {}", suites.join(" "));
        columns.push(run_one(runtime, &suites)?);
    }
    let names: BTreeSet<&String> = columns.iter().flat_map(BTreeMap::keys).collect();
    let mut surprises = Vec::new();
    print_row("test", runtimes);
    for name in names {
        let mut words = Vec::new();
        for (runtime, column) in runtimes.iter().zip(&columns) {
            let short = Path::new(runtime).file_name().unwrap_or_default().to_string_lossy().into_owned();
            let known = explained.contains(&(short.clone(), name.clone()));
            let word = match (column.get(name), known) {
                (Some(true), false) => "ok",
                (Some(false), true) => "differs",
                (None, _) => "-",
                (Some(ok), _) => {
                    let what = if *ok { "passes, and COMPAT.md says it does not" } else { "FAILS" };
                    surprises.push(format!("{short}: {name} {what}"));
                    if *ok { "ok?" } else { "FAILED" }
                }
            };
            words.push(word);
        }
        print_row(name, &words);
    }
    if surprises.is_empty() { Ok(()) } else { bail!("not explained in COMPAT.md:\n{}", surprises.join("\n")) }
}

fn print_row(first: &str, others: &[&str]) {
    let mut row = format!("{first:<70}");
    for word in others {
        let _ = write!(row, "{word:<12}");
    }
    println!("{}", row.trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_and_explanations_are_read() {
        let text = "\nrunning 2 tests\ntest a ... ok\ntest b::c ... FAILED\ntest d ... ignored, slow\n";
        assert_eq!(results(text), [("a".to_owned(), true), ("b::c".to_owned(), false)]);
        let rows = explained(
            "| runtime | test | why |\n|---|---|---|\n| runc | `life::hooks` | late |\n| a | b | c |\n",
        );
        assert_eq!(rows.into_iter().collect::<Vec<_>>(), [("runc".to_owned(), "life::hooks".to_owned())]);
    }
}
