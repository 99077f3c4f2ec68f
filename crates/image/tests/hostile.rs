//! Archives and documents that were made to harm, or were harmed.
#![allow(clippy::unwrap_used)]

mod common;

use std::{fs, io::Read};

use common::{
    CONFIG, Home, INDEX, LAYER, Layout, MANIFEST, config, digest, docker_archive, gzip, layer, tar, zstd,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn tags() -> Value {
    json!(["bb:1"])
}

#[test]
fn garbage_is_refused() {
    let home = Home::new();
    for (bytes, word) in [
        (&b""[..], "empty"),
        (b"x", "truncated"),
        (&[b'x'; 2048], "not an image archive"),
        (&[0; 1024], "empty"),
        (&tar(&[("etc/passwd", Some(b"root"))]), "neither index.json nor manifest.json"),
        (&tar(&[("repositories", Some(b"{}"))]), "before 1.10"),
        (&tar(&[("manifest.json", Some(b"[]"))]), "holds no image"),
        (&tar(&[("manifest.json", Some(b"[{}]"))]), "missing field"),
        (&tar(&[("manifest.json", Some(b"[null]"))]), "manifest.json"),
        (&tar(&[("index.json", Some(b"{}"))]), "index.json"),
        (&[0xfd, b'7', b'z', b'X', b'Z', 0, 1, 2], "xz compression is not supported"),
        (&gzip(b"x"), "truncated"),
        (&zstd(&[b'x'; 2048]), "not an image archive"),
    ] {
        let message = home.refused(bytes);
        assert!(message.contains(word), "want {word}: {message}");
    }
}

#[test]
fn hostile_members_are_refused() {
    let home = Home::new();
    for (name, word) in [
        ("../x", "\"../x\" would lie outside"),
        ("/etc/passwd", "would lie outside"),
        ("a/../../x", "would lie outside"),
        ("a -> ../x", "points outside"),
        ("a/b -> ../../../x", "points outside"),
        ("a -> /etc/passwd", "points outside"),
    ] {
        let content = (!name.contains(" -> ")).then_some(&b"x"[..]);
        let message = home.refused(&tar(&[(name, content)]));
        assert!(message.contains(word), "{name}: {message}");
    }
    let twice = tar(&[("manifest.json", Some(b"[]")), ("./manifest.json", Some(b"[ ]"))]);
    assert!(home.refused(&twice).contains("twice"));
    let circle = tar(&[("manifest.json -> b", None), ("b -> manifest.json", None)]);
    assert!(home.refused(&circle).contains("too many links"));
    let away = tar(&[("manifest.json", Some(br#"[{"Config":"../c","Layers":[]}]"#))]);
    assert!(home.refused(&away).contains("outside itself"));
}

#[test]
fn a_docker_archive_is_checked_to_the_last_byte() {
    let home = Home::new();
    let (one, two) = (layer("one"), layer("two"));
    let good = config(&[&one, &two]);
    let wrong_layer = docker_archive(&good, &[&one, &one], &tags());
    assert!(home.refused(&wrong_layer).contains("diff id should be"));
    let packed_wrong = docker_archive(&good, &[&gzip(&one), &zstd(&one)], &tags());
    assert!(home.refused(&packed_wrong).contains("diff id should be"));
    let fewer = docker_archive(&good, &[&one], &tags());
    assert!(home.refused(&fewer).contains("lists 1 layers"));
    let bad_tag = docker_archive(&good, &[&one, &two], &json!(["Upper:1"]));
    assert!(home.refused(&bad_tag).contains("must be lowercase"));
    let mut text = docker_archive(&good, &[&one, &two], &tags());
    let at = text.windows(5).position(|w| w == b"amd64").unwrap();
    text[at] = b'x';
    assert!(home.refused(&text).contains("has wrong content"));
    let lacks = br#"[{"Config":"c.json","Layers":["no/layer.tar"]}]"#;
    let content = good.to_string();
    let lacks = tar(&[("manifest.json", Some(lacks)), ("c.json", Some(content.as_bytes()))]);
    assert!(home.refused(&lacks).contains("lists 1 layers"));
    // The same, well made, loads: also with compressed layers, and without tags.
    for layers in [[one.clone(), two.clone()], [gzip(&one), zstd(&two)]] {
        let home = Home::new();
        let archive = docker_archive(&good, &[&layers[0], &layers[1]], &Value::Null);
        let staged = home.load(&archive).unwrap();
        let image = home.images.publish(staged.into_iter().next().unwrap()).unwrap();
        assert!(image.names.is_empty());
        let mut content = Vec::new();
        home.images.open_layer(&image.layers[1]).unwrap().read_to_end(&mut content).unwrap();
        assert!(content == two);
    }
}

#[test]
fn layers_may_be_links_to_earlier_ones() {
    let home = Home::new();
    let one = layer("one");
    let config = config(&[&one, &one]).to_string();
    let manifest =
        json!([{"Config": "c.json", "RepoTags": ["bb"], "Layers": ["a/layer.tar", "b/layer.tar"]}]);
    let archive = tar(&[
        ("a/layer.tar", Some(&one)),
        ("b/layer.tar -> ../a/layer.tar", None),
        ("c.json", Some(config.as_bytes())),
        ("manifest.json", Some(manifest.to_string().as_bytes())),
    ]);
    let staged = home.load(&archive).unwrap();
    assert_eq!(staged[0].image.layers[0], staged[0].image.layers[1]);
    assert_eq!(staged[0].image.names[0].familiar(), "bb:latest");
}

#[test]
fn hostile_configs_are_refused() {
    let home = Home::new();
    let one = layer("one");
    for (key, bad) in [
        ("rootfs", Value::Null),
        ("rootfs", json!({"type": "layers", "diff_ids": null})),
        ("rootfs", json!({"type": "layers", "diff_ids": ["sha256:../.."]})),
        ("rootfs", json!({"type": "layers", "diff_ids": vec![digest(&one).to_string(); 100_000]})),
        ("os", json!("windows")),
        ("config", json!({"Env": {"A": 1}})),
        ("config", json!({"Env": [null]})),
        ("history", json!(vec![0; 250_000])),
        ("architecture", json!(-1)),
    ] {
        let mut config = config(&[&one]);
        config[key] = bad;
        home.refused(&docker_archive(&config, &[&one], &tags()));
    }
    let twice = config(&[&one]).to_string().replacen('{', "{\"os\":\"linux\",", 1);
    let archive = tar(&[
        ("c.json", Some(twice.as_bytes())),
        ("l", Some(&one)),
        ("manifest.json", Some(br#"[{"Config":"c.json","RepoTags":null,"Layers":["l"]}]"#)),
    ]);
    assert!(home.refused(&archive).contains("duplicate key"));
}

#[test]
fn an_oci_archive_is_checked_to_the_last_byte() {
    let home = Home::new();
    let one = layer("one");
    let refused = |edit: &dyn Fn(&mut Layout, Value) -> Value| {
        let mut layout = Layout::default();
        let image = layout.image(&one, &one, LAYER);
        let index = edit(&mut layout, image);
        home.refused(&layout.finish(&index))
    };
    let index = |image: Value| json!({"schemaVersion": 2, "manifests": [image]});
    let with = |key: &'static str, value: Value| {
        move |_: &mut Layout, mut image: Value| {
            image[key] = value.clone();
            index(image)
        }
    };
    let other = digest(b"other").to_string();
    assert!(refused(&with("digest", json!(other))).contains("lacks blobs/sha256/"));
    assert!(refused(&with("digest", json!("sha256:../.."))).contains("invalid digest"));
    assert!(refused(&with("digest", json!(null))).contains("index.json"));
    assert!(refused(&with("size", json!(3))).contains("its descriptor says 3"));
    assert!(refused(&with("size", json!(-3))).contains("index.json"));
    assert!(refused(&with("mediaType", json!(INDEX))).contains("the descriptor calls it"));
    assert!(
        refused(&with("annotations", json!({"io.containerd.image.name": "UP:1:2"})))
            .contains("invalid reference")
    );
    assert!(refused(&|_, _| json!({"schemaVersion": 2, "manifests": []})).contains("holds no image"));
    assert!(
        refused(&|_, image| json!({"schemaVersion": 2, "manifests": [image], "layers": []}))
            .contains("ambiguous")
    );
    assert!(
        refused(&|layout, _| index(layout.image(&one, &layer("two"), LAYER))).contains("diff id should be")
    );
    let erofs = "application/vnd.erofs.layer.v1";
    assert!(refused(&|layout, _| index(layout.image(&one, &one, erofs))).contains("not an archive's"));
    let deep = |layout: &mut Layout, mut image: Value| {
        for _ in 0..8 {
            let nested = index(image).to_string();
            image = layout.add(INDEX, nested.as_bytes());
        }
        index(image)
    };
    assert!(refused(&deep).contains("too deeply"));
    // A blob under another's name.
    let name = format!("blobs/sha256/{}", digest(b"x").hex());
    let text = index(common::descriptor(MANIFEST, b"x")).to_string();
    let archive = tar(&[("index.json", Some(text.as_bytes())), (&name, Some(b"y"))]);
    assert!(home.refused(&archive).contains("has wrong content"));
}

#[test]
fn the_hosts_platform_is_chosen() {
    let host = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let (one, two) = (layer("one"), layer("two"));
    let make = |here: &str, there: &str, nested: bool| {
        let mut layout = Layout::default();
        let mut a = layout.image(&one, &gzip(&one), LAYER);
        let mut b = layout.image(&two, &zstd(&two), LAYER);
        a["platform"] = json!({"os": "linux", "architecture": there});
        b["platform"] = json!({"os": "linux", "architecture": here});
        let mut attestation = layout.add(MANIFEST, b"not to be read");
        attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
        attestation["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
        let mut index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [a, b, attestation]});
        if nested {
            let mut inner = layout.add(INDEX, index.to_string().as_bytes());
            inner["annotations"] = json!({"io.containerd.image.name": "docker.io/library/multi:1",
                "org.opencontainers.image.ref.name": "1"});
            index = json!({"schemaVersion": 2, "manifests": [inner]});
        }
        layout.finish(&index)
    };
    let home = Home::new();
    for nested in [true, false] {
        let staged = home.load(&make(host, "s390x", nested)).unwrap();
        assert_eq!(staged.len(), 1);
        assert_eq!(staged[0].image.layers[0].diff_id, digest(&two));
        let names: Vec<_> = staged[0].image.names.iter().map(oci::Reference::familiar).collect();
        assert_eq!(names, if nested { vec!["multi:1"] } else { vec![] });
    }
    let message = home.refused(&make("riscv64", "s390x", true));
    assert_eq!(
        message,
        format!("no image for linux/{host} in the archive; it has linux/s390x, linux/riscv64")
    );
    // The only one is taken, whatever it is for.
    let mut layout = Layout::default();
    let mut only = layout.image(&one, &one, LAYER);
    only["platform"] = json!({"os": "linux", "architecture": "s390x"});
    let staged = home.load(&layout.finish(&json!({"schemaVersion": 2, "manifests": [only]}))).unwrap();
    assert_eq!(staged.len(), 1);
}

#[test]
fn dockers_media_types_are_known() {
    const DOCKER: &str = "application/vnd.docker";
    let one = layer("one");
    let mut layout = Layout::default();
    let config =
        layout.add(&format!("{DOCKER}.container.image.v1+json"), config(&[&one]).to_string().as_bytes());
    let stored = layout.add(&format!("{DOCKER}.image.rootfs.diff.tar.gzip"), &gzip(&one));
    let media_type = format!("{DOCKER}.distribution.manifest.v2+json");
    let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [stored]});
    let image = layout.add(&media_type, manifest.to_string().as_bytes());
    let list = json!({"schemaVersion": 2, "mediaType": format!("{DOCKER}.distribution.manifest.list.v2+json"),
        "manifests": [image]});
    let home = Home::new();
    let staged = home.load(&layout.finish(&list)).unwrap();
    assert_eq!(staged[0].image.layers[0].diff_id, digest(&one));
    assert_eq!(staged[0].image.manifest, digest(manifest.to_string().as_bytes()));
}

/// What Docker 25 and later write: a layout and a `manifest.json` about the same blobs.
#[test]
fn a_layout_with_dockers_list_of_names_has_both() {
    let one = layer("one");
    let mut layout = Layout::default();
    let image = layout.image(&one, &one, LAYER);
    let config = config(&[&one]).to_string();
    let index = json!({"schemaVersion": 2, "manifests": [image]});
    let list = json!([{"Config": format!("blobs/sha256/{}", digest(config.as_bytes()).hex()),
        "RepoTags": ["bb:1", "bb:2"], "Layers": [format!("blobs/sha256/{}", digest(&one).hex())]}]);
    layout.add(CONFIG, b"unrelated");
    let bytes = layout.finish(&index);
    // The list goes before the end mark.
    let list = tar(&[("manifest.json", Some(list.to_string().as_bytes()))]);
    let bytes = [&list[..1024], &bytes].concat();
    let home = Home::new();
    let staged = home.load(&bytes).unwrap();
    assert_eq!(staged[0].image.names.len(), 2);
    assert_eq!(staged[0].image.manifest.as_str(), image["digest"]);
}

#[test]
fn a_stored_layer_that_changes_is_noticed_when_it_is_read() {
    let one = layer("one");
    for stored in [one.clone(), gzip(&one), zstd(&one)] {
        let home = Home::new();
        let mut layout = Layout::default();
        let image = layout.image(&one, &stored, LAYER);
        let bytes = layout.finish(&json!({"schemaVersion": 2, "manifests": [image]}));
        let staged = home.load(&bytes).unwrap();
        let layer = staged[0].image.layers[0].clone();
        fs::write(home.blob(&layer.blob), common::layer("two")).unwrap();
        let mut content = Vec::new();
        let error = home.images.open_layer(&layer).unwrap().read_to_end(&mut content).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
        let text = error.to_string();
        assert!(text.contains(layer.diff_id.as_str()) && text.contains(digest(&content).as_str()), "{text}");
    }
}

struct Zeros(u64);
impl Read for Zeros {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.0.min(buffer.len() as u64);
        buffer[..length as usize].fill(0);
        self.0 -= length;
        Ok(length as usize)
    }
}

/// Peak of resident memory in KiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn memory_is_bounded() {
    let home = Home::new();
    let before = peak();
    // Zeros in a few kilobytes, as a member that is read as a document.
    let size = 128u64 << 20;
    for name in ["manifest.json", "index.json"] {
        let encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        let mut writer = archive::Writer::new(encoder);
        writer.append(&common::file(name, size as usize), Zeros(size)).unwrap();
        let bytes = writer.finish().unwrap().finish().unwrap();
        assert!(bytes.len() < 1 << 20);
        home.refused(&bytes);
    }
    assert!(peak() - before < 64 << 10, "{} KiB more", peak() - before);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn any_change_to_an_archive_is_refused_or_makes_no_difference(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let one = layer("one");
        let whole = docker_archive(&config(&[&one]), &[&one], &tags());
        let mut bytes = whole.clone();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let home = Home::new();
        if let Ok(staged) = home.load(&bytes) {
            prop_assert_eq!(&staged[0].image.layers[0].diff_id, &digest(&one));
        }
        prop_assert!(home.blobs().is_empty());
    }
}
