//! From the spec's seccomp object to the BPF program that the kernel runs at each system call.
//!
//! One section for each architecture; in it a binary search over ranges of numbers that are decided alike; at a
//! number whose arguments matter, the comparisons. No libseccomp: its compiler takes ten times as long as the rest
//! of a container's start.

mod bpf;
pub mod notify;
mod rules;
mod syscalls;
mod words;

use oci::spec::Seccomp;

use crate::error::{Error, Result};
pub use bpf::Instruction;
use bpf::{Decision, Section};
use rules::Profile;
pub use words::calls;
use words::{Architecture, KILL_PROCESS};

/// A compiled filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Program {
    /// Encoded `struct sock_filter`s.
    pub code: Vec<Instruction>,
    /// `SECCOMP_FILTER_FLAG_*`
    pub flags: u64,
}

impl Program {
    /// As a file keeps it: flags, then the code.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.flags.to_le_bytes().to_vec();
        bytes.extend_from_slice(self.code.as_flattened());
        bytes
    }

    /// The reverse of [`Program::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (flags, code) =
            bytes.split_first_chunk::<8>().ok_or_else(|| Error::new("a kept seccomp filter is cut short"))?;
        let (code, rest) = code.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(Error::new("a kept seccomp filter is cut short"));
        }
        Ok(Self { code: code.to_vec(), flags: u64::from_le_bytes(*flags) })
    }
}

/// Compiles a filter.
pub fn compile(seccomp: &Seccomp) -> Result<Program> {
    let profile = Profile::read(seccomp)?;
    notify::check(seccomp, &profile)?;
    let mut architectures = vec![Architecture::native()];
    for name in &seccomp.architectures {
        match Architecture::named(name)? {
            Some(architecture) if !architectures.contains(&architecture) => architectures.push(architecture),
            _ => {}
        }
    }
    // x32 shares x86-64's section, behind it.
    architectures.sort_by_key(|architecture| (architecture.audit(), architecture.base()));
    let mut sections: Vec<Section> = Vec::new();
    for architecture in &architectures {
        let audit = architecture.audit();
        if sections.last().is_none_or(|section| section.audit != audit) {
            sections.push(Section { audit, ranges: Vec::new() });
        }
        if let Some(section) = sections.last_mut() {
            rules::decide(*architecture, &profile, &mut section.ranges);
        }
    }
    if !architectures.contains(&Architecture::X32)
        && let Some(section) = sections.iter_mut().find(|section| section.audit == Architecture::X32.audit())
    {
        section.ranges.push((words::X32, Decision::Return(KILL_PROCESS)));
    }
    // Nearly every call is of the native one: it is looked for first.
    sections.sort_by_key(|section| section.audit != Architecture::native().audit());
    Ok(Program {
        code: bpf::assemble(&sections, KILL_PROCESS)?,
        flags: words::flags(&seccomp.flags, profile.notifies)?,
    })
}

/// Names in a profile that are no call of any architecture; such a rule is ignored, as under every runtime.
pub fn unknown_calls(seccomp: &Seccomp) -> Vec<&str> {
    Profile::read(seccomp).map(|profile| profile.unknown).unwrap_or_default()
}

#[cfg(test)]
mod tests;
