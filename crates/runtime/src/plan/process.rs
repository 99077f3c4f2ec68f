//! The last steps: who the program is, what it may do, and the program itself; the same for a container's first
//! process and for those that `exec` adds.

use std::path::PathBuf;

use oci::spec::{MemoryPolicy, Personality, Process};

use super::{Host, Plan, namespace_bit, scheduling};
use crate::{
    caps::{self, Sets},
    error::{Error, Result},
    rdt,
    seccomp::Program,
    steps::{Limit, Step},
};

/// Appends the steps of `process` to `plan`.
pub fn identity(
    plan: &mut Plan,
    process: &Process,
    host: &Host,
    program: Option<Program>,
    preserve_fds: u32,
) -> Result<()> {
    let sets = capabilities(plan, process, host)?;
    let (setup, start) = (&mut plan.setup, &mut plan.start);
    for limit in &process.rlimits {
        setup.push(Step::Limit(rlimit(&limit.kind, limit.soft, limit.hard)?));
    }
    setup.extend(scheduling::of(process)?.into_iter().map(Step::Scheduling));
    if !process.terminal {
        setup.push(Step::OwnStdio(process.user.uid));
    }
    setup.extend(security_labels(process, host)?);
    setup.push(Step::BoundingSet(sets.bounding));
    // Before the user is changed: a directory that only root may enter is still a fine place to start in.
    setup.push(Step::WorkingDirectory(PathBuf::from(&process.cwd)));
    setup.push(Step::User {
        uid: process.user.uid,
        gid: process.user.gid,
        groups: process.user.additional_gids.clone(),
        umask: process.user.umask.unwrap_or(0o022),
    });
    // A filter may be loaded with CAP_SYS_ADMIN or with no_new_privs. Without the latter, the former is kept until
    // then; the filter then sees capset(2), as under every runtime.
    let keep_admin = program.is_some() && !process.no_new_privileges;
    setup.push(Step::Capabilities { sets, keep_admin });
    if process.no_new_privileges {
        setup.push(Step::NoNewPrivileges);
    }
    setup.push(Step::FindProgram);
    start.push(Step::CloseOnExec(3 + preserve_fds));
    start.extend(program.map(Step::Seccomp));
    if keep_admin {
        start.push(Step::Capabilities { sets, keep_admin: false });
    }
    start.push(Step::Exec { args: process.args.clone(), env: process.env.clone() });
    Ok(())
}

/// The five sets, and in `plan.warnings` what of them cannot be had, as under runc.
fn capabilities(plan: &mut Plan, process: &Process, host: &Host) -> Result<Sets> {
    let (sets, unknown) = caps::parse(&process.capabilities.clone().unwrap_or_default());
    let mut warn = |what: &str, names: &str| plan.warnings.push(format!("{what}: {names}"));
    if !unknown.is_empty() {
        warn("ignoring unknown capabilities", &unknown.join(", "));
    }
    let beyond = sets.effective & !sets.permitted;
    if beyond != 0 {
        return Err(Error::new(format!(
            "process.capabilities.effective: {}: not among the permitted ones",
            caps::names(beyond)
        )));
    }
    let lacking = sets.permitted & host.lacking;
    if lacking != 0 {
        warn("ignoring capabilities that the runtime itself does not have", &caps::names(lacking));
    }
    let idle = sets.ambient & !(sets.permitted & sets.inheritable);
    if idle != 0 {
        warn("ignoring ambient capabilities that are not permitted and inheritable", &caps::names(idle));
    }
    Ok(sets)
}

/// What of a container's `linux` settings also holds for processes that `exec` adds.
pub(super) fn kept(
    plan: &mut Plan,
    persona: Option<&Personality>,
    memory: Option<&MemoryPolicy>,
) -> Result<()> {
    plan.setup.extend(persona.map(personality).transpose()?.map(Step::Personality));
    plan.setup.extend(memory.map(scheduling::memory_policy).transpose()?.map(Step::Scheduling));
    Ok(())
}

/// The container that a process is added to.
#[derive(Debug)]
pub struct Joining<'a> {
    /// Its id, after which its keyring is named.
    pub id: &'a str,
    /// The namespaces that it does not share with the runtime.
    pub namespaces: u64,
    /// Its shares of cache and memory bandwidth.
    pub rdt: &'a rdt::Places,
    /// From its spec.
    pub personality: Option<&'a Personality>,
    /// From its spec.
    pub memory_policy: Option<&'a MemoryPolicy>,
}

/// Plans a process that is added to a running container.
pub fn exec_process(
    process: &Process,
    container: &Joining<'_>,
    host: &Host,
    program: Option<Program>,
    preserve_fds: u32,
) -> Result<Plan> {
    let mut plan = Plan::default();
    plan.setup.push(Step::EnterGroups);
    plan.setup.push(scheduling::last_affinity(process)?);
    plan.setup.extend(Step::enter_rdt(container.rdt));
    plan.setup.extend(process.oom_score_adj.map(Step::OomScore));
    let user = container.namespaces & namespace_bit("user");
    // Root of the host has power over all of them until it enters the user namespace, a user only then.
    plan.through_proxy = host.unprivileged && user != 0;
    let others = container.namespaces & !user;
    let user = if plan.through_proxy { 0 } else { user };
    if host.unprivileged {
        plan.setup.push(Step::HideMemory);
    }
    plan.setup.push(Step::JoinContainer { others, user });
    if container.namespaces & namespace_bit("user") != 0 {
        plan.setup.push(Step::BecomeRoot);
    }
    plan.setup.push(Step::NewSession { keyring: Some(container.id.to_owned()) });
    if process.terminal {
        plan.setup.push(Step::OpenTerminal {
            size: process.console_size,
            uid: process.user.uid,
            console: false,
        });
    }
    kept(&mut plan, container.personality, container.memory_policy)?;
    let lacking = if container.namespaces & namespace_bit("user") == 0 { host.lacking } else { 0 };
    identity(&mut plan, process, &Host { lacking, ..host.clone() }, program, preserve_fds)?;
    Ok(plan)
}

/// Names of `RLIMIT_*` in rustix' words.
const LIMITS: [(&str, rustix::process::Resource); 16] = {
    use rustix::process::Resource as R;
    [
        ("RLIMIT_CPU", R::Cpu),
        ("RLIMIT_FSIZE", R::Fsize),
        ("RLIMIT_DATA", R::Data),
        ("RLIMIT_STACK", R::Stack),
        ("RLIMIT_CORE", R::Core),
        ("RLIMIT_RSS", R::Rss),
        ("RLIMIT_NPROC", R::Nproc),
        ("RLIMIT_NOFILE", R::Nofile),
        ("RLIMIT_MEMLOCK", R::Memlock),
        ("RLIMIT_AS", R::As),
        ("RLIMIT_LOCKS", R::Locks),
        ("RLIMIT_SIGPENDING", R::Sigpending),
        ("RLIMIT_MSGQUEUE", R::Msgqueue),
        ("RLIMIT_NICE", R::Nice),
        ("RLIMIT_RTPRIO", R::Rtprio),
        ("RLIMIT_RTTIME", R::Rttime),
    ]
};

fn rlimit(name: &str, soft: u64, hard: u64) -> Result<Limit> {
    let Some((name, resource)) = LIMITS.iter().find(|(known, _)| *known == name) else {
        return Err(Error::new(format!("process.rlimits: {name:?} is no resource limit")));
    };
    if soft > hard {
        return Err(Error::new(format!("process.rlimits: {name}: soft {soft} is above hard {hard}")));
    }
    Ok(Limit { name, resource: *resource, soft, hard })
}

fn security_labels(process: &Process, host: &Host) -> Result<Vec<Step>> {
    let wanted = [
        ("apparmor", &process.apparmor_profile, "apparmor/exec"),
        ("selinux", &process.selinux_label, "exec"),
    ];
    let mut steps = Vec::new();
    for (module, label, file) in wanted {
        let Some(label) = label.as_ref().filter(|label| !label.is_empty()) else {
            continue;
        };
        if !host.modules.iter().any(|name| name == module) {
            return Err(Error::new(format!(
                "process label {label:?} needs {module}, which this host does not run"
            )));
        }
        let value = if module == "apparmor" { format!("exec {label}") } else { label.clone() };
        steps.push(Step::SecurityLabel { file, value });
    }
    Ok(steps)
}

/// `PER_LINUX` and `PER_LINUX32`.
fn personality(wanted: &Personality) -> Result<u64> {
    match (wanted.domain.as_str(), wanted.flags.is_empty()) {
        ("LINUX", true) => Ok(0),
        ("LINUX32", true) => Ok(8),
        (domain, true) => Err(Error::new(format!("linux.personality: domain {domain:?} is not known"))),
        // The spec: "currently no flag values are supported".
        (_, false) => Err(Error::new("linux.personality.flags: the runtime spec knows none")),
    }
}
