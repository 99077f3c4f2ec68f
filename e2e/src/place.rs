//! A directory and a cgroup parent of one engine, with a guard that clears them away however the tests end.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{self, Child, ChildStdin, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

/// Waits for the end of its input, that is of the program that started it, and then clears the place.
/// `rm` stays on one file system: a bind mount that was left behind must not cost what it shows.
const GUARD: &str = r#"
: "${PLACE:?}" "${PARENT:?}"
trap '' INT TERM HUP
cat >/dev/null
for round in 1 2 3 4 5 6 7 8 9 10; do
  pids=$({
    printf %s "$PLACE" | grep -lsFf - /proc/[0-9]*/cmdline | cut -d/ -f3
    find /sys/fs/cgroup$PARENT /sys/fs/cgroup/*$PARENT -name cgroup.procs -exec cat {} + 2>/dev/null
  } | sort -u)
  [ -z "$pids" ] && break
  kill -KILL $pids 2>/dev/null
  for frozen in $(find /sys/fs/cgroup/freezer$PARENT -name freezer.state 2>/dev/null); do
    echo THAWED >$frozen
  done
  sleep 0.1
done
grep -F " $PLACE" /proc/self/mountinfo | cut -d' ' -f5 | sort -r | while read -r mount; do
  umount -l "$mount"
done
find /sys/fs/cgroup$PARENT /sys/fs/cgroup/*$PARENT -depth -type d -exec rmdir {} \; 2>/dev/null
rm -rf --one-file-system "$PLACE"
"#;

/// Where one engine lives.
#[derive(Debug)]
pub struct Place {
    /// Roots, socket and files of this engine.
    pub dir: PathBuf,
    /// As `--cgroup-parent` takes it.
    pub cgroup: String,
    guard: Child,
    lifeline: Option<ChildStdin>,
}

impl Place {
    /// A new one.
    pub fn new(label: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // All of one length: the guard looks for the name, and one must not begin another.
        let name = format!("e2e-{label}-{:07}-{count:03}", process::id());
        let dir = std::env::temp_dir().join(format!("knarr-{name}"));
        fs::create_dir(&dir).expect("make a directory for the engine");
        let cgroup = format!("/knarr/{name}");
        let mut guard = Command::new("setsid")
            .args(["sh", "-c", GUARD])
            .env("PLACE", &dir)
            .env("PARENT", &cgroup)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start the guard");
        let lifeline = guard.stdin.take();
        Self { dir, cgroup, guard, lifeline }
    }

    /// What is still there that should have gone: processes, mounts, cgroups.
    pub fn leaks(&self) -> Vec<String> {
        let mut leaks = self.cgroups_left();
        leaks.extend(self.mounts_left());
        leaks.extend(self.processes_left());
        leaks
    }

    /// Groups below the parent.
    pub fn cgroups_left(&self) -> Vec<String> {
        self.cgroup_roots()
            .iter()
            .flat_map(|root| subdirectories(root))
            .map(|dir| format!("cgroup {}", dir.display()))
            .collect()
    }

    /// Mounts at or below the directory, or of something in it, that the host can see.
    pub fn mounts_left(&self) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        mounts
            .lines()
            .filter(|line| line.contains(&*self.dir.to_string_lossy()))
            .map(|line| format!("mount {line}"))
            .collect()
    }

    fn processes_left(&self) -> Vec<String> {
        let mut pids = BTreeSet::new();
        for root in self.cgroup_roots() {
            let groups = subdirectories(&root).into_iter().chain([root]);
            for procs in groups.map(|group| fs::read_to_string(group.join("cgroup.procs"))) {
                pids.extend(procs.unwrap_or_default().lines().map(str::to_owned));
            }
        }
        let place = self.dir.to_string_lossy().into_owned();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&line).contains(&place) {
                pids.insert(entry.file_name().to_string_lossy().into_owned());
            }
        }
        pids.iter().map(|pid| format!("process {pid} {}", command_line(pid))).collect()
    }

    /// The parent in every hierarchy where it is.
    pub fn cgroup_roots(&self) -> Vec<PathBuf> {
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        hierarchies
            .map(|entry| entry.path())
            .chain([PathBuf::from("/sys/fs/cgroup")])
            .map(|root| root.join(&self.cgroup[1..]))
            .filter(|root| root.is_dir())
            .collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        let _ = self.guard.wait();
    }
}

fn subdirectories(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(subdirectories(&entry.path()));
            found.push(entry.path());
        }
    }
    found
}

fn command_line(pid: &str) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
}
