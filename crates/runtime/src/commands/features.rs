//! `features`: what this runtime can do (runtime-spec, features.md). Nothing is claimed here: every word that the spec
//! knows is tried on the code that would have to understand it, and those are told that it takes.

use std::collections::BTreeMap;

use oci::{
    IdMapping, Mount,
    spec::{
        IntelRdt, MemoryPolicy, Namespace, NamespaceKind, NetDevice, Process, Rdma, Resources, Root, Seccomp,
        SeccompArg, SeccompRule, Spec,
    },
};
use serde_json::json;

use super::print_json;
use crate::{
    caps, cgroup, cli,
    error::Result,
    options,
    plan::{self, Host, Request},
    seccomp, spec,
};

/// libseccomp's, after `SCMP_ACT_`, `SCMP_CMP_` and `SCMP_ARCH_`; the kernel's after `SECCOMP_FILTER_FLAG_`.
const ACTIONS: &[&str] =
    &["ALLOW", "ERRNO", "KILL", "KILL_PROCESS", "KILL_THREAD", "LOG", "NOTIFY", "TRACE", "TRAP"];
const OPERATORS: &[&str] = &["EQ", "GE", "GT", "LE", "LT", "MASKED_EQ", "NE"];
const FLAGS: &[&str] = &["LOG", "SPEC_ALLOW", "TSYNC", "WAIT_KILLABLE_RECV"];

/// After `MPOL_` and `MPOL_F_`.
const MODES: &[&str] =
    &["DEFAULT", "BIND", "INTERLEAVE", "WEIGHTED_INTERLEAVE", "PREFERRED", "PREFERRED_MANY", "LOCAL"];
const MODE_FLAGS: &[&str] = &["NUMA_BALANCING", "RELATIVE_NODES", "STATIC_NODES"];

pub(super) fn features() -> Result<u8> {
    let namespaces: Vec<&str> = NamespaceKind::ALL.iter().map(|kind| kind.as_str()).collect();
    let no_policy = MemoryPolicy { nodes: "0".to_owned(), ..MemoryPolicy::default() };
    let policy = |policy: MemoryPolicy| takes(|spec| linux(spec).memory_policy = Some(policy));
    let mode = |name: &str| policy(MemoryPolicy { mode: format!("MPOL_{name}"), ..no_policy.clone() });
    let mode_flag = |name: &str| {
        policy(MemoryPolicy {
            mode: "MPOL_BIND".to_owned(),
            flags: vec![format!("MPOL_F_{name}")],
            ..no_policy.clone()
        })
    };
    print_json(&json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": oci::spec::NEWEST,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": options::words(),
        "linux": {
            "namespaces": namespaces,
            "capabilities": caps::all(),
            "cgroup": {
                "v1": true,
                "v2": true,
                "systemd": cli::parse(vec!["--systemd-cgroup".to_owned(), "list".to_owned()]).is_ok(),
                "systemdUser": false,
                "rdma": limits_rdma()
            },
            "seccomp": filters(),
            "apparmor": { "enabled": true },
            "selinux": { "enabled": true },
            "intelRdt": rdt(),
            "memoryPolicy": { "modes": named("MPOL_", MODES, mode), "flags": named("MPOL_F_", MODE_FLAGS, mode_flag) },
            "mountExtensions": { "idmap": { "enabled": maps_mounts() } },
            "netDevices": {
                "enabled": takes(|spec| drop(linux(spec).net_devices.insert("eth9".to_owned(), NetDevice::default())))
            }
        },
        "annotations": { "knarr.runtime.version": env!("CARGO_PKG_VERSION") },
        "potentiallyUnsafeConfigAnnotations": []
    }))
}

/// Those of `words` for which `is_known`, with what they begin with.
fn named(prefix: &str, words: &[&str], is_known: impl Fn(&str) -> bool) -> Vec<String> {
    words.iter().filter(|word| is_known(word)).map(|word| format!("{prefix}{word}")).collect()
}

fn linux(spec: &mut Spec) -> &mut oci::spec::Linux {
    spec.linux.get_or_insert_default()
}

/// Whether the smallest container would be planned with this change. Nothing is asked of the host.
fn takes(change: impl FnOnce(&mut Spec)) -> bool {
    let process = Process { args: vec!["x".to_owned()], cwd: "/".to_owned(), ..Process::default() };
    let mut small = Spec {
        oci_version: "1.0.0".to_owned(),
        root: Some(Root { path: "x".to_owned(), readonly: false }),
        process: Some(process),
        ..Spec::default()
    };
    let own = [NamespaceKind::Mount, NamespaceKind::Network].map(|kind| Namespace { kind, path: None });
    linux(&mut small).namespaces = own.to_vec();
    change(&mut small);
    let request = Request { id: "x".to_owned(), ..Request::default() };
    // As on a machine that has everything.
    let host = Host { resctrl: Some("/sys/fs/resctrl".into()), ..Host::default() };
    spec::check(&small).is_ok() && plan::plan(&small, &host, &request).is_ok()
}

fn maps_mounts() -> bool {
    let map = vec![IdMapping { container: 0, host: 1, size: 1 }];
    takes(|spec| {
        spec.mounts.push(Mount {
            destination: "/x".to_owned(),
            source: Some("/x".to_owned()),
            options: vec!["bind".to_owned(), "idmap".to_owned()],
            uid_mappings: map.clone(),
            gid_mappings: map,
            ..Mount::default()
        });
    })
}

fn limits_rdma() -> bool {
    let rdma = BTreeMap::from([("mlx5_0".to_owned(), Rdma { hca_handles: Some(1), hca_objects: Some(1) })]);
    cgroup::check(Some(&Resources { rdma, ..Resources::default() })).is_ok()
}

fn rdt() -> serde_json::Value {
    let with = |rdt: IntelRdt| takes(|spec| linux(spec).intel_rdt = Some(rdt));
    let lines = vec!["L3:0=f".to_owned()];
    json!({
        "enabled": with(IntelRdt::default()),
        "schemata": with(IntelRdt { schemata: lines, ..IntelRdt::default() }),
        "monitoring": with(IntelRdt { enable_monitoring: true, ..IntelRdt::default() })
    })
}

fn filters() -> serde_json::Value {
    let allow = || Seccomp { default_action: "SCMP_ACT_ALLOW".to_owned(), ..Seccomp::default() };
    // In a rule: not every action may be the default.
    let rule = |action: String, args: Vec<SeccompArg>, listener_path: Option<String>| {
        let rule = SeccompRule { names: vec!["getcwd".to_owned()], action, args, ..SeccompRule::default() };
        let profile = Seccomp { syscalls: vec![rule], listener_path, ..allow() };
        takes(|spec| linux(spec).seccomp = Some(profile.into()))
    };
    let action =
        |name: &str| rule(format!("SCMP_ACT_{name}"), vec![], (name == "NOTIFY").then(|| "/x".to_owned()));
    let operator = |name: &str| {
        let op = format!("SCMP_CMP_{name}");
        rule("SCMP_ACT_ERRNO".to_owned(), vec![SeccompArg { op, ..SeccompArg::default() }], None)
    };
    let flag = |name: &str| {
        let flags = vec![format!("SECCOMP_FILTER_FLAG_{name}")];
        takes(|spec| linux(spec).seccomp = Some(Seccomp { flags, ..allow() }.into()))
    };
    let architectures = spec::ARCHITECTURES.iter().map(|name| format!("SCMP_ARCH_{name}"));
    let flags = named("SECCOMP_FILTER_FLAG_", FLAGS, flag);
    json!({
        "enabled": true,
        "actions": named("SCMP_ACT_", ACTIONS, action),
        "operators": named("SCMP_CMP_", OPERATORS, operator),
        "archs": architectures.filter(|name| seccomp::calls(name).is_ok()).collect::<Vec<_>>(),
        "knownFlags": flags,
        "supportedFlags": flags.iter().filter(|flag| !flag.ends_with("_RECV") || is_at_least(5, 19)).collect::<Vec<_>>()
    })
}

/// Whether the kernel is of that version or later.
fn is_at_least(major: u32, minor: u32) -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(major), Some(minor))
}
