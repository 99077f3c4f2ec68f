//! Bad input: a clear error that names the thing, Docker's exit code, nothing left behind, the daemon up.
//!
//! What a wrong command line or limit says stands with its area (`run.rs`, `limits.rs`, `mounts.rs`).

use std::{fs, path::PathBuf};

use e2e::{Client, Image, Tar, any_client, busybox, busybox_rootfs, each_client, sha256};
use serde_json::json;

each_client![unknown_image, broken_archives, a_wrong_digest, a_failed_start_leaves_nothing];
any_client![
    truncated_at_any_place,
    entries_that_lead_out,
    entries_that_lead_out_of_the_outer_archive,
    links_that_lead_out,
    strange_entries,
    a_manifest_that_lies,
    an_import_that_breaks_off,
    an_unknown_user_leaves_nothing,
    a_request_that_breaks_off,
];

/// Runs a command that must fail cleanly: the daemon goes on, no image and no container more than before.
#[track_caller]
fn harmless(c: &Client, attempt: impl FnOnce() -> e2e::Output) -> e2e::Output {
    let output = attempt();
    assert!(c.engine().is_up() && c.engine().answers(), "the daemon is gone after {output:?}");
    c.run("run --rm busybox true").ok();
    output
}

fn unknown_image(c: &Client) {
    // Docker tries to pull; both name the image and end with 125.
    harmless(c, || c.run("run --rm --pull never no-such-image true"))
        .code(125)
        .err_has("No such image: no-such-image:latest");
    harmless(c, || c.run("run --rm 'Not A Reference' true")).code(125).err_has("invalid reference format");
    c.run("rmi no-such-image").code(1).err_has("No such image: no-such-image:latest");
    c.run("inspect no-such-image").code(1).has("no-such-image");
}

fn broken_archives(c: &Client) {
    for input in [b"".as_slice(), b"this is no archive\n", &[0; 4096], &[0x1f, 0x8b, 8, 0, 1, 2, 3]] {
        harmless(c, || c.feed("load", input)).fails();
    }
    c.run("load -i /no/such/file.tar").code(1).err_has("/no/such/file.tar");
    harmless(c, || c.feed("load", &Tar::default().file("hello", 0o644, "x").bytes())).code(1);
    if c.is_knarr_engine() {
        harmless(c, || c.feed("load", &Tar::default().file("hello", 0o644, "x").bytes()))
            .err_has("manifest.json");
    }
}

fn truncated_at_any_place(c: &Client) {
    let archive = busybox().docker_archive("cut:1");
    // The last three cuts fall inside the layer, the manifest and before the manifest's header.
    let places = [
        100,
        512,
        700,
        2048,
        archive.len() / 3,
        archive.len() / 2,
        archive.len() - 1024 - 512 - 100,
        archive.len() - 1024 - 1024,
    ];
    for place in places {
        let output = harmless(c, || c.feed("load", &archive[..place]));
        assert!(!output.stderr.trim().is_empty(), "{output:?}");
        output.code(1);
        c.run("images -q cut").ok().out("");
    }
}

fn a_wrong_digest(c: &Client) {
    let name = c.name("wrong");
    let mut image = Image::on_busybox(Tar::default().file("x", 0o644, &name), json!({}));
    let lie = format!("sha256:{}", sha256(b"something else"));
    image.diff_ids = Some(vec![format!("sha256:{}", sha256(&image.layers[0])), lie.clone()]);
    harmless(c, || c.feed("load", &image.docker_archive(&format!("{name}:1")))).code(1).err_has(&lie);
    c.run(&format!("images -q {name}")).ok().out("");
}

fn a_manifest_that_lies(c: &Client) {
    let config = r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let with = |manifest: &str| {
        Tar::default().file("config.json", 0o644, config).file("manifest.json", 0o644, manifest).bytes()
    };
    let lies = [
        r#"[{"Config":"missing.json","RepoTags":["lie:1"],"Layers":[]}]"#,
        r#"[{"Config":"config.json","RepoTags":["lie:1"],"Layers":["missing/layer.tar"]}]"#,
        r#"[{"Config":"../../../../etc/passwd","RepoTags":["lie:1"],"Layers":[]}]"#,
        r#"[{"Config":"/etc/passwd","RepoTags":["lie:1"],"Layers":[]}]"#,
        r#"[{"Config":"config.json","RepoTags":["Not A Name"],"Layers":[]}]"#,
        r#"{"not":"a list"}"#,
        "[{",
    ];
    for lie in lies {
        harmless(c, || c.feed("load", &with(lie))).fails();
        c.run("images -q lie").ok().out("");
    }
}

/// A directory on the host that an archive may try to write to, and a file that it may try to read.
fn canary(c: &Client) -> PathBuf {
    let dir = c.engine().place.dir.join(c.name("canary"));
    fs::create_dir(&dir).expect("make a directory");
    fs::write(dir.join("secret"), "secret\n").expect("write a file");
    dir
}

#[track_caller]
fn assert_untouched(canary: &PathBuf) {
    let names: Vec<_> =
        fs::read_dir(canary).expect("the canary lives").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["secret"]);
    assert_eq!(fs::read_to_string(canary.join("secret")).expect("the secret is there"), "secret\n");
}

fn entries_that_lead_out(c: &Client) {
    let canary = canary(c);
    let path = canary.display().to_string();
    let up = format!("../../../../../../../../../../..{path}");
    let layers = [
        ("up", Tar::default().file(&format!("{up}/made"), 0o644, "x")),
        ("inner-up", Tar::default().dir("a/", 0o755).file(&format!("a/{up}/made"), 0o644, "x")),
        ("absolute", Tar::default().file(&format!("{path}/made"), 0o644, "x")),
        ("symlink", Tar::default().symlink("out", &path).file("out/made", 0o644, "x")),
        ("relative-symlink", Tar::default().symlink("out", &up).file("out/made", 0o644, "x")),
        (
            "symlinked-file",
            Tar::default().symlink("out", &format!("{path}/secret")).file("out", 0o644, "overwritten"),
        ),
        (
            "symlinked-dir",
            Tar::default().symlink("out", &path).dir("out/", 0o700).file("out/made", 0o644, "x"),
        ),
        ("whiteout", Tar::default().symlink("out", &path).file("out/.wh.secret", 0o644, "")),
        ("opaque", Tar::default().symlink("out", &path).file("out/.wh..wh..opq", 0o644, "")),
        ("whiteout-up", Tar::default().file(".wh...", 0o644, "").file("a/.wh...", 0o644, "")),
    ];
    for (name, layer) in layers {
        let image = Image::on_busybox(layer, json!({}));
        let output = harmless(c, || c.feed("load", &image.docker_archive(&format!("{name}:1"))));
        assert_untouched(&canary);
        // Refused, or kept inside: then it runs.
        if output.code == 0 {
            c.run(&format!("run --rm {name}:1 true")).ok();
            c.run(&format!("rmi {name}:1")).ok();
        } else {
            assert!(!output.stderr.is_empty(), "{output:?}");
            c.run(&format!("images -q {name}")).ok().out("");
        }
        assert_untouched(&canary);
    }
}

fn entries_that_lead_out_of_the_outer_archive(c: &Client) {
    let canary = canary(c);
    let path = canary.display().to_string();
    let good = busybox().docker_archive("outer:1");
    let body = good[..good.len() - 1024].to_vec();
    for name in [format!("../../../../../../../../../..{path}/made"), format!("{path}/made")] {
        let archive =
            [Tar::default().file(&name, 0o644, "x").bytes()[..1024].to_vec(), body.clone(), vec![0; 1024]]
                .concat();
        harmless(c, || c.feed("load", &archive));
        assert_untouched(&canary);
    }
    // A layer that is a link to a file of the host must not become one.
    let manifest = r#"[{"Config":"config.json","RepoTags":["outer:2"],"Layers":["layer.tar"]}]"#;
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["sha256:{}"]}}}}"#,
        sha256(b"secret\n")
    );
    let archive = Tar::default()
        .file("config.json", 0o644, config)
        .symlink("layer.tar", &format!("{path}/secret"))
        .file("manifest.json", 0o644, manifest);
    harmless(c, || c.feed("load", &archive.bytes())).fails().err_lacks("secret\\n");
    c.run("rmi -f outer:1");
}

fn links_that_lead_out(c: &Client) {
    let canary = canary(c);
    let path = canary.display().to_string();
    let up = format!("../../../../../../../../../../..{path}");
    for target in [format!("{path}/secret"), format!("{up}/secret"), "out/secret".to_owned()] {
        let layer = Tar::default().symlink("out", &path).link("stolen", 0o644, &target);
        let output =
            harmless(c, || c.feed("load", &Image::on_busybox(layer, json!({})).docker_archive("stealing:1")));
        if output.code == 0 {
            c.run("run --rm stealing:1 cat /stolen").fails().out_lacks("secret");
            c.run("rmi stealing:1").ok();
        }
        assert_untouched(&canary);
    }
    // A volume's target, through a link that the image brought, stays inside too: see mounts.rs.
}

fn strange_entries(c: &Client) {
    let layers = [
        Tar::default().file("", 0o644, "no name"),
        Tar::default().dir("./", 0o700).dir("/", 0o700),
        Tar::default().file("a/b/c/d/e/f", 0o644, "no parents"),
        Tar::default().file("a", 0o644, "file first").file("a/b", 0o644, "then a directory"),
        Tar::default().dir("a/", 0o755).file("a", 0o644, "directory first"),
        Tar::default().symlink("loop", "loop").file("loop/x", 0o644, ""),
        Tar::default().link("self", 0o644, "self"),
    ];
    for (index, layer) in layers.into_iter().enumerate() {
        let name = format!("strange:{index}");
        let output =
            harmless(c, || c.feed("load", &Image::on_busybox(layer, json!({})).docker_archive(&name)));
        if output.code == 0 {
            c.run(&format!("run --rm {name} true")).ok();
            c.run(&format!("rmi {name}")).ok();
        }
    }
}

fn an_import_that_breaks_off(c: &Client) {
    let root = busybox_rootfs().bytes();
    for place in [700, root.len() / 2] {
        harmless(c, || c.feed("import - broken:1", &root[..place])).code(1).err_has("rror");
        c.run("images -q broken").ok().out("");
    }
    harmless(c, || c.feed("import - 'Not A Name'", &root)).code(1).err_has("invalid reference format");
}

fn a_failed_start_leaves_nothing(c: &Client) {
    let name = c.name("failed");
    for (flags, code) in
        [("busybox nonesuch", 127), ("busybox /etc/plain", 126), ("-v /etc:/etc/plain busybox true", 125)]
    {
        harmless(c, || c.run(&format!("run --rm --name {name} {flags}"))).code(code);
        c.run(&format!("inspect {name}")).code(1);
    }
    // Without --rm it is there, says why, and can be removed.
    c.run(&format!("run --name {name} busybox nonesuch")).code(127);
    assert_eq!(c.field(&name, "/State/ExitCode"), 127);
    assert_eq!(c.field(&name, "/State/Status"), "created");
    assert!(c.field(&name, "/State/Error").as_str().is_some_and(|text| text.contains("nonesuch")));
    c.run(&format!("rm {name}")).ok();
}

fn an_unknown_user_leaves_nothing(c: &Client) {
    let name = c.name("user");
    harmless(c, || c.run(&format!("run --rm --name {name} -u nobody-here busybox true")))
        .code(125)
        .err_has("nobody-here");
    c.run(&format!("inspect {name}")).code(1);
}

fn a_request_that_breaks_off(c: &Client) {
    use std::{io::Write, os::unix::net::UnixStream};
    let requests: [&[u8]; 4] = [
        b"POST /v1.41/images/load HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nonly this",
        b"POST /v1.41/containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{",
        b"\x16\x03\x01 not http at all\r\n\r\n",
        b"GET /",
    ];
    for request in requests {
        let mut stream = UnixStream::connect(c.engine().socket()).expect("connect");
        stream.write_all(request).expect("send");
    }
    harmless(c, || c.run("ps")).ok();
}
