//! The device list as an eBPF program, for cgroup v2: the kernel asks it at each open and mknod of a device.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};

use super::devices::{Rule, access_bits};
use crate::error::{During, Result};

type Instruction = [u8; 8];

fn instruction(code: u8, destination: u8, source: u8, offset: i16, operand: i32) -> Instruction {
    let mut bytes = [code, source << 4 | destination, 0, 0, 0, 0, 0, 0];
    bytes[2..4].copy_from_slice(&offset.to_ne_bytes());
    bytes[4..].copy_from_slice(&operand.to_ne_bytes());
    bytes
}

const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const COPY: u8 = 0xbc;
const SET: u8 = 0xb7;
const JUMP_EQUAL: u8 = 0x15;
const JUMP_NOT_EQUAL: u8 = 0x55;
/// Compares the low half only: `jmp32`, Linux 5.1.
const JUMP_NOT_EQUAL_WORD: u8 = 0x56;
const EXIT: u8 = 0x95;

/// Registers: the answer, scratch (the context at first), and what is asked about.
const ANSWER: u8 = 0;
const SCRATCH: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// For each of `r`, `w` and `m` the last rule that names it decides: rules are tried from the last on, and what one
/// allows is no longer asked for.
pub(super) fn compile(rules: &[Rule]) -> Vec<Instruction> {
    let mut code = vec![
        instruction(LOAD_WORD, KIND, SCRATCH, 0, 0),
        instruction(COPY, ACCESS, KIND, 0, 0),
        instruction(AND, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, SCRATCH, 4, 0),
        instruction(LOAD_WORD, MINOR, SCRATCH, 8, 0),
    ];
    for rule in rules.iter().rev() {
        let answer = [instruction(SET, ANSWER, 0, 0, i32::from(rule.allow)), instruction(EXIT, 0, 0, 0, 0)];
        if rule.kind == 'a' {
            // Nothing before it is ever asked, and the kernel refuses code that nothing reaches.
            code.extend(answer);
            return code;
        }
        code.extend(tests(rule, answer.len()));
        code.extend(answer);
    }
    // Without a rule for all, a device that no rule names is open, as in a new v1 group.
    code.push(instruction(SET, ANSWER, 0, 0, 1));
    code.push(instruction(EXIT, 0, 0, 0, 0));
    code
}

fn tests(rule: &Rule, after: usize) -> Vec<Instruction> {
    let kind = if rule.kind == 'b' { 1 } else { 2 };
    let bits = i32::from(access_bits(&rule.access));
    let mut tests = vec![instruction(JUMP_NOT_EQUAL, KIND, 0, 0, kind)];
    for (register, number) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
        if let Some(number) = number {
            tests.push(instruction(JUMP_NOT_EQUAL_WORD, register, 0, 0, number as i32));
        }
    }
    match (rule.allow, bits) {
        (_, 7) => {}
        (true, _) => {
            tests.push(instruction(AND, ACCESS, 0, 0, !bits));
            tests.push(instruction(JUMP_NOT_EQUAL, ACCESS, 0, 0, 0));
        }
        (false, _) => {
            tests.push(instruction(COPY, SCRATCH, ACCESS, 0, 0));
            tests.push(instruction(AND, SCRATCH, 0, 0, bits));
            tests.push(instruction(JUMP_EQUAL, SCRATCH, 0, 0, 0));
        }
    }
    let length = tests.len();
    for (index, test) in tests.iter_mut().enumerate() {
        if [JUMP_EQUAL, JUMP_NOT_EQUAL, JUMP_NOT_EQUAL_WORD].contains(&test[0]) {
            let distance = (length - index - 1 + after) as i16;
            [test[2], test[3]] = distance.to_ne_bytes();
        }
    }
    tests
}

/// Loads and attaches, in place of the filters that are there: a single one is exchanged in one step (Linux 5.6), so
/// that at no time nothing is filtered, nor everything.
pub(super) fn attach(group: &Path, rules: &[Rule]) -> Result<()> {
    let what = || format!("filter devices of {}", group.display());
    let directory =
        open(group, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).during(what)?;
    let group = directory.as_fd();
    let program = sys::bpf::load_device_filter(&compile(rules)).during(what)?;
    let old = sys::bpf::device_filters(group).during(what)?;
    if let [only] = old.as_slice()
        && sys::bpf::replace_device_filter(group, program.as_fd(), only.as_fd()).is_ok()
    {
        return Ok(());
    }
    sys::bpf::attach_device_filter(group, program.as_fd()).during(what)?;
    // Each of several filters can only take away: the old ones go after the new one is there.
    old.iter().try_for_each(|old| sys::bpf::detach_device_filter(group, old.as_fd()).during(what))
}
