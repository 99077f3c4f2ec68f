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
    time::Instant,
};

use anyhow::{Context, Result, bail};

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
    let mut sum = Sum::default();
    for guest in &GUESTS {
        let suites: Vec<_> =
            kit.programs.iter().filter_map(|program| program.suite(guest, filters)).collect();
        sum.left_out += suites.iter().map(|suite| suite.left_out.len()).sum::<usize>();
        if suites.iter().any(|suite| !suite.tests.is_empty()) {
            kit.run(guest, &suites, &mut sum)?;
        }
    }
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
    fn add(&mut self, title: &str, suite: &Suite<'_>, outcome: &Outcome) {
        self.passed += outcome.passed;
        self.failed += outcome.failed.len();
        self.ignored += outcome.ignored.len();
        let mut line = format!("  {title:<28} {:>3} passed", outcome.passed);
        for (count, what) in [(outcome.failed.len(), "FAILED"), (outcome.ignored.len(), "ignored")] {
            if count > 0 {
                let _ = write!(line, ", {count} {what}");
            }
        }
        println!("{line}, {:.1} s", outcome.seconds);
        for (test, why) in &suite.left_out {
            println!("    left out: {test}: {why}");
        }
        for test in &outcome.ignored {
            println!("    {test}");
        }
        for failure in &outcome.failed {
            println!("    FAILED {failure}");
        }
        if !outcome.failed.is_empty() {
            print!("{}", outcome.explain());
        }
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

    fn run(&self, guest: &Guest, suites: &[Suite<'_>], sum: &mut Sum) -> Result<()> {
        let machine = self.machine(guest, suites)?;
        let started = Instant::now();
        let mut report = Report::new(suites.len());
        let mut told = vec![false; suites.len()];
        println!("{}: {}", guest.name, guest.about);
        let end = machine.run(|line| {
            if let Some(number) = report.hear(line) {
                told[number] = true;
                let suite = &suites[number];
                sum.add(&suite.title(), suite, &report.outcome(number, suite));
            }
        });
        for (number, suite) in suites.iter().enumerate().filter(|(number, _)| !told[*number]) {
            sum.add(&suite.title(), suite, &report.outcome(number, suite));
        }
        println!("  Linux {}, {} s with its start", report.kernel, started.elapsed().as_secs());
        if let Err(error) = end {
            sum.failed += 1;
            println!("  FAILED {error:#}");
        }
        Ok(())
    }

    fn machine<'a>(&self, guest: &'a Guest, suites: &[Suite<'_>]) -> Result<Machine<'a>> {
        let scratch = self.scratch.path().join("scratch");
        output(command(&["mke2fs", "-q", "-F", "-t", "ext4"]).arg(&scratch).arg("64M"))?;
        let disk = guest.debian.then(|| image::debian(&self.cache, &self.kernel)).transpose()?;
        let console = self.cache.join(format!("{}.console", guest.name));
        let initrd = self.initrd(guest, suites)?;
        Ok(Machine { guest, kernel: self.kernel.image.clone(), initrd, disk, scratch, console })
    }

    /// A guest's first files: what starts it, and the programs at the paths that they have here.
    fn initrd(&self, guest: &Guest, suites: &[Suite<'_>]) -> Result<PathBuf> {
        let path = self.scratch.path().join("initrd");
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
            let slim = programs::strip(program, self.scratch.path())?;
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
