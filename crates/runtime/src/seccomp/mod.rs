//! From the spec's seccomp object to the BPF program that the kernel runs at each system call.
//!
//! One section for each architecture; in it a binary search over ranges of numbers that are decided alike; at a
//! number whose arguments matter, the comparisons. No libseccomp: its compiler takes ten times as long as the rest
//! of a container's start.

mod bpf;
mod syscalls;

use std::collections::BTreeMap;

use oci::spec::{Seccomp, SeccompArg, SeccompRule};

use crate::error::{Error, Result};
pub use bpf::Instruction;
use bpf::{Decision, Rule};

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
        bytes.extend(self.code.iter().flatten());
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

/// Kills the process: the answer to an architecture that the list does not name.
const KILL_PROCESS: u32 = 0x8000_0000;
const ALLOW: u32 = 0x7fff_0000;
const LOG: u32 = 0x7ffc_0000;
const ERRNO: u32 = 0x0005_0000;
const TRACE: u32 = 0x7ff0_0000;
const ENOSYS: u32 = 38;
/// Marks a call of the x32 ABI, which shares its architecture with x86-64.
const X32: u32 = 0x4000_0000;

/// The kernel's return value for a named action.
fn action(name: &str, errno: Option<u32>) -> Result<u32> {
    let data = errno.unwrap_or(1) & 0xffff;
    Ok(match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => 0,
        "SCMP_ACT_KILL_PROCESS" => KILL_PROCESS,
        "SCMP_ACT_TRAP" => 0x0003_0000,
        "SCMP_ACT_ERRNO" => ERRNO | data,
        "SCMP_ACT_TRACE" => TRACE | data,
        "SCMP_ACT_LOG" => LOG,
        "SCMP_ACT_ALLOW" => ALLOW,
        "SCMP_ACT_NOTIFY" => return Err(Error::new("linux.seccomp: SCMP_ACT_NOTIFY: not supported")),
        other => {
            return Err(Error::new(format!("linux.seccomp: action {other:?} is not known")));
        }
    })
}

fn flags(names: &[String]) -> Result<u64> {
    names.iter().try_fold(0, |flags, name| {
        let flag = match name.as_str() {
            "SECCOMP_FILTER_FLAG_TSYNC" => 1,
            "SECCOMP_FILTER_FLAG_LOG" => 2,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => 4,
            other => {
                return Err(Error::new(format!("linux.seccomp.flags: {other:?}: not supported")));
            }
        };
        Ok(flags | flag)
    })
}

/// In the order of the columns of [`syscalls::TABLE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Architecture {
    X86_64,
    X86,
    X32,
    Aarch64,
}

impl Architecture {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "SCMP_ARCH_X86_64" => Self::X86_64,
            "SCMP_ARCH_X86" => Self::X86,
            "SCMP_ARCH_X32" => Self::X32,
            "SCMP_ARCH_AARCH64" => Self::Aarch64,
            _ => return None,
        })
    }

    fn native() -> Self {
        if cfg!(target_arch = "aarch64") { Self::Aarch64 } else { Self::X86_64 }
    }

    /// `AUDIT_ARCH_*`
    fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
        }
    }

    fn number(self, name: &str) -> Option<u32> {
        let index = syscalls::TABLE.binary_search_by_key(&name, |(known, _)| known).ok()?;
        let (_, numbers) = syscalls::TABLE[index];
        let number = numbers[self as usize];
        (number != syscalls::NO).then_some(self.base() | u32::from(number))
    }

    /// What all its numbers have in common.
    fn base(self) -> u32 {
        if self == Self::X32 { X32 } else { 0 }
    }
}

/// The calls that an architecture has: names and numbers.
pub fn calls(architecture: &str) -> Result<Vec<(&'static str, u32)>> {
    let known = Architecture::named(architecture)
        .ok_or_else(|| Error::new(format!("linux.seccomp: architecture {architecture:?} is not known")))?;
    let names = syscalls::TABLE.iter().map(|(name, _)| *name);
    Ok(names.filter_map(|name| Some((name, known.number(name)?))).collect())
}

/// Compiles a filter.
pub fn compile(seccomp: &Seccomp) -> Result<Program> {
    if seccomp.listener_path.as_deref().is_some_and(|path| !path.is_empty()) {
        return Err(Error::new("linux.seccomp.listenerPath: not supported"));
    }
    let default = action(&seccomp.default_action, seccomp.default_errno_ret)?;
    let mut architectures = vec![Architecture::native()];
    for name in &seccomp.architectures {
        // Calls of architectures that this machine cannot run need no section.
        let Some(architecture) = Architecture::named(name) else {
            continue;
        };
        if !architectures.contains(&architecture) {
            architectures.push(architecture);
        }
    }
    let rules = seccomp.syscalls.iter().map(read_rule).collect::<Result<Vec<_>>>()?;
    let mut sections: BTreeMap<u32, Vec<(u32, Decision)>> = BTreeMap::new();
    for architecture in &architectures {
        let section = sections.entry(architecture.audit()).or_default();
        section.extend(decide(*architecture, default, &rules));
    }
    for section in sections.values_mut() {
        finish(section);
    }
    if !architectures.contains(&Architecture::X32)
        && let Some(section) = sections.get_mut(&Architecture::X32.audit())
    {
        section.push((X32, Decision::Return(KILL_PROCESS)));
    }
    Ok(Program {
        code: bpf::assemble(Architecture::native().audit(), &sections, KILL_PROCESS)?,
        flags: flags(&seccomp.flags)?,
    })
}

/// A rule of the spec: names, and what to do when one of these lists of comparisons holds.
struct Read<'s> {
    names: &'s [String],
    rules: Vec<Rule>,
}

fn read_rule(rule: &SeccompRule) -> Result<Read<'_>> {
    let action = action(&rule.action, rule.errno_ret)?;
    let mut tests = Vec::new();
    for arg in &rule.args {
        tests.push((arg.index, bpf::Test::new(arg)?));
    }
    let mut indexes: Vec<u32> = tests.iter().map(|(index, _)| *index).collect();
    indexes.sort_unstable();
    indexes.dedup();
    let rules = if indexes.len() == tests.len() {
        vec![Rule { tests: tests.into_iter().map(|(_, test)| test).collect(), action }]
    } else {
        // Several comparisons of one argument have always meant "any of them" (runc).
        let alone = |(_, test)| Rule { tests: vec![test], action };
        tests.into_iter().map(alone).collect()
    };
    Ok(Read { names: &rule.names, rules })
}

/// What `socketcall` does for its first argument, from 1.
const SOCKET_CALLS: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

/// What `ipc` does for the lower half of its first argument; the upper half is a version.
const IPC_CALLS: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// i386 also has one number for all socket calls and one for all of System V's: a rule for `socket` is one for those,
/// too, as under libseccomp.
fn multiplexed(name: &str, rules: &[Rule]) -> Option<(u32, Rule)> {
    let (multiplexer, mask, call) = match SOCKET_CALLS.iter().position(|known| *known == name) {
        Some(index) => ("socketcall", u64::MAX, index as u64 + 1),
        None => ("ipc", 0xffff, IPC_CALLS.iter().find(|(known, _)| *known == name)?.1),
    };
    // The call's own arguments are behind a pointer: a rule that asks for them may forbid too much here, never allow it.
    let rule = rules.iter().find(|rule| rule.tests.is_empty() || !lets_pass(rule.action))?;
    let test = bpf::Test { index: 0, operator: bpf::Operator::MaskedEqual, value: mask, second: call };
    Some((Architecture::X86.number(multiplexer)?, Rule { tests: vec![test], action: rule.action }))
}

fn lets_pass(action: u32) -> bool {
    action == ALLOW || action == LOG || action & 0xffff_0000 == TRACE
}

/// For each number from which a decision holds on: that decision.
fn decide(architecture: Architecture, default: u32, rules: &[Read<'_>]) -> Vec<(u32, Decision)> {
    let mut by_number: BTreeMap<u32, Vec<Rule>> = BTreeMap::new();
    for (rule, name) in rules.iter().flat_map(|rule| rule.names.iter().map(move |name| (rule, name))) {
        if let Some(number) = architecture.number(name) {
            by_number.entry(number).or_default().extend(rule.rules.iter().cloned());
        }
        if architecture == Architecture::X86
            && let Some((number, muxed)) = multiplexed(name, &rule.rules)
        {
            by_number.entry(number).or_default().push(muxed);
        }
    }
    let mut decisions = vec![(architecture.base(), Decision::Return(default))];
    for (number, rules) in &by_number {
        // A rule without comparisons holds always, whatever stands beside it.
        let always = rules.iter().find(|rule| rule.tests.is_empty());
        let decision = match always {
            Some(rule) => Decision::Return(rule.action),
            None => Decision::Rules(rules.clone(), default),
        };
        decisions.push((*number, decision));
        decisions.push((number + 1, Decision::Return(default)));
    }
    // A call younger than the profile does not exist: libraries then fall back, which "not permitted" keeps them from.
    if let Some((last, _)) = by_number.last_key_value()
        && !lets_pass(default)
    {
        decisions.push((last + 1, Decision::Return(ERRNO | ENOSYS)));
    }
    decisions
}

/// Puts a section in order: the later of two decisions for one number holds, equal neighbours become one.
fn finish(section: &mut Vec<(u32, Decision)>) {
    let by_number: BTreeMap<u32, Decision> = section.drain(..).collect();
    section.extend(by_number);
    section.dedup_by(|later, earlier| later.1 == earlier.1);
}

impl bpf::Test {
    fn new(arg: &SeccompArg) -> Result<Self> {
        if arg.index > 5 {
            return Err(Error::new(format!("linux.seccomp: argument {} of at most 5", arg.index)));
        }
        let operator = bpf::Operator::named(&arg.op)
            .ok_or_else(|| Error::new(format!("linux.seccomp: operator {:?} is not known", arg.op)))?;
        Ok(Self { index: arg.index, operator, value: arg.value, second: arg.value_two })
    }
}

#[cfg(test)]
mod tests;
