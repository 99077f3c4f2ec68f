//! The device list as an eBPF program, for cgroup v2: the kernel asks it at each open and mknod of a device.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};

use super::devices::Rule;
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
const JUMP_NOT_EQUAL_REGISTER: u8 = 0x5d;
const EXIT: u8 = 0x95;

/// Registers: the answer, scratch (the context at first), and what is asked about.
const ANSWER: u8 = 0;
const SCRATCH: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// Bits of `struct bpf_cgroup_dev_ctx`.
fn access_bits(access: &str) -> i32 {
    let bit = |letter| match letter {
        'm' => 1,
        'r' => 2,
        _ => 4,
    };
    access.chars().map(bit).fold(0, |bits, bit| bits | bit)
}

/// The last rule that matches decides: they are tried from the last on.
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
    let bits = access_bits(&rule.access);
    let mut tests = vec![instruction(JUMP_NOT_EQUAL, KIND, 0, 0, kind)];
    if bits != 7 {
        tests.push(instruction(COPY, SCRATCH, ACCESS, 0, 0));
        tests.push(instruction(AND, SCRATCH, 0, 0, bits));
        tests.push(if rule.allow {
            // Allowed if nothing else is asked for.
            instruction(JUMP_NOT_EQUAL_REGISTER, SCRATCH, ACCESS, 0, 0)
        } else {
            // Denied if any of it is asked for.
            instruction(JUMP_EQUAL, SCRATCH, 0, 0, 0)
        });
    }
    for (register, number) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
        if let Some(number) = number {
            tests.push(instruction(JUMP_NOT_EQUAL, register, 0, 0, number as i32));
        }
    }
    let length = tests.len();
    for (index, test) in tests.iter_mut().enumerate() {
        if matches!(test[0], JUMP_EQUAL | JUMP_NOT_EQUAL | JUMP_NOT_EQUAL_REGISTER) {
            let distance = (length - index - 1 + after) as i16;
            [test[2], test[3]] = distance.to_ne_bytes();
        }
    }
    tests
}

/// Loads and attaches.
pub(super) fn attach(group: &Path, rules: &[Rule]) -> Result<()> {
    let what = || format!("filter devices of {}", group.display());
    let directory =
        open(group, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).during(what)?;
    let program = sys::bpf::load_device_filter(&compile(rules)).during(what)?;
    sys::bpf::attach_device_filter(directory.as_fd(), program.as_fd()).during(what)
}
