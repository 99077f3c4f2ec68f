//! Classic BPF: decisions to instructions.

use super::rules::Range;
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

/// What is decided for the calls of one `AUDIT_ARCH_*`.
pub(super) struct Section {
    pub(super) audit: u32,
    /// In order.
    pub(super) ranges: Vec<Range>,
}

/// A program that is written from its end to its beginning: when a jump is written, what it jumps over is known.
#[derive(Default)]
struct Backwards(Vec<Instruction>);

impl Backwards {
    fn put(&mut self, code: u16, jump_true: u8, jump_false: u8, operand: u32) {
        self.0.push(instruction(code, jump_true, jump_false, operand));
    }

    /// A run of ranges: a binary search whose every path ends in a return.
    fn search(&mut self, ranges: &[Range]) {
        if let [(_, decision)] = ranges {
            return self.decision(decision);
        }
        let (below, above) = ranges.split_at(ranges.len() / 2);
        let first = above.first().map_or(0, |(number, _)| *number);
        self.search(above);
        let end = self.0.len();
        self.search(below);
        let distance = self.0.len() - end;
        if let Ok(near) = u8::try_from(distance) {
            self.put(JUMP_GREATER_EQUAL, near, 0, first);
        } else {
            self.put(JUMP, 0, 0, distance as u32);
            self.put(JUMP_GREATER_EQUAL, 0, 1, first);
        }
    }

    fn decision(&mut self, decision: &Decision) {
        match decision {
            Decision::Return(value) => self.put(RETURN, 0, 0, *value),
            Decision::Rules(rules, default) => {
                self.put(RETURN, 0, 0, *default);
                for rule in rules.iter().rev() {
                    self.0.extend(rule.code().into_iter().rev());
                }
            }
        }
    }

    fn section(&mut self, section: &Section) {
        let end = self.0.len();
        self.search(&section.ranges);
        self.put(LOAD, 0, 0, NUMBER);
        let length = self.0.len() - end;
        // Equal falls into the section; else over it.
        if let Ok(near) = u8::try_from(length) {
            self.put(JUMP_EQUAL, 0, near, section.audit);
        } else {
            self.put(JUMP, 0, 0, length as u32);
            self.put(JUMP_EQUAL, 1, 0, section.audit);
        }
    }
}

/// The whole program; a section is looked for in the given order.
pub(super) fn assemble(sections: &[Section], otherwise: u32) -> Result<Vec<Instruction>> {
    let mut code = Backwards::default();
    code.put(RETURN, 0, 0, otherwise);
    for section in sections.iter().rev() {
        code.section(section);
    }
    code.put(LOAD, 0, 0, ARCHITECTURE);
    let Backwards(mut code) = code;
    code.reverse();
    if code.len() > MOST {
        return Err(Error::new(format!(
            "linux.seccomp: the filter has {} instructions; the kernel takes {MOST}",
            code.len()
        )));
    }
    Ok(code)
}
