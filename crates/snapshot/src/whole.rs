//! Drivers of whole trees: `btrfs`, where a container's tree is a snapshot of its image's, and `vfs`, where it is a
//! copy. `snapshots/<key>/` has `tree/`, which is the root, and `made/`, by whose time what changed is known.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use oci::Mount;
use rustix::{
    fs::{Mode, fchmod, fstatfs, mkdirat},
    mount::{MountAttrFlags, OpenTreeFlags, open_tree},
};
use sys::mounts::MountAttributes;

use crate::{
    Error, Prepare,
    changes::{self, Upper},
    copy,
    disk::{Area, Disk, Stage},
    layered::{Flavor, Layered, Snapshot, Stack},
    tree::{PRIVATE, copy_attributes, open_directory, set_mtime},
};

const TREE: &str = "tree";
const MADE: &str = "made";
/// `BTRFS_SUPER_MAGIC`.
const BTRFS: i64 = 0x9123_683e;

/// How trees come to be.
#[derive(Debug)]
pub(crate) enum Whole {
    /// By copying files.
    Vfs,
    /// By copying subvolumes.
    Btrfs {
        /// The size of a snapshot that asks for none.
        size: Option<u64>,
    },
}

impl Whole {
    pub(crate) fn open_vfs(root: &Path) -> Result<Layered<Self>, Error> {
        Layered::new(Disk::open(root, 0)?, Self::Vfs)
    }

    pub(crate) fn open_btrfs(root: &Path, size: Option<u64>) -> Result<Layered<Self>, Error> {
        let disk = Disk::open(root, 0)?;
        let on = fstatfs(disk.area(Area::Layers)).map_err(Error::at("look at", root))?;
        if on.f_type as i64 != BTRFS {
            let text = format!(
                "the storage driver btrfs needs a data root on btrfs, which {} is not",
                root.display()
            );
            return Err(Error::Unusable(text));
        }
        Layered::new(disk, Self::Btrfs { size })
    }

    fn limit(&self, root: &OwnedFd, asked: Option<u64>) -> Result<(), Error> {
        match self {
            Self::Vfs if asked.is_some() => Err(Error::Unusable(
                "--storage-opt size is not supported by the storage driver vfs: use overlay or btrfs"
                    .to_owned(),
            )),
            Self::Btrfs { size } => {
                let Some(bytes) = asked.or(*size) else { return Ok(()) };
                let limited = sys::btrfs::enable_quota(root.as_fd())
                    .and_then(|()| sys::btrfs::limit(root.as_fd(), bytes));
                limited.map_err(Error::at("limit the size of", TREE))
            }
            Self::Vfs => Ok(()),
        }
    }
}

/// Puts what `stack` shows into an empty tree.
fn fill(stack: &Stack<'_>, tree: &OwnedFd) -> Result<(), Error> {
    let (init, layers) = stack.open()?;
    let all: Vec<_> = std::iter::once(init).chain(layers).collect();
    copy::merged(&all, tree)?;
    // 0755 whatever the image says, as in the overlay driver.
    copy_attributes(&all[0], tree)
        .and_then(|stat| fchmod(tree, Mode::from_raw_mode(0o755)).map(|()| stat))
        .and_then(|stat| set_mtime(tree, &stat))
        .map_err(Error::at("create", TREE))
}

/// The tree of an image and its init layer, made when it is first asked for.
fn image_tree(stack: &Stack<'_>) -> Result<OwnedFd, Error> {
    let disk = stack.disk;
    if !disk.has(Area::Trees, &stack.init) {
        let stage = disk.stage()?;
        let path = stage.path().join(TREE);
        sys::btrfs::create(stage.directory().as_fd(), c"tree")
            .map_err(Error::at("create subvolume", &path))?;
        let tree = open_directory(stage.directory(), TREE).map_err(Error::at("open", &path))?;
        fill(stack, &tree)?;
        stage.sync()?;
        // If another one was faster, it made the same.
        stage.publish_durably(Area::Trees, &stack.init)?;
    }
    let path = Path::new(&stack.init).join(TREE);
    open_directory(disk.area(Area::Trees), &path).map_err(Error::at("open", disk.path(Area::Trees, path)))
}

impl Flavor for Whole {
    fn name(&self) -> &'static str {
        match self {
            Self::Vfs => "vfs",
            Self::Btrfs { .. } => "btrfs",
        }
    }

    fn stage<'d>(&self, disk: &'d Disk) -> Result<Stage<'d>, Error> {
        disk.stage()
    }

    fn make(&self, stack: &Stack<'_>, stage: &Stage<'_>, request: &Prepare<'_>) -> Result<(), Error> {
        let (directory, path) = (stage.directory(), stage.path().join(TREE));
        let open = || open_directory(directory, TREE).map_err(Error::at("open", &path));
        match self {
            Self::Vfs => {
                mkdirat(directory, TREE, PRIVATE).map_err(Error::at("create", &path))?;
                fill(stack, &open()?)?;
            }
            Self::Btrfs { .. } => {
                let image = image_tree(stack)?;
                sys::btrfs::snapshot(image.as_fd(), directory.as_fd(), c"tree")
                    .map_err(Error::at("create subvolume", &path))?;
            }
        }
        self.limit(&open()?, request.size)?;
        mkdirat(directory, MADE, PRIVATE).map_err(Error::at("create", stage.path().join(MADE)))
    }

    fn mounts(&self, stack: &Stack<'_>, snapshot: &Snapshot) -> Result<Vec<Mount>, Error> {
        Ok(vec![Mount {
            destination: "/".to_owned(),
            kind: Some("bind".to_owned()),
            source: Some(snapshot.path.join(TREE).display().to_string()),
            options: vec!["bind".to_owned()],
            uid_mappings: stack.record.ids.uids.clone(),
            gid_mappings: stack.record.ids.gids.clone(),
        }])
    }

    fn view(&self, _: &Stack<'_>, snapshot: &Snapshot) -> Result<OwnedFd, Error> {
        let path = snapshot.path.join(TREE);
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(rustix::fs::CWD, &path, flags).map_err(Error::at("mount", &path))?;
        let quiet = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        let attributes = MountAttributes { set: quiet.bits().into(), ..MountAttributes::default() };
        sys::mounts::set_attributes(tree.as_fd(), false, attributes).map_err(Error::at("protect", path))?;
        Ok(tree)
    }

    fn upper(&self, snapshot: &Snapshot) -> Result<(OwnedFd, Upper), Error> {
        let open = |name| open_directory(&snapshot.directory, name);
        let opened = open(TREE).and_then(|tree| Ok((tree, changes::moment(open(MADE)?)?)));
        opened.map_err(Error::at("open", snapshot.path.join(TREE)))
    }

    fn describe(&self, _: &Stack<'_>, snapshot: &Snapshot) -> BTreeMap<String, String> {
        BTreeMap::from([("MergedDir".to_owned(), snapshot.path.join(TREE).display().to_string())])
    }

    fn forget(&self, disk: &Disk, init: &str) -> Result<(), Error> {
        match self {
            Self::Vfs => Ok(()),
            Self::Btrfs { .. } => disk.discard(Area::Trees, init),
        }
    }
}
