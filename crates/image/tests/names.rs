//! Names, ids, removal, restarts.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{Home, config, digest, docker_archive, layer};
use image::{Error, Image};
use oci::Reference;
use serde_json::json;

fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

/// An image of these layers by these names.
fn publish(home: &Home, layers: &[&str], created: &str, tags: &[&str]) -> Image {
    let layers: Vec<_> = layers.iter().map(|content| layer(content)).collect();
    let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    let mut config = config(&layers);
    config["created"] = json!(created);
    let staged = home.load(&docker_archive(&config, &layers, &json!(tags))).unwrap();
    home.images.publish(staged.into_iter().next().unwrap()).unwrap()
}

const EARLY: &str = "2020-01-01T00:00:00Z";
const LATE: &str = "2026-01-01T00:00:00.5+02:00";

fn not_found(home: &Home, text: &str) -> String {
    match home.images.get(text) {
        Err(error @ Error::NotFound(_)) => error.to_string(),
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn images_are_found_as_docker_finds_them() {
    let home = Home::new();
    let image = publish(&home, &["one"], EARLY, &["bb:1", "bb", "ghcr.io/a/bb:1"]);
    let hex = image.id.hex();
    let pinned = format!("bb@{}", image.manifest);
    for text in [
        "bb",
        "bb:latest",
        "bb:1",
        "library/bb",
        "docker.io/library/bb:1",
        "ghcr.io/a/bb:1",
        &pinned,
        hex,
        &hex[..12],
        &hex[..3],
        image.id.as_str(),
        &format!("sha256:{}", &hex[..7]),
        &format!("bb:1@{}", image.manifest),
    ] {
        assert_eq!(home.images.get(text).unwrap().id, image.id, "{text}");
    }
    let names: Vec<_> = image.names.iter().map(Reference::familiar).collect();
    assert_eq!(names, ["bb:1", "bb:latest", "ghcr.io/a/bb:1"]);
    assert_eq!(not_found(&home, "nosuch"), "No such image: nosuch:latest");
    assert_eq!(not_found(&home, "ghcr.io/a/bb"), "No such image: ghcr.io/a/bb:latest");
}

#[test]
fn what_is_no_name_is_told_so() {
    let home = Home::new();
    let id = digest(b"x");
    assert_eq!(not_found(&home, id.as_str()), format!("No such image: {id}"));
    assert_eq!(not_found(&home, &format!("bb@{id}")), format!("No such image: bb@{id}"));
    for (text, want) in [
        ("", "invalid reference format"),
        ("a b", "invalid reference format"),
        ("../x", "invalid reference format"),
        ("Foo", "invalid reference format: repository name (library/Foo) must be lowercase"),
    ] {
        match home.images.get(text) {
            Err(Error::Invalid(message)) => assert_eq!(message, want),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn a_short_id_may_be_ambiguous() {
    let home = Home::new();
    for n in 0..17 {
        publish(&home, &[&n.to_string()], EARLY, &[]);
    }
    // Among seventeen, two begin with the same digit.
    let ambiguous = (0..16)
        .filter(|digit| matches!(home.images.get(&format!("{digit:x}")), Err(Error::Conflict(m)) if m.contains("ambiguous")))
        .count();
    assert!(ambiguous > 0);
    // A name comes before the beginning of an id.
    let first = home.images.list().unwrap()[0].clone();
    let digit = &first.id.hex()[..1];
    let last = home.images.list().unwrap()[16].clone();
    home.images.tag(&last.id, &name(digit)).unwrap();
    assert_eq!(home.images.get(digit).unwrap().id, last.id);
}

#[test]
fn names_move_and_survive_a_restart() {
    let home = Home::new();
    let old = publish(&home, &["one"], EARLY, &["bb:1"]);
    let new = publish(&home, &["one", "two"], LATE, &["bb:1", "bb:2"]);
    home.images.tag(&old.id, &name("other")).unwrap();
    let home = home.reopen();
    assert!(home.images.damaged().is_empty());
    let list = home.images.list().unwrap();
    assert_eq!([&list[0].id, &list[1].id], [&new.id, &old.id]);
    assert_eq!(list[0].names, [name("bb:1"), name("bb:2")]);
    assert_eq!(list[1].names, [name("other:latest")]);
    assert_eq!(list[0].layers, new.layers);
    home.images.untag(&name("other")).unwrap();
    assert!(matches!(home.images.untag(&name("other")), Err(Error::NotFound(n)) if n == "other:latest"));
    assert!(home.images.get("other").is_err());
    assert!(home.images.get(old.id.hex()).unwrap().names.is_empty());
    assert!(matches!(home.images.tag(&digest(b"x"), &name("a")), Err(Error::NotFound(_))));
    let pinned = name("a").with_digest(digest(b"x"));
    assert!(matches!(home.images.tag(&old.id, &pinned), Err(Error::Invalid(_))));
}

#[test]
fn shared_blobs_go_with_their_last_image() {
    let home = Home::new();
    let small = publish(&home, &["one"], EARLY, &["small"]);
    let big = publish(&home, &["one", "two"], LATE, &["big", "big:2"]);
    assert_eq!(small.layers[0], big.layers[0]);
    assert_eq!(home.blobs().len(), 6);
    home.images.remove(&big.id).unwrap();
    assert_eq!(home.blobs().len(), 3);
    assert!(home.images.get("big:2").is_err());
    home.images.open_layer(&small.layers[0]).unwrap();
    assert!(matches!(home.images.remove(&big.id), Err(Error::NotFound(_))));
    let home = home.reopen();
    assert_eq!(home.images.list().unwrap().len(), 1);
    home.images.remove(&small.id).unwrap();
    assert_eq!(home.blobs(), [""; 0]);
}

#[test]
fn what_is_staged_stays_until_it_is_dropped() {
    let home = Home::new();
    let one = layer("one");
    let archive = docker_archive(&config(&[&one]), &[&one], &json!(["bb"]));
    let first = home.load(&archive).unwrap();
    let second = home.load(&archive).unwrap();
    home.images.sweep().unwrap();
    assert_eq!(home.blobs().len(), 3);
    drop(first);
    assert_eq!(home.blobs().len(), 3);
    home.images.publish(second.into_iter().next().unwrap()).unwrap();
    home.images.sweep().unwrap();
    assert_eq!(home.blobs().len(), 3);
    drop(home.load(&archive).unwrap());
    assert_eq!(home.blobs().len(), 3);
}

#[test]
fn a_crash_leaves_nothing() {
    let home = Home::new();
    let image = publish(&home, &["one"], EARLY, &["bb"]);
    let root = home.dir.path().to_owned();
    fs::write(root.join("blobs/sha256").join("0".repeat(64)), "orphan").unwrap();
    fs::create_dir_all(root.join("blobs/staging/.tmpx")).unwrap();
    fs::write(root.join("blobs/staging/.tmpx/member-1"), "partial").unwrap();
    let home = home.reopen();
    assert_eq!(home.blobs().len(), 3);
    assert_eq!(home.images.get("bb").unwrap().id, image.id);
}

#[test]
fn a_damaged_image_is_named_and_loading_it_repairs_it() {
    let home = Home::new();
    let bad = publish(&home, &["one"], EARLY, &["bad"]);
    publish(&home, &["two"], EARLY, &["good"]);
    fs::write(home.blob(&bad.manifest), "{}").unwrap();
    let home = home.reopen();
    assert_eq!(home.images.list().unwrap().len(), 1);
    let told = home.images.damaged();
    assert!(
        told.len() == 1 && told[0].contains(bad.id.as_str()) && told[0].contains("is damaged"),
        "{told:?}"
    );
    // Its layers might be needed: nobody can tell.
    assert_eq!(home.blobs().len(), 6);
    publish(&home, &["one"], EARLY, &["bad"]);
    assert!(home.images.damaged().is_empty());
    let home = home.reopen();
    assert_eq!(home.images.get("bad").unwrap().layers, bad.layers);
}
