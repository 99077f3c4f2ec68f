//! Which id outside stands for which id inside.
//!
//! Every container's config carries an [`IdMap`] from the first day; the empty map is the identity. Nothing in
//! knarr may take a uid inside for a uid outside without asking it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One line of `/proc/PID/uid_map`: `size` ids from `container` inside are those from `host` outside
/// (`user_namespaces(7)`; also OCI's `linux.uidMappings`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct IdMapping {
    /// First id inside.
    #[serde(rename = "containerID")]
    pub container: u32,
    /// First id outside.
    #[serde(rename = "hostID")]
    pub host: u32,
    /// How many.
    pub size: u32,
}

crate::strict::only_as_object!(IdMapping);
/// A line of `/proc/PID/uid_map`.
impl fmt::Display for IdMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.container, self.host, self.size)
    }
}

/// The user and group map of one container. Empty means: no user namespace, ids are the same on both sides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IdMap {
    /// User ids.
    #[serde(default)]
    pub uids: Vec<IdMapping>,
    /// Group ids.
    #[serde(default)]
    pub gids: Vec<IdMapping>,
}

impl IdMap {
    /// No user namespace.
    pub const IDENTITY: IdMap = IdMap { uids: Vec::new(), gids: Vec::new() };

    /// Whether inside and outside are the same.
    pub fn is_identity(&self) -> bool {
        self.uids.is_empty() && self.gids.is_empty()
    }

    /// The uid outside of `inside`, if it is mapped.
    pub fn host_uid(&self, inside: u32) -> Option<u32> {
        to_host(&self.uids, inside, self.is_identity())
    }

    /// The gid outside of `inside`, if it is mapped.
    pub fn host_gid(&self, inside: u32) -> Option<u32> {
        to_host(&self.gids, inside, self.is_identity())
    }
}

fn to_host(map: &[IdMapping], inside: u32, identity: bool) -> Option<u32> {
    if identity {
        return Some(inside);
    }
    map.iter().find_map(|line| {
        let offset = inside.checked_sub(line.container)?;
        (offset < line.size).then(|| line.host.checked_add(offset))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_maps_everything_and_a_map_only_its_lines() {
        assert_eq!(IdMap::IDENTITY.host_uid(7), Some(7));
        let line = IdMapping { container: 0, host: 100_000, size: 65_536 };
        let map = IdMap { uids: vec![line], gids: vec![] };
        assert_eq!(line.to_string(), "0 100000 65536");
        assert_eq!(map.host_uid(0), Some(100_000));
        assert_eq!(map.host_uid(65_535), Some(165_535));
        assert_eq!(map.host_uid(65_536), None);
        assert_eq!(map.host_gid(0), None);
    }
}
