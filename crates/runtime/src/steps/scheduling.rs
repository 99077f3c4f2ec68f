//! When and where the process runs, and where its memory comes from.

use rustix::io::Errno;
use sys::scheduling::{Attributes, Bits, set_affinity, set_attributes, set_io_priority, set_memory_policy};

use crate::{
    error::{Error, Result},
    record::{Describe, Description},
};

/// One of these settings.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // Each is told by its description below.
pub enum Scheduling {
    Attributes { name: String, attributes: Attributes },
    IoPriority { class: u8, level: u16 },
    Affinity { list: String, cpus: Bits },
    MemoryPolicy { name: String, mode: u32, nodes: Bits },
}

impl Describe for Scheduling {
    fn describe(&self) -> Description {
        match self {
            Scheduling::Attributes { name, attributes } => Description::new(format!("set scheduler {name}"))
                .with("nice", attributes.nice)
                .with("priority", attributes.priority),
            Scheduling::IoPriority { class, level } => {
                Description::new(format!("set I/O priority class {class} level {level}"))
            }
            Scheduling::Affinity { list, .. } => Description::new(format!("run on CPUs {list}")),
            Scheduling::MemoryPolicy { name, .. } => Description::new(format!("set memory policy {name}")),
        }
    }
}

const NOT_PERMITTED: &str = "needs CAP_SYS_NICE on the host; SCHED_FIFO and SCHED_RR in a group of cgroup v1 also \
                             linux.resources.cpu.realtimeRuntime, SCHED_DEADLINE every CPU";

impl Scheduling {
    /// Does it.
    pub(super) fn run(&self) -> Result<()> {
        let refused = |error: &std::io::Error| Error::refused(self.describe(), error);
        match self {
            Scheduling::Attributes { attributes, .. } => set_attributes(attributes).map_err(|error| {
                refused(&error)
                    .hint_on(Errno::PERM, NOT_PERMITTED)
                    .hint_on(Errno::INVAL, "the kernel does not take this policy with these values")
            }),
            Scheduling::IoPriority { class, level } => set_io_priority(*class, *level).map_err(|error| {
                refused(&error).hint_on(Errno::PERM, "the realtime class needs CAP_SYS_NICE on the host")
            }),
            // Giving back what the runtime's own affinity took may be forbidden by a filter around us, as in runc.
            Scheduling::Affinity { list, cpus } if list == "all" => set_affinity(cpus).or(Ok(())),
            Scheduling::Affinity { cpus, .. } => set_affinity(cpus).map_err(|error| {
                refused(&error).hint_on(Errno::INVAL, "none of these CPUs is in the container's cpuset")
            }),
            Scheduling::MemoryPolicy { mode, nodes, .. } => {
                set_memory_policy(*mode, nodes).map_err(|error| {
                    refused(&error)
                        .hint_on(Errno::INVAL, "the nodes must be there and in the container's cpuset")
                })
            }
        }
    }
}
