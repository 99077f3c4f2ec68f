//! Records on real files: what is written is read, whatever happens in between.

#![allow(clippy::unwrap_used)] // in the tests' helpers too

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use store::{Durability, Store, Table};

const THINGS: Table = Table { name: "things", version: 1 };
const NEWER: Table = Table { name: "things", version: 2 };

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Thing {
    name: String,
    #[serde(default)]
    rest: String,
}

fn thing(name: &str) -> Thing {
    Thing { name: name.to_owned(), rest: "x".repeat(500) }
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn open(dir: &Path) -> Store {
    Store::open(dir).unwrap()
}

fn names(store: &Store) -> Vec<String> {
    store.all::<Thing>(THINGS).unwrap().0.into_iter().map(|(key, _)| key).collect()
}

fn aside(dir: &Path) -> Vec<String> {
    fs::read_dir(dir.join("set-aside"))
        .map(|d| d.map(|e| e.unwrap().file_name().into_string().unwrap()).collect())
        .unwrap_or_default()
}

#[test]
fn what_is_written_is_read() {
    let dir = dir();
    let store = open(dir.path());
    assert_eq!(store.get::<Thing>(THINGS, "a").unwrap(), None);
    assert!(!store.delete(THINGS, "a", Durability::Durable).unwrap());
    for name in ["b", "a", "docker.io/x:1"] {
        store.put(THINGS, name, &thing(name), Durability::Durable).unwrap();
    }
    assert_eq!(store.get(THINGS, "a").unwrap(), Some(thing("a")));
    assert_eq!(names(&store), ["a", "b", "docker.io/x:1"]);
    assert!(store.delete(THINGS, "b", Durability::Relaxed).unwrap());
    drop(store);
    let store = open(dir.path());
    assert_eq!(names(&store), ["a", "docker.io/x:1"]);
    assert!(store.recovered().is_empty());
    let dump: BTreeMap<String, BTreeMap<String, Thing>> =
        serde_json::from_str(&store.dump().unwrap()).unwrap();
    assert_eq!(dump["things"]["a"], thing("a"));
    assert_eq!(dump.len(), 1);
}

#[test]
fn a_second_daemon_is_told() {
    let dir = dir();
    let store = open(dir.path());
    let error = Store::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("in use by another knarr daemon"), "{error}");
    drop(store);
    open(dir.path());
}

/// Writes a record's bytes as they are, under the store's nose.
fn write_raw(dir: &Path, key: &str, bytes: &[u8]) {
    let database = redb::Database::create(dir.join("records.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    let table: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("things");
    transaction.open_table(table).unwrap().insert(key, bytes).unwrap();
    transaction.commit().unwrap();
}

#[test]
fn a_damaged_record_is_set_aside_alone() {
    let dir = dir();
    open(dir.path()).put(THINGS, "a", &thing("a"), Durability::Durable).unwrap();
    let flipped = br#"{"version":1,"check":"0123456789abcdef","value":{"name":"a"}}"#;
    for (key, bytes) in [("../b/c", &b"garbage\xff"[..]), ("d", flipped), ("e", b"")] {
        write_raw(dir.path(), key, bytes);
    }
    let store = open(dir.path());
    assert!(store.dump().unwrap().contains("garbage"));
    let error = store.get::<Thing>(THINGS, "e").unwrap_err().to_string();
    assert!(error.contains("read things/e: damaged") && error.contains("set-aside/things-e-"), "{error}");
    assert_eq!(store.get::<Thing>(THINGS, "e").unwrap(), None);
    let (good, damaged) = store.all::<Thing>(THINGS).unwrap();
    assert_eq!(good, [("a".to_owned(), thing("a"))]);
    let keys: Vec<_> = damaged.iter().map(|d| d.key.as_str()).collect();
    assert_eq!(keys, ["../b/c", "d"]);
    assert!(damaged[1].reason.contains("checksum"));
    assert_eq!(fs::read(&damaged[0].set_aside).unwrap(), b"garbage\xff");
    assert!(damaged[0].set_aside.starts_with(dir.path().join("set-aside")));
    assert!(store.all::<Thing>(THINGS).unwrap().1.is_empty());
    assert_eq!(aside(dir.path()).len(), 3);
}

#[test]
fn a_record_of_a_newer_program_is_left_alone() {
    let dir = dir();
    let store = open(dir.path());
    store.put(NEWER, "new", &thing("new"), Durability::Durable).unwrap();
    store.put(THINGS, "old", &thing("old"), Durability::Durable).unwrap();
    let (good, damaged) = store.all::<Thing>(THINGS).unwrap();
    assert_eq!((good.len(), damaged.len(), damaged[0].key.as_str()), (1, 1, "new"));
    assert!(damaged[0].reason.contains("newer knarr (schema version 2, this one knows 1)"));
    assert!(store.get::<Thing>(THINGS, "new").is_err());
    assert!(store.put(THINGS, "new", &thing("x"), Durability::Durable).is_err());
    assert!(store.delete(THINGS, "new", Durability::Relaxed).is_err());
    assert_eq!(store.get(NEWER, "new").unwrap(), Some(thing("new")));
    assert_eq!(store.get(NEWER, "old").unwrap(), Some(thing("old")));
    assert!(aside(dir.path()).is_empty());
}

#[test]
fn a_damaged_file_gives_way_to_the_last_good_copy() {
    let dir = dir();
    let path = dir.path().join("records.redb");
    for garbage in [&b"not a database"[..], &[0; 8192], b"redb"] {
        open(dir.path()).put(THINGS, "a", &thing("a"), Durability::Durable).unwrap();
        open(dir.path());
        fs::write(&path, garbage).unwrap();
        let store = open(dir.path());
        assert_eq!(names(&store), ["a"]);
        assert_eq!(store.recovered().len(), 2, "{:?}", store.recovered());
        assert!(store.recovered()[0].contains("it was moved to"));
    }
    assert_eq!(aside(dir.path()).len(), 3);
    fs::write(&path, b"x").unwrap();
    fs::write(dir.path().join("records.redb.good"), b"y").unwrap();
    let store = open(dir.path());
    assert!(names(&store).is_empty());
    store.put(THINGS, "a", &thing("a"), Durability::Durable).unwrap();
}

#[test]
fn whatever_byte_changes_the_daemon_starts_and_lies_about_nothing() {
    let origin = dir();
    let store = open(origin.path());
    for n in 0..40 {
        store.put(THINGS, &format!("{n:02}"), &thing(&n.to_string()), Durability::Durable).unwrap();
    }
    drop(store);
    open(origin.path());
    let whole = fs::read(origin.path().join("records.redb")).unwrap();
    let used = whole.iter().rposition(|b| *b != 0).unwrap();
    let cuts = (0..20).map(|n| (n * whole.len() / 20, None));
    let flips = (0..400).map(|n| if n < 200 { n * 2 } else { n * used / 400 }).map(|at| (at, Some(0x55)));
    for (at, flip) in cuts.chain(flips) {
        let dir = dir();
        let mut bytes = whole.clone();
        match flip {
            Some(mask) => bytes[at] ^= mask,
            None => bytes.truncate(at),
        }
        fs::write(dir.path().join("records.redb"), &bytes).unwrap();
        fs::copy(origin.path().join("records.redb.good"), dir.path().join("records.redb.good")).unwrap();
        let store = open(dir.path());
        let (good, damaged) = store.all::<Thing>(THINGS).unwrap();
        for (key, value) in &good {
            assert_eq!(*value, thing(&key.parse::<u32>().unwrap().to_string()), "byte {at}");
        }
        let told = !store.recovered().is_empty() || good.len() + damaged.len() == 40;
        assert!(told, "byte {at}: {} records, silently", good.len());
        store.put(THINGS, "99", &thing("99"), Durability::Durable).unwrap();
    }
}

/// Not a test of its own: the child that the next one kills.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Some(dir) = std::env::var_os("KNARR_STORE_CHILD") else {
        return;
    };
    let store = open(Path::new(&dir));
    for n in 0u32.. {
        let how = if n.is_multiple_of(7) { Durability::Durable } else { Durability::Relaxed };
        store.put(THINGS, &format!("{n:08}"), &thing(&n.to_string()), how).unwrap();
        if n.is_multiple_of(5) && n > 0 {
            store.delete(THINGS, &format!("{:08}", n - 1), Durability::Relaxed).unwrap();
        }
        println!("wrote {n}");
    }
}

#[test]
fn nothing_written_is_lost_when_the_daemon_is_killed() {
    for round in 0..10u64 {
        let dir = dir();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_writes_until_it_is_killed", "--nocapture", "--test-threads=1"])
            .env("KNARR_STORE_CHILD", dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut last = None;
        let start = Instant::now();
        let mut killed = false;
        while let Some(Ok(line)) = lines.next() {
            if let Some(n) = line.rsplit_once("wrote ").and_then(|(_, n)| n.parse::<u32>().ok()) {
                last = Some(n);
            }
            if !killed && start.elapsed() > Duration::from_millis(20 + 13 * round) && last.is_some() {
                child.kill().unwrap();
                killed = true;
            }
        }
        child.wait().unwrap();
        let last = last.unwrap();
        let store = open(dir.path());
        let found = names(&store);
        for n in 0..=last {
            if n == last && (n + 1).is_multiple_of(5) {
                continue; // The next step, which may have been done but not told, removes it.
            }
            let deleted = (n + 1).is_multiple_of(5);
            assert_eq!(found.contains(&format!("{n:08}")), !deleted, "{n} of {last}");
        }
        assert!(store.recovered().is_empty() && aside(dir.path()).is_empty());
    }
}

#[test]
fn the_journal_ends_at_the_first_broken_line_and_stays_small() {
    let dir = dir();
    let store = open(dir.path());
    for n in 0..12_000 {
        store.put(THINGS, &format!("{}", n % 50), &thing("t"), Durability::Relaxed).unwrap();
    }
    let journal = dir.path().join("records.journal");
    assert!(fs::metadata(&journal).unwrap().len() < 5 << 20);
    store.put(THINGS, "durable", &thing("d"), Durability::Durable).unwrap();
    assert_eq!(fs::metadata(&journal).unwrap().len(), 0);
    for n in ["one", "two", "three"] {
        store.put(THINGS, n, &thing(n), Durability::Relaxed).unwrap();
    }
    let mut text = fs::read(&journal).unwrap();
    let second = text.iter().position(|b| *b == b'\n').unwrap() + 40;
    text[second] ^= 1;
    // Left behind without `drop`, as a killed daemon does; the copy has nothing of the memory of the first.
    let other = self::dir();
    fs::copy(dir.path().join("records.redb"), other.path().join("records.redb")).unwrap();
    fs::write(other.path().join("records.journal"), &text).unwrap();
    let names = names(&open(other.path()));
    assert!(names.contains(&"one".to_owned()) && names.contains(&"durable".to_owned()));
    assert!(!names.contains(&"two".to_owned()) && !names.contains(&"three".to_owned()));
}

/// Prints what a write costs here; the bound only catches a change of kind.
#[test]
fn a_write_is_cheap() {
    let dir = dir();
    let store = open(dir.path());
    for how in [Durability::Durable, Durability::Relaxed] {
        let mut times: Vec<_> = (0..200)
            .map(|n| {
                let start = Instant::now();
                store.put(THINGS, &format!("{n}"), &thing("t"), how).unwrap();
                start.elapsed()
            })
            .collect();
        times.sort();
        println!("{how:?}: median {:?}, 95 % {:?}", times[100], times[190]);
        assert!(times[100] < Duration::from_millis(100));
    }
}
