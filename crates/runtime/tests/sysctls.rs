//! S-702: kernel parameters of a container's own namespaces, and none of the host's (CVE-2022-0811,
//! GHSA-w2j5-3rcx-vx7x).

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;

use std::fs;

use bundle::{Bundle, Said, is_ours};
use serde_json::json;

/// What `plan` says to one parameter; nothing is made.
fn planned(bundle: &mut Bundle, key: &str, value: &str) -> Said {
    bundle.spec["linux"]["sysctl"] = json!({ key: value });
    fs::write(bundle.path().join("config.json"), bundle.spec.to_string()).unwrap();
    let path = bundle.path().display().to_string();
    bundle.call(&["plan", "-b", &path])
}

/// Parameters and the namespace that keeps each apart.
const APART: [(&str, &str); 20] = [
    ("kernel.msgmax", "ipc"),
    ("kernel.msgmnb", "ipc"),
    ("kernel.msgmni", "ipc"),
    ("kernel.sem", "ipc"),
    ("kernel.shmall", "ipc"),
    ("kernel.shmmax", "ipc"),
    ("kernel.shmmni", "ipc"),
    ("kernel.shm_rmid_forced", "ipc"),
    ("kernel/shmmax", "ipc"),
    ("fs.mqueue.msg_max", "ipc"),
    ("fs.mqueue.queues_max", "ipc"),
    ("fs/mqueue/msgsize_max", "ipc"),
    ("net.ipv4.ip_forward", "network"),
    ("net.ipv4.conf.all.rp_filter", "network"),
    ("net.ipv4.ip_unprivileged_port_start", "network"),
    ("net.ipv4.ping_group_range", "network"),
    ("net.ipv6.conf.default.forwarding", "network"),
    ("net.core.somaxconn", "network"),
    ("net/ipv4/tcp_syncookies", "network"),
    ("kernel.domainname", "uts"),
];

/// The host's, or no names at all.
const REFUSED: [&str; 52] = [
    "kernel.core_pattern",
    "kernel/core_pattern",
    "kernel.core_pipe_limit",
    "kernel.core_uses_pid",
    "kernel.modprobe",
    "kernel.hotplug",
    "kernel.poweroff_cmd",
    "kernel.sysrq",
    "kernel.panic",
    "kernel.panic_on_oops",
    "kernel.randomize_va_space",
    "kernel.yama.ptrace_scope",
    "kernel.unprivileged_bpf_disabled",
    "kernel.unprivileged_userns_clone",
    "kernel.dmesg_restrict",
    "kernel.kptr_restrict",
    "kernel.perf_event_paranoid",
    "kernel.pid_max",
    "kernel.threads-max",
    "kernel.keys.maxkeys",
    "kernel.hostname",
    "kernel.ns_last_pid",
    "kernel.cap_last_cap",
    "kernel.msg",
    "kernel.sem.",
    "kernel.semx",
    "kernel.msgmaxx",
    "kernel.shm",
    "kernel",
    "fs.file-max",
    "fs.suid_dumpable",
    "fs.protected_symlinks",
    "fs.binfmt_misc.register",
    "fs.inotify.max_user_watches",
    "fs.mqueue",
    "fs.mqueuex.msg_max",
    "vm.overcommit_memory",
    "vm.drop_caches",
    "vm.swappiness",
    "user.max_user_namespaces",
    "debug.exception-trace",
    "dev.raid.speed_limit_max",
    "abi.vsyscall32",
    "net",
    "",
    ".",
    "/etc/passwd",
    "net/../kernel/core_pattern",
    "net..kernel.core_pattern",
    "net.ipv4/../../kernel/core_pattern",
    "net.ipv4.ip_forward\nkernel.core_pattern",
    "net.ipv4.ip_forward+kernel.core_pattern=|/bin/sh",
];

/// For an innocent parameter.
const BAD_VALUES: [&str; 3] = ["1\nkernel.core_pattern=x", "1\0", "\n"];
const GOOD_VALUES: [&str; 5] = ["1", "0", "0 2147483647", "-1", "a+b"];

#[test]
fn only_what_belongs_to_a_namespace_of_its_own_is_planned() {
    if !is_ours() {
        println!("skipped: only ours has `plan`");
        return;
    }
    let mut bundle = Bundle::sh("true");
    let namespaces = bundle.spec["linux"]["namespaces"].clone();
    for (key, kind) in APART {
        let said = planned(&mut bundle, key, "1");
        assert!(said.code == 0 && said.out.contains(&format!("set sysctl {key}")), "{key}: {}", said.err);
        let others = namespaces.as_array().unwrap().iter().filter(|namespace| namespace["type"] != kind);
        bundle.spec["linux"]["namespaces"] = others.cloned().collect();
        // A host name and a domain name are the other things that a uts namespace is needed for.
        let hostname = bundle.spec.as_object_mut().unwrap().remove("hostname").unwrap();
        let said = planned(&mut bundle, key, "1");
        assert!(said.code != 0 && said.err.contains(key) && said.err.contains(kind), "{key}: {}", said.err);
        bundle.spec["linux"]["namespaces"] = namespaces.clone();
        bundle.spec["hostname"] = hostname;
    }
    for key in REFUSED {
        let said = planned(&mut bundle, key, "1");
        assert!(said.code != 0 && said.err.contains("sysctl"), "{key:?}: {}{}", said.out, said.err);
    }
    for value in BAD_VALUES {
        let said = planned(&mut bundle, "net.ipv4.ip_forward", value);
        assert!(said.code != 0 && said.err.contains("net.ipv4.ip_forward"), "{value:?}: {}", said.err);
    }
    for value in GOOD_VALUES {
        assert_eq!(planned(&mut bundle, "net.ipv4.ip_forward", value).code, 0, "{value:?}");
    }
}

/// The host's own values, and a container's, which it may have as it likes.
#[test]
fn what_a_container_sets_stays_in_it() {
    let read = |path: &str| fs::read_to_string(path).unwrap();
    let paths = [
        "/proc/sys/kernel/shmmni",
        "/proc/sys/net/ipv4/ip_unprivileged_port_start",
        "/proc/sys/kernel/core_pattern",
    ];
    let before = paths.map(read);
    let mut bundle = Bundle::sh("cat /proc/sys/kernel/shmmni /proc/sys/net/ipv4/ip_unprivileged_port_start");
    bundle.spec["linux"]["sysctl"] =
        json!({ "kernel.shmmni": "77", "net.ipv4.ip_unprivileged_port_start": "88" });
    assert_eq!(bundle.output(), "77\n88");
    bundle.spec["linux"]["sysctl"]["kernel.core_pattern"] = json!("|/bin/sh");
    assert_ne!(bundle.run().code, 0);
    bundle.assert_gone();
    assert_eq!(paths.map(read), before);
}
