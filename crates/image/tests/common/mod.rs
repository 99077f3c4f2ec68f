//! What the tests of this room share.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::{
    fs,
    io::{Cursor, Read, Write},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use archive::{Header, Kind, Writer};
use image::{Error, Image, Images, Staged};
use oci::Digest;
use serde_json::{Value, json};
use sha2::Digest as _;
use store::Store;

/// A private image store, gone with the value.
pub struct Home {
    pub dir: tempfile::TempDir,
    pub images: Images,
}

impl Home {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let images = open(dir.path());
        Self { dir, images }
    }

    /// As after a restart of the daemon.
    pub fn reopen(self) -> Self {
        let Self { dir, images } = self;
        drop(images);
        let images = open(dir.path());
        Self { dir, images }
    }

    pub fn load(&self, bytes: &[u8]) -> Result<Vec<Staged>, Error> {
        self.images.load(&mut OneByOne(bytes))
    }

    pub fn load_file(&self, path: &Path) -> Vec<Image> {
        let mut file = fs::File::open(path).unwrap();
        let staged = self.images.load(&mut file).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        staged.into_iter().map(|one| self.images.publish(one).unwrap()).collect()
    }

    /// Loads what must not load.
    pub fn refused(&self, bytes: &[u8]) -> String {
        match self.load(bytes) {
            Ok(staged) => panic!("loaded {staged:?}"),
            Err(Error::Invalid(message)) => {
                assert_eq!(self.blobs(), [""; 0]);
                message
            }
            Err(other) => panic!("{other}"),
        }
    }

    /// Everything under `blobs`, staging included.
    pub fn blobs(&self) -> Vec<String> {
        let list = |dir: &str| {
            let entries = fs::read_dir(self.dir.path().join(dir)).unwrap();
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
        };
        let mut all = [list("blobs/sha256"), list("blobs/staging")].concat();
        all.sort();
        all
    }

    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.dir.path().join("blobs/sha256").join(digest.hex())
    }
}

fn open(dir: &Path) -> Images {
    Images::open(dir, Arc::new(Store::open(dir).unwrap())).unwrap()
}

/// A stream that cannot be sought and gives little at a time, as a socket may.
pub struct OneByOne<'a>(pub &'a [u8]);

impl Read for OneByOne<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(1000);
        self.0.read(&mut buffer[..length])
    }
}

pub fn digest(bytes: &[u8]) -> Digest {
    Digest::sha256(sha2::Sha256::digest(bytes).into())
}

pub fn file(path: &str, size: usize) -> Header {
    Header { path: path.into(), size: size as u64, mode: 0o644, ..Header::default() }
}

pub fn link(path: &str, target: &str) -> Header {
    Header { path: path.into(), link: target.into(), kind: Kind::Symlink, ..Header::default() }
}

/// An archive of these files; a content of `None` makes a symbolic link of a `name -> target`.
pub fn tar(members: &[(&str, Option<&[u8]>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (name, content) in members {
        match (content, name.split_once(" -> ")) {
            (Some(content), _) => writer.append(&file(name, content.len()), *content).unwrap(),
            (None, Some((name, target))) => {
                writer.append(&link(name, target), Cursor::new([])).unwrap();
            }
            (None, None) => panic!("{name}"),
        }
    }
    writer.finish().unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// A layer with one file.
pub fn layer(content: &str) -> Vec<u8> {
    tar(&[("etc/content", Some(content.as_bytes()))])
}

pub fn config(layers: &[&[u8]]) -> Value {
    let diff_ids: Vec<_> = layers.iter().map(|layer| digest(layer).to_string()).collect();
    json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}})
}

/// A docker-archive of one image.
pub fn docker_archive(config: &Value, layers: &[&[u8]], tags: &Value) -> Vec<u8> {
    let config = config.to_string();
    let config_name = format!("{}.json", digest(config.as_bytes()).hex());
    let names: Vec<_> = (0..layers.len()).map(|n| format!("l{n}/layer.tar")).collect();
    let manifest = json!([{"Config": config_name, "RepoTags": tags, "Layers": names}]).to_string();
    let mut members: Vec<(&str, Option<&[u8]>)> = vec![(&config_name, Some(config.as_bytes()))];
    members.extend(names.iter().zip(layers).map(|(name, layer)| (name.as_str(), Some(*layer))));
    members.push(("manifest.json", Some(manifest.as_bytes())));
    tar(&members)
}

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

pub fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes).to_string(), "size": bytes.len()})
}

/// An oci-archive that is made piece by piece.
#[derive(Default)]
pub struct Layout {
    blobs: Vec<(String, Vec<u8>)>,
}

impl Layout {
    pub fn add(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        self.blobs.push((format!("blobs/sha256/{}", digest(bytes).hex()), bytes.to_vec()));
        descriptor(media_type, bytes)
    }

    /// An image with a layer that is stored as `stored`.
    pub fn image(&mut self, layer: &[u8], stored: &[u8], layer_type: &str) -> Value {
        let config = self.add(CONFIG, config(&[layer]).to_string().as_bytes());
        let layer = self.add(layer_type, stored);
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
        self.add(MANIFEST, manifest.to_string().as_bytes())
    }

    pub fn finish(mut self, index: &Value) -> Vec<u8> {
        self.blobs.dedup();
        let index = index.to_string();
        let mut members: Vec<(&str, Option<&[u8]>)> =
            vec![("oci-layout", Some(br#"{"imageLayoutVersion":"1.0.0"}"#))];
        members.push(("index.json", Some(index.as_bytes())));
        members.extend(self.blobs.iter().map(|(name, bytes)| (name.as_str(), Some(bytes.as_slice()))));
        tar(&members)
    }
}

/// Runs a program of Debian's; a missing one is a failure.
pub fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|e| panic!("{program} is needed (Debian package of the same name): {e}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}
