//! The runtime is killed, or refused something by the kernel, at any point: what it leaves is nothing that
//! `delete --force` does not clean, and a step that fails undoes those before it.

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;

use std::{
    collections::BTreeMap,
    fs,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use bundle::{Bundle, is_ours, runtime, until};

/// A call under strace. The container that it makes is traced as well, so strace may outlive the call.
struct Traced {
    strace: Child,
    label: String,
}

impl Traced {
    fn begin(bundle: &Bundle, words: &[&str], more: &[&str], inject: &str) -> Self {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o"]).arg(bundle.path().join("trace"));
        if !inject.is_empty() {
            command.arg("-e").arg(format!("inject={inject}"));
        }
        command
            .arg(runtime())
            .arg("--root")
            .arg(bundle.path().join("state"))
            .args(words)
            .arg(&bundle.id)
            .args(more);
        let (out, err) = ("out", "err").map_file(bundle);
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        let strace = command.spawn().expect("strace is needed");
        Self { strace, label: format!("{words:?} {inject}") }
    }

    /// Until the runtime itself, the first that strace tells of, has ended, whatever it has left running.
    fn await_runtime(&mut self, bundle: &Bundle) {
        let trace = bundle.path().join("trace");
        until(&format!("{}: ends", self.label), || {
            let told = fs::read_to_string(&trace).unwrap_or_default();
            let runtime = told.split_once(' ').map(|(pid, _)| format!("/proc/{pid}"));
            let ended = runtime.is_some_and(|process| !fs::exists(process).unwrap());
            ended || self.strace.try_wait().unwrap().is_some()
        });
    }

    /// strace's exit code is the runtime's, once everything that it traced has ended.
    fn code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if let Some(status) = self.strace.try_wait().unwrap() {
                return status.code();
            }
            sleep(Duration::from_millis(2));
        }
        panic!("{}: something still runs", self.label);
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

trait MapFile {
    fn map_file(self, bundle: &Bundle) -> (fs::File, fs::File);
}

impl MapFile for (&str, &str) {
    fn map_file(self, bundle: &Bundle) -> (fs::File, fs::File) {
        let make = |name: &str| fs::File::create(bundle.path().join(name)).unwrap();
        (make(self.0), make(self.1))
    }
}

/// Everything that takes steps: hooks, mounts of several kinds, masks, a user, a filter.
fn rich(args: &[&str]) -> Bundle {
    let mut bundle = Bundle::new(args);
    bundle.spec["process"]["user"] = serde_json::json!({ "uid": 5, "gid": 5, "additionalGids": [7] });
    bundle.spec["process"]["rlimits"] = serde_json::json!([{ "type": "RLIMIT_CORE", "soft": 0, "hard": 0 }]);
    bundle.spec["hooks"] = serde_json::json!({
        "createRuntime": [{ "path": "/bin/true" }], "createContainer": [{ "path": "/bin/true" }],
        "poststart": [{ "path": "/bin/true" }], "poststop": [{ "path": "/bin/true" }]
    });
    bundle.spec["mounts"].as_array_mut().unwrap().push(serde_json::json!({
        "destination": "/shared", "type": "bind", "source": "/usr/share", "options": ["rbind", "ro"]
    }));
    bundle.spec["linux"]["resources"]["pids"] = serde_json::json!({ "limit": 50 });
    bundle.spec["linux"]["seccomp"] = serde_json::json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["swapon"], "action": "SCMP_ACT_ERRNO" }]
    });
    fs::write(bundle.path().join("config.json"), bundle.spec.to_string()).unwrap();
    bundle
}

/// Processes that were started for this bundle.
fn processes(bundle: &Bundle) -> Vec<String> {
    let own = std::process::id().to_string();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let found = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let line = String::from_utf8_lossy(&fs::read(entry.path().join("cmdline")).ok()?).replace('\0', " ");
        let is =
            name != own && line.contains(&bundle.path().display().to_string()) && !line.starts_with("strace");
        is.then(|| format!("{name} {line}"))
    });
    found.collect()
}

/// `delete --force`, after which nothing may be there.
fn clean(bundle: &Bundle, label: &str) {
    let deleted = bundle.call(&["delete", "--force"]);
    assert_eq!(deleted.code, 0, "{label}: {}", deleted.err);
    bundle.assert_gone();
    // Who was to end with the runtime does so in its own time.
    let deadline = Instant::now() + Duration::from_secs(5);
    while !processes(bundle).is_empty() {
        assert!(Instant::now() < deadline, "{label}: {:?}", processes(bundle));
        sleep(Duration::from_millis(5));
    }
}

/// What a call does to a container in a certain state.
struct Scene {
    words: &'static [&'static str],
    more: &'static [&'static str],
    args: &'static [&'static str],
    /// What is done before.
    before: &'static [&'static str],
}

const SCENES: &[Scene] = &[
    Scene { words: &["create", "-b", "."], more: &[], args: &["/bin/sleep", "100"], before: &[] },
    Scene { words: &["run", "-b", "."], more: &[], args: &["/bin/true"], before: &[] },
    Scene { words: &["run", "-d", "-b", "."], more: &[], args: &["/bin/sleep", "100"], before: &[] },
    Scene { words: &["start"], more: &[], args: &["/bin/sleep", "100"], before: &["create"] },
    Scene {
        words: &["exec"],
        more: &["/bin/true"],
        args: &["/bin/sleep", "100"],
        before: &["create", "start"],
    },
    Scene {
        words: &["exec", "-d"],
        more: &["/bin/sleep", "100"],
        args: &["/bin/sleep", "100"],
        before: &["create", "start"],
    },
    Scene { words: &["kill"], more: &["KILL"], args: &["/bin/sleep", "100"], before: &["create", "start"] },
    Scene { words: &["pause"], more: &[], args: &["/bin/sleep", "100"], before: &["create", "start"] },
    Scene {
        words: &["delete", "--force"],
        more: &[],
        args: &["/bin/sleep", "100"],
        before: &["create", "start"],
    },
];

impl Scene {
    fn play(&self, inject: &str) -> (Bundle, Traced) {
        let bundle = rich(self.args);
        for step in self.before {
            let said = if *step == "create" { bundle.create() } else { bundle.call(&[step]) };
            assert_eq!(said.code, 0, "{step}: {}", said.err);
        }
        let path = bundle.path().display().to_string();
        let words: Vec<&str> =
            self.words.iter().map(|word| if *word == "." { path.as_str() } else { word }).collect();
        let mut traced = Traced::begin(&bundle, &words, self.more, inject);
        traced.await_runtime(&bundle);
        (bundle, traced)
    }

    /// How often each system call is made by the process that makes it most often.
    fn calls(&self) -> BTreeMap<String, usize> {
        let (bundle, mut traced) = self.play("");
        clean(&bundle, &traced.label);
        traced.code();
        let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
        let trace = fs::read_to_string(bundle.path().join("trace")).unwrap();
        for line in trace.lines() {
            let Some((pid, call)) = line.split_once(' ') else { continue };
            let Some((name, _)) = call.trim().split_once('(') else { continue };
            if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                *counts.entry((name.to_owned(), pid.to_owned())).or_default() += 1;
                *counts.entry(("all".to_owned(), pid.to_owned())).or_default() += 1;
            }
        }
        counts.into_iter().fold(BTreeMap::new(), |mut most, ((name, _), count)| {
            let known = most.entry(name).or_default();
            *known = count.max(*known);
            most
        })
    }
}

/// Where groups, then processes are there, and their record is not; the hardest to find again.
const UNRECORDED: [&str; 3] = ["bind", "clone3", "/^rename"];

/// Kills each process of the call when it makes one of `calls` for the n-th time.
fn killed_at(scene: &Scene, calls: &str, when: usize) {
    let (bundle, mut traced) = scene.play(&format!("{calls}:signal=KILL:when={when}"));
    clean(&bundle, &traced.label);
    traced.code();
}

fn killed(samples: usize) {
    for (index, scene) in SCENES.iter().enumerate() {
        let total = scene.calls()["all"];
        assert!(total > 20, "strace shows what is done");
        let step = (total / samples).max(1);
        // Different points in each scene.
        (1 + index % step..=total).step_by(step).for_each(|when| killed_at(scene, "all", when));
    }
    for scene in &SCENES[..3] {
        for call in UNRECORDED {
            killed_at(scene, call, 1);
        }
    }
}

#[test]
fn a_killed_runtime_leaves_nothing_that_delete_does_not_clean() {
    if is_ours() {
        killed(5);
    }
}

#[test]
#[ignore = "takes minutes; cargo xtask test --all"]
fn a_runtime_killed_at_every_call_leaves_nothing() {
    if is_ours() {
        killed(usize::MAX);
    }
}

/// System calls, and how they fail on a bad day.
const REFUSALS: &[(&str, &str)] = &[
    ("openat", "EMFILE"),
    ("openat2", "EMFILE"),
    ("open_tree", "ENOMEM"),
    ("mkdir", "ENOSPC"),
    ("mkdirat", "ENOSPC"),
    ("mknodat", "ENOSPC"),
    ("symlinkat", "ENOSPC"),
    ("rename", "EIO"),
    ("mount", "ENOMEM"),
    ("fsopen", "ENODEV"),
    ("fsconfig", "EINVAL"),
    ("fsmount", "ENOMEM"),
    ("move_mount", "ENOSPC"),
    ("mount_setattr", "EINVAL"),
    ("pivot_root", "EBUSY"),
    ("umount2", "EBUSY"),
    ("clone3", "EAGAIN"),
    ("unshare", "ENOSPC"),
    ("setns", "EPERM"),
    ("socketpair", "ENFILE"),
    ("socket", "ENFILE"),
    ("bind", "ENOSPC"),
    ("listen", "ENOMEM"),
    ("write", "EIO"),
    ("prctl", "EINVAL"),
    ("capset", "EPERM"),
    ("setresuid", "EAGAIN"),
    ("setresgid", "EINVAL"),
    ("setgroups", "EPERM"),
    ("sethostname", "EPERM"),
    ("setsid", "EPERM"),
    ("chdir", "EACCES"),
    ("fchdir", "EIO"),
    ("fchown", "EPERM"),
    ("fchownat", "EPERM"),
    ("fchmod", "EPERM"),
    ("seccomp", "EINVAL"),
    ("close_range", "EINVAL"),
    ("memfd_create", "ENOMEM"),
    ("sendfile", "EIO"),
    ("execve", "ENOMEM"),
    ("pidfd_open", "EMFILE"),
    ("prlimit64", "EPERM"),
    ("keyctl", "EDQUOT"),
    ("bpf", "EPERM"),
];

/// Once refused: the call fails, says what it was about, and has undone everything, or it can do without.
fn refused_at(scene: &Scene, call: &str, errno: &str, when: usize) {
    let (bundle, mut traced) = scene.play(&format!("{call}:error={errno}:when={when}"));
    let label = traced.label.clone();
    if bundle.path().join("state").join(&bundle.id).exists() {
        // It was made all the same, or strace still holds what is on its way out.
        clean(&bundle, &label);
        traced.code();
        return;
    }
    let code = traced.code().unwrap_or(-1);
    until(&format!("{label}: all processes are gone"), || processes(&bundle).is_empty());
    bundle.assert_gone();
    let said = fs::read_to_string(bundle.path().join("err")).unwrap();
    // Where strace refuses a call it is made as number -1, and a filter that is in force by then ends the process.
    let by_filter = code == 128 + 31;
    assert!(code == 0 || by_filter || said.trim().len() > 5, "{label}: ends with {code} and says {said:?}");
    assert!(!said.contains("panicked"), "{label}: {said}");
}

fn refused(each: usize) {
    for scene in &SCENES[..2] {
        let calls = scene.calls();
        for (call, errno) in REFUSALS {
            let times = calls.get(*call).copied().unwrap_or(0);
            (1..=times.min(each)).for_each(|when| refused_at(scene, call, errno, when));
        }
    }
}

#[test]
fn a_step_that_fails_undoes_those_before_it() {
    if is_ours() {
        refused(1);
    }
}

#[test]
#[ignore = "takes minutes; cargo xtask test --all"]
fn every_step_that_fails_undoes_those_before_it() {
    if is_ours() {
        refused(usize::MAX);
    }
}
