//! The last steps: who the program is, what it may do, and the program itself; the same for a container's first
//! process and for those that `exec` adds.

use std::path::PathBuf;

use oci::spec::{IoPriority, Personality, Process};

use super::{Host, Plan};
use crate::{
    caps,
    error::{Error, Result},
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
    refuse_unsupported(process)?;
    let (setup, start) = (&mut plan.setup, &mut plan.start);
    for limit in &process.rlimits {
        setup.push(Step::Limit(rlimit(&limit.kind, limit.soft, limit.hard)?));
    }
    if let Some(priority) = &process.io_priority {
        setup.push(io_priority(priority)?);
    }
    if !process.terminal {
        setup.push(Step::OwnStdio(process.user.uid));
    }
    setup.extend(security_labels(process, host)?);
    let capabilities = process.capabilities.clone().unwrap_or_default();
    let (sets, unknown) = caps::parse(&capabilities);
    if !unknown.is_empty() {
        plan.warnings.push(format!("ignoring unknown capabilities: {}", unknown.join(", ")));
    }
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

/// Plans a process that is added to a running container; joining it is the caller's.
pub fn exec_process(
    process: &Process,
    host: &Host,
    program: Option<Program>,
    preserve_fds: u32,
) -> Result<Plan> {
    let mut plan = Plan::default();
    plan.setup.push(Step::EnterGroups);
    plan.setup.extend(process.oom_score_adj.map(Step::OomScore));
    plan.setup.push(Step::JoinContainer);
    plan.setup.push(Step::NewSession { keyring: true });
    if process.terminal {
        plan.setup.push(Step::OpenTerminal {
            size: process.console_size,
            uid: process.user.uid,
            console: false,
        });
    }
    identity(&mut plan, process, host, program, preserve_fds)?;
    Ok(plan)
}

fn refuse_unsupported(process: &Process) -> Result<()> {
    let unsupported = [
        ("process.scheduler", process.scheduler.is_some()),
        ("process.execCPUAffinity", process.exec_cpu_affinity.is_some()),
    ];
    match unsupported.iter().find(|(_, present)| *present) {
        Some((name, _)) => Err(Error::new(format!("{name}: not supported"))),
        None => Ok(()),
    }
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

fn io_priority(wanted: &IoPriority) -> Result<Step> {
    let class = ["IOPRIO_CLASS_NONE", "IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"]
        .iter()
        .position(|name| *name == wanted.class);
    match (class, u16::try_from(wanted.priority)) {
        (Some(class), Ok(level @ 0..=7)) => Ok(Step::IoPriority(class as u8, level)),
        _ => Err(Error::new(format!(
            "process.ioPriority: {} {} is no class with a priority of 0 to 7",
            wanted.class, wanted.priority
        ))),
    }
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
pub(super) fn personality(wanted: &Personality) -> Result<u64> {
    match (wanted.domain.as_str(), wanted.flags.is_empty()) {
        ("LINUX", true) => Ok(0),
        ("LINUX32", true) => Ok(8),
        (domain, true) => Err(Error::new(format!("linux.personality: domain {domain:?} is not known"))),
        (_, false) => Err(Error::new("linux.personality.flags: not supported")),
    }
}
