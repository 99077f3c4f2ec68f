//! Assembles the container's root file system.

use std::{io, path::Path};

use oci::Mount;
use rustix::fs::{Mode, OFlags};
use sys::{
    Root,
    fsmount::{Attributes, mount_bind, mount_new},
};

/// Mounts `mount` in `rootfs`; `/` is `rootfs` itself. Looked up anew each time, so that later mounts land on
/// earlier ones, and below the root only.
pub(crate) fn assemble(rootfs: &Path, mount: &Mount) -> io::Result<()> {
    if !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
        let text = "id-mapped mounts are not supported in a container's root";
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    let root = Root::open(rootfs)?;
    let target = root.get(Path::new(&mount.destination), OFlags::PATH, Mode::empty())?;
    let mut attributes = Attributes::default();
    let mut words: Vec<&str> = mount.options.iter().map(String::as_str).collect();
    words.retain(|word| !attributes.take(word));
    let kind = mount.kind.as_deref().unwrap_or("bind");
    let recursive = words.contains(&"rbind");
    if kind != "bind" && !recursive && !words.contains(&"bind") {
        return mount_new(
            kind,
            mount.source.as_deref(),
            &words,
            attributes,
            rustix::fd::AsFd::as_fd(&target),
        );
    }
    if let Some(word) = words.iter().find(|word| !["bind", "rbind"].contains(word)) {
        let text = format!("a bind mount in a container's root has no option {word:?}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let source = mount.source.as_deref().unwrap_or_default();
    mount_bind(Path::new(source), recursive, attributes, rustix::fd::AsFd::as_fd(&target))
}
