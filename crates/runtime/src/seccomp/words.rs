//! The spec's words for actions, flags and architectures, in the kernel's numbers.

use super::syscalls;
use crate::error::{Error, Result};

/// Kills the process: the answer to an architecture that the list does not name.
pub(super) const KILL_PROCESS: u32 = 0x8000_0000;
pub(super) const ALLOW: u32 = 0x7fff_0000;
pub(super) const LOG: u32 = 0x7ffc_0000;
pub(super) const NOTIFY: u32 = 0x7fc0_0000;
pub(super) const ERRNO: u32 = 0x0005_0000;
pub(super) const TRACE: u32 = 0x7ff0_0000;
pub(super) const ENOSYS: u32 = 38;
/// Marks a call of the x32 ABI, which shares its architecture with x86-64.
pub(super) const X32: u32 = 0x4000_0000;

/// Every action.
const ACTIONS: [(&str, u32); 9] = [
    ("SCMP_ACT_KILL", 0),
    ("SCMP_ACT_KILL_THREAD", 0),
    ("SCMP_ACT_KILL_PROCESS", KILL_PROCESS),
    ("SCMP_ACT_TRAP", 0x0003_0000),
    ("SCMP_ACT_ERRNO", ERRNO),
    ("SCMP_ACT_TRACE", TRACE),
    ("SCMP_ACT_LOG", LOG),
    ("SCMP_ACT_ALLOW", ALLOW),
    ("SCMP_ACT_NOTIFY", NOTIFY),
];

/// The kernel's return value for a named action; `errno` is EPERM unless it is given.
pub(super) fn action(name: &str, errno: Option<u32>) -> Result<u32> {
    let Some((_, value)) = ACTIONS.iter().find(|(known, _)| *known == name) else {
        return Err(Error::new(format!("linux.seccomp: action {name:?} is not known")));
    };
    let data = errno.unwrap_or(1) & 0xffff;
    Ok(if matches!(*value, ERRNO | TRACE) { value | data } else { *value })
}

/// Whether a call goes on under this return value, or may.
pub(super) fn lets_pass(value: u32) -> bool {
    value == ALLOW || value == LOG || value & 0xffff_0000 == TRACE
}

/// Every flag, and its `SECCOMP_FILTER_FLAG_*`.
const FLAGS: [(&str, u64); 4] = [
    ("SECCOMP_FILTER_FLAG_TSYNC", 1),
    ("SECCOMP_FILTER_FLAG_LOG", 1 << 1),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", 1 << 2),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", WAIT_KILLABLE),
];
/// Loading answers with a descriptor by which an agent hears of calls.
pub(super) const NEW_LISTENER: u64 = 1 << 3;
const TSYNC: u64 = 1;
/// Linux 5.19
const WAIT_KILLABLE: u64 = 1 << 5;

/// The flags of a filter that notifies or does not.
pub(super) fn flags(names: &[String], notifies: bool) -> Result<u64> {
    let given =
        names.iter().try_fold(0, |flags, name| match FLAGS.iter().find(|(known, _)| known == name) {
            Some((_, flag)) => Ok(flags | flag),
            None => Err(Error::new(format!("linux.seccomp.flags: {name:?} is not known"))),
        })?;
    Ok(if notifies {
        // Together with a listener the kernel wants one more flag; with our one thread there is nothing to synchronise.
        (given & !TSYNC) | NEW_LISTENER
    } else {
        // Nobody to wait for; the kernel refuses it then.
        given & !WAIT_KILLABLE
    })
}

/// In the order of the columns of [`syscalls::TABLE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Architecture {
    X86_64,
    X86,
    X32,
    Aarch64,
}

impl Architecture {
    /// `None` for one that this machine cannot run; fails for a word that is none.
    pub(super) fn named(name: &str) -> Result<Option<Self>> {
        Ok(Some(match name {
            "SCMP_ARCH_X86_64" => Self::X86_64,
            "SCMP_ARCH_X86" => Self::X86,
            "SCMP_ARCH_X32" => Self::X32,
            "SCMP_ARCH_AARCH64" => Self::Aarch64,
            "SCMP_ARCH_NATIVE" => Self::native(),
            _ if is_foreign(name) => return Ok(None),
            _ => {
                return Err(Error::new(format!("linux.seccomp.architectures: {name:?} is not known")));
            }
        }))
    }

    pub(super) fn native() -> Self {
        if cfg!(target_arch = "aarch64") { Self::Aarch64 } else { Self::X86_64 }
    }

    /// `AUDIT_ARCH_*`
    pub(super) fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
        }
    }

    pub(super) fn number(self, name: &str) -> Option<u32> {
        self.of(numbers(name)?)
    }

    /// This architecture's column.
    pub(super) fn of(self, numbers: Numbers) -> Option<u32> {
        let number = numbers[self as usize];
        (number != syscalls::NO).then_some(self.base() | u32::from(number))
    }

    /// What all its numbers have in common.
    pub(super) fn base(self) -> u32 {
        if self == Self::X32 { X32 } else { 0 }
    }
}

/// Whether libseccomp knows it, and no machine of ours can run it: it needs no section.
fn is_foreign(name: &str) -> bool {
    name.strip_prefix("SCMP_ARCH_").is_some_and(|word| crate::spec::ARCHITECTURES.contains(&word))
}

/// A call's number on each architecture.
pub(super) type Numbers = [u16; 4];

/// A call's numbers; `None` if nobody has it.
pub(super) fn numbers(name: &str) -> Option<Numbers> {
    let index = syscalls::TABLE.binary_search_by_key(&name, |(known, _)| known).ok()?;
    Some(syscalls::TABLE[index].1)
}

/// The calls that an architecture has: names and numbers.
pub fn calls(architecture: &str) -> Result<Vec<(&'static str, u32)>> {
    let known = Architecture::named(architecture)?
        .ok_or_else(|| Error::new(format!("linux.seccomp: the calls of {architecture} are not known")))?;
    let names = syscalls::TABLE.iter().map(|(name, _)| *name);
    Ok(names.filter_map(|name| Some((name, known.number(name)?))).collect())
}
