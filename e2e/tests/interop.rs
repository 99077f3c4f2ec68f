//! What knarr saves, others read, and what others lay out of it comes back with the same digests.

use std::{fs, path::PathBuf, process::Command};

use e2e::{Engine, Kind, Program, Setup, knarr_only};
use serde_json::Value;

knarr_only![skopeo_keeps_the_digests, umoci_unpacks_it, podman_and_buildah_read_it, dockerd_reads_it];

struct House {
    engine: Engine,
    /// Of the image `made:1`.
    id: String,
    docker: PathBuf,
    oci: PathBuf,
}

/// An engine with an image of two layers, saved in both forms.
fn house() -> House {
    let engine = Engine::with_busybox(Setup { kind: Some(Kind::Knarr), ..Setup::default() });
    let c = engine.client(Program::Knarr);
    let script = "echo made > /made; rm /etc/group; mkdir -m 1777 /sticky; ln /made /again; ln -s made /link";
    c.run(&format!("run --name one busybox sh -c '{script}'")).ok();
    let id = c.run("commit one made:1").ok().line();
    let [docker, oci] = ["docker.tar", "oci.tar"].map(|name| engine.place.dir.join(name));
    c.run(&format!("save -o {} made:1", docker.display())).ok();
    c.run(&format!("save --format oci -o {} made:1", oci.display())).ok();
    House { engine, id, docker, oci }
}

#[track_caller]
fn tool(words: &[&str]) -> String {
    let output =
        Command::new(words[0]).args(&words[1..]).output().unwrap_or_else(|e| panic!("{}: {e}", words[0]));
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn skopeo_keeps_the_digests() {
    let House { engine, id, docker, oci } = house();
    let c = engine.client(Program::Knarr);
    for (kind, file) in [("docker-archive", &docker), ("oci-archive", &oci)] {
        let source = format!("{kind}:{}", file.display());
        let manifest = json(&tool(&["skopeo", "inspect", "--raw", &source]));
        if kind == "oci-archive" {
            assert_eq!(manifest["config"]["digest"], id.as_str(), "{kind}");
        }
        // From one form to the other, skopeo writes another config.
        let back = engine.place.dir.join(format!("{kind}-back.tar"));
        tool(&["skopeo", "copy", &source, &format!("{kind}:{}:made:2", back.display())]);
        c.run("rmi made:1").ok();
        c.run(&format!("load -i {}", back.display())).ok();
        c.run(&format!("image inspect --format {{{{.Id}}}} {}", &id)).ok().out(&format!("{id}\n"));
        c.run(&format!("run --rm {id} cat /link")).ok().out("made\n");
        c.run(&format!("tag {id} made:1")).ok();
        fs::remove_file(back).expect("remove");
    }
}

fn umoci_unpacks_it() {
    let House { engine, oci, .. } = house();
    let (layout, bundle) = (engine.place.dir.join("layout"), engine.place.dir.join("bundle"));
    fs::create_dir(&layout).expect("layout");
    tool(&["tar", "-C", layout.to_str().expect("path"), "-xf", oci.to_str().expect("path")]);
    // umoci of Debian 12 reads gzip and plain layers: skopeo repacks ours, which are zstd.
    let plain = engine.place.dir.join("plain");
    let (from, to) = (format!("oci:{}:1", layout.display()), format!("oci:{}:1", plain.display()));
    tool(&["skopeo", "copy", "--dest-compress", "--dest-compress-format", "gzip", &from, &to]);
    tool(&["umoci", "unpack", "--image", &format!("{}:1", plain.display()), bundle.to_str().expect("path")]);
    let root = bundle.join("rootfs");
    assert_eq!(fs::read_to_string(root.join("link")).expect("link"), "made\n");
    assert!(!root.join("etc/group").exists() && root.join("etc/passwd").exists());
}

fn podman_and_buildah_read_it() {
    let House { engine, id, docker, oci } = house();
    let dir = engine.place.dir.display().to_string();
    let roots = [format!("{dir}/podman"), format!("{dir}/podman-run")];
    let vfs = ["--root", &roots[0], "--runroot", &roots[1], "--storage-driver", "vfs"];
    let run = |program: &str, words: &[&str]| tool(&[&[program], &vfs[..], words].concat());
    run("podman", &["load", "-i", docker.to_str().expect("path")]);
    let found = run("podman", &["image", "inspect", "--format", "{{.Id}}", "made:1"]);
    assert_eq!(format!("sha256:{}", found.trim()), id, "podman");
    let mounted = run("podman", &["image", "mount", "made:1"]);
    assert_eq!(fs::read_to_string(format!("{}/made", mounted.trim())).expect("made"), "made\n");
    run("podman", &["image", "unmount", "made:1"]);
    run("podman", &["rmi", "-f", "made:1"]);
    let found = run("buildah", &["pull", "--quiet", &format!("oci-archive:{}", oci.display())]);
    assert_eq!(format!("sha256:{}", found.trim()), id, "buildah");
    // And back again.
    let back = engine.place.dir.join("back.tar");
    run(
        "buildah",
        &["push", "--quiet", found.trim(), &format!("oci-archive:{}:localhost/made:3", back.display())],
    );
    let c = engine.client(Program::Knarr);
    c.run(&format!("load -i {}", back.display())).ok().out_has("localhost/made:3");
    c.run("run --rm localhost/made:3 cat /again").ok().out("made\n");
}

fn dockerd_reads_it() {
    let House { engine, id, docker, .. } = house();
    let dockerd = Engine::start(Setup { kind: Some(Kind::Docker), ..Setup::default() });
    let c = dockerd.client(Program::Docker);
    c.run(&format!("load -i {}", docker.display())).ok().out("Loaded image: made:1\n");
    c.run("image inspect --format {{.Id}} made:1").ok().out(&format!("{id}\n"));
    c.run("run --rm --network none made:1 cat /link").ok().out("made\n");
    let back = engine.place.dir.join("from-docker.tar");
    c.run(&format!("save -o {} made:1", back.display())).ok();
    let ours = engine.client(Program::Knarr);
    ours.run("rmi made:1").ok();
    ours.run(&format!("load -i {}", back.display())).ok();
    ours.run("image inspect --format {{.Id}} made:1").ok().out(&format!("{id}\n"));
}
