//! A mount, as the OCI runtime spec writes it (config.md, "Mounts"); what snapshots make and runtimes eat.

use serde::{Deserialize, Serialize};

use crate::IdMapping;

/// One mount. `destination` is a path inside the container's root.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", remote = "Self")]
pub struct Mount {
    /// Absolute path inside the root.
    pub destination: String,
    /// File system type: `overlay`, `bind`, `tmpfs`, `proc`, …
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Device, directory or word that the type wants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// `fstab(5)` options; both flags (`ro`, `nosuid`, `rbind`) and data (`size=64k`, `lowerdir=…`). Layered file
    /// systems repeat `lowerdir+=DIR`, uppermost first (overlayfs' mount API, Linux 6.5), so that a list of
    /// layers is not bound by a page.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// uid map of an id-mapped mount.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<IdMapping>,
    /// gid map of an id-mapped mount.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<IdMapping>,
}

crate::strict::only_as_object!(Mount);
