//! The compiled program, run by an interpreter of our own, against the profile read by its own words.
//!
//! `default.json` is Docker's default profile for x86-64 and Docker's default capabilities, as an engine hands it over.

use oci::spec::{SeccompArg, SeccompRule};

use super::{
    words::{ALLOW, ENOSYS, ERRNO, X32, action},
    *,
};

/// What the kernel's interpreter would answer.
fn run(program: &Program, architecture: u32, number: u32, args: [u64; 6]) -> u32 {
    let data = |offset: u32| -> u32 {
        match offset {
            0 => number,
            4 => architecture,
            16..64 => {
                let arg = args[(offset as usize - 16) / 8];
                if offset.is_multiple_of(8) { arg as u32 } else { (arg >> 32) as u32 }
            }
            other => panic!("load at {other}"),
        }
    };
    let (mut at, mut value) = (0, 0);
    loop {
        let [a, b, yes, no, operand @ ..] = program.code[at];
        let operand = u32::from_ne_bytes(operand);
        at += 1;
        let mut jump = |holds: bool| at += usize::from(if holds { yes } else { no });
        match u16::from_ne_bytes([a, b]) {
            0x20 => value = data(operand),
            0x54 => value &= operand,
            0x05 => at += operand as usize,
            0x15 => jump(value == operand),
            0x25 => jump(value > operand),
            0x35 => jump(value >= operand),
            0x06 => return operand,
            other => panic!("instruction {other:#x}"),
        }
    }
}

fn holds(arg: &SeccompArg, args: [u64; 6]) -> bool {
    let given = args[arg.index as usize];
    match arg.op.as_str() {
        "SCMP_CMP_EQ" => given == arg.value,
        "SCMP_CMP_NE" => given != arg.value,
        "SCMP_CMP_LT" => given < arg.value,
        "SCMP_CMP_LE" => given <= arg.value,
        "SCMP_CMP_GT" => given > arg.value,
        "SCMP_CMP_GE" => given >= arg.value,
        "SCMP_CMP_MASKED_EQ" => given & arg.value == arg.value_two,
        other => panic!("{other}"),
    }
}

/// What the profile says, rule by rule.
fn expected(profile: &Seccomp, architecture: Architecture, number: u32, args: [u64; 6]) -> u32 {
    let default = action(&profile.default_action, profile.default_errno_ret).unwrap();
    let numbers = |rule: &SeccompRule| -> Vec<u32> {
        rule.names.iter().filter_map(|name| architecture.number(name)).collect()
    };
    let last = profile.syscalls.iter().flat_map(numbers).max().unwrap_or(0);
    if number > last {
        return ERRNO | ENOSYS;
    }
    let of_number: Vec<&SeccompRule> =
        profile.syscalls.iter().filter(|rule| numbers(rule).contains(&number)).collect();
    let read = |rule: &SeccompRule| action(&rule.action, rule.errno_ret).unwrap();
    if let Some(always) = of_number.iter().find(|rule| rule.args.is_empty()) {
        return read(always);
    }
    let matching = of_number.iter().find(|rule| rule.args.iter().all(|arg| holds(arg, args)));
    matching.map_or(default, |rule| read(rule))
}

fn profile() -> Seccomp {
    serde_json::from_str(include_str!("default.json")).unwrap()
}

#[test]
fn the_default_profile_is_compiled_as_it_reads() {
    let profile = profile();
    let program = compile(&profile).unwrap();
    let values = [
        0,
        1,
        8,
        37,
        38,
        39,
        40,
        41,
        0x20000,
        0x20008,
        0xffff_ffff,
        0x1_0000_0000,
        0x1000_0000,
        0x7e02_0000,
        u64::MAX,
    ];
    for (architecture, base) in [(Architecture::X86_64, 0), (Architecture::X86, 0), (Architecture::X32, X32)]
    {
        for number in (0..600).map(|number| base + number) {
            for value in values {
                let args = [value; 6];
                let (found, wanted) = (
                    run(&program, architecture.audit(), number, args),
                    expected(&profile, architecture, number, args),
                );
                assert_eq!(found, wanted, "{architecture:?} {number} {value:#x}");
            }
        }
    }
    assert_eq!(run(&program, Architecture::Aarch64.audit(), 0, [0; 6]), KILL_PROCESS);
    assert!(program.code.len() < 1500, "{}", program.code.len());
}

#[test]
fn known_answers_of_the_default_profile() {
    let program = compile(&profile()).unwrap();
    let native = |name: &str, first: u64| {
        run(&program, 0xc000_003e, Architecture::X86_64.number(name).unwrap(), [first, 0, 0, 0, 0, 0])
    };
    assert_eq!(native("read", 0), ALLOW);
    assert_eq!(native("mount", 0), ERRNO | 1);
    assert_eq!(native("clone3", 0), ERRNO | ENOSYS);
    assert_eq!(native("clone", 0x0002_0000), ERRNO | 1);
    assert_eq!(native("clone", 0x11), ALLOW);
    assert_eq!(native("socket", 38), ERRNO | 1, "AF_ALG");
    assert_eq!(native("socket", 40), ERRNO | 1, "AF_VSOCK");
    assert_eq!(native("socket", 2), ALLOW);
    assert_eq!(run(&program, 0xc000_003e, 9999, [0; 6]), ERRNO | ENOSYS);
}

#[test]
fn every_operator_compares_all_64_bits() {
    let values = [0, 1, 5, 6, 7, u64::from(u32::MAX), 1 << 32, (1 << 32) + 6, u64::MAX - 1, u64::MAX];
    for op in ["EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ"] {
        for value in values {
            for value_two in [0, 6, 1 << 32] {
                let arg = |index| SeccompArg { index, value, value_two, op: format!("SCMP_CMP_{op}") };
                let rule = SeccompRule {
                    names: vec!["getpid".into()],
                    action: "SCMP_ACT_TRAP".into(),
                    errno_ret: None,
                    args: vec![arg(1), arg(3)],
                };
                let seccomp = Seccomp {
                    default_action: "SCMP_ACT_ALLOW".into(),
                    syscalls: vec![rule],
                    ..Seccomp::default()
                };
                let program = compile(&seccomp).unwrap();
                for one in values {
                    for other in values {
                        let args = [9, one, 9, other, 9, 9];
                        let both = holds(&arg(1), args) && holds(&arg(3), args);
                        let wanted = if both { 0x0003_0000 } else { ALLOW };
                        assert_eq!(run(&program, 0xc000_003e, 39, args), wanted, "{op} {value:#x} {args:x?}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_kept_program_is_the_same() {
    let program = compile(&profile()).unwrap();
    assert_eq!(Program::from_bytes(&program.to_bytes()).unwrap(), program);
    assert!(Program::from_bytes(&[1, 2, 3]).is_err());
    assert!(syscalls::TABLE.is_sorted_by_key(|(name, _)| name));
}

#[test]
fn a_rule_for_a_call_holds_for_the_multiplexer_of_i386() {
    let rule = |names: &[&str], action: &str, args| SeccompRule {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        action: action.into(),
        errno_ret: None,
        args,
    };
    let family = SeccompArg { index: 0, value: 38, value_two: 0, op: "SCMP_CMP_EQ".into() };
    let compiled = |default: &str, syscalls| {
        let architectures = vec!["SCMP_ARCH_X86".into()];
        let default_action = default.into();
        compile(&Seccomp { default_action, architectures, syscalls, ..Seccomp::default() }).unwrap()
    };
    let i386 = |program: &Program, number, first| run(program, 0x4000_0003, number, [first, 0, 0, 0, 0, 0]);
    let denied = compiled(
        "SCMP_ACT_ALLOW",
        vec![
            rule(&["connect", "shmat"], "SCMP_ACT_ERRNO", vec![]),
            rule(&["socket"], "SCMP_ACT_ERRNO", vec![family.clone()]),
        ],
    );
    for (number, first, answer) in [
        (102, 1, ERRNO | 1),
        (102, 2, ALLOW),
        (102, 3, ERRNO | 1),
        (117, 21, ERRNO | 1),
        (117, 0x1_0015, ERRNO | 1),
        (117, 22, ALLOW),
    ] {
        assert_eq!(i386(&denied, number, first), answer, "{number} {first}");
    }
    let allowed = compiled(
        "SCMP_ACT_ERRNO",
        vec![rule(&["connect"], "SCMP_ACT_ALLOW", vec![]), rule(&["socket"], "SCMP_ACT_ALLOW", vec![family])],
    );
    assert_eq!(i386(&allowed, 102, 3), ALLOW);
    assert_eq!(i386(&allowed, 102, 1), ERRNO | 1, "the family is behind a pointer");
    assert_eq!(i386(&allowed, X32 + 600, 0), ERRNO | ENOSYS);
}

/// F-18: a source of choices that is the same every time.
struct Noise(u64);

impl Noise {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

const VALUES: [u64; 12] = [
    0,
    1,
    2,
    0xff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0001,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_fffe,
    u64::MAX,
];

fn random_profile(noise: &mut Noise) -> Seccomp {
    const OPERATORS: [&str; 7] = ["EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ"];
    const ACTIONS: [&str; 7] = ["ALLOW", "ERRNO", "KILL_PROCESS", "KILL_THREAD", "TRAP", "TRACE", "LOG"];
    const NAMES: [&str; 14] = [
        "read",
        "write",
        "open",
        "socket",
        "connect",
        "clone",
        "personality",
        "ioctl",
        "shmat",
        "semop",
        "accept4",
        "no_such_call",
        "execve",
        "socketcall",
    ];
    let errno = |noise: &mut Noise| (noise.below(2) == 0).then(|| noise.below(200) as u32);
    let rule = |noise: &mut Noise| SeccompRule {
        names: (0..=noise.below(4)).map(|_| noise.of(&NAMES).to_owned()).collect(),
        action: format!("SCMP_ACT_{}", noise.of(&ACTIONS)),
        errno_ret: errno(noise),
        args: (0..noise.below(4))
            .map(|_| SeccompArg {
                index: noise.below(6) as u32,
                value: noise.of(&VALUES),
                value_two: noise.of(&VALUES),
                op: format!("SCMP_CMP_{}", noise.of(&OPERATORS)),
            })
            .collect(),
    };
    let architectures = ["X86_64", "X86", "X32", "AARCH64", "MIPS"];
    let most = if noise.below(20) == 0 { 120 } else { 8 };
    let count = noise.below(most);
    Seccomp {
        default_action: format!("SCMP_ACT_{}", noise.of(&ACTIONS)),
        default_errno_ret: errno(noise),
        architectures: architectures
            .iter()
            .filter(|_| noise.below(2) == 0)
            .map(|name| format!("SCMP_ARCH_{name}"))
            .collect(),
        syscalls: (0..count).map(|_| rule(noise)).collect(),
        ..Seccomp::default()
    }
}

/// What a profile says by runc's and libseccomp's reading, straight from its words.
fn read_by_its_words(profile: &Seccomp, architecture: Architecture, number: u32, args: [u64; 6]) -> u32 {
    let default = action(&profile.default_action, profile.default_errno_ret).unwrap();
    let said: Vec<(u32, &SeccompRule)> = profile
        .syscalls
        .iter()
        .map(|rule| (action(&rule.action, rule.errno_ret).unwrap(), rule))
        .filter(|(answer, _)| *answer != default)
        .collect();
    // Rules for a call, also those that its multiplexer on i386 stands for.
    let mut last = None;
    let mut found: Vec<(u32, Vec<SeccompArg>)> = Vec::new();
    for (answer, rule) in &said {
        for name in &rule.names {
            let own = architecture.number(name);
            let muxed = if architecture == Architecture::X86 { muxed(name) } else { None };
            last = last.max(own).max(
                muxed
                    .filter(|_| rule.args.is_empty() || !words::lets_pass(*answer))
                    .map(|(number, ..)| number),
            );
            if own == Some(number) {
                found.push((*answer, rule.args.clone()));
            }
            if let Some((multiplexer, mask, call)) = muxed
                && multiplexer == number
                && (rule.args.is_empty() || !words::lets_pass(*answer))
            {
                let op = "SCMP_CMP_MASKED_EQ".to_owned();
                found.push((*answer, vec![SeccompArg { index: 0, value: mask, value_two: call, op }]));
            }
        }
    }
    if last.is_some_and(|last| number > last) && !words::lets_pass(default) {
        return ERRNO | ENOSYS;
    }
    if let Some((answer, _)) = found.iter().find(|(_, args)| args.is_empty()) {
        return *answer;
    }
    let matches = |tests: &Vec<SeccompArg>| {
        let mut indexes: Vec<u32> = tests.iter().map(|test| test.index).collect();
        indexes.sort_unstable();
        let distinct = indexes.windows(2).all(|pair| pair[0] != pair[1]);
        if distinct {
            tests.iter().all(|test| holds(test, args))
        } else {
            tests.iter().any(|test| holds(test, args))
        }
    };
    found.iter().find(|(_, tests)| matches(tests)).map_or(default, |(answer, _)| *answer)
}

/// socketcall(2) and ipc(2): number, mask and value of the first argument.
fn muxed(name: &str) -> Option<(u32, u64, u64)> {
    match name {
        "socket" => Some((102, u64::MAX, 1)),
        "connect" => Some((102, u64::MAX, 3)),
        "accept4" => Some((102, u64::MAX, 18)),
        "semop" => Some((117, 0xffff, 1)),
        "shmat" => Some((117, 0xffff, 21)),
        _ => None,
    }
}

/// F-18
#[test]
fn random_profiles_are_compiled_as_they_read() {
    const ARCHITECTURES: [Architecture; 3] = [Architecture::X86_64, Architecture::X86, Architecture::X32];
    let mut noise = Noise(0x00f1_8000_5eed);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(4);
    let mut profiles = 0;
    while std::time::Instant::now() < end && profiles < 3000 {
        profiles += 1;
        let profile = random_profile(&mut noise);
        let program = compile(&profile).unwrap();
        let native = Architecture::native();
        for architecture in ARCHITECTURES {
            let listed = |known: Architecture| {
                known == native
                    || profile
                        .architectures
                        .iter()
                        .any(|name| Architecture::named(name).unwrap() == Some(known))
            };
            for _ in 0..60 {
                let names =
                    ["read", "write", "open", "socket", "clone", "ioctl", "execve", "socketcall", "ipc"];
                let named = architecture.number(noise.of(&names)).unwrap_or(architecture.base());
                let number =
                    if noise.below(4) == 0 { architecture.base() + noise.below(700) as u32 } else { named };
                let args = [0; 6].map(|_: u64| if noise.below(3) == 0 { 18 } else { noise.of(&VALUES) });
                let found = run(&program, architecture.audit(), number, args);
                let wanted = if listed(architecture) {
                    read_by_its_words(&profile, architecture, number, args)
                } else {
                    KILL_PROCESS
                };
                assert_eq!(found, wanted, "{architecture:?} {number} {args:x?} {profile:#?}");
            }
        }
    }
    assert!(profiles > 50, "{profiles}");
}
