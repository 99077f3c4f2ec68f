//! Other programs, scratch folders, and a private daemon: what the chores have in common.

use std::{
    env, fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{Unfit, house};

/// A command by its words.
pub(crate) fn command<S: AsRef<str>>(words: &[S]) -> Command {
    let mut command = Command::new(words[0].as_ref());
    command.args(words[1..].iter().map(AsRef::as_ref)).current_dir(house());
    command
}

/// Cargo, the same that runs this.
pub(crate) fn cargo(words: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(words).current_dir(house());
    command
}

/// Runs it with this terminal's streams; anything but success is an error that shows the command.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    eprintln!("+ {shown}");
    let status = command.status().with_context(|| shown.clone())?;
    if status.success() { Ok(()) } else { bail!("{shown}: {status}") }
}

/// Runs it quietly and returns what it wrote to its standard output.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let shown = show(command);
    let out = command.stdin(Stdio::null()).output().with_context(|| shown.clone())?;
    if out.status.success() {
        Ok(out.stdout)
    } else {
        bail!("{shown}: {}\n{}", out.status, String::from_utf8_lossy(&out.stderr).trim_end())
    }
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Whether a program of this name is on the path.
pub(crate) fn installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Fails for anybody but root, with what needs it.
pub(crate) fn want_root(what: &str) -> Result<()> {
    let status = fs::read_to_string("/proc/self/status")?;
    let effective = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().nth(1));
    if effective == Some("0") {
        return Ok(());
    }
    Err(Unfit(format!(
        "{what} needs root: it makes namespaces, mounts and control groups (try it with sudo)"
    ))
    .into())
}

const SMALL: [&str; 4] = ["--package", "knarr-shim", "--package", "knarr-runtime"];

/// Builds the three programs and returns the folder that they are in.
pub(crate) fn build(release: bool) -> Result<PathBuf> {
    if !release {
        run(cargo(&["build", "--package", "knarr-knarr"]).args(SMALL))?;
        return Ok(target()?.join("debug"));
    }
    run(&mut cargo(&["build", "--release", "--package", "knarr-knarr"]))?;
    let all = target()?.join("programs");
    fs::create_dir_all(&all)?;
    let (large, small) = (target()?.join("release"), build_small()?);
    for (folder, name) in [(&large, "knarr"), (&small, "knarr-shim"), (&small, "knarr-runtime")] {
        // Not over a file that may be running.
        let (from, to, beside) = (folder.join(name), all.join(name), all.join(format!("{name}.new")));
        fs::copy(&from, &beside).with_context(|| format!("copy {}", from.display()))?;
        fs::rename(beside, to)?;
    }
    Ok(all)
}

/// Builds the two programs that start with every container, for a release, and returns the folder that they are in.
///
/// They are linked with musl where its target is installed: glibc asks the processor about its caches whenever a program
/// starts, and in a virtual machine each question is an exit to the hypervisor, 0.6 ms in all.
pub(crate) fn build_small() -> Result<PathBuf> {
    let musl = format!("{}-unknown-linux-musl", env::consts::ARCH);
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]).current_dir(house()))?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&sysroot).trim());
    if sysroot.join("lib/rustlib").join(&musl).is_dir() {
        run(cargo(&["build", "--release", "--target", &musl]).args(SMALL))?;
        return Ok(target()?.with_file_name(&musl).join("release"));
    }
    eprintln!("without musl every call of the runtime takes 0.5 ms more: rustup target add {musl}");
    run(cargo(&["build", "--release"]).args(SMALL))?;
    Ok(target()?.join("release"))
}

/// Cargo's folder for this machine's programs, `target/<triple>`: the one that this program lies in.
pub(crate) fn target() -> Result<PathBuf> {
    let exe = env::current_exe()?;
    Ok(exe.ancestors().nth(2).context("cargo runs xtask from target/<triple>/<profile>/")?.to_path_buf())
}

/// A folder that goes away with the value, with whatever is in it.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Result<Self> {
        Self::within(&env::temp_dir(), name)
    }

    /// One that does not lie where temporary files do.
    pub(crate) fn within(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(format!("knarr-{name}-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A path in it, as text.
    pub(crate) fn join(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is still mounted in it belongs to somebody else and must not be emptied.
        let still = mounts_below(&self.0);
        for mount in still.iter().rev() {
            let _ = Command::new("umount").args(["--lazy", mount]).stderr(Stdio::null()).status();
        }
        if mounts_below(&self.0).is_empty() {
            let _ = fs::remove_dir_all(&self.0);
        } else {
            eprintln!("left behind, for something is mounted there: {}", self.0.display());
        }
    }
}

fn mounts_below(folder: &Path) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| Path::new(point).starts_with(folder)).map(str::to_owned).collect()
}

/// A control group of ours in every hierarchy, removed with the value: `/knarr/<name>`.
pub(crate) struct Groups(String);

impl Groups {
    pub(crate) fn new(name: &str) -> Self {
        Self(format!("/knarr/{name}-{}", std::process::id()))
    }

    pub(crate) fn path(&self) -> &str {
        &self.0
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        let below = self.0.trim_start_matches('/');
        let hierarchies =
            fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
        let mut left: Vec<_> = hierarchies.map(|path| path.join(below)).collect();
        left.push(Path::new("/sys/fs/cgroup").join(below));
        // A process that has just ended keeps its group busy for a moment.
        for _ in 0..50 {
            left.retain(|group| !remove_group(group));
            if left.is_empty() {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
        eprintln!("left behind, for it holds processes: {}", left[0].display());
    }
}

/// Removes a group and those in it; whether it is gone.
fn remove_group(path: &Path) -> bool {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&entry.path());
        }
    }
    fs::remove_dir(path).is_ok() || !path.exists()
}

/// A process that is asked to end, then made to, when the value goes.
pub(crate) struct Running {
    child: Child,
    name: String,
}

impl Running {
    /// Starts a daemon that writes to `log`, and waits until its socket answers Docker's `_ping`.
    pub(crate) fn daemon(mut command: Command, socket: &str, log: &str) -> Result<Self> {
        let name = show(&command);
        let file = fs::File::create(log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let mut running = Self { child: command.spawn().with_context(|| name.clone())?, name };
        let started = Instant::now();
        while !answers(socket) {
            let ended = running.child.try_wait()?;
            if ended.is_some() || started.elapsed() > Duration::from_secs(30) {
                let said = fs::read_to_string(log).unwrap_or_default();
                bail!("{} does not answer on {socket}:\n{said}", running.name);
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(running)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let asked = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if asked.elapsed() > Duration::from_secs(15) {
                eprintln!("{} does not end when asked; it is killed", self.name);
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn answers(socket: &str) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: knarr\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// knarr's daemon with roots, socket and control groups of its own.
pub(crate) struct Knarr {
    // In this order they go: the daemon, then what it leaves.
    daemon: Running,
    /// Where the programs are.
    pub(crate) programs: PathBuf,
    /// Its socket.
    pub(crate) socket: String,
    _groups: Groups,
}

impl Knarr {
    pub(crate) fn start(programs: PathBuf, scratch: &Scratch, name: &str) -> Result<Self> {
        let groups = Groups::new(name);
        let socket = scratch.join("knarr.sock");
        let mut command = Command::new(programs.join("knarr"));
        command.args(["daemon", "--data-root", &scratch.join("data"), "--exec-root", &scratch.join("run")]);
        command.args(["-H", &format!("unix://{socket}"), "--cgroup-parent", groups.path()]);
        let daemon = Running::daemon(command, &socket, &scratch.join("knarr.log"))?;
        Ok(Self { daemon, programs, socket, _groups: groups })
    }

    /// A command of this daemon's client.
    pub(crate) fn client(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("knarr"));
        command.arg("-H").arg(format!("unix://{}", self.socket)).args(words);
        command
    }

    pub(crate) fn pid(&self) -> u32 {
        self.daemon.pid()
    }
}
