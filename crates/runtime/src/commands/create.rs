//! `create` and `run`: from a bundle to a process that is ready to start, or started.

use std::{
    fs,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use oci::spec::{Spec, Status};

use super::{Context, log, notify, relay};
use crate::{
    cgroup::{self, Places},
    container::{self, Container, Record},
    error::{During, Error, Result},
    hooks, host,
    launch::{self, Born, Launch},
    plan::{self, Plan, Request},
    rdt,
    record::Description,
    sealed, seccomp, spec,
    steps::Step,
};

/// Makes a container whose process waits for `start`.
pub(super) fn create(context: &mut Context) -> Result<u8> {
    sealed::ensure()?;
    let made = make(context, &Mode::Created)?;
    made.keep();
    Ok(0)
}

/// Makes a container, starts it, and unless detached waits for it and removes it.
pub(super) fn run(context: &mut Context) -> Result<u8> {
    sealed::ensure()?;
    let detached = context.call.has("detach");
    let terminal = if detached { None } else { relay::socket(context)? };
    let (ours, theirs) = terminal.unzip();
    let mut made = make(context, &Mode::Run(theirs))?;
    let relay = if detached { None } else { Some(relay::Relay::begin(ours)?) };
    let notify = notify::Notify::open(&made.container.directory)?;
    if let Err(error) = begin(&mut made) {
        made.fail(context);
        return Err(error);
    }
    if detached {
        if let Some(notify) = notify {
            notify.pass_on(&made.container)?;
        }
        made.keep();
        return Ok(0);
    }
    let code = match relay {
        Some(relay) => relay.serve(&made.born, notify)?,
        None => launch::wait(&made.born)?,
    };
    if context.call.has("keep") {
        made.keep();
        return Ok(code as u8);
    }
    made.delete(context)?;
    Ok(code as u8)
}

/// Prints what would be done.
pub(super) fn plan(context: &mut Context) -> Result<u8> {
    let (spec, plan, _) = compute(context)?;
    let _ = spec;
    super::print(&plan.to_string());
    Ok(0)
}

/// A container that has everything but its processes.
pub(super) struct Prepared {
    pub(super) container: Container,
    pub(super) spec: Spec,
    plan: Plan,
    undo: Undo,
    _making: container::Making,
    /// What systemd made is kept by its processes, until there are some by this.
    _held: cgroup::Held,
}

/// Does all of `create` that comes before the process.
pub(super) fn prepare(context: &mut Context) -> Result<Prepared> {
    let (mut spec, mut plan, request) = compute(context)?;
    let directory = container::reserve(&context.global.root, &request.id)?;
    let mut undo = Undo {
        directory: directory.clone(),
        places: Vec::new(),
        unit: None,
        rdt: rdt::Places::default(),
        armed: true,
    };
    notify::prepare(&directory)?;
    refuse_used_groups(&plan)?;
    let making = container::Making::begin(&directory, &plan.cgroups.places)?;
    undo.places.clone_from(&plan.cgroups.places);
    let rootless = context.global.rootless;
    let held = cgroup::apply(&mut plan.cgroups, rootless, &mut context.recorder)?;
    undo.unit.clone_from(&plan.cgroups.unit);
    if plan.cgroups.places.len() < undo.places.len() {
        plan = with_fewer_groups(context, &mut spec, &request, plan.cgroups)?;
    }
    undo.rdt.clone_from(&plan.rdt.places);
    context.recorder.run(&plan.rdt.actions, rdt::Action::run)?;
    let container = Container { record: record(&spec, &request, &plan), directory };
    keep_filter(&container, &plan)?;
    Ok(Prepared { container, spec, plan, undo, _making: making, _held: held })
}

impl Prepared {
    /// With the process that came to it.
    pub(super) fn started(mut self, context: &mut Context, born: Born) -> Result<Made> {
        let finished = finish(context, &mut self.container, &born);
        let made = Made { container: self.container, born, undo: self.undo };
        match finished {
            Ok(()) => Ok(made),
            Err(error) => {
                made.fail(context);
                Err(error)
            }
        }
    }
}

enum Mode {
    /// Waits at its socket.
    Created,
    /// Is started by us, with this as its console socket unless one is named.
    Run(Option<OwnedFd>),
}

pub(super) struct Made {
    pub(super) container: Container,
    pub(super) born: Born,
    undo: Undo,
}

/// The last hooks of a container that is gone again: whatever the first ones did is theirs to undo (runtime-spec,
/// lifecycle 13).
fn farewell(context: &Context, container: &Container) {
    let warn = |message: &str| log(&context.global, "warning", message);
    let state = container.state(Status::Stopped);
    hooks::run_all("poststop", &container.record.hooks.poststop, &state, warn);
}

fn begin(made: &mut Made) -> Result<()> {
    let state = made.container.state(Status::Created);
    made.born.start(made.container.record.agent.as_ref(), &state)?;
    hooks::run("poststart", &made.container.record.hooks.poststart, &made.container.state(Status::Running))
}

impl Made {
    fn fail(self, context: &Context) {
        launch::end(&self.born);
        drop(self.undo);
        farewell(context, &self.container);
    }

    pub(super) fn keep(self) {
        self.undo.defuse();
    }

    /// Once its process has ended.
    pub(super) fn delete(self, context: &mut Context) -> Result<()> {
        self.undo.defuse();
        super::delete::remove(&self.container, context)
    }
}

/// What is taken back unless everything went well.
struct Undo {
    directory: PathBuf,
    places: Vec<cgroup::Place>,
    unit: Option<cgroup::Unit>,
    rdt: rdt::Places,
    armed: bool,
}

impl Undo {
    fn defuse(mut self) {
        self.armed = false;
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if self.armed {
            let _ = cgroup::remove(&self.places, self.unit.as_ref());
            rdt::remove(&self.rdt);
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

fn compute(context: &mut Context) -> Result<(Spec, Plan, Request)> {
    let call = &context.call;
    container::check_id(call.id())?;
    container::check_kernel()?;
    let bundle = fs::canonicalize(call.value("bundle").unwrap_or(".")).during(|| "find the bundle")?;
    let mut request = Request {
        id: call.id().to_owned(),
        bundle,
        preserve_fds: call.number("preserve-fds")?,
        no_new_keyring: call.has("no-new-keyring"),
        systemd: context.global.systemd_cgroup.then(cgroup::Manager::of_caller),
        no_pivot: call.has("no-pivot"),
    };
    let read = Description::new(format!("read {}/config.json", request.bundle.display()));
    let mut spec = context.recorder.step(|| read, || spec::load(&request.bundle))?;
    notify::show(&mut spec, &context.global.root.join(&request.id));
    hand_listeners_on(&mut spec, &mut request)?;
    let host = host::for_container(&spec, context.global.rootless)?;
    let plan = context.recorder.step(|| Description::new("plan"), || plan::plan(&spec, &host, &request))?;
    for warning in &plan.warnings {
        log(&context.global, "warning", warning);
    }
    if context.global.debug {
        let seccomp = spec.linux.as_ref().and_then(|linux| linux.seccomp.as_deref());
        for name in seccomp.map(seccomp::unknown_calls).unwrap_or_default() {
            log(&context.global, "debug", &format!("linux.seccomp: no system call is called {name}"));
        }
        for line in plan.to_string().lines() {
            log(&context.global, "debug", line);
        }
    }
    Ok((spec, plan, request))
}

/// `sd_listen_fds(3)`: sockets that were handed to this process are the container's, as under runc. They come before
/// those of `--preserve-fds`; each of them must be open, or the container would be given whatever is opened next.
fn hand_listeners_on(spec: &mut Spec, request: &mut Request) -> Result<()> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    if number("LISTEN_PID") == Some(std::process::id())
        && let (Some(count @ 1..), Some(process)) = (number("LISTEN_FDS"), &mut spec.process)
    {
        process.env.extend([format!("LISTEN_FDS={count}"), "LISTEN_PID=1".to_owned()]);
        request.preserve_fds = request.preserve_fds.saturating_add(count);
    }
    for fd in 3..request.preserve_fds.saturating_add(3) {
        fs::symlink_metadata(format!("/proc/self/fd/{fd}"))
            .during(|| format!("--preserve-fds: descriptor {fd} is to be handed on"))?;
    }
    Ok(())
}

fn make(context: &mut Context, mode: &Mode) -> Result<Made> {
    let prepared = prepare(context)?;
    let (container, spec, plan) = (&prepared.container, &prepared.spec, &prepared.plan);
    let process = spec.process.clone().unwrap_or_default();
    let console = console(context, process.terminal, mode)?;
    let listener = match mode {
        Mode::Created => Some(listen(container)?),
        Mode::Run(_) => None,
    };
    let ready = Launch {
        plan,
        groups: Places::open(&plan.cgroups.places)?,
        console,
        listener,
        container: None,
        state: container.state(Status::Creating),
        hooks: spec.hooks.clone().unwrap_or_default(),
        args: process.args,
        env: process.env,
    };
    match launch::launch(ready, &mut context.recorder) {
        Ok(born) => prepared.started(context, born),
        Err(error) => {
            drop(prepared.undo);
            farewell(context, &prepared.container);
            Err(error)
        }
    }
}

/// For those that `exec` adds.
fn keep_filter(container: &Container, plan: &Plan) -> Result<()> {
    let filter = plan.start.iter().find_map(|step| match step {
        Step::Seccomp(program) => Some(program.to_bytes()),
        _ => None,
    });
    match filter {
        Some(filter) => fs::write(container.filter(), filter).during(|| "keep the seccomp filter"),
        None => Ok(()),
    }
}

/// `--rootless`: who may not make control groups does without, unless limits were asked for. Devices need none then:
/// who may not make groups may not make devices.
fn with_fewer_groups(
    context: &Context,
    spec: &mut Spec,
    request: &Request,
    made: cgroup::Plan,
) -> Result<Plan> {
    if let Some(resources) = spec.linux.as_mut().and_then(|linux| linux.resources.as_mut()) {
        resources.devices.clear();
    }
    let mut host = host::for_container(spec, context.global.rootless)?;
    host.cgroups.retain(|hierarchy| made.places.iter().any(|place| place.name == hierarchy.name()));
    let count = made.places.len();
    log(&context.global, "warning", &format!("only {count} control groups may be made here"));
    Ok(Plan { cgroups: made, ..plan::plan(spec, &host, request)? })
}

/// Processes in a group that we are to make are somebody else's.
fn refuse_used_groups(plan: &Plan) -> Result<()> {
    match plan.cgroups.places.iter().find(|place| {
        fs::read_to_string(place.group.join("cgroup.procs")).is_ok_and(|pids| !pids.trim().is_empty())
    }) {
        Some(place) => Err(Error::new(format!("cgroup {}: has processes already", place.group.display()))),
        None => Ok(()),
    }
}

fn record(spec: &Spec, request: &Request, plan: &Plan) -> Record {
    let hooks = spec.hooks.clone().unwrap_or_default();
    let root = spec.root.clone().unwrap_or_default();
    Record {
        oci_version: spec.oci_version.clone(),
        id: request.id.clone(),
        pid: 0,
        pid_start: 0,
        rootfs: request.bundle.join(root.path),
        bundle: request.bundle.clone(),
        created: container::now(),
        annotations: spec.annotations.clone(),
        places: plan.cgroups.places.clone(),
        unit: plan.cgroups.unit.clone(),
        resources: spec.linux.as_ref().and_then(|linux| linux.resources.clone()).unwrap_or_default(),
        process: spec.process.clone().unwrap_or_default(),
        agent: seccomp::notify::agent(spec.linux.as_ref().and_then(|linux| linux.seccomp.as_deref())),
        rdt: plan.rdt.places.clone(),
        personality: spec.linux.as_ref().and_then(|linux| linux.personality.clone()),
        memory_policy: spec.linux.as_ref().and_then(|linux| linux.memory_policy.clone()),
        hooks: oci::spec::Hooks {
            poststart: hooks.poststart,
            poststop: hooks.poststop,
            ..oci::spec::Hooks::default()
        },
    }
}

fn finish(context: &mut Context, container: &mut Container, born: &Born) -> Result<()> {
    container.record.pid = born.pid;
    let (_, start) =
        container::process_stat(born.pid).ok_or_else(|| Error::new("the container's process is gone"))?;
    container.record.pid_start = start;
    let write = Description::new(format!("write {}/state.json", container.directory.display()));
    context.recorder.step(|| write, || container.record.write(&container.directory))?;
    match context.call.value("pid-file") {
        Some(path) => container::write_whole(Path::new(path), born.pid.to_string().as_bytes()),
        None => Ok(()),
    }
}

/// The socket is bound through a descriptor of its directory: a path may be longer than an address.
fn listen(container: &Container) -> Result<UnixListener> {
    let directory = fs::File::open(&container.directory).during(|| "open the container's directory")?;
    UnixListener::bind(super::start::short(directory.as_fd(), "start.sock"))
        .during(|| "make the start socket")
}

fn console(context: &Context, terminal: bool, mode: &Mode) -> Result<Option<OwnedFd>> {
    match (terminal, context.call.value("console-socket"), mode) {
        (false, Some(_), _) => {
            Err(Error::new("--console-socket: the process has no terminal (process.terminal)"))
        }
        (false, None, _) => Ok(None),
        (true, Some(path), _) => connect(path).map(Some),
        (true, None, Mode::Run(Some(ours))) => {
            ours.try_clone().map(Some).during(|| "copy the console socket")
        }
        (true, None, _) => {
            Err(Error::new("cannot allocate tty if the runtime will detach without setting console socket"))
        }
    }
}

/// Connects to a console socket.
pub(super) fn connect(path: &str) -> Result<OwnedFd> {
    let stream = UnixStream::connect(path).during(|| format!("connect to console socket {path}"))?;
    Ok(stream.into())
}
