//! Images and containers that lay traps where the engine reads and writes in their root: nothing outside is touched,
//! nothing waits for ever.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use e2e::{Client, Image, Tar, any_client};
use serde_json::json;

any_client![
    user_databases_of_all_kinds,
    what_the_engine_makes_is_there_already,
    a_container_that_replaced_its_directories_starts_again,
    volumes_that_lead_out,
    a_line_break_is_no_line_of_passwd,
    labels_of_binds_change_nothing_on_the_host,
];

/// A directory of the host that nobody may touch.
struct Canary(PathBuf);

impl Canary {
    fn new(c: &Client) -> Self {
        let path = c.engine().place.dir.join(c.name("canary"));
        fs::create_dir(&path).expect("make a directory");
        fs::write(path.join("f"), "known:x:0:0::/:\n").expect("write a file");
        Self(path)
    }

    fn path(&self) -> String {
        self.0.display().to_string()
    }

    #[track_caller]
    fn assert_untouched(&self, story: &str) {
        let names: Vec<_> =
            fs::read_dir(&self.0).expect("look").flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(names, ["f"], "{story}");
        assert_eq!(fs::read_to_string(self.0.join("f")).expect("read"), "known:x:0:0::/:\n", "{story}");
    }
}

/// Loads busybox with one more layer.
fn load(c: &Client, name: &str, layer: Tar, config: serde_json::Value) -> String {
    let name = format!("{}:1", c.name(name));
    c.feed("load", &Image::on_busybox(layer, config).docker_archive(&name)).ok();
    name
}

fn user_databases_of_all_kinds(c: &Client) {
    let canary = Canary::new(c);
    let many = "another:x:7:7::/home:\n".repeat(60_000);
    let etc = || Tar::default().dir("etc/", 0o755);
    let mut kinds = vec![
        ("link to the host", etc().symlink("etc/passwd", &canary.0.join("f").display().to_string()), None),
        ("link up and out", etc().symlink("etc/passwd", &format!("../../../../..{}/f", canary.path())), None),
        ("endless", etc().symlink("etc/passwd", "/dev/zero"), None),
        ("directory", etc().dir("etc/passwd/", 0o755), None),
        (
            "line breaks and zeros",
            etc().file("etc/passwd", 0o644, "a:x:1:1::/:\r\n\0\0\nknown\0:x:0:0::/:\r\nb:x:2:2::/:"),
            Some("b"),
        ),
        ("large", etc().file("etc/passwd", 0o644, many), None),
        ("one line", etc().file("etc/passwd", 0o644, "x".repeat(3 << 20)), None),
    ];
    if c.is_knarr_engine() {
        // Docker waits for somebody to write.
        kinds.push(("pipe", etc().pipe("etc/passwd"), None));
    }
    for (story, layer, known) in kinds {
        let image = load(c, "users", layer.clone(), json!({}));
        let began = Instant::now();
        let output = c.run(&format!("run --rm -u known {image} id -u"));
        assert!(output.code != 0, "{story}: {output:?}");
        assert!(began.elapsed() < Duration::from_secs(20), "{story} took {:?}", began.elapsed());
        if let Some(name) = known {
            c.run(&format!("run --rm -u {name} {image} id -u")).ok().out("2\n");
        }
        canary.assert_untouched(story);
        c.run(&format!("rmi {image}")).ok();
    }
}

fn what_the_engine_makes_is_there_already(c: &Client) {
    for name in ["etc/hosts", "etc/hostname", "etc/resolv.conf", ".dockerenv", "work", "dev", "proc", "sys"] {
        for kind in ["link", "dangling link", "pipe", "directory"] {
            let canary = Canary::new(c);
            let layer = match kind {
                "link" => Tar::default().symlink(name, &canary.path()),
                "dangling link" => Tar::default().symlink(name, &format!("{}/new", canary.path())),
                "pipe" => Tar::default().pipe(name),
                _ => Tar::default().dir(&format!("{name}/"), 0o755),
            };
            let image = load(c, "traps", layer, json!({ "WorkingDir": "/work/deep" }));
            let output = c.run(&format!("run --rm {image} true"));
            canary.assert_untouched(&format!("{name} is a {kind}: {output:?}"));
            assert!(output.code < 128, "{name} is a {kind}: {output:?}");
            c.run(&format!("rmi {image}")).ok();
            fs::remove_dir_all(&canary.0).expect("remove the canary");
        }
    }
}

fn a_container_that_replaced_its_directories_starts_again(c: &Client) {
    let canary = Canary::new(c);
    let replace = format!(
        "for d in etc dev run work tmp; do mv /$d /old.$d; ln -s {0} /$d; done 2>/dev/null; ln -sf {0}/new /.dockerenv; exit 7",
        canary.path()
    );
    let name = c.name("replaces");
    c.run(&format!("run --name {name} -w /work/deep --tmpfs /run/secrets busybox sh -c '{replace}'")).code(7);
    for _ in 0..5 {
        let _ = c.run(&format!("start -a {name}"));
        canary.assert_untouched("it started again");
    }
    c.run(&format!("rm {name}")).ok();
}

fn volumes_that_lead_out(c: &Client) {
    let canary = Canary::new(c);
    let source = canary.path();
    for place in ["/x/../../../..", "/..", "/proc", "/proc/self", "/p/self", "/x/../proc/sys"] {
        let layer = Tar::default().symlink("p", "proc");
        let image = load(c, "volumes", layer.clone(), json!({}));
        let output = c.run(&format!("run --rm -v {source}:{place}:ro {image} true"));
        assert!(output.code != 0, "{place}: {output:?}");
        c.run(&format!("rmi {image}")).ok();
        canary.assert_untouched(place);
    }
    for place in ["/x/../../../..", &format!("/out{source}"), "/proc"] {
        let layer = Tar::default().symlink("out", "/../../../..");
        let volumes = json!({ "Volumes": { place: {} } });
        let image = load(c, "declares", layer, volumes);
        let _ = c.run(&format!("run --rm {image} sh -c 'touch {place}/made'"));
        canary.assert_untouched(place);
        assert!(!Path::new("/made").exists());
        c.run(&format!("rmi {image}")).ok();
    }
}

fn a_line_break_is_no_line_of_passwd(c: &Client) {
    let evil = "/\nevil::0:0::/:/bin/sh";
    let mut command = c.command("run --rm -u 1234");
    command.args([
        "-e",
        &format!("HOME={evil}"),
        "-e",
        &format!("USER={evil}"),
        "busybox",
        "cat",
        "/etc/passwd",
    ]);
    let output = command.output().expect("run a client");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && !text.contains("evil"), "{text}");
    let output = c.run("run --rm -w '/a\nb' busybox cat /etc/passwd");
    assert!(!output.stdout.contains("\nb"), "{output:?}");
}

fn labels_of_binds_change_nothing_on_the_host(c: &Client) {
    let canary = Canary::new(c);
    for word in ["z", "Z"] {
        let before = fs::symlink_metadata(&canary.0).expect("look");
        // Where there is SELinux, knarr says that it does not label.
        let _ = c.run(&format!("run --rm -v {}:/m:ro,{word} busybox true", canary.path()));
        let after = fs::symlink_metadata(&canary.0).expect("look");
        assert_eq!(changed(&before), changed(&after), "{word}");
        canary.assert_untouched(word);
    }
}

/// When the inode was last changed, also in its attributes.
fn changed(of: &fs::Metadata) -> (i64, i64) {
    use std::os::unix::fs::MetadataExt;
    (of.ctime(), of.ctime_nsec())
}
