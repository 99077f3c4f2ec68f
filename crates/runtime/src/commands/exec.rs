//! `exec`: adds a process to a running container.

use std::{
    fs,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::Path,
};

use oci::spec::{Hooks, Process, Status};

use super::{Context, create, log, relay};
use crate::{
    cgroup::{Places, SubGroups},
    container::{self, Container},
    error::{During, Error, Result},
    host,
    launch::{self, Launch},
    plan::{self, Joining},
    sealed,
    seccomp::Program,
    spec,
};

pub(super) fn exec(context: &mut Context) -> Result<u8> {
    sealed::ensure()?;
    let container = Container::load(&context.global.root, context.call.id())?;
    match container.status() {
        Status::Stopped => return Err(Error::new("cannot exec in a stopped container")),
        Status::Paused if !context.call.has("ignore-paused") => {
            return Err(Error::new("cannot exec in a paused container (use --ignore-paused to override)"));
        }
        _ => {}
    }
    let process = process(context, &container.record.process)?;
    let below = SubGroups::read(context.call.values("cgroup"))?;
    spec::check_process(&process)?;
    let pidfd = container.process().ok_or_else(|| Error::new("cannot exec in a stopped container"))?;
    let kinds = foreign_namespaces(container.record.pid)?;
    let program = match fs::read(container.filter()) {
        Ok(bytes) => Some(Program::from_bytes(&bytes)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(Error::refused("read the container's seccomp filter", &error)),
    };
    let preserve = context.call.number("preserve-fds")?;
    let joining = Joining {
        id: &container.record.id,
        namespaces: kinds,
        rdt: &container.record.rdt,
        personality: container.record.personality.as_ref(),
        memory_policy: container.record.memory_policy.as_ref(),
    };
    let host = host::for_process(&process)?;
    let plan = plan::exec_process(&process, &joining, &host, program, preserve)?;
    // What the container's own process could not have was told when it was made.
    let asked = ["process", "cap"].iter().any(|flag| context.call.has(flag));
    for warning in plan.warnings.iter().filter(|_| asked) {
        log(&context.global, "warning", warning);
    }
    let detached = context.call.has("detach");
    let (terminal, console) = console(context, &process, detached)?;
    let initial = process.exec_cpu_affinity.as_ref().and_then(|affinity| affinity.initial.clone());
    let ready = Launch {
        plan: &plan,
        groups: Places::for_exec(&container.record.places, &below, container.record.pid)?,
        console,
        listener: None,
        container: Some((pidfd, kinds)),
        state: container.state(Status::Running),
        hooks: Hooks::default(),
        args: process.args,
        env: process.env,
    };
    let (agent, state) = (container.record.agent.as_ref(), container.state(Status::Running));
    begin_on(initial.as_deref())?;
    let mut born = launch::launch(ready, &mut context.recorder)?;
    if let Some(path) = context.call.value("pid-file") {
        container::write_whole(Path::new(path), born.pid.to_string().as_bytes())?;
    }
    if detached {
        return born.start(agent, &state).map(|()| 0);
    }
    let relay = relay::Relay::begin(terminal)?;
    born.start(agent, &state)?;
    relay.serve(&born, None).map(|code| code as u8)
}

/// Binds this process, and so the child that it makes, to the CPUs that `execCPUAffinity` begins with.
fn begin_on(list: Option<&str>) -> Result<()> {
    let Some(list) = list else { return Ok(()) };
    let cpus = plan::cpus("process.execCPUAffinity.initial", list)?;
    sys::scheduling::set_affinity(&cpus).during(|| format!("run on CPUs {list}"))
}

/// Our end of a terminal that we relay, and the child's console socket.
fn console(
    context: &Context,
    process: &Process,
    detached: bool,
) -> Result<(Option<OwnedFd>, Option<OwnedFd>)> {
    match (process.terminal, context.call.value("console-socket")) {
        (false, None) => Ok((None, None)),
        (false, Some(_)) => Err(Error::new("--console-socket: the process has no terminal")),
        (true, Some(path)) => Ok((None, Some(create::connect(path)?))),
        (true, None) if detached => {
            Err(Error::new("cannot allocate tty if the runtime will detach without setting console socket"))
        }
        (true, None) => relay::pair().map(|(ours, theirs)| (Some(ours), Some(theirs))),
    }
}

/// The namespaces that the container does not share with us.
fn foreign_namespaces(pid: i32) -> Result<u64> {
    let mut kinds = 0;
    for (name, bit) in sys::process::NAMESPACES {
        let inode = |whose: &str| {
            let path = format!("/proc/{whose}/ns/{name}");
            fs::metadata(&path).map(|found| found.ino()).during(|| format!("look at {path}"))
        };
        if inode(&pid.to_string())? != inode("self")? {
            kinds |= bit;
        }
    }
    Ok(kinds)
}

/// What to run: `--process`, or the container's own process with what the flags change.
fn process(context: &Context, own: &Process) -> Result<Process> {
    let call = &context.call;
    if let Some(path) = call.value("process") {
        return spec::read_json(Path::new(path));
    }
    let mut process = own.clone();
    process.args = call.words[1..].to_vec();
    process.terminal = call.has("tty");
    process.console_size = None;
    if let Some(cwd) = call.value("cwd") {
        cwd.clone_into(&mut process.cwd);
    }
    process.env.extend(call.values("env").iter().cloned());
    if let Some(user) = call.value("user") {
        let (uid, gid) = user.split_once(':').map_or((user, None), |(uid, gid)| (uid, Some(gid)));
        process.user.uid = id(uid)?;
        // Without one, the container's own stays, as under runc.
        process.user.gid = gid.map_or(Ok(process.user.gid), id)?;
    }
    for (flag, label) in
        [("apparmor", &mut process.apparmor_profile), ("process-label", &mut process.selinux_label)]
    {
        if let Some(value) = call.value(flag) {
            *label = Some(value.to_owned());
        }
    }
    for gid in call.values("additional-gids") {
        process.user.additional_gids.push(id(gid)?);
    }
    if let Some(profile) = call.value("apparmor") {
        process.apparmor_profile = Some(profile.to_owned());
    }
    if let Some(label) = call.value("process-label") {
        process.selinux_label = Some(label.to_owned());
    }
    process.no_new_privileges |= call.has("no-new-privs");
    for capability in call.values("cap") {
        let sets = process.capabilities.get_or_insert_default();
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            set.push(capability.clone());
        }
    }
    Ok(process)
}

/// Digits and nothing else (CVE-2026-30892).
fn id(text: &str) -> Result<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|id| digits && *id != u32::MAX);
    number.ok_or_else(|| Error::new(format!("{text:?}: is no user or group id")))
}
