//! `cargo xtask bench image`: loading, saving, committing and removing a large image and a tall one, beside the peers.
//!
//! The large one has five layers of many small files, the tall one sixty layers. What the disk owes from before is
//! synced before each time is taken; the page cache stays warm, so that engines are measured and not the disk. The
//! floor is GNU tar on every layer at once.

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    engines::{self, Engine},
    numbers::Summary,
};
use crate::shell::{self, Scratch, output};

const ROUNDS: usize = 3;

/// What an image is like.
struct Shape {
    name: &'static str,
    layers: usize,
    /// In each layer.
    files: usize,
    /// Of each file, on average.
    bytes: usize,
}

const SHAPES: [Shape; 2] = [
    Shape { name: "large", layers: 5, files: 4_400, bytes: 23_000 },
    Shape { name: "tall", layers: 60, files: 20, bytes: 10_000 },
];

/// An image as an archive, and its layers.
struct Made {
    shape: &'static Shape,
    archive: String,
    layers: Vec<PathBuf>,
}

/// What is measured, and its times in milliseconds by engine.
type Rows = Vec<(String, Vec<(&'static str, Summary)>)>;

pub(crate) fn run() -> Result<()> {
    shell::want_root("the benchmark")?;
    crate::test::install()?;
    let programs = shell::build(true)?;
    let scratch = Scratch::new("bench-image")?;
    let rootfs = engines::rootfs(&scratch)?;
    let all: Vec<Box<dyn Engine>> = vec![
        Box::new(engines::knarr(programs, &scratch, &rootfs)?),
        Box::new(engines::podman(&scratch, &rootfs)?),
        Box::new(engines::docker(&scratch, &rootfs)?),
    ];
    let mut rows = Rows::new();
    for shape in &SHAPES {
        let made = make(shape, &scratch)?;
        rows.push((format!("{} floor (tar -x)", shape.name), vec![("tar", floor(&made, &scratch)?)]));
        rows.push((format!("{} copy", shape.name), vec![("skopeo", skopeo(&made, &scratch)?)]));
        rows.extend(verbs(&all, &made, &scratch)?);
    }
    print!("{}", table(&rows));
    Ok(())
}

/// Text that compresses as programs do, by a generator that always says the same (Knuth's MMIX).
fn content(seed: &mut u64, length: usize) -> Vec<u8> {
    let mut next = || {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) as usize
    };
    let mut text = Vec::with_capacity(length + 8);
    while text.len() < length {
        let word = next() % 4_000;
        text.extend_from_slice(format!("{:x}{} ", word * 7_919, word % 97).as_bytes());
    }
    text.truncate(length);
    text
}

fn make(shape: &'static Shape, scratch: &Scratch) -> Result<Made> {
    let base = scratch.path().join(shape.name);
    let mut layers = Vec::new();
    let mut seed = 1;
    for number in 0..shape.layers {
        let root = base.join(format!("root{number}"));
        for file in 0..shape.files {
            let directory = root.join(format!("usr/share/p{number}-{}", file / 40));
            fs::create_dir_all(&directory)?;
            let length = shape.bytes / 4 + (file * 37) % (shape.bytes * 3 / 2);
            fs::write(directory.join(format!("f{file}")), content(&mut seed, length))?;
        }
        if number == 0 {
            fs::create_dir_all(root.join("bin"))?;
            fs::copy("/bin/busybox", root.join("bin/busybox")).context("/bin/busybox, of busybox-static")?;
            symlink("busybox", root.join("bin/sh"))?;
        }
        let layer = base.join(format!("layer{number}.tar"));
        let mut tar = Command::new("tar");
        tar.args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "-C"])
            .arg(&root)
            .arg("-cf")
            .arg(&layer);
        output(tar.arg("."))?;
        fs::remove_dir_all(&root)?;
        layers.push(layer);
    }
    let archive = pack(shape, &base, &layers)?;
    Ok(Made { shape, archive, layers })
}

/// As `docker save` wrote it before 25.0, which every engine reads.
fn pack(shape: &Shape, base: &Path, layers: &[PathBuf]) -> Result<String> {
    let mut diff_ids = Vec::new();
    for layer in layers {
        let sum = output(Command::new("sha256sum").arg(layer))?;
        diff_ids.push(format!("\"sha256:{}\"", String::from_utf8_lossy(&sum[..64])));
    }
    let config = format!(
        "{{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{{\"Cmd\":[\"sh\"]}},\
         \"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[{}]}}}}",
        diff_ids.join(",")
    );
    fs::write(base.join("config.json"), config)?;
    let names: Vec<_> = (0..layers.len()).map(|number| format!("layer{number}.tar")).collect();
    let manifest = format!(
        "[{{\"Config\":\"config.json\",\"RepoTags\":[\"{}\"],\"Layers\":[\"{}\"]}}]",
        image(shape),
        names.join("\",\"")
    );
    fs::write(base.join("manifest.json"), manifest)?;
    let archive = base.join("image.tar");
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(base).arg("-cf").arg(&archive).args(["manifest.json", "config.json"]).args(names);
    output(&mut tar)?;
    Ok(archive.display().to_string())
}

fn image(shape: &Shape) -> String {
    format!("localhost/{}:latest", shape.name)
}

fn timed(mut commands: Vec<Command>) -> Result<Duration> {
    output(&mut Command::new("sync"))?;
    let started = Instant::now();
    let done: Vec<_> = thread::scope(|scope| {
        let all: Vec<_> = commands
            .iter_mut()
            .map(|command| scope.spawn(|| command.stdin(Stdio::null()).stdout(Stdio::null()).output()))
            .collect();
        all.into_iter().map(thread::ScopedJoinHandle::join).collect()
    });
    let took = started.elapsed();
    for one in done {
        let Ok(one) = one else { bail!("a thread failed") };
        let out = one?;
        if !out.status.success() {
            bail!("{}: {}", out.status, String::from_utf8_lossy(&out.stderr).trim_end());
        }
    }
    Ok(took)
}

fn floor(made: &Made, scratch: &Scratch) -> Result<Summary> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let into = scratch.path().join("floor");
        let mut commands = Vec::new();
        for (number, layer) in made.layers.iter().enumerate() {
            let directory = into.join(number.to_string());
            fs::create_dir_all(&directory)?;
            let mut tar = Command::new("tar");
            tar.arg("-C").arg(directory).arg("-xpf").arg(layer);
            commands.push(tar);
        }
        times.push(timed(commands)?);
        fs::remove_dir_all(into)?;
    }
    Ok(Summary::of(&times))
}

fn skopeo(made: &Made, scratch: &Scratch) -> Result<Summary> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let into = scratch.path().join("skopeo");
        let mut command = Command::new("skopeo");
        command.args([
            "copy",
            &format!("docker-archive:{}", made.archive),
            &format!("oci:{}", into.display()),
        ]);
        times.push(timed(vec![command])?);
        fs::remove_dir_all(into)?;
    }
    Ok(Summary::of(&times))
}

const CHANGE: &str = "busybox dd if=/dev/urandom of=/change bs=1M count=100";

fn verbs(engines: &[Box<dyn Engine>], made: &Made, scratch: &Scratch) -> Result<Rows> {
    let image = image(made.shape);
    let saved = scratch.join("saved.tar");
    let load = ["load", "-i", &made.archive];
    let save = ["save", "-o", &saved, &image];
    let commit = ["commit", "change", "localhost/committed"];
    let steps: [(&str, &[&str]); 4] =
        [("load", &load), ("save", &save), ("commit 100 MB", &commit), ("rmi", &["rmi", &image])];
    let mut times = vec![vec![Vec::new(); engines.len()]; steps.len()];
    for _ in 0..ROUNDS {
        for (at, engine) in engines.iter().enumerate() {
            for (step, (what, words)) in steps.iter().enumerate() {
                let word = |words: &[&str]| {
                    timed(vec![engine.client(words)]).with_context(|| format!("{}: {what}", engine.name()))
                };
                if words[0] == "commit" {
                    word(&["run", "--name", "change", "--network", "none", &image, "sh", "-c", CHANGE])?;
                }
                times[step][at].push(word(words)?);
                if words[0] == "commit" {
                    word(&["rm", "change"])?;
                    word(&["rmi", "localhost/committed"])?;
                }
                let _ = fs::remove_file(&saved);
            }
        }
    }
    let row = |(step, (what, _)): (usize, &(&str, &[&str]))| {
        let each =
            engines.iter().zip(&times[step]).map(|(engine, times)| (engine.name(), Summary::of(times)));
        (format!("{} {what}", made.shape.name), each.collect())
    };
    Ok(steps.iter().enumerate().map(row).collect())
}

fn table(rows: &Rows) -> String {
    let mut out = format!("{:<24}{:<10}{:>9}{:>9}\n", "ms", "", "min", "median");
    for (what, engines) in rows {
        for (at, (engine, times)) in engines.iter().enumerate() {
            let [min, median, _] = times.milliseconds();
            let what = if at == 0 { what.as_str() } else { "" };
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{what:<24}{engine:<10}{min:>9}{median:>9}");
        }
    }
    out
}
