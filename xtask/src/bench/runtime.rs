//! `cargo xtask bench runtime`: OCI runtimes alone, beside each other and beside the floor.
//!
//! One process per call, as an engine calls them, from a small C program that only forks and waits (`stopwatch.c`).
//! The floor is one more C program that asks the kernel for the same container and does nothing else (`floor.c`).

use std::{
    collections::BTreeMap,
    env,
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::{
    PAUSE,
    bundle::{self, Case},
    numbers::Summary,
    peers::{self, FLOOR, Peer, Verb},
};
use crate::shell::{self, Groups, Scratch};

/// Runs in each series.
const RUNS: usize = 10;
/// In a row before the next runtime's turn.
const ROW: usize = 5;

/// What is measured.
const MEASURES: [&str; 3] = ["create + start + delete", "run", "exec"];

/// Set in the process that measures, inside a view of the control groups that every runtime can work with.
const INSIDE: &str = "KNARR_BENCH_INSIDE";

/// Prepares a view with version 1 only where both versions are mounted, for crun refuses such hosts, and measures there.
/// `more`: further runtimes, `NAME=PROGRAM`.
pub(crate) fn run(more: &[&str]) -> Result<()> {
    shell::want_root("the benchmark")?;
    if env::var_os(INSIDE).is_some() {
        return measure_all(more);
    }
    crate::test::install()?;
    let hybrid = Path::new("/sys/fs/cgroup/unified").exists();
    let script = if hybrid { VERSION_ONE } else { "exec \"$@\"" };
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-ec", script, "sh"]);
    command.arg(env::current_exe()?).args(["bench", "runtime"]).args(more).env(INSIDE, "1");
    shell::run(&mut command)
}

/// A tmpfs over the control groups, with the hierarchies of version 1 bound back. Nothing outside changes.
const VERSION_ONE: &str = r#"
old=$(mktemp -d)
mount --rbind /sys/fs/cgroup "$old"
mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
for group in "$old"/*; do
    name=${group##*/}
    if [ "$name" = unified ] || [ -L "$group" ]; then continue; fi
    mkdir "/sys/fs/cgroup/$name"
    mount --bind "$group" "/sys/fs/cgroup/$name"
done
umount -R "$old"
rmdir "$old"
exec "$@"
"#;

/// Times of one runtime in one case, by measure, and its memory.
#[derive(Debug, Default)]
struct Times {
    spaced: BTreeMap<&'static str, Vec<Duration>>,
    in_a_row: BTreeMap<&'static str, Vec<Duration>>,
    /// The most that one of its processes held, KiB.
    resident: u64,
    /// What was charged for it in all, KiB.
    charged: Option<u64>,
}

fn measure_all(more: &[&str]) -> Result<()> {
    let programs = shell::build_small()?;
    let scratch = Scratch::new("bench-runtime")?;
    // A user namespace's root must be able to go through it.
    fs::set_permissions(scratch.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let groups = Groups::new("bench-runtime");
    // Records lie where engines put them: on a tmpfs.
    let state = Scratch::within(Path::new("/run"), "bench-runtime")?;
    let mut peers = vec![
        Peer::new(FLOOR, peers::compile("floor", scratch.path())?, state.path()),
        Peer::new("knarr", programs.join("knarr-runtime"), state.path()),
    ];
    peers.extend(peers::packaged(state.path()));
    for word in more {
        let (name, program) = word.split_once('=').context("further runtimes are given as NAME=PROGRAM")?;
        peers.push(Peer::new(name, program, state.path()));
    }
    peers.extend(peers::youki(state.path())?);
    let stopwatch = peers::compile("stopwatch", scratch.path())?;
    let mut watch = Stopwatch::start(Command::new(&stopwatch))?;
    let mut all = Vec::new();
    let names: Vec<&str> = peers.iter().map(|peer| peer.name.as_str()).collect();
    for case in Case::ALL {
        eprintln!("measuring with {}", case.name());
        let bench = Bench::new(&scratch, &groups, case)?;
        bench.prepare(&mut watch, &peers)?;
        let mut times = bench.series(&mut watch, &peers)?;
        for (peer, times) in peers.iter().zip(&mut times) {
            times.charged = bench.charged(&stopwatch, peer)?;
        }
        all.push((case, times));
        // A long run that is cut short has said something.
        eprintln!("{}", tables(&names, &all[all.len() - 1..]));
    }
    print!("{}", tables(&names, &all));
    Ok(())
}

/// The C program that times.
struct Stopwatch {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What it says of one call.
struct Call {
    took: Duration,
    kib: u64,
    code: i32,
}

impl Stopwatch {
    fn start(mut command: Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let ask = child.stdin.take().context("no pipe to the stopwatch")?;
        let answers = BufReader::new(child.stdout.take().context("no pipe from the stopwatch")?);
        Ok(Self { child, ask, answers })
    }

    fn say(&mut self, words: &[String]) -> Result<Call> {
        writeln!(self.ask, "{}", words.join("\t"))?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let numbers: Vec<i64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        match numbers.as_slice() {
            [nanos, kib, code] => Ok(Call {
                took: Duration::from_nanos(nanos.unsigned_abs()),
                kib: kib.unsigned_abs(),
                code: i32::try_from(*code)?,
            }),
            _ => bail!("the stopwatch says {line:?}"),
        }
    }

    fn call(&mut self, folder: &Path, words: &[String]) -> Result<Call> {
        let mut line = vec!["run".to_owned(), folder.display().to_string()];
        line.extend_from_slice(words);
        let call = self.say(&line)?;
        if call.code == 0 { Ok(call) } else { bail!("{}: exit code {}", words.join(" "), call.code) }
    }

    /// After a failure; while a container sleeps there is nothing to wait for.
    fn reap_short(&mut self, measure: &str) -> Result<()> {
        if measure == "exec" { Ok(()) } else { self.reap().map(drop) }
    }

    fn reap(&mut self) -> Result<Call> {
        self.say(&["reap".to_owned()])
    }
}

impl Drop for Stopwatch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One case.
struct Bench<'s> {
    case: Case,
    groups: &'s Groups,
    short: PathBuf,
    long: PathBuf,
    filter: PathBuf,
}

impl<'s> Bench<'s> {
    /// Two bundles: one whose program ends at once, one whose program sleeps.
    fn new(scratch: &Scratch, groups: &'s Groups, case: Case) -> Result<Self> {
        let folder = scratch.path().join(case.name().replace([' ', ','], "-"));
        let bench = Self {
            case,
            groups,
            short: folder.join("short"),
            long: folder.join("long"),
            filter: folder.join("filter"),
        };
        for path in [&bench.short, &bench.long] {
            fs::create_dir_all(path)?;
            bundle::make(path, case, bench.program(path), &bench.group(path))?;
        }
        Ok(bench)
    }

    fn program(&self, bundle: &Path) -> &'static str {
        if bundle == self.long { "/bin/sleep 1000" } else { "/bin/true" }
    }

    fn group(&self, bundle: &Path) -> String {
        let kind = if bundle == self.long { "long" } else { "short" };
        format!("{}/{kind}", self.groups.path())
    }

    fn id(&self, bundle: &Path) -> &'static str {
        if bundle == self.long { "long" } else { "short" }
    }

    /// Takes the floor's filter from ours, lists its groups, and lets everybody run once.
    fn prepare(&self, watch: &mut Stopwatch, peers: &[Peer]) -> Result<()> {
        let ours = peers.iter().find(|peer| peer.name == "knarr").context("knarr is measured")?;
        self.step(watch, ours, Verb::Create, &self.short)?;
        if self.case.seccomp {
            let kept = fs::read(ours.record(self.id(&self.short), "seccomp.bpf"))?;
            // Its flags come first.
            fs::write(&self.filter, kept.get(8..).context("the kept filter is cut short")?)?;
        }
        for path in [&self.short, &self.long] {
            let mut groups = Vec::new();
            for hierarchy in fs::read_dir("/sys/fs/cgroup")? {
                let below = self.group(path);
                let hierarchy = hierarchy?.path();
                let parent = hierarchy.join(self.groups.path().trim_start_matches('/'));
                if parent.is_dir() {
                    groups.push(hierarchy.join(below.trim_start_matches('/')));
                }
            }
            bundle::write_list(path, self.case, self.program(path), &groups, &self.filter)?;
        }
        self.step(watch, ours, Verb::Clear, &self.short)?;
        watch.reap()?;
        for peer in peers {
            for measure in ["create + start + delete", "run"].into_iter().filter(|measure| peer.can(measure))
            {
                self.once(watch, peer, measure)
                    .with_context(|| format!("{} cannot be measured here", peer.name))?;
            }
        }
        Ok(())
    }

    fn step(&self, watch: &mut Stopwatch, peer: &Peer, verb: Verb, bundle: &Path) -> Result<Call> {
        watch.call(bundle, &peer.words(verb, bundle, self.id(bundle)))
    }

    /// One measurement: how long, and the most memory.
    fn once(&self, watch: &mut Stopwatch, peer: &Peer, measure: &str) -> Result<(Duration, u64)> {
        let verbs: &[Verb] = match measure {
            "run" => &[Verb::Run],
            "exec" => {
                return self.step(watch, peer, Verb::Exec, &self.long).map(|call| (call.took, call.kib));
            }
            _ => &[Verb::Create, Verb::Start, Verb::Delete],
        };
        let (mut took, mut kib) = (Duration::ZERO, 0);
        for verb in verbs {
            if *verb == Verb::Delete {
                // What the container's program takes to end is nobody's merit.
                kib = kib.max(watch.reap()?.kib);
            }
            let call = self.step(watch, peer, *verb, &self.short)?;
            took += call.took;
            kib = kib.max(call.kib);
        }
        Ok((took, kib))
    }

    /// Every measure of every runtime, by turns.
    fn series(&self, watch: &mut Stopwatch, peers: &[Peer]) -> Result<Vec<Times>> {
        let mut all: Vec<Times> = peers.iter().map(|_| Times::default()).collect();
        for measure in MEASURES {
            for (row, pause) in [(1, PAUSE), (ROW, Duration::ZERO)] {
                for _ in 0..RUNS / row {
                    for (peer, times) in peers.iter().zip(&mut all).filter(|(peer, _)| peer.can(measure)) {
                        self.turn(watch, peer, times, (measure, row, pause))?;
                    }
                }
            }
        }
        Ok(all)
    }

    /// One runtime's turn. What fails is said and not counted: a busy peer loses a race of its own now and then.
    fn turn(
        &self,
        watch: &mut Stopwatch,
        peer: &Peer,
        times: &mut Times,
        (measure, row, pause): (&'static str, usize, Duration),
    ) -> Result<()> {
        if measure == "exec" {
            self.step(watch, peer, Verb::Create, &self.long)?;
            self.step(watch, peer, Verb::Start, &self.long)?;
        }
        for _ in 0..row {
            thread::sleep(pause);
            match self.once(watch, peer, measure) {
                Ok((took, kib)) => {
                    let series = if row == 1 { &mut times.spaced } else { &mut times.in_a_row };
                    series.entry(measure).or_default().push(took);
                    times.resident = times.resident.max(kib);
                }
                Err(error) => {
                    eprintln!("{} in {measure}, not counted: {error:#}", peer.name);
                    let _ = self.step(watch, peer, Verb::Clear, &self.short);
                    watch.reap_short(measure)?;
                }
            }
        }
        if measure == "exec" { self.end(watch, peer) } else { Ok(()) }
    }

    /// Ends the container that sleeps.
    fn end(&self, watch: &mut Stopwatch, peer: &Peer) -> Result<()> {
        let group = PathBuf::from("/sys/fs/cgroup").join("devices");
        let group = if group.exists() { group } else { "/sys/fs/cgroup".into() };
        let list = group.join(self.group(&self.long).trim_start_matches('/')).join("cgroup.procs");
        for pid in fs::read_to_string(list)?.split_whitespace() {
            shell::output(Command::new("kill").args(["-KILL", pid]))?;
        }
        watch.reap()?;
        self.step(watch, peer, Verb::Delete, &self.long).map(drop)
    }

    /// What the kernel charges a control group for one container, from create to delete, beyond what the stopwatch
    /// itself holds: programs copied to memory, page tables and kernel objects, too. On one processor, for each keeps a
    /// reserve of its own. `None` without the memory controller of version 1.
    fn charged(&self, stopwatch: &Path, peer: &Peer) -> Result<Option<u64>> {
        let memory = Path::new("/sys/fs/cgroup/memory").join(self.groups.path().trim_start_matches('/'));
        if !memory.exists() {
            return Ok(None);
        }
        let group = memory.join("charged");
        fs::create_dir_all(&group)?;
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", "0", "sh", "-ec", "echo 0 > \"$1/tasks\"; exec \"$2\"", "sh"]);
        command.arg(&group).arg(stopwatch);
        let mut watch = Stopwatch::start(command)?;
        watch.reap()?;
        let number =
            |file: &str| -> Result<u64> { Ok(fs::read_to_string(group.join(file))?.trim().parse()?) };
        fs::write(group.join("memory.force_empty"), "0")?;
        let before = number("memory.usage_in_bytes")?;
        fs::write(group.join("memory.max_usage_in_bytes"), "0")?;
        self.once(&mut watch, peer, MEASURES[0])?;
        let most = number("memory.max_usage_in_bytes")?;
        drop(watch);
        fs::remove_dir(&group)?;
        Ok(Some(most.saturating_sub(before) / 1024))
    }
}

/// For each measure a table of medians, then one of memory.
fn tables(names: &[&str], all: &[(Case, Vec<Times>)]) -> String {
    let mut out = String::new();
    let ratios: Vec<&str> = names.iter().copied().filter(|name| *name != "knarr").collect();
    for measure in MEASURES {
        for (series, in_a_row) in [("spaced by 300 ms", false), ("in a row", true)] {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "\n**{measure}**, {series}: median ms, then knarr's share of each\n");
            let head: Vec<String> = names
                .iter()
                .map(|name| (*name).to_owned())
                .chain(ratios.iter().map(|name| format!("of {name}")))
                .collect();
            let _ = writeln!(out, "| | {} |\n|---{}|", head.join(" | "), "|---".repeat(head.len()));
            for (case, times) in all {
                let of = |times: &Times| {
                    let series = if in_a_row { &times.in_a_row } else { &times.spaced };
                    series.get(measure).map(|series| Summary::of(series))
                };
                let medians: Vec<Option<Summary>> = times.iter().map(of).collect();
                let ours = names.iter().position(|name| *name == "knarr").and_then(|at| medians[at].as_ref());
                let shown = |number: Option<String>| number.unwrap_or_else(|| "–".to_owned());
                let mut cells: Vec<String> = medians
                    .iter()
                    .map(|median| shown(median.as_ref().map(Summary::milliseconds_finely)))
                    .collect();
                for (_, median) in names.iter().zip(&medians).filter(|(name, _)| **name != "knarr") {
                    let ratio = ours.zip(median.as_ref()).map(|(ours, other)| ours.median_ratio(other));
                    cells.push(shown(ratio.map(|ratio| format!("{ratio:.2}"))));
                }
                let _ = writeln!(out, "| {} | {} |", case.name(), cells.join(" | "));
            }
        }
    }
    let _ =
        writeln!(out, "\n**memory**, KiB: the most that one process holds / all that is charged for it\n");
    let _ = writeln!(out, "| | {} |\n|---{}|", names.join(" | "), "|---".repeat(names.len()));
    for (case, times) in all {
        let cells: Vec<String> = times
            .iter()
            .map(|times| {
                let charged = times.charged.map_or_else(|| "–".to_owned(), |kib| kib.to_string());
                format!("{} / {charged}", times.resident)
            })
            .collect();
        let _ = writeln!(out, "| {} | {} |", case.name(), cells.join(" | "));
    }
    out
}
