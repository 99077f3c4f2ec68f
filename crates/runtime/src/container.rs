//! A container's record on disk, and what can be told about its first process.

use std::{
    fs,
    io::Write,
    os::fd::{AsFd, OwnedFd},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use oci::spec::{Hooks, MemoryPolicy, Personality, Process, Resources, Status};
use rustix::io::Errno;
use rustix::{
    fs::{FlockOperation, fcntl_lock, flock},
    process::{Pid, PidfdFlags, pidfd_open},
};
use serde::{Deserialize, Serialize};

use crate::{
    cgroup::{self, Place},
    error::{During, Error, Result},
    rdt,
    seccomp::notify::Agent,
};

/// `state.json`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Spec version.
    pub oci_version: String,
    /// Its name.
    pub id: String,
    /// The first process, as the host sees it.
    pub pid: i32,
    /// When the kernel made that process, in clock ticks since boot: a pid alone may be somebody else's by now.
    pub pid_start: u64,
    /// Absolute.
    pub bundle: PathBuf,
    /// Absolute.
    pub rootfs: PathBuf,
    /// RFC 3339.
    pub created: String,
    /// From the spec.
    pub annotations: std::collections::BTreeMap<String, String>,
    /// Its groups.
    pub places: Vec<Place>,
    /// The systemd unit that its groups belong to, if systemd made them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<cgroup::Unit>,
    /// Its limits, with what `update` has changed.
    #[serde(default)]
    pub resources: Resources,
    /// What `exec` without `--process` starts from.
    pub process: Process,
    /// Its shares of cache and memory bandwidth.
    #[serde(default)]
    pub rdt: rdt::Places,
    /// Also for processes that `exec` adds.
    #[serde(default)]
    pub personality: Option<Personality>,
    /// Also for processes that `exec` adds.
    #[serde(default)]
    pub memory_policy: Option<MemoryPolicy>,
    /// Those that are still to run.
    pub hooks: Hooks,
    /// Who decides on the system calls of its processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Agent>,
}

/// A container's directory and record.
#[derive(Debug)]
pub struct Container {
    /// `<root>/<id>`
    pub directory: PathBuf,
    /// What is in it.
    pub record: Record,
}

/// Names that can be a directory's.
pub fn check_id(id: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
    if id.is_empty() || id.len() > 255 || id == "." || id == ".." || !id.bytes().all(plain) {
        return Err(Error::new(format!(
            "invalid container ID format {id:?}: letters, digits and _+-. are allowed"
        )));
    }
    Ok(())
}

/// Reserves an id: its directory is made, or it is taken.
pub fn reserve(root: &Path, id: &str) -> Result<PathBuf> {
    check_id(id)?;
    let private = |recursive: bool| {
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o700).recursive(recursive);
        builder
    };
    private(true).create(root).during(|| format!("make {}", root.display()))?;
    let directory = root.join(id);
    private(false).create(&directory).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::new(format!("container with given ID already exists: {id}"))
        }
        _ => Error::refused(format!("make {}", directory.display()), &error),
    })?;
    Ok(directory)
}

/// A container that is being made: until its record is there, this says what would have to be taken away.
#[derive(Debug)]
pub struct Making {
    /// Locked by this process, not by those that it forks, who may outlive it; hence no `flock(2)`.
    _file: fs::File,
}

impl Making {
    fn file(directory: &Path) -> PathBuf {
        directory.join("making.json")
    }

    /// Notes the groups, before the first of them is made.
    pub fn begin(directory: &Path, places: &[Place]) -> Result<Self> {
        let path = Self::file(directory);
        let what = || format!("write {}", path.display());
        let mut file = fs::File::create(&path).during(what)?;
        fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).during(what)?;
        let text =
            serde_json::to_vec(places).map_err(|error| Error::new(format!("encode places: {error}")))?;
        file.write_all(&text).during(what)?;
        Ok(Self { _file: file })
    }

    /// What a runtime that was killed has left of groups; an error if there is one still at it.
    pub fn abandoned(directory: &Path) -> Result<Vec<Place>> {
        let path = Self::file(directory);
        let file = match fs::File::options().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::refused(format!("open {}", path.display()), &error)),
        };
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::AGAIN | Errno::ACCESS) => return Err(Error::new("the container is being created")),
            Err(error) => return Err(Error::refused(format!("lock {}", path.display()), &error.into())),
        }
        // One that was cut short was killed before there were groups.
        Ok(serde_json::from_reader(file).unwrap_or_default())
    }
}

impl Record {
    /// Writes it whole or not at all.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let text = serde_json::to_vec(self).map_err(|error| Error::new(format!("encode state: {error}")))?;
        write_whole(&directory.join("state.json"), &text)
    }
}

/// Writes a file beside and renames it.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    let what = || format!("write {}", path.display());
    fs::write(&beside, content).during(what)?;
    fs::rename(&beside, path).during(what)
}

impl Container {
    /// Finds one.
    pub fn load(root: &Path, id: &str) -> Result<Self> {
        check_id(id)?;
        let directory = root.join(id);
        let path = directory.join("state.json");
        if !path.exists() {
            return Err(Error::new("container does not exist"));
        }
        let record = crate::spec::read_json(&path)?;
        Ok(Self { directory, record })
    }

    /// Keeps others from changing it as long as the result lives.
    pub fn lock(&self) -> Result<OwnedFd> {
        let what = || format!("lock {}", self.directory.display());
        let directory = fs::File::open(&self.directory).during(what)?;
        flock(&directory, FlockOperation::LockExclusive).during(what)?;
        Ok(directory.into())
    }

    /// The socket by which the first process is told to start; there as long as it waits.
    pub fn start_socket(&self) -> PathBuf {
        self.directory.join("start.sock")
    }

    /// The compiled seccomp filter, if there is one.
    pub fn filter(&self) -> PathBuf {
        self.directory.join("seccomp.bpf")
    }

    /// A handle on the first process, unless it has ended.
    pub fn process(&self) -> Option<OwnedFd> {
        let pid = Pid::from_raw(self.record.pid)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Asked after the handle was made: if this is the right process, so is the handle's.
        let (state, start) = process_stat(self.record.pid)?;
        (start == self.record.pid_start && !matches!(state, 'Z' | 'X')).then_some(pidfd)
    }

    /// How far it is.
    pub fn status(&self) -> Status {
        if self.process().is_none() {
            Status::Stopped
        } else if cgroup::is_frozen(&self.record.places) {
            Status::Paused
        } else if self.start_socket().exists() {
            Status::Created
        } else {
            Status::Running
        }
    }

    /// Sends a signal to the first process.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let process = self.process().ok_or_else(|| Error::new("container not running"))?;
        sys::process::signal(process.as_fd(), signal).during(|| format!("send signal {signal}"))
    }

    /// What hooks read.
    pub fn state(&self, status: Status) -> oci::spec::State {
        oci::spec::State {
            oci_version: self.record.oci_version.clone(),
            id: self.record.id.clone(),
            status,
            pid: (status != Status::Stopped).then_some(self.record.pid),
            bundle: self.record.bundle.display().to_string(),
            annotations: self.record.annotations.clone(),
        }
    }
}

/// Makes sure that processes can be held on to at all.
pub fn check_kernel() -> Result<()> {
    match pidfd_open(rustix::process::getpid(), PidfdFlags::empty()) {
        Err(Errno::NOSYS) => {
            Err(Error::new("this kernel has no pidfd_open(2): Linux 5.3 or later is needed"))
        }
        _ => Ok(()),
    }
}

/// State letter and start time of a process, from `/proc/PID/stat`.
pub fn process_stat(pid: i32) -> Option<(char, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may contain anything, also parentheses.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// Now, as RFC 3339 in UTC with nanoseconds.
pub fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Days to a date in the Gregorian calendar, counted from 1 March 0000 (Howard Hinnant's algorithm).
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let year = year + era * 400 + next;
    let nanos = since.subsec_nanos();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}
