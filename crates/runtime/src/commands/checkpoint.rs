//! `checkpoint` and `restore`: a container's processes, saved to files and brought back by CRIU.
//!
//! CRIU keeps what is in the processes, their credentials and filters with it: its files are to be trusted as the
//! processes were. Everything else comes from the bundle at the time of the restore, and nothing of it from those files:
//! limits and groups, the root, what is mounted from the host, hooks, annotations.

use std::{
    fs,
    os::{fd::AsFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use oci::spec::{Spec, State, Status};
use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};

use super::{Context, create, log, relay::Relay};
use crate::{
    cgroup::{Place, Places},
    container::{Container, write_whole},
    error::{During, Error, Result},
    hooks,
    launch::{self, Born},
    sealed,
};

/// Our words, and what of CRIU's they come to; what is not here is refused by [`unsupported`].
const SWITCHES: &[(&str, &str)] = &[
    ("leave-running", "--leave-running"),
    ("tcp-established", "--tcp-established"),
    ("ext-unix-sk", "--ext-unix-sk"),
    ("shell-job", "--shell-job"),
    ("file-locks", "--file-locks"),
    ("auto-dedup", "--auto-dedup"),
];

/// Kept beside CRIU's files: what 0, 1 and 2 were.
const STDIO: &str = "descriptors.json";

pub(super) fn checkpoint(context: &mut Context) -> Result<u8> {
    unsupported(context)?;
    let container = Container::load(&context.global.root, context.call.id())?;
    let lock = container.lock()?;
    if !matches!(container.status(), Status::Running | Status::Created) {
        return Err(Error::new("container is not running"));
    }
    if container.record.process.terminal {
        return Err(Error::new("checkpoint: not supported for a process with a terminal"));
    }
    let images = directory(context, "image-path", "checkpoint")?;
    let work = directory(context, "work-path", &images.display().to_string())?;
    let pre = context.call.has("pre-dump");
    let pid = container.record.pid;
    let mut criu = criu(context, if pre { "pre-dump" } else { "dump" }, &images, &work);
    criu.args(["--tree", &pid.to_string(), "--network-lock", "nftables"]);
    if let Some(parent) = context.call.value("parent-path") {
        criu.args(["--track-mem", "--prev-images-dir", parent]);
    } else if pre {
        criu.arg("--track-mem");
    }
    if !pre {
        let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).during(|| "read its mounts")?;
        for target in from_outside(&table) {
            criu.arg("--external").arg(format!("mnt[{target}]:{target}"));
        }
        let stdio = [0, 1, 2].map(|number| descriptor(pid, number, &table));
        for key in stdio.iter().filter(|key| !key.starts_with("pipe:")) {
            criu.args(["--external", key]);
        }
        let text = serde_json::to_vec(&stdio).map_err(|error| Error::new(error.to_string()))?;
        write_whole(&images.join(STDIO), &text)?;
    }
    let status = criu.status().map_err(|error| missing(context, &error))?;
    if !status.success() {
        return Err(failed(&work, if pre { "pre-dump" } else { "dump" }));
    }
    drop(lock);
    if !pre && !context.call.has("leave-running") {
        super::delete::remove(&container, context)?;
    }
    Ok(0)
}

pub(super) fn restore(context: &mut Context) -> Result<u8> {
    sealed::ensure()?;
    unsupported(context)?;
    let images = fs::canonicalize(context.call.value("image-path").unwrap_or("checkpoint"))
        .during(|| "find the checkpoint")?;
    let work = directory(context, "work-path", &images.display().to_string())?;
    let stdio: [String; 3] = crate::spec::read_json(&images.join(STDIO))?;
    if let Some(key) = stdio.iter().find(|key| !is_plain(key)) {
        return Err(Error::new(format!("{}: {key:?} is no descriptor's name", images.join(STDIO).display())));
    }
    let detached = context.call.has("detach");
    let made = create::prepare(context)?;
    if made.spec.process.as_ref().is_some_and(|process| process.terminal) {
        return Err(Error::new("restore: not supported for a process with a terminal"));
    }
    let groups = Places::open(&made.container.record.places)?;
    let mut criu = criu(context, "restore", &images, &work);
    let root = made.container.record.rootfs.clone();
    let pid_file = made.container.directory.join("restored.pid");
    criu.arg("--root").arg(&root).arg("--pidfile").arg(&pid_file);
    criu.args(["--restore-detached", "--restore-sibling"]);
    for (target, source) in sources(&made.spec, &made.container.record.places, &made.container.record.bundle)
    {
        criu.arg("--external").arg(format!("mnt[{target}]:{source}"));
    }
    for (number, key) in stdio.iter().enumerate().filter(|(_, key)| *key != "dev/null") {
        criu.arg("--inherit-fd").arg(format!("fd[{number}]:{key}"));
    }
    if let Some(profile) = context.call.value("lsm-profile") {
        criu.args(["--lsm-profile", profile]);
    }
    run_inside(context, criu, &groups, &root, &work)?;
    let text = fs::read_to_string(&pid_file).during(|| "read the restored process's id")?;
    let pid = text.trim().parse().map_err(|_| Error::new(format!("criu: {text:?} is no process id")))?;
    let born = Born::adopt(pid)?;
    // They are there already, and wait for nobody: what these hooks prepare comes a moment late.
    let wanted = made.spec.hooks.clone().unwrap_or_default();
    let state = State { pid: Some(pid), ..made.container.state(Status::Creating) };
    let ran = hooks::run("prestart", &wanted.prestart, &state)
        .and_then(|()| hooks::run("createRuntime", &wanted.create_runtime, &state));
    if let Err(error) = ran {
        launch::end(&born);
        return Err(error);
    }
    let made = made.started(context, born)?;
    let relay = if detached { None } else { Some(Relay::begin(None)?) };
    let poststart = made.container.record.hooks.poststart.clone();
    if let Err(error) = hooks::run("poststart", &poststart, &made.container.state(Status::Running)) {
        log(&context.global, "warning", &error.to_string());
    }
    let Some(relay) = relay else {
        made.keep();
        return Ok(0);
    };
    let code = relay.serve(&made.born, None)?;
    made.delete(context)?;
    Ok(code as u8)
}

/// A word that is taken must do something.
fn unsupported(context: &Context) -> Result<()> {
    let call = &context.call;
    for name in ["lazy-pages", "page-server", "status-fd", "lsm-mount-context", "console-socket"] {
        if call.has(name) {
            return Err(Error::new(format!("--{name}: not supported")));
        }
    }
    match call.value("manage-cgroups-mode") {
        None | Some("ignore") => Ok(()),
        Some(mode) => Err(Error::new(format!(
            "--manage-cgroups-mode {mode:?}: not supported: groups and limits are made from the bundle's config (ignore)"
        ))),
    }
}

fn directory(context: &Context, flag: &str, otherwise: &str) -> Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let path = Path::new(context.call.value(flag).unwrap_or(otherwise));
    let what = || format!("make {}", path.display());
    // What was in a container's memory is nobody else's business.
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).during(what)?;
    fs::canonicalize(path).during(what)
}

fn criu(context: &Context, action: &str, images: &Path, work: &Path) -> Command {
    let mut criu = Command::new(&context.global.criu);
    criu.arg(action).arg("--images-dir").arg(images).arg("--work-dir").arg(work);
    criu.args(["--log-file", &format!("{action}.log"), "-v4", "--manage-cgroups=ignore"]);
    let chosen = SWITCHES.iter().filter(|(ours, _)| context.call.has(ours));
    criu.args(chosen.map(|(_, theirs)| theirs));
    for name in context.call.values("empty-ns") {
        criu.args(["--empty-ns", if name == "network" { "net" } else { name }]);
    }
    criu.stdin(Stdio::inherit());
    criu
}

fn missing(context: &Context, error: &std::io::Error) -> Error {
    Error::refused(format!("run {}", context.global.criu), error)
        .hint_on(rustix::io::Errno::NOENT, "checkpoint and restore are done by CRIU, Debian's package criu")
}

/// What CRIU wrote of its reasons.
fn failed(work: &Path, action: &str) -> Error {
    let path = work.join(format!("{action}.log"));
    let text = fs::read(&path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let errors: Vec<&str> = text.lines().filter(|line| line.contains("Error (")).collect();
    let last = errors.iter().rev().take(3).rev().copied().collect::<Vec<_>>().join("; ");
    let reason = if last.is_empty() { "`criu check` may say why" } else { &last };
    Error::new(format!("criu {action} failed, see {}: {reason}", path.display()))
}

/// Mount points of file systems that are the host's: no mount of the container's shows their root.
fn from_outside(table: &str) -> Vec<String> {
    let fields = |line: &str| -> Option<(String, String, String)> {
        let fields: Vec<&str> = line.split(' ').collect();
        Some((fields.get(2)?.to_string(), fields.get(3)?.to_string(), sys::fsmount::unescape(fields.get(4)?)))
    };
    let mounts: Vec<_> = table.lines().filter_map(fields).collect();
    let inside =
        |device: &String| mounts.iter().any(|(other, root, at)| other == device && root == "/" && at != "/");
    let outside = mounts.iter().filter(|(device, _, at)| at != "/" && !inside(device));
    outside.map(|(_, _, at)| at.clone()).collect()
}

/// What the bundle has for each mount point of the host's: the only sources that there are for a restore.
fn sources(spec: &Spec, places: &[Place], bundle: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for mount in &spec.mounts {
        let target = mount.destination.trim_end_matches('/');
        match mount.kind.as_deref() {
            Some("cgroup" | "cgroup2") => {
                for place in places {
                    let group = place.group.display().to_string();
                    found.push((format!("{target}/{}", place.name), group.clone()));
                    if place.unified {
                        found.push((target.to_owned(), group));
                    }
                }
            }
            kind if kind == Some("bind")
                || mount.options.iter().any(|word| word == "bind" || word == "rbind") =>
            {
                let source = bundle.join(mount.source.as_deref().unwrap_or_default());
                found.push((target.to_owned(), source.display().to_string()));
            }
            _ => {}
        }
    }
    let masked = spec.linux.iter().flat_map(|linux| &linux.masked_paths);
    found.extend(masked.map(|path| (path.clone(), "/dev/null".to_owned())));
    found
}

/// CRIU's name of a descriptor of the host's.
fn descriptor(pid: i32, number: u32, mounts: &str) -> String {
    let path = format!("/proc/{pid}/fd/{number}");
    let link = fs::read_link(&path).unwrap_or_default().display().to_string();
    if link.starts_with("pipe:[") {
        return link;
    }
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap_or_default();
    let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse::<u64>().ok());
    let inode = fs::metadata(&path).map_or(0, |found| std::os::unix::fs::MetadataExt::ino(&found));
    let mount = mount.unwrap_or(0);
    // One that the container could open itself is found again in it.
    if mounts.lines().any(|line| line.split(' ').next() == Some(mount.to_string().as_str())) {
        return "dev/null".to_owned();
    }
    format!("file[{mount:x}:{inode:x}]")
}

/// As [`descriptor`] writes it; the file may come from anybody.
fn is_plain(key: &str) -> bool {
    let within = |start: &str| key.strip_prefix(start).and_then(|rest| rest.strip_suffix(']'));
    let hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    key == "dev/null"
        || within("pipe:[")
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
        || within("file[")
            .and_then(|rest| rest.split_once(':'))
            .is_some_and(|(mount, inode)| hex(mount) && hex(inode))
}

/// Runs CRIU in the container's groups, and in mounts of its own, where the root is a mount point as it wants it. What
/// it restores is then in these groups, and a child of ours.
fn run_inside(context: &Context, mut criu: Command, groups: &Places, root: &Path, work: &Path) -> Result<()> {
    let how = sys::process::Fork { namespaces: 0, cgroup: groups.unified(), sibling: false };
    let forked = sys::process::fork(how).during(|| "fork")?;
    let Some((pid, pidfd)) = forked else {
        let prepare = || -> Result<()> {
            groups.enter()?;
            sys::process::unshare(crate::plan::namespace_bit("mnt")).during(|| "create namespace mnt")?;
            let what = || format!("bind {}", root.display());
            mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM).during(what)?;
            mount_bind(root, root).during(what)
        };
        let error = match prepare() {
            Ok(()) => missing(context, &criu.exec()),
            Err(error) => error,
        };
        super::say(&error.to_string());
        std::process::exit(127);
    };
    match launch::wait_for(pidfd.as_fd())? {
        0 => Ok(()),
        127 => Err(Error::new("criu did not start")),
        _ => {
            let _ = pid;
            Err(failed(work, "restore"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_file_systems_are_told_apart() {
        let table = "41 30 0:24 /b/rootfs / rw - tmpfs tmpfs rw\n42 41 0:27 / /proc rw - proc proc rw\n\
                     47 41 0:19 /root /etc/in ro - tmpfs tmpfs rw\n48 42 0:27 /bus /proc/bus ro - proc proc rw\n\
                     51 42 0:5 /null /proc/kcore rw - devtmpfs dev rw\n52 41 0:24 /a\\040b /a\\040b rw - tmpfs tmpfs rw\n";
        assert_eq!(from_outside(table), ["/etc/in", "/proc/kcore", "/a b"]);
    }

    #[test]
    fn names_of_descriptors_are_plain() {
        for (key, plain) in [
            ("pipe:[123]", true),
            ("file[1b:9]", true),
            ("dev/null", true),
            ("pipe:[]", false),
            ("file[1b]", false),
            ("tty[1:2]", false),
            ("/etc/passwd", false),
            ("file[1:2]:/etc", false),
            ("", false),
        ] {
            assert_eq!(is_plain(key), plain, "{key}");
        }
    }
}
