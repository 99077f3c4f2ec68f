//! An image archive taken apart: every file in it staged under a name of ours and hashed on the way, because a
//! stream cannot be sought and says what its files are only at some point in it.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    path::Path,
};

use archive::Kind;
use oci::Digest;
use tempfile::TempDir;

use crate::{
    Error,
    blobs::{HashedFile, StagedFile, read_document},
    compression::Decoder,
};

/// More members than any honest image archive has.
const MAX_MEMBERS: usize = 20_000;
/// Longest chain of links that is followed.
const MAX_LINKS: usize = 16;
const BUFFER: usize = 128 << 10;

/// The files of an archive by their normalised names.
#[derive(Debug)]
pub(crate) struct ArchiveFile {
    members: BTreeMap<String, Member>,
    staging: TempDir,
    /// Files so far.
    staged: usize,
    /// It had an end mark; without one, what is missing may have been cut off.
    whole: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Member {
    File(StagedFile),
    /// Another member's name, normalised.
    Link(String),
}

impl ArchiveFile {
    pub(crate) fn read(source: &mut dyn Read, staging: TempDir) -> Result<Self, Error> {
        let source = Decoder::new(source).map_err(|e| Error::Invalid(format!("read the archive: {e}")))?;
        let mut reader = archive::Reader::new(source);
        let mut file = Self { members: BTreeMap::new(), staging, staged: 0, whole: false };
        while let Some(mut entry) = reader.next().map_err(malformed)? {
            file.add(&mut entry)?;
        }
        reader.finish().map_err(malformed)?;
        file.whole = reader.is_marked();
        if file.members.is_empty() {
            return Err(Error::invalid("the archive is empty"));
        }
        Ok(file)
    }

    fn add<R: Read>(&mut self, entry: &mut archive::Entry<'_, R>) -> Result<(), Error> {
        let header = entry.header();
        let shown = archive::shown(&header.path);
        let name = normalise("", &header.path).ok_or_else(|| {
            Error::Invalid(format!("archive member {shown:?} would lie outside the archive"))
        })?;
        let link = |base: &str| {
            let target = archive::shown(&header.link);
            normalise(base, &header.link).map(Member::Link).ok_or_else(|| {
                Error::Invalid(format!("archive member {shown:?} points outside the archive, to {target:?}"))
            })
        };
        let member = match header.kind {
            Kind::Directory => return Ok(()),
            Kind::File => Member::File(self.stage(entry, &name)?),
            Kind::Symlink => link(parent(&name))?,
            Kind::HardLink => link("")?,
            _ => {
                return Err(Error::Invalid(format!("archive member {shown:?} is neither a file nor a link")));
            }
        };
        self.insert(name, member)
    }

    /// The same name twice is fine for the same content only: readers differ on which of two counts.
    fn insert(&mut self, name: String, member: Member) -> Result<(), Error> {
        let same = |old: &Member| match (old, &member) {
            (Member::File(old), Member::File(new)) => old.digest == new.digest,
            (old, new) => old == new,
        };
        if self.members.get(&name).is_some_and(|old| !same(old)) {
            return Err(Error::Invalid(format!(
                "archive member {name:?} is there twice with different content"
            )));
        }
        if self.members.len() >= MAX_MEMBERS {
            return Err(Error::Invalid(format!("the archive has more than {MAX_MEMBERS} members")));
        }
        self.members.insert(name, member);
        Ok(())
    }

    fn stage<R: Read>(&mut self, entry: &mut archive::Entry<'_, R>, name: &str) -> Result<StagedFile, Error> {
        self.staged += 1;
        let path = self.staging.path().join(format!("member-{}", self.staged));
        let mut file = HashedFile::create(path)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = match entry.read(&mut buffer) {
                Ok(0) => return Ok(file.finish()),
                Ok(length) => length,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(Error::Invalid(format!("archive ends inside {name}: it is truncated")));
                }
                Err(e) => return Err(Error::Invalid(format!("read {name} in the archive: {e}"))),
            };
            let path = file.path().to_owned();
            file.write_all(&buffer[..length]).map_err(Error::io("write", &path))?;
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// A file by the name that a document in the archive gives it, through links.
    pub(crate) fn file(&self, name: &str) -> Result<&StagedFile, Error> {
        let mut at = normalise("", name.as_bytes())
            .ok_or_else(|| Error::Invalid(format!("the archive names a file outside itself: {name:?}")))?;
        for _ in 0..MAX_LINKS {
            match self.members.get(&at) {
                Some(Member::File(file)) => return Ok(file),
                Some(Member::Link(target)) => at.clone_from(target),
                None => {
                    let cut = if self.whole { "" } else { "; it has no end mark, so it may be truncated" };
                    return Err(Error::Invalid(format!("the archive lacks {at}{cut}")));
                }
            }
        }
        Err(Error::Invalid(format!("archive member {name:?} is a chain of too many links")))
    }

    /// The blob of an OCI layout.
    pub(crate) fn blob(&self, digest: &Digest) -> Result<&StagedFile, Error> {
        let name = format!("blobs/sha256/{}", digest.hex());
        let file = self.file(&name)?;
        if file.digest != *digest {
            return Err(Error::Invalid(format!(
                "archive member {name} has wrong content: its digest is {}",
                file.digest
            )));
        }
        Ok(file)
    }

    /// The bytes of a document that was staged.
    pub(crate) fn document(&self, name: &str) -> Result<Vec<u8>, Error> {
        read_document(&self.file(name)?.path)
    }

    pub(crate) fn staging(&self) -> &Path {
        self.staging.path()
    }
}

fn malformed(error: archive::Error) -> Error {
    match error {
        archive::Error::Truncated(inside) => {
            Error::Invalid(format!("archive ends inside {inside}: it is truncated"))
        }
        archive::Error::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            Error::Invalid(format!("archive ends too early: it is truncated ({e})"))
        }
        archive::Error::Io(e) => Error::Invalid(format!("read the archive: {e}")),
        other => Error::Invalid(format!("not an image archive: {other}")),
    }
}

fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// The name from the archive's top, without `.` and `..`; none for one that leads outside or is not text.
fn normalise(base: &str, name: &[u8]) -> Option<String> {
    let name = str::from_utf8(name).ok().filter(|name| !name.starts_with('/'))?;
    let climbs = base.is_empty() && name.split('/').any(|part| part == "..");
    if climbs || name.len() > archive::MAX_PATH {
        return None;
    }
    let mut parts: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        let table: [(&str, &str, Option<&str>); 10] = [
            ("", "manifest.json", Some("manifest.json")),
            ("", "./blobs//sha256/./x", Some("blobs/sha256/x")),
            ("", "../x", None),
            ("", "a/../x", None),
            ("", "/etc/passwd", None),
            ("a", "../b/layer.tar", Some("b/layer.tar")),
            ("a/b", "../../../x", None),
            ("a", "/x", None),
            ("a", "layer.tar", Some("a/layer.tar")),
            ("", ".", Some("")),
        ];
        for (base, name, want) in table {
            assert_eq!(normalise(base, name.as_bytes()).as_deref(), want, "{base} {name}");
        }
        assert_eq!(normalise("", b"\xff"), None);
    }
}
