//! Where and when a process runs, and where its memory comes from: calls that libc does not wrap, for this process.

use std::io;

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `struct sched_attr` of `linux/sched/types.h`, as far as containers are told of it; times in nanoseconds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// `SCHED_*`
    pub policy: u32,
    /// `SCHED_FLAG_*`
    pub flags: u64,
    /// For `SCHED_OTHER` and `SCHED_BATCH`.
    pub nice: i32,
    /// For `SCHED_FIFO` and `SCHED_RR`.
    pub priority: u32,
    /// For `SCHED_DEADLINE`.
    pub runtime: u64,
    /// For `SCHED_DEADLINE`.
    pub deadline: u64,
    /// For `SCHED_DEADLINE`.
    pub period: u64,
}

/// As the kernel reads it (the version of Linux 5.3, which has the two bounds of utilization).
#[repr(C)]
struct Raw {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
    utilization: [u32; 2],
}

/// `sched_setattr(2)`.
pub fn set_attributes(wanted: &Attributes) -> io::Result<()> {
    let raw = Raw {
        size: size_of::<Raw>() as u32,
        policy: wanted.policy,
        flags: wanted.flags,
        nice: wanted.nice,
        priority: wanted.priority,
        runtime: wanted.runtime,
        deadline: wanted.deadline,
        period: wanted.period,
        utilization: [0; 2],
    };
    // SAFETY: the kernel reads as many bytes as `size` says, all of which are there.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const raw, 0) })
}

/// `ioprio_set(2)`; class and level as in `linux/ioprio.h`.
pub fn set_io_priority(class: u8, level: u16) -> io::Result<()> {
    let value = (u32::from(class) << 13) | u32::from(level);
    // SAFETY: takes numbers only; 1 is IOPRIO_WHO_PROCESS, 0 is this process.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, 1, 0, value) })
}

/// A list of CPUs or memory nodes, as bits in words of 64.
pub type Bits = Vec<u64>;

/// `sched_setaffinity(2)`; the kernel leaves out what the cpuset does not have.
pub fn set_affinity(cpus: &[u64]) -> io::Result<()> {
    // SAFETY: the kernel reads as many bytes as it is told, all of which are there.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(cpus), cpus.as_ptr()) })
}

/// `set_mempolicy(2)`; `mode` with its flags.
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> io::Result<()> {
    // One more than there are: the kernel takes one off (set_mempolicy(2), "BUGS").
    let bits = if nodes.is_empty() { 0 } else { size_of_val(nodes) * 8 + 1 };
    let nodes = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: the kernel reads `bits - 1` bits, all of which are there; none are read from a null pointer.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, nodes, bits) })
}
