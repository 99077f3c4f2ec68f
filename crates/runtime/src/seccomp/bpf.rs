//! Classic BPF: decisions to instructions.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// An encoded `struct sock_filter`: code, jump if true, jump if false, operand.
pub type Instruction = [u8; 8];

/// `BPF_MAXINSNS`
const MOST: usize = 4096;
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;
/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    MaskedEqual,
}

impl Operator {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "SCMP_CMP_EQ" => Self::Equal,
            "SCMP_CMP_NE" => Self::NotEqual,
            "SCMP_CMP_LT" => Self::Less,
            "SCMP_CMP_LE" => Self::LessEqual,
            "SCMP_CMP_GT" => Self::Greater,
            "SCMP_CMP_GE" => Self::GreaterEqual,
            "SCMP_CMP_MASKED_EQ" => Self::MaskedEqual,
            _ => return None,
        })
    }
}

/// One comparison of a 64-bit argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Test {
    pub(super) index: u32,
    pub(super) operator: Operator,
    /// The mask, if masked.
    pub(super) value: u64,
    /// What the masked argument must be.
    pub(super) second: u64,
}

/// All tests hold → action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) tests: Vec<Test>,
    pub(super) action: u32,
}

/// What happens at a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    Return(u32),
    /// The first that holds, else the last.
    Rules(Vec<Rule>, u32),
}

fn instruction(code: u16, jump_true: u8, jump_false: u8, operand: u32) -> Instruction {
    let mut bytes = [0, 0, jump_true, jump_false, 0, 0, 0, 0];
    bytes[..2].copy_from_slice(&code.to_ne_bytes());
    bytes[4..].copy_from_slice(&operand.to_ne_bytes());
    bytes
}

/// Where a jump inside a comparison leads.
#[derive(Clone, Copy)]
enum To {
    Next,
    /// The comparison holds.
    Holds,
    /// It does not.
    Fails,
}

impl Test {
    fn steps(self) -> Vec<(u16, u32, To, To)> {
        use To::{Fails, Holds, Next};
        let low_at = ARGUMENTS + 8 * self.index + if cfg!(target_endian = "big") { 4 } else { 0 };
        let high_at = low_at ^ 4;
        let halves = |value: u64| ((value >> 32) as u32, value as u32);
        let (high, low) = halves(self.value);
        let load = |at: u32| (LOAD, at, Next, Next);
        let ordered = |last: u16, above: To, below: To| {
            vec![
                load(high_at),
                (JUMP_GREATER, high, above, Next),
                (JUMP_EQUAL, high, Next, below),
                load(low_at),
                (last, low, above, below),
            ]
        };
        match self.operator {
            Operator::Equal => {
                vec![
                    load(high_at),
                    (JUMP_EQUAL, high, Next, Fails),
                    load(low_at),
                    (JUMP_EQUAL, low, Holds, Fails),
                ]
            }
            Operator::NotEqual => {
                vec![
                    load(high_at),
                    (JUMP_EQUAL, high, Next, Holds),
                    load(low_at),
                    (JUMP_EQUAL, low, Fails, Holds),
                ]
            }
            Operator::Greater => ordered(JUMP_GREATER, Holds, Fails),
            Operator::LessEqual => ordered(JUMP_GREATER, Fails, Holds),
            Operator::GreaterEqual => ordered(JUMP_GREATER_EQUAL, Holds, Fails),
            Operator::Less => ordered(JUMP_GREATER_EQUAL, Fails, Holds),
            Operator::MaskedEqual => {
                let (wanted_high, wanted_low) = halves(self.second);
                vec![
                    load(high_at),
                    (AND, high, Next, Next),
                    (JUMP_EQUAL, wanted_high, Next, Fails),
                    load(low_at),
                    (AND, low, Next, Next),
                    (JUMP_EQUAL, wanted_low, Holds, Fails),
                ]
            }
        }
    }
}

impl Rule {
    fn code(&self) -> Vec<Instruction> {
        let tests: Vec<_> = self.tests.iter().map(|test| test.steps()).collect();
        let length: usize = tests.iter().map(Vec::len).sum::<usize>() + 1;
        let mut code = Vec::with_capacity(length);
        for steps in &tests {
            let end = code.len() + steps.len();
            for (operation, operand, holds, fails) in steps {
                let after = code.len() + 1;
                // At most six tests of six steps: every distance fits eight bits.
                let distance = |to: &To| match to {
                    To::Next => 0,
                    To::Holds => (end - after) as u8,
                    To::Fails => (length - after) as u8,
                };
                code.push(instruction(*operation, distance(holds), distance(fails), *operand));
            }
        }
        code.push(instruction(RETURN, 0, 0, self.action));
        code
    }
}

/// The code for a run of ranges: a binary search whose every path ends in a return.
fn search(ranges: &[(u32, Decision)]) -> Vec<Instruction> {
    if let [(_, decision)] = ranges {
        return match decision {
            Decision::Return(value) => vec![instruction(RETURN, 0, 0, *value)],
            Decision::Rules(rules, default) => {
                let mut code: Vec<Instruction> = rules.iter().flat_map(Rule::code).collect();
                code.push(instruction(RETURN, 0, 0, *default));
                code
            }
        };
    }
    let (below, above) = ranges.split_at(ranges.len() / 2);
    let first = above.first().map_or(0, |(number, _)| *number);
    let (below, above) = (search(below), search(above));
    let mut code = branch(JUMP_GREATER_EQUAL, first, below.len());
    code.extend(below);
    code.extend(above);
    code
}

/// Skips `distance` instructions if the comparison holds.
fn branch(comparison: u16, operand: u32, distance: usize) -> Vec<Instruction> {
    match u8::try_from(distance) {
        Ok(near) => vec![instruction(comparison, near, 0, operand)],
        Err(_) => vec![instruction(comparison, 0, 1, operand), instruction(JUMP, 0, 0, distance as u32)],
    }
}

/// The whole program; `native` comes first, because nearly every call is of it.
pub(super) fn assemble(
    native: u32,
    sections: &BTreeMap<u32, Vec<(u32, Decision)>>,
    otherwise: u32,
) -> Result<Vec<Instruction>> {
    let mut code = vec![instruction(LOAD, 0, 0, ARCHITECTURE)];
    let mut ordered: Vec<_> = sections.iter().collect();
    ordered.sort_by_key(|(architecture, _)| **architecture != native);
    for (architecture, ranges) in ordered {
        let mut section = vec![instruction(LOAD, 0, 0, NUMBER)];
        section.extend(search(ranges));
        // Equal falls into the section; else over it.
        if let Ok(near) = u8::try_from(section.len()) {
            code.push(instruction(JUMP_EQUAL, 0, near, *architecture));
        } else {
            code.push(instruction(JUMP_EQUAL, 1, 0, *architecture));
            code.push(instruction(JUMP, 0, 0, section.len() as u32));
        }
        code.extend(section);
    }
    code.push(instruction(RETURN, 0, 0, otherwise));
    if code.len() > MOST {
        return Err(Error::new(format!(
            "linux.seccomp: the filter has {} instructions; the kernel takes {MOST}",
            code.len()
        )));
    }
    Ok(code)
}
