//! seccomp filters as a container feels them.

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;

use bundle::{Bundle, is_ours};
use serde_json::json;

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
fn unsupported_actions_are_refused() {
    for (action, named) in [("SCMP_ACT_NOTIFY", "NOTIFY"), ("SCMP_ACT_NONSENSE", "SCMP_ACT_NONSENSE")] {
        let mut bundle = Bundle::sh("true");
        bundle.spec["linux"]["seccomp"] = denying(&["mkdir"], action);
        let said = bundle.run();
        assert_ne!(said.code, 0);
        assert!(!is_ours() || said.err.contains(named), "{}", said.err);
        bundle.assert_gone();
    }
}
