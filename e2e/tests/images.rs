//! `load`, `import`, `images`, `tag`, `rmi`: images by the tools that people make them with.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use e2e::{Client, Image, Kind, Tar, any_client, busybox, each_client};
use serde_json::json;

each_client![load_from_a_pipe_and_a_file, import_a_root, list_tag_and_remove, an_image_in_use];
any_client![
    what_docker_save_writes,
    what_podman_save_writes,
    what_skopeo_writes,
    a_debootstrap_tree,
    compressed_layers_and_archives,
    whiteouts_and_opaque_directories,
    owners_modes_times_and_links,
    several_layers,
    many_layers,
];

fn file(c: &Client, name: &str) -> PathBuf {
    c.engine().place.dir.join(c.name(name))
}

#[track_caller]
fn tool(line: &str) {
    let words = e2e::words(line);
    let output = Command::new(&words[0])
        .args(&words[1..])
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", words[0]));
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Loads it and runs it, by the name that it brings.
#[track_caller]
fn loads_and_runs(c: &Client, archive: &Path, name: &str) {
    c.run(&format!("load -i {}", archive.display())).ok().out_has(name);
    c.run(&format!("run --rm {name} sh -c 'echo from $0 {name}'")).ok().out(&format!("from sh {name}\n"));
    c.run(&format!("rmi {name}")).ok().out_has("Untagged: ");
    fs::remove_file(archive).expect("remove the archive");
}

fn load_from_a_pipe_and_a_file(c: &Client) {
    let name = format!("{}:7", c.name("piped"));
    c.feed("load", &busybox().docker_archive(&name)).ok().out(&format!("Loaded image: {name}\n"));
    c.run(&format!("run --rm {name} echo runs")).ok().out("runs\n");
    c.run(&format!("rmi {name}")).ok();
    let path = file(c, "load.tar");
    fs::write(&path, busybox().docker_archive(&name)).expect("write the archive");
    c.run(&format!("load --input {}", path.display())).ok().out(&format!("Loaded image: {name}\n"));
    c.run(&format!("rmi {name}")).ok().out_has(&format!("Untagged: {name}"));
}

fn import_a_root(c: &Client) {
    let name = c.name("imported");
    let path = file(c, "root.tar");
    fs::write(&path, e2e::busybox_rootfs().bytes()).expect("write the archive");
    let id = c.run(&format!("import {} {name}", path.display())).ok().line();
    assert!(id.starts_with("sha256:"), "{id}");
    c.run(&format!("run --rm {name} /bin/echo runs")).ok().out("runs\n");
    // It has no command of its own.
    c.run(&format!("run --rm {name}")).code(125).err_has("o command specified");
    c.run(&format!("rmi {name}")).ok();
    c.feed(
        &format!("import -c 'CMD [\"/bin/echo\",\"changed\"]' -c 'ENV A=b' -m 'a message' - {name}:2"),
        &e2e::busybox_rootfs().bytes(),
    )
    .ok();
    c.run(&format!("run --rm {name}:2")).ok().out("changed\n");
    c.run(&format!("run --rm {name}:2 /bin/sh -c 'echo $A'")).ok().out("b\n");
    c.run(&format!("rmi {name}:2")).ok();
}

fn list_tag_and_remove(c: &Client) {
    let name = c.name("listed");
    let image = Image::on_busybox(Tar::default().file("unique", 0o644, &name), json!({ "Cmd": ["sh"] }));
    c.feed("load", &image.docker_archive(&format!("{name}:1"))).ok();
    c.run(&format!("tag {name}:1 {name}:two")).ok().out("");
    c.run(&format!("tag {name}:1 registry.example:5000/team/{name}")).ok();
    let table = c.run(&format!("images {name}")).ok();
    assert!(
        ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"].iter().all(|title| table.stdout.contains(title)),
        "{table:?}"
    );
    assert_eq!(table.lines().len(), 3, "{table:?}");
    let ids = c.run(&format!("images -q --no-trunc {name}")).ok().lines();
    assert!(ids[0] == ids[1] && ids[0].starts_with("sha256:"), "{ids:?}");
    c.run(&format!("run --rm {} cat /unique", &ids[0][7..19])).ok().out(&name);
    c.run(&format!("rmi {name}:1")).ok().out(&format!("Untagged: {name}:1\n"));
    c.run(&format!("rmi {name}:1")).code(1).err_has(&format!("No such image: {name}:1"));
    c.run(&format!("rmi {name}:two")).ok().out(&format!("Untagged: {name}:two\n"));
    c.run(&format!("rmi registry.example:5000/team/{name}")).ok().out_has(&format!("Deleted: {}", ids[0]));
    c.run(&format!("images -q {name}")).ok().out("");
    c.run("tag nobody-here x:y").code(1).err_has("No such image: nobody-here:latest");
    c.run("tag busybox 'Not A Name'").code(1).err_has("invalid reference format");
}

fn an_image_in_use(c: &Client) {
    let name = c.name("used");
    let image = Image::on_busybox(Tar::default().file("unique", 0o644, &name), json!({}));
    c.feed("load", &image.docker_archive(&format!("{name}:latest"))).ok();
    let id = c.start(&format!("{name} sleep 100"));
    c.run(&format!("rmi {name}")).code(1).err_has("is using").err_has(&id[..12]);
    c.run(&format!("rm -f {id}")).ok();
    c.run(&format!("rmi {name}")).ok().out_has("Deleted: sha256:");
}

fn what_docker_save_writes(c: &Client) {
    // By a private dockerd, whichever engine is tested.
    let oracle = e2e::Engine::with_busybox(e2e::Setup { kind: Some(Kind::Docker), ..Default::default() });
    let path = file(c, "docker-save.tar");
    let docker = oracle.client(e2e::Program::Docker);
    docker.run("tag busybox saved-by-docker:1").ok();
    docker.run(&format!("save -o {} saved-by-docker:1", path.display())).ok();
    loads_and_runs(c, &path, "saved-by-docker:1");
}

fn what_skopeo_writes(c: &Client) {
    let source = file(c, "source.tar");
    fs::write(&source, busybox().docker_archive("source:1")).expect("write the archive");
    let path = file(c, "skopeo-docker.tar");
    tool(&format!(
        "skopeo copy -q --insecure-policy docker-archive:{} docker-archive:{}:by-skopeo:1",
        source.display(),
        path.display()
    ));
    loads_and_runs(c, &path, "by-skopeo:1");
    // Docker reads OCI archives from 25.0 on.
    if c.is_knarr_engine() {
        let path = file(c, "skopeo-oci.tar");
        tool(&format!(
            "skopeo copy -q --insecure-policy docker-archive:{} oci-archive:{}:docker.io/library/by-skopeo:2",
            source.display(),
            path.display()
        ));
        loads_and_runs(c, &path, "by-skopeo:2");
    }
}

fn what_podman_save_writes(c: &Client) {
    let source = file(c, "source.tar");
    fs::write(&source, busybox().docker_archive("podman-source:1")).expect("write the archive");
    let root = file(c, "podman");
    let podman = format!(
        "podman --root {0}/root --runroot {0}/run --tmpdir {0}/tmp --storage-driver vfs --cgroup-manager cgroupfs",
        root.display()
    );
    tool(&format!("{podman} load -q -i {}", source.display()));
    let path = file(c, "podman-docker.tar");
    tool(&format!("{podman} save -q -o {} localhost/podman-source:1", path.display()));
    loads_and_runs(c, &path, "localhost/podman-source:1");
    if c.is_knarr_engine() {
        let path = file(c, "podman-oci.tar");
        tool(&format!(
            "{podman} save -q --format oci-archive -o {} localhost/podman-source:1",
            path.display()
        ));
        loads_and_runs(c, &path, "localhost/podman-source:1");
    }
    tool(&format!("{podman} rmi -a -f"));
    tool(&format!("rm -rf --one-file-system {}", root.display()));
}

fn a_debootstrap_tree(c: &Client) {
    let tree = e2e::debian_rootfs();
    c.run(&format!("import {} debian:e2e", tree.display())).ok().out_has("sha256:");
    c.run("run --rm debian:e2e bash -c 'echo $BASH_VERSION; . /etc/os-release; echo $ID'")
        .ok()
        .out_has("\ndebian\n");
    c.run("run --rm -u www-data debian:e2e sh -c 'id -un; dpkg -s bash | grep ^Status'")
        .ok()
        .out("www-data\nStatus: install ok installed\n");
    c.run("run --rm debian:e2e sh -c 'stat -c %a /usr/bin/passwd /tmp; getent passwd root'")
        .ok()
        .out("4755\n1777\nroot:x:0:0:root:/root:/bin/bash\n");
    c.run("rmi debian:e2e").ok();
}

fn compressed_layers_and_archives(c: &Client) {
    for (pack, name) in [("gzip", "gz"), ("xz", "xz"), ("zstd", "zst"), ("bzip2", "bz2")] {
        let path = file(c, "packed.tar");
        fs::write(&path, busybox().docker_archive(&format!("packed:{name}"))).expect("write the archive");
        tool(&format!("{pack} {}", path.display()));
        let packed = PathBuf::from(format!("{}.{name}", path.display()));
        // 20.10 does not know zstd; knarr says of the two old ones that it does not.
        match (pack, c.is_knarr_engine()) {
            ("zstd", false) => {}
            ("xz" | "bzip2", true) => {
                c.run(&format!("load -i {}", packed.display()))
                    .code(1)
                    .err_has(&format!("{pack} compression is not supported"));
            }
            _ => loads_and_runs(c, &packed, &format!("packed:{name}")),
        }
    }
}

fn whiteouts_and_opaque_directories(c: &Client) {
    let mut image = Image::on_busybox(
        Tar::default()
            .dir("d/", 0o755)
            .file("d/a", 0o644, "a")
            .file("d/b", 0o644, "b")
            .dir("e/", 0o755)
            .file("e/old", 0o644, "old"),
        json!({}),
    );
    image.layers.push(
        Tar::default()
            .file("d/.wh.a", 0o644, "")
            .file("e/.wh..wh..opq", 0o644, "")
            .file("e/new", 0o644, "new")
            .file(".wh.home", 0o644, "")
            .bytes(),
    );
    c.feed("load", &image.docker_archive("whiteouts:1")).ok();
    c.run("run --rm whiteouts:1 sh -c 'ls -A /d /e; test -e /home || echo no home'")
        .ok()
        .out("/d:\nb\n\n/e:\nnew\nno home\n");
    c.run("rmi whiteouts:1").ok();
}

fn owners_modes_times_and_links(c: &Client) {
    let root = file(c, "tree");
    let script = format!(
        "mkdir -p {0}/bin {0}/dir && cp /bin/busybox {0}/bin/ && ln {0}/bin/busybox {0}/bin/sh && ln {0}/bin/busybox {0}/bin/stat && cd {0} && \
         echo x >suid && chown 1000:50 suid && chmod 6755 suid && ln suid hard && ln -s suid soft && chmod 1777 dir && mkfifo pipe && mknod null c 1 3 && \
         touch -d @1234567890 old && mkdir sbin && cp bin/busybox sbin/busybox && setcap cap_net_raw+ep sbin/busybox && \
         mkdir -p {1} && tar --xattrs --xattrs-include='*' -cf {0}.tar .",
        root.display(),
        "$(printf 'long%.0s' $(seq 1 50))/$(printf 'name%.0s' $(seq 1 50))",
    );
    tool(&format!("sh -euc \"{script}\""));
    c.run(&format!("import {}.tar tree:1", root.display())).ok();
    c.run("run --rm tree:1 /bin/stat -c '%u %g %a %h' /suid").ok().out("1000 50 6755 2\n");
    c.run("run --rm tree:1 /bin/stat -c '%N' /soft").ok().out_has("suid");
    c.run("run --rm tree:1 /bin/stat -c '%F %a' /dir").ok().out("directory 1777\n");
    c.run("run --rm tree:1 /bin/stat -c '%F' /pipe /null").ok().out("fifo\ncharacter special file\n");
    c.run("run --rm tree:1 /bin/stat -c '%Y' /old").ok().out("1234567890\n");
    c.run("run --rm tree:1 /bin/sh -c 'for f in /long*/*; do echo ${#f}; done'").ok().out("402\n");
    c.run("run --rm -u 1000 tree:1 /sbin/busybox grep CapEff /proc/self/status")
        .ok()
        .out("CapEff:\t0000000000002000\n");
    c.run("rmi tree:1").ok();
    tool(&format!("rm -rf --one-file-system {0} {0}.tar", root.display()));
}

fn several_layers(c: &Client) {
    let mut image =
        Image::on_busybox(Tar::default().file("which", 0o644, "second"), json!({ "Cmd": ["cat", "/which"] }));
    image.layers.push(Tar::default().file("which", 0o644, "third").bytes());
    c.feed("load", &image.docker_archive("layers:1")).ok();
    c.run("run --rm layers:1").ok().out("third");
    assert_eq!(c.field("layers:1", "/RootFS/Layers").as_array().map(Vec::len), Some(3));
    c.run("rmi layers:1").ok();
    c.run("run --rm busybox true").ok();
}

fn many_layers(c: &Client) {
    let mut image = busybox();
    image
        .layers
        .extend((0..120).map(|index| Tar::default().file(&format!("file{index}"), 0o644, "x").bytes()));
    c.feed("load", &image.docker_archive("many:1")).ok();
    c.run("run --rm many:1 sh -c 'ls /file* | wc -l'").ok().out("120\n");
    c.run("rmi many:1").ok();
}
