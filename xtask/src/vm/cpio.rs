//! The archive that a kernel unpacks into its first root: cpio in its `newc` form (kernel documentation,
//! `driver-api/early-userspace/buffer-format`).

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// An archive being written. Everything in it belongs to root and is as old as the epoch.
pub(super) struct Cpio<W: Write> {
    out: W,
    entries: u32,
    directories: BTreeSet<PathBuf>,
}

impl<W: Write> Cpio<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, entries: 0, directories: BTreeSet::new() }
    }

    /// A directory and those above it; again is no fault.
    pub(super) fn directory(&mut self, path: &Path) -> Result<()> {
        let above: Vec<_> = path.ancestors().filter(|part| part.file_name().is_some()).collect();
        for part in above.into_iter().rev() {
            if self.directories.insert(part.to_owned()) {
                self.entry(part, DIRECTORY | 0o755, &[])?;
            }
        }
        Ok(())
    }

    /// A regular file; permission bits as in `mode`.
    pub(super) fn file(&mut self, path: &Path, mode: u32, content: &[u8]) -> Result<()> {
        self.directory(path.parent().unwrap_or(path))?;
        self.entry(path, FILE | (mode & 0o7777), content)
    }

    /// A symbolic link.
    pub(super) fn link(&mut self, path: &Path, target: &str) -> Result<()> {
        self.directory(path.parent().unwrap_or(path))?;
        self.entry(path, LINK | 0o777, target.as_bytes())
    }

    /// This machine's file or directory `from`, with all that is in it, as `path`.
    pub(super) fn copy(&mut self, from: &Path, path: &Path) -> Result<()> {
        let what = || format!("pack {}", from.display());
        if !from.is_dir() {
            let mode = fs::metadata(from).with_context(what)?.permissions().mode();
            return self.file(path, mode, &fs::read(from).with_context(what)?);
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(from).with_context(what)? {
            names.push(entry?.file_name());
        }
        names.sort();
        self.directory(path)?;
        names.iter().try_for_each(|name| self.copy(&from.join(name), &path.join(name)))
    }

    /// Writes the end mark.
    pub(super) fn finish(mut self) -> Result<()> {
        self.entry(Path::new("TRAILER!!!"), 0, &[])?;
        Ok(self.out.flush()?)
    }

    fn entry(&mut self, path: &Path, mode: u32, content: &[u8]) -> Result<()> {
        self.entries += 1;
        let name = path.strip_prefix("/").unwrap_or(path).to_string_lossy().into_owned();
        let size = u32::try_from(content.len()).with_context(|| format!("pack {name}"))?;
        let name_size = name.len() as u32 + 1;
        // Inode, mode, uid, gid, links, time, size, device and special device as pairs, length of the name, checksum.
        let numbers = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        let mut head = "070701".to_owned();
        for number in numbers {
            let _ = write!(head, "{number:08x}");
        }
        head += &name;
        head.push(char::from(0));
        for bytes in [head.as_bytes(), content] {
            self.out.write_all(bytes)?;
            self.out.write_all(&[0; 3][..bytes.len().next_multiple_of(4) - bytes.len()])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn another_program_reads_it() {
        let mut bytes = Vec::new();
        let mut cpio = Cpio::new(&mut bytes);
        cpio.file(Path::new("/a/b/odd"), 0o755, b"12345").unwrap();
        cpio.file(Path::new("/a/empty"), 0o644, b"").unwrap();
        cpio.link(Path::new("/a/link"), "b/odd").unwrap();
        cpio.finish().unwrap();
        let mut child = Command::new("/bin/busybox")
            .args(["cpio", "-tv"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("/bin/busybox (package busybox-static)");
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        let listed = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        let lines: Vec<(&str, &str)> =
            listed.lines().map(|line| (&line[..10], line.rsplit_once(":00 ").unwrap().1)).collect();
        let wanted = [
            ("drwxr-xr-x", "a"),
            ("drwxr-xr-x", "a/b"),
            ("-rwxr-xr-x", "a/b/odd"),
            ("-rw-r--r--", "a/empty"),
            ("lrwxrwxrwx", "a/link -> b/odd"),
        ];
        assert_eq!(lines, wanted, "{listed}");
    }
}
