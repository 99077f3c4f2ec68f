//! `system df`, the prunes, `image tree`, `image squash`: what there is on disk, and less of it.

use std::{path::Path, process::Command};

use e2e::{Client, Engine, Image, Kind, Setup, Tar, any_client, each_client, knarr_only};
use serde_json::{Value, json};

each_client![prunes_ask_first, df_shows_every_kind];
any_client![image_prune_takes_what_nobody_uses, container_prune_takes_what_has_ended, filters_of_images];
knarr_only![
    df_is_what_du_says,
    a_tree_of_images,
    a_squashed_image_is_the_same_in_one_layer,
    a_commit_may_be_squashed
];

/// An image of one more layer on busybox.
fn layered(c: &Client, name: &str, labels: &Value) {
    let layer = Tar::default().file("layer", 0o644, name);
    let image = Image::on_busybox(layer, json!({"Cmd": ["sh"], "Labels": labels}));
    c.feed("load", &image.docker_archive(&format!("{name}:latest"))).ok();
}

fn prunes_ask_first(c: &Client) {
    let warning = "Are you sure you want to continue? [y/N] ";
    c.feed("container prune", b"n\n")
        .out_has("WARNING! This will remove all stopped containers.")
        .out_has(warning);
    c.feed("image prune -a", b"")
        .out_has("WARNING! This will remove all images without at least one container associated to them.");
    c.feed("system prune", b"N\n").out_has("  - all stopped containers\n  - all networks not used");
    c.run("images -q busybox").ok().out_has("");
}

fn df_shows_every_kind(c: &Client) {
    let lines = c.run("system df").ok().lines();
    for (line, kind) in lines.iter().skip(1).zip(["Images", "Containers", "Local Volumes", "Build Cache"]) {
        assert!(line.starts_with(kind), "{lines:?}");
    }
    c.run("system df -v")
        .ok()
        .out_has("Images space usage:")
        .out_has("Containers space usage:")
        .out_has("busybox");
    c.run("system df --format {{.Type}}").ok().out("Images\nContainers\nLocal Volumes\nBuild Cache\n");
}

fn image_prune_takes_what_nobody_uses(c: &Client) {
    let (name, other) = (c.name("pruned"), c.name("labelled"));
    layered(c, &name, &json!(null));
    layered(c, &other, &json!({"keep": "no"}));
    let id = |name: &str| c.run(&format!("images -q --no-trunc {name}")).ok().line();
    let (first, labelled) = (id(&name), id(&other));
    c.run(&format!("tag busybox {name}")).ok();
    c.run("images -q --no-trunc --filter dangling=true").ok().out_has(&first);
    c.run("image prune -f")
        .ok()
        .out_has(&format!("deleted: {first}\n"))
        .out_has("Total reclaimed space: ")
        .out_lacks(&labelled);
    c.run("image prune -f").ok().out("Total reclaimed space: 0B\n");
    c.run("image prune -a -f --filter label=keep=no")
        .ok()
        .out_has(&format!("untagged: {other}:latest\n"))
        .out_has(&format!("deleted: {labelled}\n"));
    c.run(&format!("images -q {name}")).ok().out_lacks("sha256:x");
    c.run(&format!("rmi {name}")).ok();
    c.run("image prune -f --filter until=nonsense").code(1);
}

fn container_prune_takes_what_has_ended(c: &Client) {
    let (ended, label) = (c.name("ended"), c.name("label"));
    c.run(&format!("run --name {ended} --label {label} busybox sh -c 'dd if=/dev/zero of=/f bs=1M count=2'"))
        .ok();
    let runs = c.start(&format!("--label {label} busybox sleep 100"));
    let said = c.run(&format!("container prune -f --filter label={label}")).ok();
    let said = said.out_has("Deleted Containers:\n").out_lacks(&runs).all();
    assert!(!said.contains("reclaimed space: 0B"), "{said}");
    c.run(&format!("rm -f {runs}")).ok();
}

fn filters_of_images(c: &Client) {
    let names = ["one", "two"].map(|stem| c.name(stem));
    for name in &names {
        layered(c, name, &json!({"of": name}));
    }
    let found = |filter: &str| {
        let mut found = c.run(&format!("images --format {{{{.Repository}}}} {filter}")).ok().lines();
        found.retain(|name| names.contains(name));
        found.sort_unstable();
        found
    };
    assert_eq!(found(""), names);
    assert_eq!(found(&format!("--filter label=of={}", names[0])), names[..1]);
    assert_eq!(found(&format!("--filter reference={}", names[1])), names[1..]);
    assert_eq!(found("--filter dangling=true"), [""; 0]);
    assert_eq!(found("--filter dangling=false"), names);
    assert_eq!(found("--filter before=busybox"), [""; 0]);
    // Docker has it since 24.0.
    if c.is_knarr_engine() {
        assert_eq!(found("--filter until=1971-01-01T00:00:00Z"), [""; 0]);
    }
    c.run("images --filter nonsense=1").code(1).err_has("nvalid filter 'nonsense'");
    c.run(&format!("rmi {}", names.join(" "))).ok();
}

fn du(path: &Path) -> u64 {
    let output = Command::new("du").args(["-s", "--block-size=1"]).arg(path).output().expect("du");
    let text = String::from_utf8_lossy(&output.stdout);
    text.split_whitespace().next().and_then(|bytes| bytes.parse().ok()).expect("bytes")
}

fn df_is_what_du_says() {
    let engine = Engine::with_busybox(Setup { kind: Some(Kind::Knarr), ..Setup::default() });
    let c = engine.any_client();
    let noise = "dd if=/dev/urandom of=/noise bs=1M count=60 2>/dev/null; for i in $(seq 300); do echo $i > /f$i; done";
    c.run(&format!("run --name one busybox sh -c '{noise}'")).ok();
    c.run("commit one two").ok();
    c.run("run --name three two sh -c 'dd if=/dev/urandom of=/more bs=1M count=40; head -c 3000000 /dev/urandom | base64'")
        .code(0);
    c.run("tag two four").ok();
    let (_, used) = engine.get("/system/df").expect("df");
    let bytes = |pointer: &str| used.pointer(pointer).and_then(Value::as_u64).expect("bytes");
    let containers = used["Containers"].as_array().expect("containers");
    let own: u64 = containers.iter().map(|container| container["SizeRw"].as_u64().expect("size")).sum();
    let told = bytes("/LayersSize") + own;
    e2e::until("what du counts is what df tells", || {
        let found = du(&engine.data_root());
        found.abs_diff(told) * 100 <= found
    });
    // Shared layers count once, and what is gone gives its space back.
    let sum: u64 = used["Images"]
        .as_array()
        .expect("images")
        .iter()
        .map(|image| image["Size"].as_u64().unwrap_or(0))
        .sum();
    assert!(sum > bytes("/LayersSize"), "{used}");
    c.run("rm one three").ok();
    c.run("system prune -a -f").ok().out_has("deleted: ");
    e2e::until("the disk is free again", || du(&engine.data_root()) < 8 << 20);
    engine.assert_clean();
}

fn a_tree_of_images() {
    let engine = Engine::with_busybox(Setup { kind: Some(Kind::Knarr), ..Setup::default() });
    let c = engine.client(e2e::Program::Knarr);
    layered(&c, "above", &json!(null));
    let drawn = c.run("image tree").ok().all();
    let layers: Vec<_> =
        drawn.lines().filter(|line| line.contains("busybox") || line.contains("above")).collect();
    assert!(
        layers[0].contains("busybox:latest")
            && layers[1].starts_with("└─ ")
            && layers[1].contains("above:latest"),
        "{drawn}"
    );
    let tree: Value = c.run("image tree --format json").ok().json();
    let of = |name: &str| {
        let all = tree["Images"].as_array().expect("images");
        all.iter().find(|image| image["RepoTags"][0] == name).expect("there").clone()
    };
    let (busybox, above) = (of("busybox:latest"), of("above:latest"));
    assert_eq!(above["Layers"][0], busybox["Layers"][0]);
    assert!(
        above["Shared"].as_u64() > Some(0) && above["Shared"].as_u64() < above["Size"].as_u64(),
        "{above}"
    );
}

fn a_squashed_image_is_the_same_in_one_layer() {
    let engine = Engine::with_busybox(Setup { kind: Some(Kind::Knarr), ..Setup::default() });
    let c = engine.client(e2e::Program::Knarr);
    c.run("run --name one busybox sh -c 'dd if=/dev/urandom of=/big bs=1M count=8; echo kept > /kept'").ok();
    c.run("commit one two").ok();
    c.run("run --name three two sh -c 'rm /big /etc/group; echo more >> /kept'").ok();
    c.run("commit -c 'ENV A=1' three four").ok();
    let id = c.run("image squash -t five -m small four").ok().line();
    let found: Value = c.run("image inspect five").ok().json();
    assert_eq!(found[0]["Id"], json!(id));
    assert_eq!(found[0]["RootFS"]["Layers"].as_array().map(Vec::len), Some(1));
    let listing = "sh -c 'cat /kept; env | grep A=; ls / /etc; ls -ln /bin | wc -l'";
    let before = c.run(&format!("run --rm four {listing}")).ok().lines().join("\n") + "\n";
    c.run(&format!("run --rm five {listing}")).ok().out(&before);
    let size = |name: &str| found_size(&c, name);
    assert!(size("five") + (8 << 20) < size("four"), "what upper layers removed takes no space any more");
    c.run("history --format {{.Comment}} five").ok().out_has("small");
    let again = c.run("image squash four").ok().line();
    let layers = |name: &str| -> Value {
        let found: Value = c.run(&format!("image inspect {name}")).ok().json();
        found[0]["RootFS"]["Layers"].clone()
    };
    assert_eq!(layers(&again), layers("five"), "the same layer every time");
    engine.assert_clean();
}

fn found_size(c: &Client, name: &str) -> u64 {
    let found: Value = c.run(&format!("image inspect {name}")).ok().json();
    found[0]["Size"].as_u64().expect("size")
}

fn a_commit_may_be_squashed() {
    let engine = Engine::with_busybox(Setup { kind: Some(Kind::Knarr), ..Setup::default() });
    let c = engine.client(e2e::Program::Knarr);
    c.run("run --name one busybox sh -c 'echo kept > /kept; rm /etc/group'").ok();
    c.run("commit --squash one two").ok();
    let found: Value = c.run("image inspect two").ok().json();
    assert_eq!(found[0]["RootFS"]["Layers"].as_array().map(Vec::len), Some(1));
    c.run("export -o /dev/null one").ok();
    let names = c.run("run --rm two sh -c 'cat /kept; ls /etc/group /.dockerenv 2>&1'").all();
    assert!(names.contains("kept") && names.contains("/etc/group: No such file"), "{names}");
    // Also where the image itself has gone.
    c.run("rmi -f busybox").ok();
    c.run("commit one three").code(1).err_has("commit it with --squash");
    c.run("commit --squash one three").ok();
    c.run("run --rm three cat /kept").ok().out("kept\n");
}
