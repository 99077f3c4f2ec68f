//! The device list: which nodes a container's processes may open and make.

use std::fmt;

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
