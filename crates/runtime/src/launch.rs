//! Plan → process: one clone, the child's loop over its steps, and the parent that answers it.

use std::{
    cell::RefCell,
    io::Write,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixListener,
    },
};

use oci::spec::{Hooks, State};
use rustix::{
    fs::Mode,
    process::{
        Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, set_parent_process_death_signal, waitid,
    },
};
use trace::Room;

use crate::{
    birth::{self, Birth},
    cgroup::Places,
    channel::{Channel, Message},
    error::{During, Error, Result},
    hooks, idmaps,
    netdev::Moved,
    plan::Plan,
    record::{Description, Recorder},
    seccomp::notify::Agent,
    steps::Child,
    trees::Trees,
};

/// What a launch needs beyond its plan.
#[derive(Debug)]
pub struct Launch<'a> {
    /// What to do.
    pub plan: &'a Plan,
    /// The container's groups.
    pub groups: Places,
    /// Where a terminal's other end goes.
    pub console: Option<OwnedFd>,
    /// Where the child waits for its start; without one it is started over the channel.
    pub listener: Option<UnixListener>,
    /// The container to join, and which namespaces of it.
    pub container: Option<(OwnedFd, u64)>,
    /// For hooks; the pid is filled in.
    pub state: State,
    /// `prestart` and `createRuntime` are run.
    pub hooks: Hooks,
    /// To find the program by.
    pub args: Vec<String>,
    /// To find the program by.
    pub env: Vec<String>,
}

/// A process that is ready to start.
#[derive(Debug)]
pub struct Born {
    /// As the host sees it.
    pub pid: i32,
    /// The handle.
    pub pidfd: OwnedFd,
    channel: Channel,
    moved: RefCell<Moved>,
}

/// Clones, and sees the child through to where it is ready.
pub fn launch(launch: Launch<'_>, recorder: &mut Recorder) -> Result<Born> {
    let (ours, theirs) = Channel::pair()?;
    let created = Description::new("clone3").with("namespaces", birth::names(launch.plan.namespaces));
    let container = launch.container.as_ref().map(|(pidfd, kinds)| (pidfd.as_fd(), *kinds));
    let birth = Birth { plan: launch.plan, cgroup: launch.groups.unified(), container };
    let forked = recorder.step(|| created, || birth::clone(birth))?;
    let Some((pid, pidfd)) = forked else {
        drop(ours);
        become_child(launch, theirs, recorder.is_on());
    };
    drop(theirs);
    let mut born = Born { pid, pidfd, channel: ours, moved: RefCell::default() };
    if let Err(error) = see_through(&launch, &mut born, recorder) {
        end(&born);
        return Err(error);
    }
    if recorder.is_on() {
        let inodes = namespaces_of(pid);
        recorder.step(|| inodes, || ());
    }
    Ok(born)
}

/// The namespaces that a process is in, with their inode numbers.
fn namespaces_of(pid: i32) -> Description {
    let names = sys::process::NAMESPACES.iter().map(|(name, _)| *name);
    names.fold(Description::new(format!("namespaces of {pid}")), |description, name| {
        let link = std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap_or_default();
        let link = link.display().to_string();
        let inode = link.split(['[', ']']).nth(1).unwrap_or_default().to_owned();
        description.with(name, inode)
    })
}

/// The parent's part until the child is ready.
pub(crate) fn see_through(launch: &Launch<'_>, born: &mut Born, recorder: &mut Recorder) -> Result<()> {
    let mut trees = Trees::default();
    loop {
        match born.channel.hear::<Message>()? {
            Some(Message::Ready(timeline)) => {
                recorder.join(timeline);
                return Ok(());
            }
            Some(Message::Failed(error, timeline)) => {
                recorder.join(timeline);
                return Err(error);
            }
            Some(Message::Ask(what)) => {
                if let Some(number) = what.strip_prefix("tree ") {
                    born.channel.give(trees.open(launch.plan, born.pid, number)?)?;
                } else {
                    answer(launch, born, &what, recorder)?;
                }
                born.channel.say(&true)?;
            }
            Some(other) => return Err(Error::new(format!("the child says {other:?} before it is ready"))),
            None => return Err(ended_early(born)),
        }
    }
}

fn answer(launch: &Launch<'_>, born: &Born, what: &str, recorder: &mut Recorder) -> Result<()> {
    let pid = born.pid;
    match (what, &launch.plan.id_maps) {
        ("id-maps", Some((uids, gids))) => recorder.step(
            || {
                Description::new("write id maps")
                    .with("uids", idmaps::text(uids))
                    .with("gids", idmaps::text(gids))
            },
            || idmaps::write(pid, uids, gids),
        ),
        ("network devices", _) => recorder.step(
            || {
                let names: Vec<&str> = launch.plan.net_devices.keys().map(String::as_str).collect();
                Description::new("move network devices into the container").with("names", names.join(" "))
            },
            || born.moved.borrow_mut().take(&launch.plan.net_devices, pid),
        ),
        ("hooks", _) => {
            let mut state = launch.state.clone();
            state.pid = Some(pid);
            hooks::run("prestart", &launch.hooks.prestart, &state)?;
            hooks::run("createRuntime", &launch.hooks.create_runtime, &state)
        }
        _ => Err(Error::new(format!("the child asks for {what:?}"))),
    }
}

fn ended_early(born: &Born) -> Error {
    let how = wait(born).map_or_else(
        |error| error.to_string(),
        |code| match code {
            137 => "it was killed; a memory limit of a few MiB is too small to set a container up".to_owned(),
            code if code > 128 => format!("it was ended by signal {}", code - 128),
            code => format!("it exited with code {code}"),
        },
    );
    Error::new(format!("the container's process ended before it was ready: {how}"))
}

/// Kills a process and takes its exit.
pub fn end(born: &Born) {
    born.moved.borrow_mut().give_back();
    let _ = sys::process::signal(born.pidfd.as_fd(), 9);
    let _ = wait(born);
}

/// Waits for a process: its exit code, or 128 and the signal that ended it.
pub fn wait(born: &Born) -> Result<i32> {
    wait_for(born.pidfd.as_fd())
}

/// The same for any child.
pub fn wait_for(pidfd: BorrowedFd<'_>) -> Result<i32> {
    loop {
        match waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Error::refused("wait for the container's process", &error.into())),
            Ok(None) => return Err(Error::new("wait for the container's process: nothing there")),
            Ok(Some(status)) => {
                let signal = status.terminating_signal().unwrap_or(0);
                return Ok(status.exit_status().unwrap_or(128 + signal));
            }
        }
    }
}

impl Born {
    /// A child that runs already.
    pub fn adopt(pid: i32) -> Result<Self> {
        let raw = Pid::from_raw(pid).ok_or_else(|| Error::new("0 is no process"))?;
        let pidfd = pidfd_open(raw, PidfdFlags::empty()).during(|| format!("open process {pid}"))?;
        let (channel, _) = Channel::pair()?;
        Ok(Self { pid, pidfd, channel, moved: RefCell::default() })
    }

    /// A process that somebody else has made.
    #[cfg(test)]
    pub(crate) fn of(pid: i32, pidfd: OwnedFd, channel: Channel) -> Self {
        Self { pid, pidfd, channel, moved: RefCell::default() }
    }

    /// Lets it become its program; fails if that fails.
    pub fn start(&mut self, agent: Option<&Agent>, state: &State) -> Result<()> {
        self.channel.say(&true)?;
        started(&mut self.channel, &Starting { pid: self.pid, pidfd: self.pidfd.as_fd(), agent, state })
    }
}

/// A process that has been told to start.
#[derive(Debug)]
pub struct Starting<'a> {
    /// As the host sees it.
    pub pid: i32,
    /// The handle.
    pub pidfd: BorrowedFd<'a>,
    /// Who decides on its system calls.
    pub agent: Option<&'a Agent>,
    /// Of its container.
    pub state: &'a State,
}

/// Waits until the program runs, which closes the other end, or for why it does not.
pub fn started(channel: &mut Channel, starting: &Starting<'_>) -> Result<()> {
    loop {
        match channel.hear::<Message>()? {
            None => return Ok(()),
            Some(Message::Failed(error, _)) => return Err(error),
            Some(Message::Listener { number, taken_at }) => {
                let Starting { pid, pidfd, agent, state } = starting;
                let agent = agent.ok_or_else(|| Error::new("a filter that notifies, and no listenerPath"));
                let told =
                    agent.and_then(|agent| agent.inform(*pidfd, (number, taken_at), channel, *pid, state));
                if told.is_err() {
                    // It must not run without its agent.
                    let _ = sys::process::signal(*pidfd, 9);
                }
                told?;
            }
            Some(other) => return Err(Error::new(format!("the container's process says {other:?}"))),
        }
    }
}

/// From here on this process is the container's.
fn become_child(launch: Launch<'_>, mut channel: Channel, traced: bool) -> ! {
    let mut recorder = Recorder::new(Room::Init, traced);
    let code = match run_child(launch, &mut channel, &mut recorder) {
        Ok(()) => 0,
        Err(error) => {
            let code = if error.errno == Some(rustix::io::Errno::NOENT.raw_os_error()) { 127 } else { 126 };
            if channel.say(&Message::Failed(error.clone(), recorder.take())).is_err() {
                let _ = writeln!(std::io::stderr(), "{error}");
            }
            code
        }
    };
    std::process::exit(code);
}

fn run_child(launch: Launch<'_>, channel: &mut Channel, recorder: &mut Recorder) -> Result<()> {
    // Until it is ready, this process is nothing without the runtime that made it.
    set_parent_process_death_signal(Some(Signal::KILL)).during(|| "ask to end with the runtime")?;
    rustix::process::umask(Mode::empty());
    let mut state = launch.state;
    state.pid = Some(rustix::process::getpid().as_raw_nonzero().get());
    let mut child = Child {
        channel,
        groups: &launch.groups,
        root: None,
        proc: None,
        empty: None,
        null: None,
        console: launch.console,
        container: launch.container,
        state,
        args: launch.args,
        env: launch.env,
        program: None,
    };
    recorder.run(&launch.plan.setup, |step| step.run(&mut child))?;
    let found =
        child.program.as_ref().map_or_else(String::new, |program| program.to_string_lossy().into_owned());
    let ready = || Description::new(format!("ready to exec {found}")).with("args", child.args.join(" "));
    recorder.step(ready, || ());
    set_parent_process_death_signal(None).during(|| "outlive the runtime")?;
    child.channel.say(&Message::Ready(recorder.take()))?;
    match launch.listener {
        None => {
            if child.channel.hear::<bool>()? != Some(true) {
                return Err(Error::new("the runtime gave up"));
            }
        }
        Some(listener) => {
            let (connection, _) = listener.accept().during(|| "wait for the start")?;
            *child.channel = Channel::new(connection);
            child.channel.say(&true)?;
        }
    }
    recorder.run(&launch.plan.start, |step| step.run(&mut child))
}
