//! `features`: what this runtime can do (runtime-spec, features.md).

use oci::spec::NamespaceKind;
use serde_json::json;

use super::print_json;
use crate::{caps, error::Result, seccomp};

pub(super) fn features() -> Result<u8> {
    let namespaces: Vec<&str> = NamespaceKind::ALL.iter().map(|kind| kind.as_str()).collect();
    print_json(&json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": oci::spec::VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": [
            "async", "atime", "bind", "defaults", "dev", "diratime", "exec", "noatime", "nodev", "nodiratime",
            "noexec", "norelatime", "nostrictatime", "nosuid", "nosymfollow", "private", "rbind", "relatime", "ro",
            "rprivate", "rro", "rrw", "rshared", "rslave", "runbindable", "rw", "shared", "slave", "strictatime",
            "suid", "symfollow", "unbindable"
        ],
        "linux": {
            "namespaces": namespaces,
            "capabilities": caps::all(),
            "cgroup": { "v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": false },
            "seccomp": {
                "enabled": true,
                "actions": seccomp::ACTIONS.map(|(name, _)| name),
                "operators": [
                    "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ",
                    "SCMP_CMP_NE"
                ],
                "archs": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"],
                "knownFlags": seccomp::FLAGS.map(|(name, _)| name),
                "supportedFlags": seccomp::FLAGS.map(|(name, _)| name)
            },
            "apparmor": { "enabled": true },
            "selinux": { "enabled": true },
            "intelRdt": { "enabled": false },
            "mountExtensions": { "idmap": { "enabled": false } }
        },
        "potentiallyUnsafeConfigAnnotations": []
    }))
}
