//! Archives as skopeo, podman and umoci make them.
#![allow(clippy::unwrap_used)]

mod common;

use std::{fs, io::Read, path::Path};

use common::{Home, digest, gzip, run, zstd};
use image::Image;
use serde_json::Value;

/// An OCI layout with one image of two layers, made by umoci around busybox.
struct Made {
    dir: tempfile::TempDir,
}

impl Made {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = Self { dir };
        let root = made.path("rootfs");
        fs::create_dir_all(format!("{root}/bin")).unwrap();
        fs::copy("/usr/bin/busybox", format!("{root}/bin/busybox")).expect("busybox-static is needed");
        fs::write(made.path("hello"), "hello\n").unwrap();
        let image = format!("{}:bb", made.path("layout"));
        run("umoci", &["init", "--layout", &made.path("layout")]);
        run("umoci", &["new", "--image", &image]);
        run("umoci", &["insert", "--image", &image, &root, "/"]);
        run("umoci", &["insert", "--image", &image, &made.path("hello"), "/hello"]);
        let config = ["--config.cmd", "sh", "--config.env", "A=b", "--config.workingdir", "/bin"];
        run("umoci", &[&["config", "--image", &image][..], &config].concat());
        made
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn skopeo(&self, args: &[&str], to: &str) {
        let from = format!("oci:{}:bb", self.path("layout"));
        run("skopeo", &[&["copy"], args, &[&from, to]].concat());
    }
}

/// The image reads back: layers whole, digests as the other tool has them.
fn check(home: &Home, image: &Image, reference: &str) {
    let inspect: Value = serde_json::from_str(&run("skopeo", &["inspect", reference])).unwrap();
    let raw = run("skopeo", &["inspect", "--raw", reference]);
    let config = run("skopeo", &["inspect", "--config", "--raw", reference]);
    assert_eq!(image.manifest, digest(raw.as_bytes()));
    assert_eq!(image.manifest.as_str(), inspect["Digest"]);
    assert_eq!(image.id, digest(config.as_bytes()));
    let blobs: Vec<_> = image.layers.iter().map(|layer| layer.blob.to_string()).collect();
    assert_eq!(serde_json::to_value(blobs).unwrap(), inspect["Layers"]);
    check_content(home, image);
}

fn check_content(home: &Home, image: &Image) {
    assert_eq!(image.config.config.env, ["A=b"]);
    assert_eq!(image.config.config.cmd.as_deref().unwrap(), ["sh"]);
    assert_eq!(image.layers.len(), 2);
    for layer in &image.layers {
        let mut content = Vec::new();
        home.images.open_layer(layer).unwrap().read_to_end(&mut content).unwrap();
        assert_eq!(digest(&content), layer.diff_id);
        assert_eq!(fs::metadata(home.blob(&layer.blob)).unwrap().len(), layer.size);
    }
    let size: u64 = [&image.id, &image.manifest]
        .into_iter()
        .chain(image.layers.iter().map(|l| &l.blob))
        .map(|blob| fs::metadata(home.blob(blob)).unwrap().len())
        .sum();
    assert_eq!(image.size, size);
}

fn familiar(image: &Image) -> Vec<String> {
    image.names.iter().map(oci::Reference::familiar).collect()
}

#[test]
fn an_oci_archive_keeps_its_digests() {
    let made = Made::new();
    for (args, name) in [
        (&[][..], "plain"),
        (&["--dest-compress", "--dest-compress-format", "zstd"], "zstd"),
        (&["--dest-decompress"], "uncompressed"),
    ] {
        let home = Home::new();
        let file = made.path(&format!("{name}.tar"));
        made.skopeo(args, &format!("oci-archive:{file}:example.com/bb:2"));
        let images = home.load_file(Path::new(&file));
        assert_eq!(images.len(), 1);
        assert_eq!(familiar(&images[0]), ["example.com/bb:2"]);
        check(&home, &images[0], &format!("oci-archive:{file}"));
    }
}

#[test]
fn a_docker_archive_gets_a_manifest() {
    let made = Made::new();
    let file = made.path("docker.tar");
    let tags = ["--additional-tag", "docker.io/library/bb:latest", "--additional-tag", "example.com/x/bb:1"];
    made.skopeo(&tags, &format!("docker-archive:{file}:bb:1"));
    let plain = fs::read(&file).unwrap();
    let mut ids = Vec::new();
    for bytes in [plain.clone(), gzip(&plain), zstd(&plain)] {
        let home = Home::new();
        let staged = home.load(&bytes).unwrap();
        assert_eq!(home.images.list().unwrap().len(), 0);
        let image = home.images.publish(staged.into_iter().next().unwrap()).unwrap();
        assert_eq!(familiar(&image), ["bb:1", "bb:latest", "example.com/x/bb:1"]);
        check_content(&home, &image);
        // Its manifest is in the store, so the blobs are a layout that others read.
        let config = run("skopeo", &["inspect", "--config", "--raw", &format!("docker-archive:{file}")]);
        assert_eq!(image.id, digest(config.as_bytes()));
        ids.push((image.id, image.manifest));
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "the made manifest is the same every time");
}

#[test]
fn what_podman_saves_loads() {
    let made = Made::new();
    made.skopeo(&[], &format!("docker-archive:{}:example.com/bb:1", made.path("in.tar")));
    let (root, run_root) = (made.path("podman"), made.path("podman-run"));
    let podman = |args: &[&str]| {
        let base = ["--root", &root, "--runroot", &run_root, "--storage-driver", "vfs"];
        run("podman", &[&base[..], args].concat())
    };
    podman(&["load", "-i", &made.path("in.tar")]);
    podman(&["tag", "example.com/bb:1", "example.com/bb:2"]);
    for format in ["docker-archive", "oci-archive"] {
        let file = made.path(&format!("{format}.tar"));
        podman(&["save", "--format", format, "-o", &file, "example.com/bb:1"]);
        let home = Home::new();
        let images = home.load_file(Path::new(&file));
        assert_eq!(familiar(&images[0]), ["example.com/bb:1"]);
        check_content(&home, &images[0]);
        if format == "oci-archive" {
            check(&home, &images[0], &format!("oci-archive:{file}"));
        }
    }
    let file = made.path("many.tar");
    podman(&[
        "save",
        "-m",
        "--format",
        "docker-archive",
        "-o",
        &file,
        "example.com/bb:1",
        "example.com/bb:2",
    ]);
    let home = Home::new();
    let images = home.load_file(Path::new(&file));
    assert_eq!((images.len(), familiar(&images[0]).len()), (1, 2));
}

#[test]
fn every_cut_of_a_real_archive_is_named() {
    let made = Made::new();
    for kind in ["docker-archive", "oci-archive"] {
        let file = made.path(kind);
        made.skopeo(&[], &format!("{kind}:{file}:example.com/bb:1"));
        let whole = fs::read(&file).unwrap();
        let home = Home::new();
        for tenth in 0..10 {
            // Of odd length, so that it does not fall between two blocks.
            let message = home.refused(&whole[..(whole.len() * tenth / 10) | 1]);
            assert!(message.contains("truncated"), "{tenth}/10: {message}");
        }
        let inside = home.refused(&whole[..whole.len() / 3]);
        let named = inside.starts_with("archive ends inside ") && inside.ends_with(": it is truncated");
        assert!(named, "{inside}");
        let packed = gzip(&whole);
        assert!(home.refused(&packed[..packed.len() / 2]).contains("truncated"));
    }
}

#[test]
fn an_imported_tree_is_an_image() {
    let made = Made::new();
    let root = made.path("rootfs.tar");
    run("tar", &["-C", &made.path("rootfs"), "-cf", &root, "."]);
    let plain = fs::read(&root).unwrap();
    run("xz", &["-k", "-0", &root]);
    for bytes in [plain.clone(), gzip(&plain), zstd(&plain)] {
        let home = Home::new();
        let how = image::Import {
            name: Some("tree".parse().unwrap()),
            changes: vec!["CMD [\"/bin/busybox\", \"sh\"]".into(), "ENV A=b".into()],
            message: "from a test".into(),
            platform: None,
        };
        let staged = home.images.import(&mut common::OneByOne(&bytes), &how).unwrap();
        let image = home.images.publish(staged).unwrap();
        assert_eq!(familiar(&image), ["tree:latest"]);
        assert_eq!(image.layers[0].diff_id, digest(&plain));
        assert!(image.layers[0].size < plain.len() as u64);
        assert_eq!(image.config.history[0].comment, "from a test");
        assert_eq!(image.config.os, "linux");
        let home = home.reopen();
        let image = home.images.get("tree").unwrap();
        assert_eq!(image.config.config.cmd.unwrap(), ["/bin/busybox", "sh"]);
        let mut content = Vec::new();
        home.images.open_layer(&image.layers[0]).unwrap().read_to_end(&mut content).unwrap();
        assert!(content == plain);
    }
    let home = Home::new();
    let import = |bytes: &[u8]| {
        let error = home.images.import(&mut &bytes[..], &image::Import::default()).unwrap_err().to_string();
        assert!(home.blobs().is_empty());
        error
    };
    assert!(import(&fs::read(format!("{root}.xz")).unwrap()).contains("xz compression is not supported"));
    assert!(import(&plain[..plain.len() / 2]).contains("cut short"));
    assert!(import(&[b'x'; 4096]).contains("not a file system archive"));
}
