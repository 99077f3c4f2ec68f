//! Scheduler, I/O priority, CPUs and memory nodes: the spec's words as the kernel's numbers.

use oci::spec::{IoPriority, MemoryPolicy, Process, Scheduler};
use sys::scheduling::{Attributes, Bits};

use crate::{
    error::{Error, Result},
    steps::{Scheduling, Step},
};

/// `SCHED_*` by number; 4 is `SCHED_ISO`, which the spec names and no kernel has.
const POLICIES: [&str; 7] =
    ["SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO", "SCHED_IDLE", "SCHED_DEADLINE"];

/// `SCHED_FLAG_*` by bit.
const FLAGS: [&str; 7] = [
    "SCHED_FLAG_RESET_ON_FORK",
    "SCHED_FLAG_RECLAIM",
    "SCHED_FLAG_DL_OVERRUN",
    "SCHED_FLAG_KEEP_POLICY",
    "SCHED_FLAG_KEEP_PARAMS",
    "SCHED_FLAG_UTIL_CLAMP_MIN",
    "SCHED_FLAG_UTIL_CLAMP_MAX",
];

/// `IOPRIO_CLASS_*` by number.
const CLASSES: [&str; 4] = ["IOPRIO_CLASS_NONE", "IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"];

/// `MPOL_*` by number.
const MODES: [&str; 7] = [
    "MPOL_DEFAULT",
    "MPOL_PREFERRED",
    "MPOL_BIND",
    "MPOL_INTERLEAVE",
    "MPOL_LOCAL",
    "MPOL_PREFERRED_MANY",
    "MPOL_WEIGHTED_INTERLEAVE",
];

/// `MPOL_F_*`, each with its bit.
const MODE_FLAGS: [(&str, u32); 3] =
    [("MPOL_F_NUMA_BALANCING", 13), ("MPOL_F_RELATIVE_NODES", 14), ("MPOL_F_STATIC_NODES", 15)];

/// As many CPUs or nodes as Linux can be built for.
const MOST: u32 = 8192;

fn number(names: &[&str], name: &str) -> Option<u32> {
    names.iter().position(|known| *known == name).map(|index| index as u32)
}

/// Everything of `process` that is done right before it becomes its user.
pub(super) fn of(process: &Process) -> Result<Vec<Scheduling>> {
    if let Some(affinity) = &process.exec_cpu_affinity {
        // Only `exec` heeds them (config.md); a first process must not carry bad ones either.
        for list in [&affinity.initial, &affinity.last].into_iter().flatten() {
            cpus("process.execCPUAffinity", list)?;
        }
    }
    let scheduler = process.scheduler.as_ref().map(scheduler).transpose()?;
    let io = process.io_priority.as_ref().map(io_priority).transpose()?;
    Ok(scheduler.into_iter().chain(io).collect())
}

fn scheduler(wanted: &Scheduler) -> Result<Scheduling> {
    let bad = |what: String| Err(Error::new(format!("process.scheduler.{what}")));
    let Some(policy) = number(&POLICIES, &wanted.policy) else {
        return bad(format!("policy: {:?} is no scheduling policy", wanted.policy));
    };
    let mut flags = 0;
    for flag in &wanted.flags {
        match number(&FLAGS, flag) {
            Some(bit) => flags |= 1 << bit,
            None => return bad(format!("flags: {flag:?} is no scheduling flag")),
        }
    }
    if !(-20..=19).contains(&wanted.nice) {
        return bad(format!("nice: {} is not from -20 to 19", wanted.nice));
    }
    let realtime = matches!(wanted.policy.as_str(), "SCHED_FIFO" | "SCHED_RR");
    if !realtime && wanted.priority != 0 || !(0..=99).contains(&wanted.priority) {
        return bad(format!(
            "priority: {} is for SCHED_FIFO and SCHED_RR, from 1 to 99, and 0 elsewhere",
            wanted.priority
        ));
    }
    let times = wanted.runtime | wanted.deadline | wanted.period;
    if wanted.policy != "SCHED_DEADLINE" && times != 0 {
        return bad("runtime, deadline, period: are for SCHED_DEADLINE alone".to_owned());
    }
    Ok(Scheduling::Attributes {
        name: wanted.policy.clone(),
        attributes: Attributes {
            policy,
            flags,
            nice: wanted.nice,
            priority: wanted.priority as u32,
            runtime: wanted.runtime,
            deadline: wanted.deadline,
            period: wanted.period,
        },
    })
}

fn io_priority(wanted: &IoPriority) -> Result<Scheduling> {
    match (number(&CLASSES, &wanted.class), u16::try_from(wanted.priority)) {
        (Some(class), Ok(level @ 0..=7)) => Ok(Scheduling::IoPriority { class: class as u8, level }),
        _ => Err(Error::new(format!(
            "process.ioPriority: {} {} is no class with a priority of 0 to 7",
            wanted.class, wanted.priority
        ))),
    }
}

/// `set_mempolicy(2)`.
pub(super) fn memory_policy(wanted: &MemoryPolicy) -> Result<Scheduling> {
    let bad = |what: String| Err(Error::new(format!("linux.memoryPolicy.{what}")));
    let Some(mut mode) = number(&MODES, &wanted.mode) else {
        return bad(format!("mode: {:?} is no memory policy", wanted.mode));
    };
    for flag in &wanted.flags {
        match MODE_FLAGS.iter().find(|(name, _)| name == flag) {
            Some((_, bit)) => mode |= 1 << bit,
            None => return bad(format!("flags: {flag:?} is no memory policy flag")),
        }
    }
    let nodes = if wanted.nodes.trim().is_empty() {
        Bits::new()
    } else {
        cpus("linux.memoryPolicy.nodes", &wanted.nodes)?
    };
    let without = matches!(wanted.mode.as_str(), "MPOL_DEFAULT" | "MPOL_LOCAL");
    if without && !nodes.is_empty() {
        return bad(format!("nodes: {} takes none", wanted.mode));
    }
    if !without && nodes.is_empty() && wanted.mode != "MPOL_PREFERRED" {
        return bad(format!("nodes: {} needs some", wanted.mode));
    }
    Ok(Scheduling::MemoryPolicy { name: wanted.mode.clone(), mode, nodes })
}

/// A list such as `0-3,7` (`cpuset(7)`, "List format"), as bits.
pub fn cpus(path: &str, list: &str) -> Result<Bits> {
    let bad = || Error::new(format!("{path}: {list:?} is no list such as 0-3,7"));
    let one = |text: &str| text.trim().parse::<u32>().ok().filter(|number| *number < MOST).ok_or_else(bad);
    let mut bits = Bits::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (one(first)?, one(last)?);
        if first > last {
            return Err(bad());
        }
        bits.resize(bits.len().max(last as usize / 64 + 1), 0);
        (first..=last).for_each(|number| bits[number as usize / 64] |= 1 << (number % 64));
    }
    Ok(bits)
}

/// What the runtime's own affinity would take away from the container is given back once it is in its groups: the
/// kernel keeps a process that was bound before to where it was bound (runc 1.3 does so too).
pub(super) fn every_cpu() -> Step {
    Step::Scheduling(Scheduling::Affinity {
        list: "all".to_owned(),
        cpus: vec![u64::MAX; MOST as usize / 64],
    })
}

/// Where a process of `exec` runs at last.
pub(super) fn last_affinity(process: &Process) -> Result<Step> {
    match process.exec_cpu_affinity.as_ref().and_then(|affinity| affinity.last.as_ref()) {
        None => Ok(every_cpu()),
        Some(list) => {
            let cpus = cpus("process.execCPUAffinity.final", list)?;
            Ok(Step::Scheduling(Scheduling::Affinity { list: list.clone(), cpus }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_bits() {
        assert_eq!(cpus("x", "0-3,7").unwrap(), [0b1000_1111]);
        assert_eq!(cpus("x", "64").unwrap(), [0, 1]);
        for bad in ["", "a", "3-1", "-1", "0-", "1,,2", "8192", "0-99999999999"] {
            assert!(cpus("x", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let policy = |policy: &str| Scheduler { policy: policy.to_owned(), ..Scheduler::default() };
        assert!(scheduler(&Scheduler { priority: 5, ..policy("SCHED_FIFO") }).is_ok());
        for wrong in [
            policy("SCHED_NONE"),
            Scheduler { priority: 5, ..policy("SCHED_OTHER") },
            Scheduler { priority: 100, ..policy("SCHED_RR") },
            Scheduler { nice: 20, ..policy("SCHED_BATCH") },
            Scheduler { runtime: 5, ..policy("SCHED_IDLE") },
            Scheduler { flags: vec!["SCHED_FLAG_NOPE".to_owned()], ..policy("SCHED_OTHER") },
        ] {
            assert!(scheduler(&wrong).is_err(), "{wrong:?}");
        }
        let memory = |mode: &str, nodes: &str| {
            memory_policy(&MemoryPolicy { mode: mode.to_owned(), nodes: nodes.to_owned(), flags: vec![] })
        };
        assert!(memory("MPOL_BIND", "0").is_ok() && memory("MPOL_LOCAL", "").is_ok());
        for (mode, nodes) in [("MPOL_BIND", ""), ("MPOL_DEFAULT", "0"), ("BIND", "0"), ("MPOL_BIND", "x")] {
            assert!(memory(mode, nodes).is_err(), "{mode} {nodes:?}");
        }
    }
}
