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

use super::{Context, log, relay};
use crate::{
    cgroup::{self, Places},
    container::{self, Container, Record},
    error::{During, Error, Result},
    hooks,
    launch::{self, Born, Launch},
    plan::{self, Host, Plan, Request},
    record::Description,
    sealed,
    seccomp::{self, notify},
    spec,
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
    let state = made.container.state(Status::Created);
    made.born.start(made.container.record.agent.as_ref(), &state)?;
    let container = made.container.record.hooks.poststart.clone();
    if let Err(error) = hooks::run("poststart", &container, &made.container.state(Status::Running)) {
        log(&context.global, "warning", &error.to_string());
    }
    if detached {
        made.keep();
        return Ok(0);
    }
    let code = match relay {
        Some(relay) => relay.serve(&made.born)?,
        None => launch::wait(&made.born)?,
    };
    if context.call.has("keep") {
        made.keep();
        return Ok(code as u8);
    }
    let Made { container, undo, .. } = made;
    undo.defuse();
    super::delete::remove(&container, context)?;
    Ok(code as u8)
}

/// Prints what would be done.
pub(super) fn plan(context: &mut Context) -> Result<u8> {
    let (spec, plan, _) = compute(context)?;
    let _ = spec;
    super::print(&plan.to_string());
    Ok(0)
}

enum Mode {
    /// Waits at its socket.
    Created,
    /// Is started by us, with this as its console socket unless one is named.
    Run(Option<OwnedFd>),
}

struct Made {
    container: Container,
    born: Born,
    undo: Undo,
}

impl Made {
    fn keep(self) {
        self.undo.defuse();
    }
}

/// What is taken back unless everything went well.
struct Undo {
    directory: PathBuf,
    places: Vec<cgroup::Place>,
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
            let _ = cgroup::remove(&self.places);
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

fn compute(context: &mut Context) -> Result<(Spec, Plan, Request)> {
    let call = &context.call;
    if call.has("no-pivot") {
        let why = "a moved root can be left by a process with CAP_SYS_CHROOT";
        return Err(Error::new(format!("--no-pivot: not supported: {why}")));
    }
    container::check_id(call.id())?;
    container::check_kernel()?;
    let bundle = fs::canonicalize(call.value("bundle").unwrap_or(".")).during(|| "find the bundle")?;
    let request = Request {
        id: call.id().to_owned(),
        bundle,
        preserve_fds: call.number("preserve-fds")?,
        no_new_keyring: call.has("no-new-keyring"),
    };
    let read = Description::new(format!("read {}/config.json", request.bundle.display()));
    let spec = context.recorder.step(|| read, || spec::load(&request.bundle))?;
    let host = host()?;
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

/// What plans depend on.
pub(super) fn host() -> Result<Host> {
    let modules = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    let mut modules: Vec<String> = modules.trim().split(',').map(str::to_owned).collect();
    // securityfs may not be mounted.
    for (name, sign) in
        [("apparmor", "/sys/module/apparmor/parameters/enabled"), ("selinux", "/sys/fs/selinux/enforce")]
    {
        if fs::read_to_string(sign).is_ok_and(|text| name == "selinux" || text.starts_with('Y')) {
            modules.push(name.to_owned());
        }
    }
    Ok(Host { cgroups: cgroup::detect()?, modules })
}

fn make(context: &mut Context, mode: &Mode) -> Result<Made> {
    let (spec, plan, request) = compute(context)?;
    let process = spec.process.clone().unwrap_or_default();
    let console = console(context, process.terminal, mode)?;
    let directory = container::reserve(&context.global.root, &request.id)?;
    let mut undo = Undo { directory: directory.clone(), places: Vec::new(), armed: true };
    refuse_used_groups(&plan)?;
    undo.places.clone_from(&plan.cgroups.places);
    context.recorder.run(&plan.cgroups.actions, cgroup::Action::run)?;
    let mut container = Container { record: record(&spec, &request, &plan), directory };
    let filter = plan.start.iter().find_map(|step| match step {
        Step::Seccomp(program) => Some(program.to_bytes()),
        _ => None,
    });
    if let Some(filter) = filter {
        fs::write(container.filter(), filter).during(|| "keep the seccomp filter")?;
    }
    let listener = match mode {
        Mode::Created => Some(listen(&container)?),
        Mode::Run(_) => None,
    };
    let ready = Launch {
        plan: &plan,
        groups: Places::open(&plan.cgroups.places)?,
        console,
        listener,
        container: None,
        state: container.state(Status::Creating),
        hooks: spec.hooks.clone().unwrap_or_default(),
        args: process.args,
        env: process.env,
    };
    let born = launch::launch(ready, &mut context.recorder)?;
    let finished = finish(context, &mut container, &born);
    if let Err(error) = finished {
        launch::end(&born);
        return Err(error);
    }
    Ok(Made { container, born, undo })
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
        process: spec.process.clone().unwrap_or_default(),
        agent: notify::agent(spec.linux.as_ref().and_then(|linux| linux.seccomp.as_deref())),
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
    UnixListener::bind(super::start::short(directory.as_fd())).during(|| "make the start socket")
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
