//! What the words in a mount's options ask for.

use crate::error::{Error, Result};

/// `MOUNT_ATTR_*` of `linux/mount.h`.
pub mod attr {
    #![allow(missing_docs)]
    pub const RDONLY: u64 = 0x1;
    pub const NOSUID: u64 = 0x2;
    pub const NODEV: u64 = 0x4;
    pub const NOEXEC: u64 = 0x8;
    pub const ATIME: u64 = 0x70;
    pub const NOATIME: u64 = 0x10;
    pub const STRICTATIME: u64 = 0x20;
    pub const NODIRATIME: u64 = 0x80;
    pub const IDMAP: u64 = 0x0010_0000;
    pub const NOSYMFOLLOW: u64 = 0x0020_0000;
}

/// `MS_*` propagation kinds.
pub mod propagation {
    #![allow(missing_docs)]
    pub const UNBINDABLE: u64 = 1 << 17;
    pub const PRIVATE: u64 = 1 << 18;
    pub const SLAVE: u64 = 1 << 19;
    pub const SHARED: u64 = 1 << 20;
}

/// Attributes to set and to clear.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Bits to set.
    pub set: u64,
    /// Bits to clear.
    pub clear: u64,
}

impl Change {
    fn apply(&mut self, set: u64, clear: u64) {
        self.set = (self.set & !clear) | set;
        self.clear = (self.clear & !set) | clear;
    }

    /// Whether it changes nothing.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// The options of one mount, sorted by what they act on.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Options {
    /// A bind mount (`bind`, `rbind`).
    pub bind: bool,
    /// With everything mounted below (`rbind`).
    pub recursive: bool,
    /// On the mount.
    pub mount: Change,
    /// On it and everything mounted below (`rro` and the like).
    pub tree: Change,
    /// A propagation kind, and whether for everything below.
    pub propagation: Vec<(u64, bool)>,
    /// For the file system: words, and `key=value`.
    pub data: Vec<(String, Option<String>)>,
    /// An id-mapped mount (`idmap`, `ridmap`).
    pub id_map: Option<bool>,
    /// Copy what the image has there into the new tmpfs (`tmpcopyup`).
    pub copy_up: bool,
    /// Change the mount that is there already (`remount`).
    pub remount: bool,
}

/// Word, bits to set, bits to clear.
const ATTRIBUTES: &[(&str, u64, u64)] = &[
    ("ro", attr::RDONLY, 0),
    ("rw", 0, attr::RDONLY),
    ("nosuid", attr::NOSUID, 0),
    ("suid", 0, attr::NOSUID),
    ("nodev", attr::NODEV, 0),
    ("dev", 0, attr::NODEV),
    ("noexec", attr::NOEXEC, 0),
    ("exec", 0, attr::NOEXEC),
    ("noatime", attr::NOATIME, attr::ATIME),
    ("relatime", 0, attr::ATIME),
    ("strictatime", attr::STRICTATIME, attr::ATIME),
    ("atime", 0, attr::ATIME),
    ("norelatime", attr::STRICTATIME, attr::ATIME),
    ("nostrictatime", 0, attr::ATIME),
    ("nodiratime", attr::NODIRATIME, 0),
    ("diratime", 0, attr::NODIRATIME),
    ("nosymfollow", attr::NOSYMFOLLOW, 0),
    ("symfollow", 0, attr::NOSYMFOLLOW),
];

/// Word, kind, recursive.
const PROPAGATION: &[(&str, u64, bool)] = &[
    ("private", propagation::PRIVATE, false),
    ("rprivate", propagation::PRIVATE, true),
    ("shared", propagation::SHARED, false),
    ("rshared", propagation::SHARED, true),
    ("slave", propagation::SLAVE, false),
    ("rslave", propagation::SLAVE, true),
    ("unbindable", propagation::UNBINDABLE, false),
    ("runbindable", propagation::UNBINDABLE, true),
];

/// Words that are handled one by one, and words for what is so anyway.
const OTHERS: &[&str] = &[
    "async",
    "bind",
    "defaults",
    "idmap",
    "loud",
    "noiversion",
    "nolazytime",
    "nomand",
    "rbind",
    "remount",
    "ridmap",
    "silent",
    "tmpcopyup",
];

/// The propagation kind that `word` names, and whether for everything below.
pub fn propagation_kind(word: &str) -> Option<(u64, bool)> {
    let found = PROPAGATION.iter().find(|(name, ..)| *name == word)?;
    Some((found.1, found.2))
}

/// Sorts the words; those that are no flag belong to the file system.
pub fn parse<'w>(words: impl IntoIterator<Item = &'w str>) -> Result<Options> {
    let mut options = Options::default();
    for word in words.into_iter().filter(|word| !word.is_empty()) {
        if word.contains('\0') {
            return Err(Error::new(format!("mount option {word:?}: contains a NUL byte")));
        }
        let recursive = word.strip_prefix('r').and_then(|word| attribute(word).map(|bits| (word, bits)));
        match word {
            "bind" => options.bind = true,
            "rbind" => (options.bind, options.recursive) = (true, true),
            "idmap" => options.id_map = Some(false),
            "ridmap" => options.id_map = Some(true),
            "tmpcopyup" => options.copy_up = true,
            "remount" => options.remount = true,
            "defaults" | "async" | "nomand" | "noiversion" | "loud" | "silent" | "nolazytime" => {}
            _ => {
                if let Some((set, clear)) = attribute(word) {
                    options.mount.apply(set, clear);
                } else if let Some((_, (set, clear))) = recursive {
                    options.tree.apply(set, clear);
                } else if let Some(kind) = propagation_kind(word) {
                    options.propagation.push(kind);
                } else {
                    options.data.push(match word.split_once('=') {
                        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                        None => (word.to_owned(), None),
                    });
                }
            }
        }
    }
    Ok(options)
}

/// Every word that is known, sorted; others are the file system's.
pub fn words() -> Vec<String> {
    let attributes = ATTRIBUTES.iter().flat_map(|(word, ..)| [(*word).to_owned(), format!("r{word}")]);
    let kinds = PROPAGATION.iter().map(|(word, ..)| (*word).to_owned());
    let others = OTHERS.iter().map(|word| (*word).to_owned());
    let mut all: Vec<String> = attributes.chain(kinds).chain(others).collect();
    all.sort_unstable();
    all
}

fn attribute(word: &str) -> Option<(u64, u64)> {
    let found = ATTRIBUTES.iter().find(|(name, ..)| *name == word)?;
    Some((found.1, found.2))
}

/// One `mount_setattr(2)`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// With everything mounted below.
    pub recursive: bool,
    /// Attributes.
    pub change: Change,
    /// `MS_*` kind; 0 leaves it.
    pub propagation: u64,
}

impl Options {
    /// Gives the mount what its tree was to get: nothing is mounted below a new file system.
    pub fn close_tree(&mut self) {
        let tree = std::mem::take(&mut self.tree);
        self.mount.apply(tree.set, tree.clear);
    }

    /// The fewest calls that make a copied mount what the options say: first of the mount, then of the tree.
    pub fn calls(&self) -> Vec<Call> {
        let mut calls = Vec::new();
        let (mut mount, mut tree) = (self.mount, self.tree);
        if self.recursive {
            // What everything gets, the mount need not get twice.
            if mount.set & !tree.set == 0 && mount.clear & !tree.clear == 0 {
                mount = Change::default();
            }
        } else {
            // Nothing is mounted below.
            mount.apply(tree.set, tree.clear);
            tree = Change::default();
        }
        for (recursive, change) in [(false, mount), (self.recursive, tree)] {
            if !change.is_empty() {
                calls.push(Call { recursive, change, propagation: 0 });
            }
        }
        for (kind, recursive) in &self.propagation {
            let recursive = *recursive && self.recursive;
            match calls.iter_mut().rev().find(|call| call.recursive == recursive && call.propagation == 0) {
                Some(call) => call.propagation = *kind,
                None => calls.push(Call { recursive, change: Change::default(), propagation: *kind }),
            }
        }
        calls
    }

    /// The words again, in one fixed order; for plans and traces.
    pub fn words(&self) -> String {
        let change = |prefix: &str, change: Change| -> Vec<String> {
            let plain = ATTRIBUTES.iter().filter(|(_, set, _)| *set != 0);
            let set = plain.filter(|(name, set, _)| change.set & set != 0 && *name != "norelatime");
            let mut words: Vec<String> = set.map(|(name, ..)| format!("{prefix}{name}")).collect();
            if change.clear & attr::RDONLY != 0 {
                words.insert(0, format!("{prefix}rw"));
            }
            words
        };
        let mut words = change("", self.mount);
        words.extend(change("r", self.tree));
        let kinds =
            PROPAGATION.iter().filter(|(_, kind, recursive)| self.propagation.contains(&(*kind, *recursive)));
        words.extend(kinds.map(|(name, ..)| (*name).to_owned()));
        words.extend(self.copy_up.then(|| "tmpcopyup".to_owned()));
        words.extend(self.data.iter().map(|(key, value)| match value {
            Some(value) => format!("{key}={value}"),
            None => key.clone(),
        }));
        words.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_sorted_by_what_they_act_on() {
        let words = ["rbind", "ro", "rro", "nosuid", "rslave", "size=64k", "newinstance", "rw"];
        let options = parse(words).unwrap();
        assert!(options.bind && options.recursive);
        assert_eq!(options.mount, Change { set: attr::NOSUID, clear: attr::RDONLY });
        assert_eq!(options.tree, Change { set: attr::RDONLY, clear: 0 });
        assert_eq!(options.propagation, [(propagation::SLAVE, true)]);
        assert_eq!(options.words(), "rw,nosuid,rro,rslave,size=64k,newinstance");
        assert!(parse(["a\0b"]).is_err());
    }

    #[test]
    fn one_call_does_what_one_call_can() {
        let calls = |words: &[&str]| parse(words.iter().copied()).unwrap().calls();
        let readonly = Change { set: attr::RDONLY, clear: 0 };
        assert_eq!(calls(&["rbind"]), []);
        let private = Call { recursive: true, change: readonly, propagation: propagation::PRIVATE };
        assert_eq!(calls(&["rbind", "ro", "rro", "rprivate"]), [private]);
        assert_eq!(calls(&["bind", "rro", "rprivate"]), [Call { recursive: false, ..private }]);
        let (mount, rest) = (Call { propagation: 0, ..private }, Change::default());
        let separate = [Call { recursive: false, ..mount }, Call { change: rest, ..private }];
        assert_eq!(calls(&["rbind", "ro", "rprivate"]), separate);
        let both = calls(&["bind", "slave", "shared"]);
        assert_eq!(
            both.iter().map(|call| call.propagation).collect::<Vec<_>>(),
            [propagation::SLAVE, propagation::SHARED]
        );
    }

    #[test]
    fn the_later_word_wins() {
        assert_eq!(parse(["rw", "ro"]).unwrap().mount.set, attr::RDONLY);
        let atime = parse(["noatime", "strictatime"]).unwrap().mount;
        assert_eq!(atime, Change { set: attr::STRICTATIME, clear: attr::ATIME });
    }
}
