//! `cargo xtask dist`: the release archive, checked.

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{elf, house, shell};

const MIB: u64 = 1 << 20;

/// The programs and how large they may be.
const PROGRAMS: [(&str, u64); 3] = [("knarr", 20 * MIB), ("knarr-shim", 3 * MIB), ("knarr-runtime", 3 * MIB)];

/// Shells, and where their completions lie below the prefix.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "share/bash-completion/completions/knarr"),
    ("zsh", "share/zsh/site-functions/_knarr"),
    ("fish", "share/fish/vendor_completions.d/knarr.fish"),
];

/// Files of the repository, and where they lie below the prefix.
const FILES: [(&str, &str); 5] = [
    ("LICENSE", "share/doc/knarr/LICENSE"),
    ("README.md", "share/doc/knarr/README.md"),
    ("CHANGELOG.md", "share/doc/knarr/CHANGELOG.md"),
    ("packaging/systemd/knarr.service", "lib/systemd/system/knarr.service"),
    ("packaging/systemd/knarr.socket", "lib/systemd/system/knarr.socket"),
];

pub(crate) fn run() -> Result<()> {
    let programs = shell::build(true)?;
    let name = format!("knarr-{}-{}", env!("CARGO_PKG_VERSION"), env::consts::ARCH);
    let dist = shell::target()?.join("dist");
    let prefix = dist.join(&name);
    if prefix.exists() {
        fs::remove_dir_all(&prefix)?;
    }
    for (program, limit) in PROGRAMS {
        let content = fs::read(programs.join(program)).with_context(|| program.to_owned())?;
        let size = content.len() as u64;
        elf::want_static(&content).with_context(|| program.to_owned())?;
        if size >= limit {
            bail!("{program} has {size} bytes, not under {limit}");
        }
        eprintln!("{program:<14} {:>6.2} MiB of {}, static", size as f64 / MIB as f64, limit / MIB);
        put(&programs.join(program), &prefix.join("bin").join(program))?;
    }
    for (file, place) in FILES {
        put(&house().join(file), &prefix.join(place))?;
    }
    let knarr = programs.join("knarr");
    for (shell, place) in COMPLETIONS {
        let script = shell::output(Command::new(&knarr).args(["completion", shell]))?;
        let place = prefix.join(place);
        fs::create_dir_all(place.parent().unwrap_or(&prefix))?;
        fs::write(place, script)?;
    }
    let man = prefix.join("share/man/man1");
    fs::create_dir_all(&man)?;
    shell::output(Command::new(&knarr).arg("man").arg(&man))?;
    if fs::read_dir(&man)?.next().is_none() {
        bail!("knarr man wrote no page");
    }
    let archive = pack(&dist, &name)?;
    println!("{}", archive.display());
    Ok(())
}

fn put(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.parent().unwrap_or(to))?;
    fs::copy(from, to).with_context(|| format!("copy {}", from.display()))?;
    Ok(())
}

/// The archive depends on its content alone: names in order, nobody's user, the time of the last commit.
fn pack(dist: &Path, name: &str) -> Result<std::path::PathBuf> {
    let time = match env::var("SOURCE_DATE_EPOCH") {
        Ok(time) => time,
        Err(_) => {
            String::from_utf8(shell::output(&mut shell::command(&["git", "log", "-1", "--format=%ct"]))?)?
        }
    };
    let archive = dist.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar")
        .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mode=u+rwX,go+rX,go-w"])
        .arg(format!("--mtime=@{}", time.trim()))
        .arg("-C")
        .arg(dist)
        .args(["-cf", "-", name])
        .stdout(Stdio::piped())
        .spawn()
        .context("tar")?;
    let packed = tar.stdout.take().context("tar's output")?;
    let gzip = Command::new("gzip").arg("-9n").stdin(packed).stdout(fs::File::create(&archive)?).status()?;
    if !tar.wait()?.success() || !gzip.success() {
        bail!("cannot pack {}", archive.display());
    }
    Ok(archive)
}
