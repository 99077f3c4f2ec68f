//! The overlayfs driver, and the same by `fuse-overlayfs` where the kernel cannot.
//!
//! `snapshots/<key>/` has `upper/`, a container's own files, and `work/`, overlayfs' own.

mod stack;

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use oci::Mount;
use rustix::{
    fs::{Mode, RenameFlags, fchmod, renameat_with},
    io::Errno,
};

use self::stack::{Dialect, MOST_LAYERS};
use crate::{
    Error, Prepare,
    changes::Upper,
    disk::{Area, Disk, Stage, UPPER, WORK, make_writable},
    init::FILES,
    layered::{self, Flavor, Layered, Snapshot, Stack},
    quota,
    tree::{self, copy_attributes, open_directory, set_mtime},
};

const VOLATILE: &str = "volatile";
/// Left by a volatile mount; overlayfs refuses to mount again over it.
const INCOMPATIBLE: &str = "work/work/incompat";
/// Empty snapshots kept at hand.
const SPARES: usize = 4;

/// Layers and snapshots for overlayfs.
#[derive(Debug)]
pub(crate) struct Overlay {
    dialect: Dialect,
    /// The size of a snapshot that asks for none; see [`quota`].
    size: Option<u64>,
    boot: String,
}

impl Overlay {
    pub(crate) fn open(root: &Path, size: Option<u64>) -> Result<Layered<Self>, Error> {
        check_path(root)?;
        let disk = Disk::open(root, SPARES)?;
        let dialect = Dialect::of_this_kernel(&disk.path(Area::Layers, ""))
            .map_err(Error::at("use overlayfs in", root))?;
        Layered::new(disk, Self { dialect, size, boot: layered::boot()? })
    }

    /// By the program instead of the kernel.
    pub(crate) fn open_fuse(root: &Path, size: Option<u64>) -> Result<Layered<Self>, Error> {
        check_path(root)?;
        let program = sys::process::find_program(PROGRAM).is_some();
        if !program || !Path::new("/dev/fuse").exists() {
            let text = format!("the storage driver {PROGRAM} needs the program {PROGRAM} and /dev/fuse");
            return Err(Error::Unusable(text));
        }
        let disk = Disk::open(root, SPARES)?;
        Layered::new(disk, Self { dialect: Dialect::Program, size, boot: layered::boot()? })
    }

    /// Makes an empty writable layer look like the image's root. Its mode is 0755 whatever the image says, as in
    /// Docker: a tree that was packed in a private directory would be of use to nobody but root.
    fn dress(disk: &Disk, snapshot: &OwnedFd, init: &str) -> rustix::io::Result<()> {
        let like = open_directory(disk.area(Area::Init), Path::new(init).join(FILES))?;
        let upper = open_directory(snapshot, UPPER)?;
        let stat = copy_attributes(like, &upper)?;
        fchmod(&upper, Mode::from_raw_mode(0o755))?;
        set_mtime(&upper, &stat)
    }

    /// Makes a volatile snapshot ready for another mount. After a crash of the machine its files may be damaged
    /// (overlayfs.rst, "Volatile mount"), so it starts again from nothing.
    fn refresh(&self, disk: &Disk, snapshot: &Snapshot) -> Result<(), Error> {
        let (path, trash) = (&snapshot.path, disk.area(Area::Trash));
        if snapshot.boot.as_ref() == Some(&self.boot) {
            return tree::remove(snapshot.directory.as_fd(), OsStr::new(INCOMPATIBLE), trash)
                .map_err(Error::at("remove", path.join(INCOMPATIBLE)));
        }
        for old in [UPPER, WORK] {
            match renameat_with(&snapshot.directory, old, trash, tree::unique(), RenameFlags::NOREPLACE) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(Error::at("remove", path.join(old))(error)),
            }
        }
        make_writable(&snapshot.directory)
            .and_then(|()| Self::dress(disk, &snapshot.directory, &snapshot.init))
            .and_then(|()| layered::set_mark(&snapshot.directory, &snapshot.init, Some(&self.boot)))
            .map_err(Error::at("renew", path))
    }
}

/// The program, its driver's name, and the type of its mounts behind `fuse.`.
const PROGRAM: &str = "fuse-overlayfs";

fn check_path(root: &Path) -> Result<(), Error> {
    if root.as_os_str().as_bytes().iter().any(|byte| b":,\\".contains(byte)) {
        let why = "overlayfs cannot have colons, commas or backslashes in a path: use another data root";
        return Err(Error::at("use", root)(io::Error::new(io::ErrorKind::InvalidInput, why)));
    }
    Ok(())
}

impl Flavor for Overlay {
    fn name(&self) -> &'static str {
        if self.dialect == Dialect::Program { PROGRAM } else { "overlay" }
    }

    fn stage<'d>(&self, disk: &'d Disk) -> Result<Stage<'d>, Error> {
        disk.stage_snapshot()
    }

    fn make(&self, stack: &Stack<'_>, stage: &Stage<'_>, request: &Prepare<'_>) -> Result<(), Error> {
        if let Some(size) = request.size.or(self.size) {
            quota::limit(stack.disk, stage, size)?;
        }
        Self::dress(stack.disk, stage.directory(), &stack.init).map_err(Error::at("create", stage.path()))
    }

    fn mounts(&self, stack: &Stack<'_>, snapshot: &Snapshot) -> Result<Vec<Mount>, Error> {
        let path = &snapshot.path;
        let mut options = self.dialect.options(&stack.paths()).map_err(Error::at("mount", path))?;
        options.push(format!("upperdir={}", path.join(UPPER).display()));
        options.push(format!("workdir={}", path.join(WORK).display()));
        if snapshot.boot.is_some() {
            self.refresh(stack.disk, snapshot)?;
            options.push(VOLATILE.to_owned());
        }
        let fuse = self.dialect == Dialect::Program;
        Ok(vec![Mount {
            destination: "/".to_owned(),
            kind: Some(if fuse { format!("fuse.{PROGRAM}") } else { "overlay".to_owned() }),
            source: Some("overlay".to_owned()),
            options,
            uid_mappings: stack.record.ids.uids.clone(),
            gid_mappings: stack.record.ids.gids.clone(),
        }])
    }

    fn view(&self, stack: &Stack<'_>, snapshot: &Snapshot) -> Result<OwnedFd, Error> {
        let upper = snapshot.path.join(UPPER);
        let open = |path: &Path| open_directory(rustix::fs::CWD, path).map_err(Error::at("open", path));
        let mut directories = vec![open(&upper)?];
        for path in stack.paths() {
            directories.push(open(&path)?);
        }
        self.dialect.view(&directories).map_err(Error::at("mount", upper))
    }

    fn upper(&self, snapshot: &Snapshot) -> Result<(OwnedFd, Upper), Error> {
        let opened = open_directory(&snapshot.directory, UPPER);
        Ok((opened.map_err(Error::at("open", snapshot.path.join(UPPER)))?, Upper::Layer))
    }

    fn describe(&self, stack: &Stack<'_>, snapshot: &Snapshot) -> BTreeMap<String, String> {
        let lower: Vec<_> = stack.paths().iter().map(|path| path.display().to_string()).collect();
        BTreeMap::from([
            ("LowerDir".to_owned(), lower.join(":")),
            ("UpperDir".to_owned(), snapshot.path.join(UPPER).display().to_string()),
            ("WorkDir".to_owned(), snapshot.path.join(WORK).display().to_string()),
        ])
    }

    fn most_layers(&self) -> usize {
        // One for the init layer.
        MOST_LAYERS - 1
    }
}
