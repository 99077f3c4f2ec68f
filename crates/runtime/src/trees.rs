//! Mounts that only the runtime's own half can make: id-mapped ones, and copies of what the container's root may not
//! reach. The child asks for them by number.

use std::os::fd::{AsFd, OwnedFd};

use oci::{IdMap, IdMapping};
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, open, statx},
    io::Errno,
};
use sys::mounts::{MountAttributes, id_map_namespace, set_attributes};

use crate::{
    error::{During, Error, Result},
    options::{Change, attr, propagation},
    plan::Plan,
    steps::{Mounting, Step, change, copy_path},
};

/// The namespaces that stand for id maps, each made once.
#[derive(Debug, Default)]
pub struct Trees(Vec<(IdMap, OwnedFd)>);

impl Trees {
    /// A detached copy of the plan's `root`, or of the source of its bind mount with this number.
    pub fn open(&mut self, plan: &Plan, pid: i32, number: &str) -> Result<OwnedFd> {
        if number == "root" {
            return root(plan);
        }
        let mount = plan.setup.iter().find_map(|step| match step {
            Step::Bind(mount) if number.parse() == Ok(mount.number) => Some(mount),
            _ => None,
        });
        let mount = mount.ok_or_else(|| Error::new(format!("mount {number}: is no bind mount")))?;
        let what = || format!("bind {} on {}", mount.source, mount.destination.display());
        let tree = copy_path(mount.source.as_ref(), mount.options.recursive).map_err(|error| {
            Error::refused(what(), &error.into())
                .hint_on(Errno::NOENT, format!("{} does not exist on the host", mount.source))
        })?;
        if !mount.peers {
            // A copy that was made here is the host's peer.
            change(&tree, true, Change::default(), propagation::SLAVE).during(what)?;
        }
        if let Some(map) = &mount.id_map {
            self.map(plan, pid, mount, map, &tree).map_err(|error| error.during(what()))?;
        }
        Ok(tree)
    }

    fn map(&mut self, plan: &Plan, pid: i32, mount: &Mounting, map: &IdMap, tree: &OwnedFd) -> Result<()> {
        let containers =
            plan.id_maps.as_ref().is_some_and(|(uids, gids)| map.uids == *uids && map.gids == *gids);
        let own;
        let namespace = if map.is_identity() || containers {
            let path = format!("/proc/{pid}/ns/user");
            own = open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).during(|| path)?;
            &own
        } else {
            self.namespace(map)?
        };
        let recursive = mount.options.id_map == Some(true) && mount.options.recursive;
        let attributes = MountAttributes {
            set: attr::IDMAP,
            id_map: Some(namespace.as_fd()),
            ..MountAttributes::default()
        };
        set_attributes(tree.as_fd(), recursive, attributes).map_err(|error| {
            let kind = kind_of(&mount.source).unwrap_or_else(|| "that is there".to_owned());
            let unable = format!(
                "the file system {kind} cannot be id-mapped by this kernel, or is so already; ext4, xfs and vfat can be \
                 since Linux 5.12, btrfs 5.15, tmpfs 6.3"
            );
            Error::refused("map ids", &error)
                .hint_on(Errno::INVAL, unable)
                .hint_on(Errno::PERM, "needs CAP_SYS_ADMIN where the file system was mounted")
        })
    }

    fn namespace(&mut self, map: &IdMap) -> Result<&OwnedFd> {
        let known = self.0.iter().position(|(known, _)| known == map);
        let index = known.unwrap_or(self.0.len());
        if known.is_none() {
            let made = id_map_namespace(&lines(&map.uids), &lines(&map.gids));
            self.0.push((map.clone(), made.map_err(|error| Error::new(format!("make an id map: {error}")))?));
        }
        Ok(&self.0[index].1)
    }
}

fn root(plan: &Plan) -> Result<OwnedFd> {
    let root = plan.setup.iter().find_map(|step| match step {
        Step::Root { path, from_host } => Some((path, from_host)),
        _ => None,
    });
    let (path, from_host) = root.ok_or_else(|| Error::new("the plan has no root"))?;
    let what = || format!("take {} as root", path.display());
    let tree = copy_path(path, true).during(what)?;
    change(&tree, true, Change::default(), *from_host).during(what)?;
    Ok(tree)
}

fn lines(map: &[IdMapping]) -> String {
    map.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The type of the file system at a path of the host.
fn kind_of(path: &str) -> Option<String> {
    let wanted = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).ok()?.stx_mnt_id.to_string();
    let table = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = table.lines().find(|line| line.split(' ').next() == Some(&wanted))?;
    Some(line.split_once(" - ")?.1.split(' ').next()?.to_owned())
}
