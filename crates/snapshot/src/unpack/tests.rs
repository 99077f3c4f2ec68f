//! Every short sequence of entries, against a model that knows no file system.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt};

use super::*;
use crate::suite;

#[test]
fn names_stay_inside() {
    assert_eq!(normalize(b"./a//b/./c/").unwrap(), b"a/b/c");
    assert_eq!(normalize(b"./").unwrap(), b"");
    for bad in [&b"/a"[..], b"../a", b"a/..", b"a/../b", b"//a", b"./..//a", b".wh.a/b", b"x/.wh./y"] {
        assert!(normalize(bad).is_err(), "{}", shown(bad));
    }
    assert!(normalize(b"a/...").is_ok());
    assert!(normalize(b"a/.wh.b").is_ok());
}

/// What a layer directory holds.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    /// Content.
    File(String),
    Symlink(String),
    Whiteout,
    Directory(Tree),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Tree {
    opaque: bool,
    children: BTreeMap<String, Node>,
}

/// The kinds of one-entry operations, each on each name.
const KINDS: [&str; 7] = ["file", "dir", "abs", "rel", "hard", "whiteout", "opaque"];
const NAMES: [&str; 4] = ["a", "a/b", "b", ".."];

/// Targets of relative links and of hard links, which are seen from the root.
fn relative(name: &str) -> (&'static str, &'static str) {
    match name {
        "a" => ("b", "b"),
        "b" => ("a", "a"),
        _ => ("../b", "b"),
    }
}

impl Tree {
    /// The directory at a path without links.
    fn at(&mut self, path: &[String]) -> &mut Tree {
        path.iter().fold(self, |tree, name| match tree.children.get_mut(name) {
            Some(Node::Directory(child)) => child,
            other => panic!("{name} is {other:?}"),
        })
    }

    /// Follows links as `openat2(RESOLVE_IN_ROOT)`; the real path of a directory.
    fn resolve(&mut self, path: &str, links: usize) -> Result<Vec<String>, ()> {
        let mut at = Vec::new();
        self.walk(&mut at, path, links)?;
        Ok(at)
    }

    fn walk(&mut self, at: &mut Vec<String>, path: &str, links: usize) -> Result<(), ()> {
        if path.starts_with('/') {
            at.clear();
        }
        for name in path.split('/').filter(|name| !name.is_empty()) {
            if name == ".." {
                at.pop();
                continue;
            }
            match self.at(at).children.get(name).cloned() {
                Some(Node::Directory(_)) => at.push(name.to_owned()),
                Some(Node::Symlink(target)) if links > 0 => self.walk(at, &target, links - 1)?,
                _ => return Err(()),
            }
        }
        Ok(())
    }

    /// The parent of an entry, made where it is missing.
    fn parent(&mut self, path: &str) -> Result<Vec<String>, ()> {
        if let Ok(found) = self.resolve(path, 8) {
            return Ok(found);
        }
        let mut at = Vec::new();
        for name in path.split('/') {
            let here = self.at(&at);
            let opaque = here.children.get(name) == Some(&Node::Whiteout);
            if opaque || !here.children.contains_key(name) {
                let made = Tree { opaque, ..Tree::default() };
                here.children.insert(name.to_owned(), Node::Directory(made));
            }
            self.walk(&mut at, name, 8)?;
        }
        Ok(at)
    }

    /// One entry; `Err` if it must be refused.
    fn apply(&mut self, kind: &str, path: &str, content: &str, canary: &str) -> Result<(), ()> {
        if path == ".." {
            return Err(());
        }
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        if kind == "opaque" {
            let at = self.parent(path)?;
            self.at(&at).opaque = true;
            return Ok(());
        }
        let at = self.parent(parent)?;
        let node = match kind {
            "file" => Node::File(content.to_owned()),
            "abs" => Node::Symlink(canary.to_owned()),
            "rel" => Node::Symlink(relative(path).0.to_owned()),
            "hard" => match self.children.get(relative(path).1) {
                None | Some(Node::Directory(_) | Node::Whiteout) => return Err(()),
                Some(_) if relative(path).1 == path => return Err(()),
                Some(node) => node.clone(),
            },
            "whiteout" | "dir" => {
                return {
                    self.at(&at).over(kind, name);
                    Ok(())
                };
            }
            other => panic!("{other}"),
        };
        self.at(&at).children.insert(name.to_owned(), node);
        Ok(())
    }

    /// A whiteout or a directory, which look at what is there.
    fn over(&mut self, kind: &str, name: &str) {
        let here = self.children.get_mut(name);
        match (kind, here) {
            ("whiteout", Some(Node::Directory(tree))) => tree.opaque = true,
            ("whiteout", None) => drop(self.children.insert(name.to_owned(), Node::Whiteout)),
            ("whiteout", Some(_)) | (_, Some(Node::Directory(_))) => {}
            (_, before) => {
                let opaque = before == Some(&mut Node::Whiteout);
                let made = Tree { opaque, ..Tree::default() };
                self.children.insert(name.to_owned(), Node::Directory(made));
            }
        }
    }
}

fn header(kind: &str, path: &str, canary: &str) -> Header {
    let (symbolic, hard) = relative(path);
    let (parent, name) = path.rsplit_once('/').map_or(("", path), |(parent, name)| (parent, name));
    match kind {
        "file" => suite::file(path),
        "dir" => suite::directory(path),
        "abs" => suite::link(Kind::Symlink, path, canary),
        "rel" => suite::link(Kind::Symlink, path, symbolic),
        "hard" => suite::link(Kind::HardLink, path, hard),
        "whiteout" => suite::file(format!("{parent}/.wh.{name}").trim_start_matches('/')),
        _ => suite::file(&format!("{path}/.wh..wh..opq")),
    }
}

/// What is really there.
fn read(path: &Path) -> Tree {
    let directory = fs::File::open(path).unwrap();
    let mut tree = Tree { opaque: tree::has_xattr(&directory, OPAQUE).unwrap(), ..Tree::default() };
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        let stat = entry.metadata().unwrap();
        let node = if stat.is_dir() {
            Node::Directory(read(&entry.path()))
        } else if stat.is_symlink() {
            Node::Symlink(fs::read_link(entry.path()).unwrap().to_string_lossy().into_owned())
        } else if stat.is_file() {
            Node::File(fs::read_to_string(entry.path()).unwrap())
        } else {
            assert_eq!(stat.rdev(), 0, "{:?}", entry.path());
            Node::Whiteout
        };
        tree.children.insert(entry.file_name().into_string().unwrap(), node);
    }
    tree
}

struct Bench {
    /// In memory: hundreds of thousands of trees.
    base: tempfile::TempDir,
    canary: String,
    cases: u64,
    refused: u64,
}

impl Bench {
    fn check(&mut self, sequence: &[(&str, &str)]) {
        let mut model = Ok(Tree::default());
        let mut entries = Vec::new();
        let contents: Vec<_> = (0..sequence.len()).map(|number| format!("content {number}")).collect();
        for ((kind, path), content) in sequence.iter().zip(&contents) {
            let content = if *kind == "file" { &**content } else { "" };
            entries.push((header(kind, path, &self.canary), content.as_bytes()));
            model =
                model.and_then(|mut tree: Tree| tree.apply(kind, path, content, &self.canary).map(|()| tree));
        }
        let archive = suite::tar(&entries);
        let layer = self.base.path().join("layer");
        fs::create_dir(&layer).unwrap();
        let open = |path: &Path| tree::open_directory(rustix::fs::CWD, path).unwrap();
        let aside = open(&self.base.path().join("aside"));
        let result = unpack(open(&layer), &aside, &mut &archive[..]);
        match (&model, &result) {
            (Ok(tree), Ok(_)) => assert_eq!(*tree, read(&layer), "{sequence:?}"),
            (Err(()), Err(_)) => self.refused += 1,
            _ => panic!("{sequence:?}: model {model:?}, real {:?}", result.err()),
        }
        self.cases += 1;
        fs::remove_dir_all(&layer).unwrap();
    }

    fn all(&mut self, sequence: &mut Vec<(&'static str, &'static str)>, left: usize) {
        if !sequence.is_empty() {
            self.check(sequence);
        }
        if left == 0 {
            return;
        }
        for kind in KINDS {
            for name in NAMES {
                sequence.push((kind, name));
                self.all(sequence, left - 1);
                sequence.pop();
            }
        }
    }
}

/// `KNARR_EXHAUSTIVE=4` tries all 637,420 sequences of up to four entries.
#[test]
fn every_short_sequence_is_as_the_model_says() {
    let longest = std::env::var("KNARR_EXHAUSTIVE").map_or(3, |text| text.parse().unwrap());
    let base = tempfile::tempdir_in("/dev/shm").unwrap();
    let canary = base.path().join("canary");
    fs::create_dir(&canary).unwrap();
    fs::write(canary.join("b"), "untouched").unwrap();
    fs::create_dir(base.path().join("aside")).unwrap();
    let before = fs::metadata(&canary).unwrap().mtime_nsec();
    let canary = canary.to_str().unwrap().to_owned();
    let mut bench = Bench { base, canary, cases: 0, refused: 0 };
    bench.all(&mut Vec::new(), longest);
    println!("{} sequences, {} refused", bench.cases, bench.refused);
    assert!(bench.cases >= 28 && bench.refused < bench.cases);
    let canary = Path::new(&bench.canary);
    assert_eq!(fs::read_to_string(canary.join("b")).unwrap(), "untouched");
    assert_eq!(fs::read_dir(canary).unwrap().count(), 1);
    assert_eq!(fs::metadata(canary).unwrap().mtime_nsec(), before);
}
