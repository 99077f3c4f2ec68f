//! seccomp filters as a container feels them.

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;

use std::process::Command;

use bundle::{Bundle, is_ours};
use serde_json::{Value, json};

fn denying(names: &[&str], action: &str) -> serde_json::Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{ "names": names, "action": action }]
    })
}

#[test]
fn a_denied_call_fails_for_root_with_and_without_new_privileges() {
    for no_new_privileges in [true, false] {
        let mut bundle =
            Bundle::sh("mkdir /x; grep Seccomp: /proc/self/status; grep CapEff /proc/self/status");
        bundle.spec["linux"]["seccomp"] = denying(&["mkdir", "mkdirat"], "SCMP_ACT_ERRNO");
        bundle.spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
        let said = bundle.run();
        assert!(said.err.contains("Operation not permitted"), "{}{}", said.out, said.err);
        assert_eq!(said.out, "Seccomp:\t2\nCapEff:\t00000000a80425fb\n");
        assert!(!bundle.rootfs().join("x").exists());
    }
}

#[test]
fn another_user_without_capabilities_is_filtered_too() {
    let mut bundle = Bundle::sh("mkdir /dev/shm/x; grep -E 'Seccomp:|CapPrm' /proc/self/status");
    bundle.spec["linux"]["seccomp"] = denying(&["mkdir", "mkdirat"], "SCMP_ACT_ERRNO");
    bundle.spec["process"]["user"]["uid"] = json!(1000);
    let said = bundle.run();
    assert!(said.err.contains("Operation not permitted"), "{}{}", said.out, said.err);
    assert_eq!(said.out, "CapPrm:\t0000000000000000\nSeccomp:\t2\n");
}

#[test]
fn a_killing_action_kills_and_exec_is_filtered_as_well() {
    let mut bundle = Bundle::sh("sleep 100");
    bundle.spec["linux"]["seccomp"] = denying(&["mkdir", "mkdirat"], "SCMP_ACT_KILL_PROCESS");
    bundle.start();
    assert_eq!(bundle.call_with(&["exec"], &["mkdir", "/x"]).code, 128 + 31);
    assert_eq!(bundle.call_with(&["exec"], &["true"]).code, 0);
}

#[test]
fn actions_that_cannot_be_are_refused() {
    for (action, named) in [("SCMP_ACT_NOTIFY", "listenerPath"), ("SCMP_ACT_NONSENSE", "SCMP_ACT_NONSENSE")] {
        let mut bundle = Bundle::sh("true");
        bundle.spec["linux"]["seccomp"] = denying(&["mkdir"], action);
        let said = bundle.run();
        assert_ne!(said.code, 0);
        assert!(!is_ours() || said.err.contains(named), "{}", said.err);
        bundle.assert_gone();
    }
}

/// Makes system calls by `int $0x80` (i386's entry) or `syscall`, and ends with the number of the first that answers
/// otherwise than expected.
const PROBE: &str = r#"
static long interrupt(long number, long a, long b) {
    long answer;
    __asm__ volatile("int $0x80" : "=a"(answer) : "a"(number), "b"(a), "c"(b), "d"(0), "S"(0), "D"(0) : "memory");
    return (int)answer;
}
#ifdef __x86_64__
static long native(long number, long a) {
    long answer;
    __asm__ volatile("syscall" : "=a"(answer) : "a"(number), "D"(a), "S"(0) : "rcx", "r11", "memory");
    return answer;
}
#endif
static int first_wrong(void) {
#ifdef __x86_64__
    if (native(600, 0) != -38) return 1;
    if (native(0x40000000 + 600, 0) != -38) return 2;
    if (native(39, 0) <= 0) return 3;
#else
    long long time[2] = {0, 0};
    if (interrupt(403, 0, (long)time) != 0 || time[0] == 0) return 4;
    if (interrupt(393, 0, 1) == -1) return 5;
#endif
    if (interrupt(21, 0, 0) != -1) return 6;
    if (interrupt(600, 0, 0) != -38) return 7;
    if (interrupt(0x40000000 + 600, 0, 0) != -38) return 8;
    return 0;
}
void _start(void) { for (;;) interrupt(1, first_wrong(), 0); }
"#;

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_entry_to_the_kernel_answers_by_the_default_profile() {
    let profile: Value = serde_json::from_str(include_str!("../src/seccomp/default.json")).unwrap();
    for (bits, format) in [("-m64", "elf_x86_64"), ("-m32", "elf_i386")] {
        let mut bundle = Bundle::new(&["/probe"]);
        let (source, object) = (bundle.path().join("probe.c"), bundle.path().join("probe.o"));
        std::fs::write(&source, PROBE).unwrap();
        let flags = ["-c", "-O1", "-ffreestanding", "-fno-pic", "-fno-stack-protector", "-o"];
        run(Command::new("gcc").arg(bits).args(flags).args([&object, &source]));
        run(Command::new("ld").args(["-m", format, "-o"]).args([&bundle.rootfs().join("probe"), &object]));
        bundle.spec["linux"]["seccomp"] = profile.clone();
        let said = bundle.run();
        assert_eq!(said.code, 0, "{bits}: {}{}", said.out, said.err);
    }
}
