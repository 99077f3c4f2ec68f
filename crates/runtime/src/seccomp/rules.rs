//! From the spec's rules to what is decided at each number of an architecture.

use oci::spec::{Seccomp, SeccompArg, SeccompRule};

use super::{
    bpf::{Decision, Operator, Rule, Test},
    words::{Architecture, ENOSYS, ERRNO, NOTIFY, Numbers, action, lets_pass, numbers},
};
use crate::error::{Error, Result};

/// A rule of the spec: what to do when one of these lists of comparisons holds, and for which calls.
pub(super) struct Read<'s> {
    calls: Vec<(&'s str, Numbers)>,
    rules: Vec<Rule>,
}

/// All that a profile says.
pub(super) struct Profile<'s> {
    pub(super) default: u32,
    pub(super) notifies: bool,
    /// Names of calls that no architecture has.
    pub(super) unknown: Vec<&'s str>,
    rules: Vec<Read<'s>>,
}

impl<'s> Profile<'s> {
    pub(super) fn read(seccomp: &'s Seccomp) -> Result<Self> {
        let default = action(&seccomp.default_action, seccomp.default_errno_ret)?;
        if default == NOTIFY {
            // The agent would have to allow the very calls by which it is told.
            return Err(Error::new(
                "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be the default action",
            ));
        }
        let mut profile = Self { default, notifies: false, unknown: Vec::new(), rules: Vec::new() };
        for rule in &seccomp.syscalls {
            let answer = action(&rule.action, rule.errno_ret)?;
            profile.notifies |= answer == NOTIFY;
            let comparisons = comparisons(rule, answer)?;
            let found = rule.names.iter().map(|name| (name.as_str(), numbers(name)));
            let (known, unknown): (Vec<_>, Vec<_>) = found.partition(|(_, numbers)| numbers.is_some());
            profile.unknown.extend(unknown.into_iter().map(|(name, _)| name));
            // A rule that says what is said anyway takes nothing away from others (runc, libseccomp).
            if answer != default {
                let calls = known.into_iter().filter_map(|(name, numbers)| Some((name, numbers?))).collect();
                profile.rules.push(Read { calls, rules: comparisons });
            }
        }
        Ok(profile)
    }

    /// The calls that an agent is asked about.
    pub(super) fn notified(&self) -> impl Iterator<Item = &'s str> {
        let rules = self.rules.iter().filter(|read| read.rules.iter().any(|rule| rule.action == NOTIFY));
        rules.flat_map(|read| read.calls.iter().map(|(name, _)| *name))
    }
}

fn comparisons(rule: &SeccompRule, action: u32) -> Result<Vec<Rule>> {
    if rule.args.is_empty() {
        return Ok(vec![Rule { tests: Vec::new(), action }]);
    }
    let tests = rule.args.iter().map(test).collect::<Result<Vec<_>>>()?;
    let mut indexes: Vec<u32> = tests.iter().map(|test| test.index).collect();
    indexes.sort_unstable();
    indexes.dedup();
    Ok(if indexes.len() == tests.len() {
        vec![Rule { tests, action }]
    } else {
        // Several comparisons of one argument have always meant "any of them" (runc).
        tests.into_iter().map(|test| Rule { tests: vec![test], action }).collect()
    })
}

fn test(arg: &SeccompArg) -> Result<Test> {
    if arg.index > 5 {
        return Err(Error::new(format!("linux.seccomp: argument {} of at most 5", arg.index)));
    }
    let operator = Operator::named(&arg.op)
        .ok_or_else(|| Error::new(format!("linux.seccomp: operator {:?} is not known", arg.op)))?;
    Ok(Test { index: arg.index, operator, value: arg.value, second: arg.value_two })
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
    let test = Test { index: 0, operator: Operator::MaskedEqual, value: mask, second: call };
    Some((Architecture::X86.number(multiplexer)?, Rule { tests: vec![test], action: rule.action }))
}

/// A run of numbers that are decided alike: from this one to the next.
pub(super) type Range = (u32, Decision);

/// Appends the ranges of an architecture, whose numbers are above all that are there.
pub(super) fn decide(architecture: Architecture, profile: &Profile<'_>, ranges: &mut Vec<Range>) {
    let mut said: Vec<(u32, Rule)> = Vec::new();
    for read in &profile.rules {
        for (name, numbers) in &read.calls {
            if let Some(number) = architecture.of(*numbers) {
                said.extend(read.rules.iter().map(|rule| (number, rule.clone())));
            }
            if architecture == Architecture::X86 {
                said.extend(multiplexed(name, &read.rules));
            }
        }
    }
    // Keeps the profile's order among the rules for one number.
    said.sort_by_key(|(number, _)| *number);
    let mut next = architecture.base();
    for rules in said.chunk_by(|(one, _), (other, _)| one == other) {
        let number = rules[0].0;
        if number > next {
            push(ranges, next, Decision::Return(profile.default));
        }
        push(ranges, number, decision(rules, profile.default));
        next = number + 1;
    }
    // A call younger than the profile does not exist: libraries then fall back, which "not permitted" keeps them from.
    let younger =
        if said.is_empty() || lets_pass(profile.default) { profile.default } else { ERRNO | ENOSYS };
    push(ranges, next, Decision::Return(younger));
}

fn decision(rules: &[(u32, Rule)], default: u32) -> Decision {
    // A rule without comparisons holds always, whatever stands beside it.
    match rules.iter().find(|(_, rule)| rule.tests.is_empty()) {
        Some((_, rule)) => Decision::Return(rule.action),
        None => Decision::Rules(rules.iter().map(|(_, rule)| rule.clone()).collect(), default),
    }
}

fn push(ranges: &mut Vec<Range>, from: u32, decision: Decision) {
    if ranges.last().is_none_or(|(_, last)| *last != decision) {
        ranges.push((from, decision));
    }
}
