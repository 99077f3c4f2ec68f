//! The device list: which nodes a container's processes may open and make.

use std::{collections::BTreeMap, fmt};

use oci::spec::DeviceRule;

use crate::error::{Error, Result};

/// One line, as the v1 files take it; kind `a` stands for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Or deny.
    pub allow: bool,
    /// `a`, `b` or `c`.
    pub kind: char,
    /// None is all.
    pub major: Option<u32>,
    /// None is all.
    pub minor: Option<u32>,
    /// Of `rwm`.
    pub access: String,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.allow { "allow" } else { "deny" };
        write!(f, "{verb} {}", self.line())
    }
}

impl Rule {
    /// What is written to `devices.allow` or `devices.deny`.
    pub fn line(&self) -> String {
        if self.kind == 'a' {
            return "a".to_owned();
        }
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        format!("{} {}:{} {}", self.kind, number(self.major), number(self.minor), self.access)
    }

    fn everything(allow: bool) -> Self {
        Self { allow, kind: 'a', major: None, minor: None, access: "rwm".to_owned() }
    }
}

/// Nodes that every container has: null, zero, full, random, urandom, tty, ptmx and the slaves of its own devpts.
const ALWAYS: [(u32, Option<u32>); 8] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(2)),
    (136, None),
];

/// The spec's list, and after it what every container has. Without a list there is no restriction, as the spec says.
pub(super) fn rules(wanted: &[DeviceRule]) -> Result<Vec<Rule>> {
    let mut rules = wanted.iter().map(rule).collect::<Result<Vec<_>>>()?;
    if !rules.is_empty() {
        rules.extend(ALWAYS.map(|(major, minor)| Rule {
            allow: true,
            kind: 'c',
            major: Some(major),
            minor,
            access: "rwm".to_owned(),
        }));
    }
    Ok(rules)
}

fn rule(wanted: &DeviceRule) -> Result<Rule> {
    let bad = |what: &str| Error::new(format!("linux.resources.devices: {what}"));
    let number = |number: Option<i64>| match number {
        None | Some(-1) => Ok(None),
        Some(number) => {
            u32::try_from(number).map(Some).map_err(|_| bad(&format!("{number} is no device number")))
        }
    };
    let access = wanted.access.clone().unwrap_or_else(|| "rwm".to_owned());
    if access.is_empty() || !access.chars().all(|letter| "rwm".contains(letter)) {
        return Err(bad(&format!("access {access:?} is not made of r, w and m")));
    }
    let (major, minor) = (number(wanted.major)?, number(wanted.minor)?);
    let kind = match wanted.kind.as_deref() {
        None | Some("" | "a") if major.is_none() && minor.is_none() => 'a',
        Some("b") => 'b',
        Some("c" | "u") => 'c',
        other => {
            return Err(bad(&format!("type {other:?} with a number is not one of b and c")));
        }
    };
    Ok(Rule { allow: wanted.allow, kind, major, minor, access })
}

/// Bits of `struct bpf_cgroup_dev_ctx`; any order will do elsewhere.
pub(super) fn access_bits(access: &str) -> u8 {
    let bit = |letter| match letter {
        'm' => 1,
        'r' => 2,
        _ => 4,
    };
    access.chars().map(bit).fold(0, |bits, bit| bits | bit)
}

fn access_word(bits: u8) -> String {
    [(2, 'r'), (4, 'w'), (1, 'm')]
        .iter()
        .filter(|(bit, _)| bits & bit != 0)
        .map(|(_, letter)| letter)
        .collect()
}

type Node = (char, Option<u32>, Option<u32>);

/// What a list of rules comes to in a v1 group: all or nothing, and exceptions from that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct List {
    open: bool,
    exceptions: BTreeMap<Node, u8>,
}

impl List {
    /// Reads the rules in order, as the kernel would, beginning with a new group in which everything is allowed.
    ///
    /// Taking one node out of an exception for a whole range is refused: the kernel ignores it without a word, and
    /// the node would stay open.
    pub(super) fn of(rules: &[Rule]) -> Result<Self> {
        let mut list = Self { open: true, exceptions: BTreeMap::new() };
        for rule in rules {
            if rule.kind == 'a' {
                list = Self { open: rule.allow, exceptions: BTreeMap::new() };
                continue;
            }
            let node = (rule.kind, rule.major, rule.minor);
            let bits = access_bits(&rule.access);
            if rule.allow == list.open {
                list.remove(node, bits, rule)?;
            } else {
                *list.exceptions.entry(node).or_default() |= bits;
            }
        }
        Ok(list)
    }

    fn remove(&mut self, node: Node, bits: u8, rule: &Rule) -> Result<()> {
        let (kind, major, minor) = node;
        for wider in [(kind, None, minor), (kind, major, None), (kind, None, None)] {
            if wider != node && self.exceptions.get(&wider).is_some_and(|other| other & bits != 0) {
                return Err(Error::new(format!(
                    "linux.resources.devices: \"{rule}\": cgroup v1 cannot take one device out of a rule for many"
                )));
            }
        }
        let left = self.exceptions.remove(&node).unwrap_or(0) & !bits;
        if left != 0 {
            self.exceptions.insert(node, left);
        }
        Ok(())
    }

    /// Lines for a group that has never had a list.
    pub(super) fn lines(&self, rules: &[Rule]) -> Vec<Rule> {
        let first = rules.iter().any(|rule| rule.kind == 'a').then(|| Rule::everything(self.open));
        first.into_iter().chain(self.exceptions.iter().map(|exception| self.line(exception))).collect()
    }

    fn line(&self, (node, bits): (&Node, &u8)) -> Rule {
        let (kind, major, minor) = *node;
        Rule { allow: !self.open, kind, major, minor, access: access_word(*bits) }
    }

    /// Lines that lead from this list to another; what is allowed in both is allowed all the time.
    pub(super) fn transition(&self, to: &List) -> Vec<Rule> {
        if self.open != to.open {
            return to.lines(&[Rule::everything(to.open)]);
        }
        let bits = |list: &List, node: &Node| list.exceptions.get(node).copied().unwrap_or(0);
        let change = |from: &List, to: &List| -> Vec<(Node, u8)> {
            let more = to.exceptions.iter().map(|(node, wanted)| (*node, wanted & !bits(from, node)));
            more.filter(|(_, bits)| *bits != 0).collect()
        };
        let added = change(self, to);
        let removed = change(to, self)
            .into_iter()
            .map(|(node, bits)| Rule { allow: self.open, ..self.line((&node, &bits)) });
        removed.chain(added.iter().map(|(node, bits)| self.line((node, bits)))).collect()
    }

    /// What is allowed, if that can be said without naming what is not.
    pub(super) fn allowed(&self) -> Option<Vec<Rule>> {
        (!self.open).then(|| self.exceptions.iter().map(|exception| self.line(exception)).collect())
    }
}
