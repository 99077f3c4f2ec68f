//! `cargo xtask vm test`: the runtime's tests, and some of the engine's, on another kernel than this machine's.
//!
//! Guests are machines under QEMU with Debian's kernel: see [`guests::GUESTS`]. Their files are at the paths that they
//! have here, so test programs run in them as they are.

mod boot;
mod cpio;
mod guests;
mod image;
mod programs;
mod report;

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::BufWriter,
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use anyhow::{Context, Result, anyhow, bail};

use crate::{
    Unfit,
    shell::{self, Scratch, command, output},
};
use boot::Machine;
use cpio::Cpio;
use guests::{GUESTS, Guest};
use programs::{Program, Suite};
use report::{Outcome, Report};

/// Seconds for one test program.
const PATIENCE: u32 = 300;

/// The product's programs.
const PRODUCTS: [&str; 3] = ["knarr", "knarr-shim", "knarr-runtime"];

/// Runs the tests whose name, or whose program's name, holds one of `filters`; all, if there is none.
pub(crate) fn test(filters: &[&str]) -> Result<()> {
    let kit = Kit::prepare()?;
    let started = Instant::now();
    let work: Vec<_> = GUESTS
        .iter()
        .map(|guest| {
            (guest, kit.programs.iter().filter_map(|program| program.suite(guest, filters)).collect())
        })
        .collect();
    let mut sum = Sum::default();
    sum.left_out = work
        .iter()
        .flat_map(|(_, suites): &(_, Vec<Suite<'_>>)| suites)
        .map(|suite| suite.left_out.len())
        .sum();
    // An emulated processor is slow and mostly alone at work: guests run side by side.
    thread::scope(|scope| -> Result<()> {
        let wanted = work.iter().filter(|(_, suites)| suites.iter().any(|suite| !suite.tests.is_empty()));
        let guests: Vec<_> = wanted.map(|(guest, suites)| scope.spawn(|| kit.run(guest, suites))).collect();
        guests.into_iter().try_for_each(|guest| {
            let of_guest = guest.join().map_err(|_| anyhow!("a guest's thread panicked"))??;
            sum.take(&of_guest);
            Ok(())
        })
    })?;
    println!(
        "in guests: {} passed, {} failed, {} ignored, {} left out, in {} s",
        sum.passed,
        sum.failed,
        sum.ignored,
        sum.left_out,
        started.elapsed().as_secs()
    );
    match (sum.failed, sum.passed) {
        (0, 0) => bail!("no test of a guest has {} in its name", filters.join(" or ")),
        (0, _) => Ok(()),
        (failed, _) => bail!("{failed} failures in guests"),
    }
}

/// A shell in a guest, on this terminal.
pub(crate) fn shell(name: &str) -> Result<()> {
    let Some(guest) = Guest::named(name) else {
        let names = GUESTS.map(|guest| format!("  {:<8} {}", guest.name, guest.about)).join("\n");
        return Err(Unfit(format!("there is no guest {name:?}, but these:\n{names}")).into());
    };
    let kit = Kit::prepare()?;
    let suites: Vec<_> = kit.programs.iter().filter_map(|program| program.suite(guest, &[])).collect();
    kit.machine(guest, &suites)?.shell()
}

#[derive(Default)]
struct Sum {
    passed: usize,
    failed: usize,
    ignored: usize,
    left_out: usize,
}

impl Sum {
    fn take(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.left_out += other.left_out;
    }

    /// Counts what became of a suite, and tells it in one piece.
    fn add(&mut self, guest: &Guest, suite: &Suite<'_>, outcome: &Outcome) {
        self.passed += outcome.passed;
        self.failed += outcome.failed.len();
        self.ignored += outcome.ignored.len();
        let mut text = format!("{:<7}{:<28} {:>3} passed", guest.name, suite.title(), outcome.passed);
        for (count, what) in [(outcome.failed.len(), "FAILED"), (outcome.ignored.len(), "ignored")] {
            if count > 0 {
                let _ = write!(text, ", {count} {what}");
            }
        }
        let _ = writeln!(text, ", {:.1} s", outcome.seconds);
        let left_out = suite.left_out.iter().map(|(test, why)| format!("left out: {test}: {why}"));
        let failed = outcome.failed.iter().map(|failure| format!("FAILED {failure}"));
        for line in left_out.chain(outcome.ignored.iter().cloned()).chain(failed) {
            let _ = writeln!(text, "           {line}");
        }
        if !outcome.failed.is_empty() {
            text.push_str(&outcome.explain());
        }
        print!("{text}");
    }
}

/// Everything that guests are started with.
struct Kit {
    kernel: image::Kernel,
    cache: PathBuf,
    programs: Vec<Program>,
    scratch: Scratch,
}

impl Kit {
    fn prepare() -> Result<Self> {
        shell::want_root("the making of guests")?;
        crate::test::install()?;
        shell::build(false)?;
        let programs = programs::build()?;
        let cache = image::cache()?;
        Ok(Self { kernel: image::Kernel::get(&cache)?, cache, programs, scratch: Scratch::new("vm")? })
    }

    fn run(&self, guest: &Guest, suites: &[Suite<'_>]) -> Result<Sum> {
        let machine = self.machine(guest, suites)?;
        let started = Instant::now();
        let mut sum = Sum::default();
        let mut report = Report::new(suites.len());
        let mut told = vec![false; suites.len()];
        println!("{:<7}{}", guest.name, guest.about);
        let end = machine.run(|line| {
            if let Some(number) = report.hear(line) {
                told[number] = true;
                let suite = &suites[number];
                sum.add(guest, suite, &report.outcome(number, suite));
            }
        });
        for (number, suite) in suites.iter().enumerate().filter(|(number, _)| !told[*number]) {
            sum.add(guest, suite, &report.outcome(number, suite));
        }
        println!(
            "{:<7}Linux {}, {} s with its start",
            guest.name,
            report.kernel,
            started.elapsed().as_secs()
        );
        if let Err(error) = end {
            sum.failed += 1;
            println!("{:<7}FAILED {error:#}", guest.name);
        }
        Ok(sum)
    }

    fn machine<'a>(&self, guest: &'a Guest, suites: &[Suite<'_>]) -> Result<Machine<'a>> {
        let place = self.scratch.path().join(guest.name);
        fs::create_dir(&place)?;
        let scratch = place.join("scratch");
        output(command(&["mke2fs", "-q", "-F", "-t", "ext4"]).arg(&scratch).arg("64M"))?;
        let disk = guest.debian.then(|| image::debian(&self.cache, &self.kernel)).transpose()?;
        let console = self.cache.join(format!("{}.console", guest.name));
        let initrd = self.initrd(guest, suites, &place)?;
        Ok(Machine { guest, kernel: self.kernel.image.clone(), initrd, disk, scratch, console })
    }

    /// A guest's first files: what starts it, and the programs at the paths that they have here.
    fn initrd(&self, guest: &Guest, suites: &[Suite<'_>], folder: &Path) -> Result<PathBuf> {
        let path = folder.join("initrd");
        let mut cpio = Cpio::new(BufWriter::new(File::create(&path)?));
        cpio.copy(Path::new("/bin/busybox"), Path::new("/bin/busybox"))?;
        cpio.file(Path::new("/init"), 0o755, INIT.as_bytes())?;
        cpio.link(Path::new("/bin/modprobe"), "busybox")?;
        cpio.link(Path::new("/sbin"), "bin")?;
        for folder in ["/dev", "/proc", "/sys", "/over", "/tmp"] {
            cpio.directory(Path::new(folder))?;
        }
        for (from, to) in self.kernel.small_set() {
            cpio.copy(&from, &to)?;
        }
        // Debian's guest moves them on to its disk.
        let place = |path: &Path| {
            let above = if guest.debian { "/payload" } else { "/" };
            Path::new(above).join(path.strip_prefix("/").unwrap_or(path))
        };
        let mut add = |path: &Path, content: &str| cpio.file(&place(path), 0o755, content.as_bytes());
        add(Path::new("/guest/run.sh"), RUN)?;
        add(Path::new("/guest/plan.sh"), &plan(suites))?;
        if !guest.debian {
            for (name, content) in ETC {
                cpio.file(Path::new(name), 0o644, content.as_bytes())?;
            }
        }
        let built = shell::target()?.join("debug");
        let products = PRODUCTS.map(|name| built.join(name));
        let tests = suites.iter().filter(|suite| !suite.tests.is_empty()).map(|suite| &suite.program.path);
        for program in products.iter().chain(tests) {
            let slim = programs::strip(program, folder)?;
            cpio.copy(&slim, &place(program))?;
            fs::remove_file(&slim).with_context(|| slim.display().to_string())?;
        }
        cpio.finish()?;
        Ok(path)
    }
}

const INIT: &str = include_str!("guest/init.sh");
const RUN: &str = include_str!("guest/run.sh");

/// What programs look for in a small guest's `/etc`.
const ETC: [(&str, &str); 4] = [
    ("/etc/debian_version", "12\n"),
    ("/etc/group", "root:x:0:\n"),
    ("/etc/hosts", "127.0.0.1 localhost\n"),
    ("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
];

/// The calls of `suite` in `guest/run.sh`. Names of tests are made of what a shell takes as it is.
fn plan(suites: &[Suite<'_>]) -> String {
    let mut plan = String::from("export E2E_CLIENT=knarr\n");
    for (number, suite) in suites.iter().enumerate().filter(|(_, suite)| !suite.tests.is_empty()) {
        let Program { path, folder, .. } = suite.program;
        let _ = writeln!(
            plan,
            "suite {number} {PATIENCE} '{}' '{}' --test-threads=2 --exact {}",
            folder.display(),
            path.display(),
            suite.tests.join(" ")
        );
    }
    plan
}
