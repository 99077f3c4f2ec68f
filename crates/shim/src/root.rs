//! Assembles the container's root file system.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use oci::{IdMap, IdMapping, Mount};
use rustix::{
    fs::{Mode, OFlags, mkdirat, openat},
    mount::{UnmountFlags, unmount},
    process::{chdir, fchdir},
};
use sys::{
    Root,
    fsmount::{Attributes, attach, id_mapped, mount_bind, mount_new, new_detached, set_attributes},
    mounts::id_map_namespace,
};

use crate::program::{PROGRAM, by_program};

/// Mounts `mount` in `rootfs`; `/` is `rootfs` itself. Looked up anew each time, so that later mounts land on
/// earlier ones, and below the root only.
pub(crate) fn assemble(rootfs: &Path, mount: &Mount) -> io::Result<()> {
    let root = Root::open(rootfs)?;
    let target = root.get(Path::new(&mount.destination), OFlags::PATH, Mode::empty())?;
    let mut attributes = Attributes::default();
    let mut words: Vec<&str> = mount.options.iter().map(String::as_str).collect();
    words.retain(|word| !attributes.take(word));
    let kind = mount.kind.as_deref().unwrap_or("bind");
    if let Some(program) = kind.strip_prefix(PROGRAM) {
        return by_program(program, mount, rootfs);
    }
    let recursive = words.contains(&"rbind");
    let binds = kind == "bind" || recursive || words.contains(&"bind");
    let ids = IdMap { uids: mount.uid_mappings.clone(), gids: mount.gid_mappings.clone() };
    if !binds && ids.is_identity() {
        return mount_new(kind, mount.source.as_deref(), &words, attributes, target.as_fd());
    }
    if !binds {
        return mapped(kind, &words, attributes, &ids, rootfs, &target);
    }
    if let Some(word) = words.iter().find(|word| !["bind", "rbind"].contains(word)) {
        let text = format!("a bind mount in a container's root has no option {word:?}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let source = Path::new(mount.source.as_deref().unwrap_or_default());
    if ids.is_identity() {
        return mount_bind(source, recursive, attributes, target.as_fd());
    }
    let tree = id_mapped(source, recursive, namespace(&ids)?.as_fd())?;
    set_attributes(&tree, attributes)?;
    attach(&tree, target.as_fd())
}

fn namespace(ids: &IdMap) -> io::Result<OwnedFd> {
    let lines = |map: &[IdMapping]| map.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    id_map_namespace(&lines(&ids.uids), &lines(&ids.gids))
}

/// An overlay whose layers hold ids as they are inside (Linux 5.19). Overlayfs cannot be id-mapped itself, but looks at
/// id-mapped layers: these stand on a stage over `rootfs` while it does.
fn mapped(
    kind: &str,
    words: &[&str],
    attributes: Attributes,
    ids: &IdMap,
    rootfs: &Path,
    target: &OwnedFd,
) -> io::Result<()> {
    let unsupported = |text: &str| io::Error::new(io::ErrorKind::Unsupported, text.to_owned());
    if kind != "overlay" {
        return Err(unsupported("only binds and overlays in a container's root can be id-mapped"));
    }
    let (uid, gid) = ids
        .host_uid(0)
        .zip(ids.host_gid(0))
        .ok_or_else(|| unsupported("an id-mapped root needs a map for its root, uid 0 and gid 0"))?;
    let namespace = namespace(ids)?;
    let stage = new_detached("tmpfs", Some("tmpfs"), &["mode=711"], Attributes::default())?;
    attach(&stage, target.as_fd())?;
    let made =
        Stage { at: &stage, ids: namespace.as_fd(), shown: Vec::new() }.words(words).and_then(|data| {
            let data: Vec<&str> = data.iter().map(String::as_str).collect();
            fchdir(&stage)?;
            // What overlayfs makes for itself, it makes as who mounts it: who must have an id on the layers.
            let act = || new_detached(kind, Some(kind), &data, attributes);
            sys::process::with_file_ids(uid, gid, act)
        });
    chdir("/")?;
    // Overlayfs has copies of its own.
    unmount(rootfs, UnmountFlags::DETACH)?;
    attach(&made?, target.as_fd())
}

/// Directories that are shown id-mapped under short names.
struct Stage<'s> {
    at: &'s OwnedFd,
    ids: BorrowedFd<'s>,
    shown: Vec<String>,
}

impl Stage<'_> {
    /// The options again, with names on the stage.
    fn words(mut self, words: &[&str]) -> io::Result<Vec<String>> {
        let word = |word: &&str| match word.split_once('=') {
            Some(("lowerdir", list)) => {
                let names: io::Result<Vec<_>> = list.split(':').map(|layer| self.show(layer)).collect();
                Ok(format!("lowerdir={}", names?.join(":")))
            }
            Some((key @ ("lowerdir+" | "datadir+"), layer)) => Ok(format!("{key}={}", self.show(layer)?)),
            // Both must be seen on one mount.
            Some((key @ ("upperdir" | "workdir"), path)) => {
                let (above, name) = path.rsplit_once('/').unwrap_or((".", path));
                Ok(format!("{key}={}/{name}", self.show(above)?))
            }
            _ => Ok((*word).to_owned()),
        };
        words.iter().map(word).collect()
    }

    fn show(&mut self, path: &str) -> io::Result<String> {
        if let Some(known) = self.shown.iter().position(|shown| shown == path) {
            return Ok(known.to_string());
        }
        let name = self.shown.len().to_string();
        mkdirat(self.at, name.as_str(), Mode::RWXU)?;
        let place = openat(self.at, name.as_str(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        attach(&id_mapped(Path::new(path), false, self.ids)?, place.as_fd())?;
        self.shown.push(path.to_owned());
        Ok(name)
    }
}
