//! `cargo xtask bench run`: one container's time and memory, beside the peers'.
//!
//! Every engine is started privately, with roots and control groups of its own, from the same busybox. Runs of the
//! engines alternate, so that a busy moment of the machine hits all. Spaced by 300 ms and back to back are two figures:
//! some of the kernel's waits (control groups of version 1) are paid only after a pause.

mod bundle;
mod engines;
pub(crate) mod image;
mod memory;
mod numbers;
mod peers;
pub(crate) mod runtime;

use std::{
    fmt::Write as _,
    fs,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::shell::{self, Scratch};
use engines::Engine;
use numbers::Summary;

/// Runs of each engine in each series.
const RUNS: usize = 20;
/// Runs of one engine in a row in the series without pauses.
const ROW: usize = 5;
const PAUSE: Duration = Duration::from_millis(300);

/// One engine's figures.
struct Figures {
    name: &'static str,
    spaced: Summary,
    back_to_back: Summary,
    memory: Vec<(&'static str, u64)>,
}

pub(crate) fn run(json: Option<&str>) -> Result<()> {
    shell::want_root("the benchmark")?;
    crate::test::install()?;
    let programs = shell::build(true)?;
    let scratch = Scratch::new("bench")?;
    let rootfs = engines::rootfs(&scratch)?;
    let mut all: Vec<Box<dyn Engine>> = vec![
        Box::new(engines::knarr(programs, &scratch, &rootfs)?),
        Box::new(engines::podman(&scratch, &rootfs)?),
        Box::new(engines::docker(&scratch, &rootfs)?),
    ];
    for engine in &mut all {
        engine_run(engine.as_ref()).with_context(|| format!("{}: the run that warms up", engine.name()))?;
    }
    let spaced = series(&all, 1, PAUSE)?;
    let back_to_back = series(&all, ROW, Duration::ZERO)?;
    let mut figures = Vec::new();
    for (at, engine) in all.iter().enumerate() {
        let memory = memory::of(engine.as_ref()).with_context(|| engine.name())?;
        let (spaced, back_to_back) = (Summary::of(&spaced[at]), Summary::of(&back_to_back[at]));
        figures.push(Figures { name: engine.name(), spaced, back_to_back, memory });
    }
    print!("{}", table(&figures));
    if let Some(file) = json {
        fs::write(file, as_json(&figures)).with_context(|| file.to_owned())?;
    }
    Ok(())
}

/// `RUNS` times of each engine, `row` in a row before the next one's turn.
fn series(engines: &[Box<dyn Engine>], row: usize, pause: Duration) -> Result<Vec<Vec<Duration>>> {
    let mut times = vec![Vec::new(); engines.len()];
    for _ in 0..RUNS / row {
        for (engine, times) in engines.iter().zip(&mut times) {
            for _ in 0..row {
                thread::sleep(pause);
                times.push(engine_run(engine.as_ref()).with_context(|| engine.name())?);
            }
        }
    }
    Ok(times)
}

/// One `run --rm --network none busybox true`, from the client's start to its end.
fn engine_run(engine: &dyn Engine) -> Result<Duration> {
    let mut command = engine.client(&["run", "--rm", "--network", "none", engines::IMAGE, "true"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let started = Instant::now();
    let out = command.output()?;
    let took = started.elapsed();
    if !out.status.success() {
        bail!("{}: {}", out.status, String::from_utf8_lossy(&out.stderr).trim_end());
    }
    Ok(took)
}

fn table(figures: &[Figures]) -> String {
    let mut out = String::new();
    let mut line = |cells: &[String]| {
        let rest = cells[1..].iter().fold(String::new(), |row, cell| format!("{row}{cell:>9}"));
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{:<10}{}", cells[0], rest.trim_end());
    };
    line(&["ms", "spaced", "", "", "", "in a row"].map(str::to_owned));
    line(&["", "min", "median", "p90", "", "min", "median", "p90"].map(str::to_owned));
    for engine in figures {
        let mut cells = vec![engine.name.to_owned()];
        cells.extend(engine.spaced.milliseconds());
        cells.push(String::new());
        cells.extend(engine.back_to_back.milliseconds());
        line(&cells);
    }
    if let [first, others @ ..] = figures {
        for other in others {
            let _ = writeln!(
                out,
                "{} takes {:.3} of {}'s median spaced, {:.3} in a row",
                first.name,
                first.spaced.median_ratio(&other.spaced),
                other.name,
                first.back_to_back.median_ratio(&other.back_to_back),
            );
        }
    }
    let _ = writeln!(out, "\nKiB (PSS)");
    for engine in figures {
        for (what, kib) in &engine.memory {
            let _ = writeln!(out, "{:<10}{kib:>9}  {what}", engine.name);
        }
    }
    out
}

fn as_json(figures: &[Figures]) -> String {
    let engine = |figures: &Figures| {
        let memory: Vec<_> = figures.memory.iter().map(|(what, kib)| format!("{what:?}:{kib}")).collect();
        format!(
            "{{\"engine\":{:?},\"spaced\":{},\"backToBack\":{},\"pssKib\":{{{}}}}}",
            figures.name,
            figures.spaced.as_json(),
            figures.back_to_back.as_json(),
            memory.join(",")
        )
    };
    format!("[{}]\n", figures.iter().map(engine).collect::<Vec<_>>().join(",\n"))
}
