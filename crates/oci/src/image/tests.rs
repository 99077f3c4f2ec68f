//! Documents as registries and tools make them, and as they should never be.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn blob(media_type: &str) -> serde_json::Value {
    json!({"mediaType": media_type, "digest": format!("sha256:{HEX}"), "size": 7})
}

fn manifest() -> serde_json::Value {
    json!({"schemaVersion": 2, "config": blob(media::CONFIG), "layers": [blob(media::LAYER)]})
}

fn parse(value: &serde_json::Value, media_type: Option<&str>) -> Result<Document, String> {
    Document::parse(value.to_string().as_bytes(), media_type).map_err(|e| e.to_string())
}

#[test]
fn manifests_and_indexes_are_told_apart() {
    assert!(
        matches!(parse(&manifest(), Some(media::MANIFEST)), Ok(Document::Manifest(m)) if m.layers.len() == 1)
    );
    let index =
        json!({"schemaVersion": 2, "mediaType": media::DOCKER_INDEX, "manifests": [blob(media::MANIFEST)]});
    assert!(matches!(parse(&index, None), Ok(Document::Index(i)) if i.manifests.len() == 1));
    let nulls = json!({"schemaVersion": 2, "mediaType": null, "config": blob(media::CONFIG), "layers": null,
        "annotations": null});
    assert!(matches!(parse(&nulls, None), Ok(Document::Manifest(m)) if m.layers.is_empty()));
}

#[test]
fn what_others_could_read_differently_is_refused() {
    let mut both = manifest();
    both["manifests"] = json!([]);
    assert!(parse(&both, None).unwrap_err().contains("ambiguous"));
    let mut cased = manifest();
    cased["Layers"] = json!([]);
    assert!(parse(&cased, None).unwrap_err().contains("ambiguous key \"Layers\""));
    assert!(parse(&manifest(), Some(media::INDEX)).unwrap_err().contains("does not fit"));
    assert!(parse(&manifest(), Some("text/plain")).is_err());
    let mut named = manifest();
    named["mediaType"] = json!(media::DOCKER_MANIFEST);
    assert!(parse(&named, Some(media::MANIFEST)).unwrap_err().contains("calls itself"));
    for (text, word) in [
        (r#"{"schemaVersion":2,"layers":[],"layers":[]}"#, "duplicate key"),
        (r#"{"schemaVersion":2,"x":{"a":1,"a":2}}"#, "duplicate key \"a\""),
        (r#"{"schemaVersion":1,"layers":[],"config":{}}"#, "schemaVersion"),
        (r#"{"schemaVersion":2}"#, "neither"),
        ("\u{feff}{}", "expected value"),
        ("{} {}", "trailing"),
        ("[]", "a manifest or an index"),
        ("", "EOF"),
    ] {
        let error = Document::parse(text.as_bytes(), None).unwrap_err().to_string();
        assert!(error.contains(word), "{text}: {error}");
    }
}

#[test]
fn digests_and_sizes_are_strict() {
    for (key, bad) in [
        ("digest", json!("sha256:../..")),
        ("digest", json!("sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709")),
        ("digest", json!(null)),
        ("size", json!(-1)),
        ("size", json!(u64::MAX)),
        ("size", json!(1.5)),
        ("size", json!("7")),
        ("size", json!(null)),
        ("mediaType", json!(null)),
    ] {
        let mut document = manifest();
        document["layers"][0][key] = bad.clone();
        assert!(parse(&document, None).is_err(), "{key} {bad}");
    }
}

#[test]
fn documents_are_bounded() {
    let many = format!("[{}0]", "0,".repeat(300_000));
    assert!(ImageConfig::parse(many.as_bytes()).unwrap_err().to_string().contains("values"));
    let deep = "[".repeat(100_000);
    assert!(ImageConfig::parse(deep.as_bytes()).unwrap_err().to_string().contains("recursion"));
    let long = " ".repeat(5 << 20);
    assert!(ImageConfig::parse(long.as_bytes()).unwrap_err().to_string().contains("longer"));
}

#[test]
fn a_config_reads_nulls_as_nothing() {
    let config = json!({
        "created": null, "author": null, "architecture": "arm64", "variant": "", "os": "linux", "history": null,
        "config": {"User": null, "ExposedPorts": null, "Env": null, "Entrypoint": null, "Cmd": "sh", "Volumes": null,
            "WorkingDir": null, "Labels": null, "StopSignal": null, "Shell": null, "Healthcheck": null,
            "OnBuild": null, "ArgsEscaped": null, "Hostname": "x", "AttachStdin": false},
        "rootfs": {"type": "layers", "diff_ids": null}});
    let read = ImageConfig::parse(config.to_string().as_bytes()).unwrap();
    assert_eq!(read.config, Config { cmd: Some(vec!["sh".into()]), ..Config::default() });
    assert_eq!(read.variant, None);
    let whole = ImageConfig::parse(br#"{"config":null,"rootfs":{"type":"layers"}}"#).unwrap();
    assert_eq!(whole, ImageConfig::default());
}

#[test]
fn a_config_without_layers_is_not_one() {
    for bad in [
        r"{}",
        r#"{"rootfs":null}"#,
        r#"{"rootfs":{}}"#,
        r#"{"rootfs":{"type":"erofs","diff_ids":[]}}"#,
        r#"{"rootfs":{"type":"layers","diff_ids":["sha256:../.."]}}"#,
        r#"{"rootfs":{"type":"layers","diff_ids":"x"}}"#,
    ] {
        assert!(ImageConfig::parse(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn a_config_is_written_the_same_every_time() {
    let mut config =
        ImageConfig { os: "linux".into(), architecture: "amd64".into(), ..ImageConfig::default() };
    config.config.exposed_ports = ["80/tcp", "53/udp"].map(String::from).into();
    config.config.healthcheck = Some(Healthcheck { test: vec!["NONE".into()], ..Healthcheck::default() });
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(
        text,
        r#"{"architecture":"amd64","os":"linux","config":{"ExposedPorts":{"53/udp":{},"80/tcp":{}},"Healthcheck":{"Test":["NONE"]}},"rootfs":{"type":"layers","diff_ids":[]}}"#
    );
    assert_eq!(ImageConfig::parse(text.as_bytes()).unwrap(), config);
}

proptest! {
    #[test]
    fn any_change_to_a_manifest_is_refused_or_read(at in 0usize..400, byte in any::<u8>()) {
        let mut bytes = manifest().to_string().into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(Document::Manifest(read)) = Document::parse(&bytes, None) {
            let again = serde_json::to_vec(&read).unwrap();
            prop_assert_eq!(Document::parse(&again, None).unwrap(), Document::Manifest(read));
        }
    }

    #[test]
    fn any_bytes_are_no_trouble(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Document::parse(&bytes, None);
        let _ = ImageConfig::parse(&bytes);
    }
}
