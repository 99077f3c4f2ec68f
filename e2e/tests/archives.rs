//! `diff`, `export`, `commit`, `save`, `image squash`: what goes out, and what is made of containers.

use std::{fs, path::PathBuf, process::Command};

use e2e::{Client, any_client, each_client};
use serde_json::{Value, json};

each_client![
    a_diff_tells_what_changed,
    an_export_is_imported_again,
    a_commit_is_the_container,
    a_commit_changes_the_config,
    a_commit_freezes_the_container,
    saved_images_are_loaded_again,
    refusals_of_archives,
];
any_client![commits_stand_on_one_another, nothing_changed_is_no_layer, an_odd_tree_survives_a_commit,];

fn file(c: &Client, name: &str) -> PathBuf {
    c.engine().place.dir.join(c.name(name))
}

/// Runs it, as a container of this name that stays.
fn ran(c: &Client, name: &str, script: &str) -> String {
    let container = c.name(name);
    c.run(&format!("run --name {container} busybox sh -c '{script}'")).ok();
    container
}

fn diff(c: &Client, container: &str) -> Vec<String> {
    let mut lines = c.run(&format!("diff {container}")).ok().lines();
    lines.sort_unstable_by(|one, other| one[2..].cmp(&other[2..]));
    lines
}

fn a_diff_tells_what_changed(c: &Client) {
    let script =
        "echo x > /etc/new; echo y >> /etc/passwd; rm -r /home; mkdir -p /a/b; touch /a/b/c /gone; rm /gone";
    let container = ran(c, "diff", script);
    let expected = ["A /a", "A /a/b", "A /a/b/c", "C /etc", "A /etc/new", "C /etc/passwd", "D /home"];
    assert_eq!(diff(c, &container), expected);
    c.run(&format!("rm {container}")).ok();
    let container = c.name("untouched");
    c.run(&format!("create --name {container} busybox true")).ok();
    c.run(&format!("container diff {container}")).ok().out("");
    c.run(&format!("rm {container}")).ok();
    c.run("diff nobody").code(1).err_has("No such container: nobody");
}

fn an_export_is_imported_again(c: &Client) {
    let container = ran(c, "export", "echo kept > /kept; ln -s kept /link; rm /etc/group");
    let archive = file(c, "export.tar");
    c.run(&format!("export -o {} {container}", archive.display())).ok().out("");
    let names = tar(&["-tf", archive.to_str().expect("path")]);
    for name in ["kept", "link", "etc/passwd", ".dockerenv", "bin/busybox"] {
        assert!(names.lines().any(|line| line == name), "{name} in {names}");
    }
    assert!(!names.contains("etc/group") && !names.contains(".wh."), "{names}");
    let image = c.name("again");
    c.run(&format!("import {} {image}", archive.display())).ok();
    c.run(&format!("run --rm {image} cat /link")).ok().out("kept\n");
    c.run(&format!("rm {container}")).ok();
    c.run(&format!("rmi {image}")).ok();
    fs::remove_file(&archive).expect("remove the archive");
    c.run("export nobody").code(1).err_has("No such container: nobody");
}

fn tar(arguments: &[&str]) -> String {
    let output = Command::new("tar").args(arguments).output().expect("tar");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn inspect(c: &Client, image: &str) -> Value {
    let found: Value = c.run(&format!("image inspect {image}")).ok().json();
    found[0].clone()
}

fn a_commit_is_the_container(c: &Client) {
    let (container, image) = (c.name("made"), format!("{}:1.0", c.name("of")));
    c.run(&format!(
        "run --name {container} -e GREETING=hi -w /tmp --label a=b -u 1000 busybox sh -c 'echo x > /tmp/f'"
    ))
    .ok();
    let id = c.run(&format!("commit -m why -a me {container} {image}")).ok().line();
    assert!(id.starts_with("sha256:"), "{id}");
    let found = inspect(c, &image);
    assert_eq!(
        (&found["Id"], &found["Author"], &found["Comment"]),
        (&json!(id), &json!("me"), &json!("why"))
    );
    let config = &found["Config"];
    assert_eq!(config["Cmd"], json!(["sh", "-c", "echo x > /tmp/f"]));
    assert_eq!((&config["WorkingDir"], &config["User"]), (&json!("/tmp"), &json!("1000")));
    assert_eq!(config["Labels"]["a"], "b");
    let env = config["Env"].as_array().expect("env");
    assert!(env.contains(&json!("GREETING=hi")), "{env:?}");
    c.run(&format!("run --rm {image} cat /tmp/f")).ok().out("x\n");
    // Nothing of the init layer is in it.
    let listed = c
        .run(&format!("history --no-trunc --format {{{{.CreatedBy}}}}#{{{{.Comment}}}} {image}"))
        .ok()
        .lines();
    assert_eq!(listed[0], "sh -c echo x > /tmp/f#why");
    let base = inspect(c, "busybox");
    let layers = |image: &Value| image["RootFS"]["Layers"].as_array().expect("layers").clone();
    assert_eq!(layers(&found)[..layers(&base).len()], layers(&base));
    assert_eq!(layers(&found).len(), layers(&base).len() + 1);
    c.run(&format!("rm {container}")).ok();
    c.run(&format!("rmi {image}")).ok().out_has("Deleted: ");
}

fn a_commit_changes_the_config(c: &Client) {
    let container = ran(c, "change", "true");
    let image = c.name("changed");
    let mut changes = vec![
        "ENTRYPOINT [\"echo\", \"hello\"]",
        "ENV A=1 B=$A",
        "EXPOSE 80/tcp",
        "LABEL one=1",
        "USER nobody",
        "VOLUME /data",
        "WORKDIR /srv",
        "ONBUILD RUN true",
        "HEALTHCHECK --interval=5s CMD true",
    ];
    // Docker takes it since 20.10's successor.
    if c.is_knarr_engine() {
        changes.push("STOPSIGNAL SIGINT");
    }
    let flags: Vec<_> = changes.iter().map(|change| format!("-c '{change}'")).collect();
    c.run(&format!("commit {} {container} {image}", flags.join(" "))).ok();
    let config = inspect(c, &image)["Config"].clone();
    assert_eq!(config["Entrypoint"], json!(["echo", "hello"]));
    assert_eq!(config["Cmd"], json!(null), "a new entrypoint leaves the command behind");
    assert!(config["Env"].as_array().expect("env").contains(&json!("A=1")), "{config}");
    assert_eq!(config["ExposedPorts"], json!({"80/tcp": {}}));
    assert_eq!(config["Volumes"], json!({"/data": {}}));
    assert_eq!(config["OnBuild"], json!(["RUN true"]));
    assert_eq!(config["Healthcheck"], json!({"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000_i64}));
    let words = ["Labels/one", "User", "WorkingDir"].map(|key| config.pointer(&format!("/{key}")));
    assert_eq!(words.map(|word| word.and_then(Value::as_str)), ["1", "nobody", "/srv"].map(Some));
    assert!(!c.is_knarr_engine() || config["StopSignal"] == "SIGINT", "{config}");
    c.run(&format!("commit -c 'RUN x' {container}")).code(1).err_has("is not a valid change command");
    c.run(&format!("rm {container}")).ok();
    c.run(&format!("rmi {image}")).ok();
}

fn a_commit_freezes_the_container(c: &Client) {
    let container = c.start("busybox sleep 100");
    c.run(&format!("exec {container} sh -c 'echo live > /live'")).ok();
    let name = c.name("live");
    let [live, frozen, again] = ["1", "2", "3"].map(|tag| format!("{name}:{tag}"));
    c.run(&format!("commit {container} {live}")).ok();
    assert_eq!(c.field(&container, "/State/Status"), "running", "it was thawed");
    c.run(&format!("pause {container}")).ok();
    c.run(&format!("commit --pause=false {container} {frozen}")).ok();
    assert_eq!(c.field(&container, "/State/Status"), "paused", "and not, where somebody else froze it");
    c.run(&format!("commit {container} {again}")).ok();
    assert_eq!(c.field(&container, "/State/Status"), "paused");
    c.run(&format!("unpause {container}")).ok();
    c.run(&format!("run --rm {live} cat /live")).ok().out("live\n");
    c.run(&format!("rm -f {container}")).ok();
    c.run(&format!("rmi {live} {frozen} {again}")).ok();
}

fn saved_images_are_loaded_again(c: &Client) {
    let container = ran(c, "saved", "echo saved > /f");
    let repository = c.name("save");
    let (one, two) = (format!("{repository}:1"), format!("{repository}:2"));
    let id = c.run(&format!("commit {container} {one}")).ok().line();
    c.run(&format!("tag {one} {two}")).ok();
    let archive = file(c, "save.tar");
    c.run(&format!("save -o {} {one} busybox", archive.display())).ok();
    let names = tar(&["-tf", archive.to_str().expect("path")]);
    assert!(names.contains("manifest.json"), "{names}");
    c.run(&format!("rm {container}")).ok();
    c.run(&format!("rmi {one} {two}")).ok();
    c.run(&format!("load -i {}", archive.display()))
        .ok()
        .out_has(&format!("Loaded image: {one}\n"))
        .out_lacks(&two);
    assert_eq!(inspect(c, &one)["Id"], json!(id));
    c.run(&format!("run --rm {one} cat /f")).ok().out("saved\n");
    // A repository stands for all its tags, an id for no name.
    c.run(&format!("tag {one} {two}")).ok();
    c.run(&format!("save -o {} {repository}", archive.display())).ok();
    c.run(&format!("rmi {one} {two}")).ok();
    c.run(&format!("load -i {}", archive.display())).ok().out_has(&one).out_has(&two);
    c.run(&format!("save -o {} {id}", archive.display())).ok();
    c.run(&format!("rmi {one} {two}")).ok();
    c.run(&format!("load -i {}", archive.display())).ok().out(&format!("Loaded image ID: {id}\n"));
    c.run(&format!("rmi {id}")).ok();
    fs::remove_file(&archive).expect("remove the archive");
}

fn refusals_of_archives(c: &Client) {
    c.run("save nobody").code(1).err_has("nobody");
    c.run("save -o /nowhere/at/all.tar busybox").code(1).err_has("invalid output path");
    c.run("commit nobody").code(1).err_has("No such container: nobody");
    let container = ran(c, "refused", "true");
    c.run(&format!("commit {container} Upper/Case")).code(1).err_has("must be lowercase");
    c.run(&format!("rm {container}")).ok();
}

fn commits_stand_on_one_another(c: &Client) {
    let (mut below, repository) = ("busybox".to_owned(), c.name("steps"));
    for number in 0..3 {
        let container = c.name(&format!("step{number}"));
        c.run(&format!("run --name {container} {below} sh -c 'echo {number} >> /steps; rm -f /only{}; touch /only{number}'", number - 1)).ok();
        below = format!("{repository}:{number}");
        c.run(&format!("commit {container} {below}")).ok();
        c.run(&format!("rm {container}")).ok();
    }
    c.run(&format!("run --rm {below} sh -c 'cat /steps; ls / | grep only'")).ok().out("0\n1\n2\nonly2\n");
    for number in (0..3).rev() {
        c.run(&format!("rmi {repository}:{number}")).ok();
    }
}

fn nothing_changed_is_no_layer(c: &Client) {
    let (container, image) = (c.name("empty"), c.name("same"));
    c.run(&format!("create --name {container} busybox true")).ok();
    c.run(&format!("commit {container} {image}")).ok();
    let layers = |image: &str| inspect(c, image)["RootFS"]["Layers"].clone();
    assert_eq!(layers(&image), layers("busybox"));
    c.run(&format!("rm {container}")).ok();
    c.run(&format!("rmi {image}")).ok();
}

fn an_odd_tree_survives_a_commit(c: &Client) {
    let script = "mkdir -p /d/deep && cd /d && echo 1 > one && ln one two && ln -s ../nowhere link && mkfifo pipe \
                  && mknod null c 1 3 && chmod 1777 deep && chown 12345:54321 one && chmod 4755 one \
                  && touch -t 200001020304.05 deep && touch -h -t 200001020304.05 link \
                  && dd if=/dev/zero of=sparse bs=1 count=1 seek=20M 2>/dev/null";
    let listing =
        "cd /d && stat -c %n:%F:%a:%u:%g:%Y:%h:%t.%T one two link pipe null deep && stat -c %s sparse";
    let (container, image) = (c.name("odd"), c.name("oddities"));
    c.run(&format!("run --name {container} busybox sh -c '{script}; {listing}'")).ok();
    let before = c.run(&format!("logs {container}")).ok().lines();
    c.run(&format!("commit {container} {image}")).ok();
    let after = c.run(&format!("run --rm {image} sh -c '{listing}'")).ok().lines();
    assert_eq!(before, after);
    c.run(&format!("rm {container}")).ok();
    c.run(&format!("rmi {image}")).ok();
}
