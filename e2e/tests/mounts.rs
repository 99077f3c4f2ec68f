//! `-v`, `--tmpfs`, `--read-only`, and what is in the root from the start.

use std::{fs, os::unix::fs::MetadataExt, path::PathBuf};

use e2e::{Client, any_client, each_client};

each_client![
    a_directory_read_write,
    a_directory_read_only,
    one_file,
    a_missing_source_is_made,
    a_missing_source_of_mount_is_an_error,
    wrong_binds,
    tmpfs,
    read_only_root,
    hosts_hostname_resolv_conf,
    dockerenv_and_dev,
    shm,
];
any_client![
    submounts_come_along_and_stay_read_only,
    a_symlink_in_the_image_cannot_lead_a_bind_out,
    the_image_is_not_touched,
    nothing_of_ours_is_in_the_writable_layer,
    an_image_with_its_own_hosts_keeps_it,
];

/// A directory on the host for one test.
fn host_dir(c: &Client) -> PathBuf {
    let dir = c.engine().place.dir.join(c.name("shared"));
    fs::create_dir(&dir).expect("make a directory");
    fs::write(dir.join("from-host"), "host\n").expect("write a file");
    dir
}

fn a_directory_read_write(c: &Client) {
    let dir = host_dir(c);
    c.run(&format!("run --rm -v {}:/mnt/deep/down busybox sh -c 'cat /mnt/deep/down/from-host; echo in >/mnt/deep/down/from-inside'", dir.display())).ok().out("host\n");
    assert_eq!(fs::read_to_string(dir.join("from-inside")).expect("it was written"), "in\n");
    assert_eq!(fs::metadata(dir.join("from-inside")).expect("it is there").uid(), 0);
}

fn a_directory_read_only(c: &Client) {
    let dir = host_dir(c);
    c.run(&format!(
        "run --rm -v {}:/mnt:ro busybox sh -c 'cat /mnt/from-host; echo x >/mnt/x'",
        dir.display()
    ))
    .code(1)
    .out("host\n")
    .err_has("Read-only file system");
    assert!(!dir.join("x").exists());
}

fn one_file(c: &Client) {
    let file = host_dir(c).join("from-host");
    c.run(&format!(
        "run --rm -v {}:/etc/from-host busybox sh -c 'cat /etc/from-host; echo more >>/etc/from-host'",
        file.display()
    ))
    .ok()
    .out("host\n");
    assert_eq!(fs::read_to_string(&file).expect("it is there"), "host\nmore\n");
    c.run(&format!("run --rm -v {}:/etc/passwd:ro busybox cat /etc/passwd", file.display()))
        .ok()
        .out("host\nmore\n");
}

fn a_missing_source_is_made(c: &Client) {
    // As Docker does for -v, and only for it.
    let dir = host_dir(c).join("not/there/yet");
    c.run(&format!("run --rm -v {}:/mnt busybox touch /mnt/x", dir.display())).ok();
    assert!(dir.join("x").exists());
}

fn a_missing_source_of_mount_is_an_error(c: &Client) {
    c.run("run --rm --mount type=bind,src=/no/such/source,dst=/mnt busybox true")
        .code(125)
        .err_has("bind source path does not exist: /no/such/source");
}

fn wrong_binds(c: &Client) {
    c.run("run --rm -v /tmp:relative busybox true").code(125).err_has("relative");
    c.run("run --rm -v /tmp:/mnt:nonsense busybox true").code(125).err_has("nonsense");
    c.run("run --rm -v /tmp:/ busybox true").code(125).err_has("destination can't be '/'");
    c.run("run --rm -v /etc:/mnt -v /tmp:/mnt busybox true").code(125).err_has("Duplicate mount point: /mnt");
}

fn tmpfs(c: &Client) {
    c.run("run --rm --tmpfs /scratch:size=1m,mode=1770 busybox sh -c 'grep \" /scratch \" /proc/mounts; stat -c %a /scratch; dd if=/dev/zero of=/scratch/x bs=1k count=2000'")
        .code(1)
        .out_has("tmpfs /scratch tmpfs rw,nosuid,nodev,noexec,relatime,size=1024k,mode=1770")
        .out_has("\n1770\n")
        .err_has("No space left on device");
}

fn read_only_root(c: &Client) {
    c.run("run --rm --read-only busybox sh -c 'echo x >/x'").code(1).err_has("Read-only file system");
    c.run("run --rm --read-only --tmpfs /tmp busybox sh -c 'echo x >/tmp/x && echo y >/dev/shm/y && cat /tmp/x /etc/hostname'").ok().out_has("x\n");
    c.run("run --rm --read-only -w /made/as/needed busybox pwd").ok().out("/made/as/needed\n");
}

fn hosts_hostname_resolv_conf(c: &Client) {
    let script =
        "cat /etc/hostname; hostname; grep -c localhost /etc/hosts; test -f /etc/resolv.conf && echo present";
    let output = c.run(&format!("run --rm --hostname skiff busybox sh -c '{script}'")).ok();
    assert_eq!(output.lines(), ["skiff", "skiff", "2", "present"]);
    let id = c.start("busybox sleep 100");
    c.run(&format!("exec {id} sh -c 'echo 10.0.0.1 own >>/etc/hosts; cat /etc/hosts'"))
        .ok()
        .out_has("10.0.0.1 own");
    c.run(&format!("rm -f {id}")).ok();
    c.run("run --rm busybox cat /etc/hosts").ok().out_lacks("10.0.0.1 own");
}

fn dockerenv_and_dev(c: &Client) {
    c.run("run --rm busybox sh -c 'test -f /.dockerenv && echo yes'").ok().out("yes\n");
    let mut names = c.run("run --rm busybox ls /dev").ok().lines();
    // Where the kernel has /proc/kcore.
    names.retain(|name| name != "core");
    assert_eq!(
        names,
        [
            "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout",
            "tty", "urandom", "zero"
        ]
    );
    c.run(
        "run --rm busybox sh -c 'echo gone >/dev/null; head -c 3 /dev/zero | wc -c; echo out >/dev/stdout'",
    )
    .ok()
    .out("3\nout\n");
}

fn shm(c: &Client) {
    c.run("run --rm busybox grep /dev/shm /proc/mounts")
        .ok()
        .out_has("rw,nosuid,nodev,noexec")
        .out_has("size=65536k");
}

fn submounts_come_along_and_stay_read_only(c: &Client) {
    // The engine's mount namespace is where the bind's source is looked up.
    let dir = host_dir(c);
    fs::create_dir(dir.join("below")).expect("make a directory");
    let enter = |script: &str| {
        let pid = c.engine().pid().to_string();
        let status =
            std::process::Command::new("nsenter").args(["-m", "-t", &pid, "sh", "-c", script]).status();
        assert!(status.expect("run nsenter").success(), "{script}");
    };
    enter(&format!("mount -t tmpfs below {0}/below && echo deep >{0}/below/file", dir.display()));
    let output = c.run(&format!("run --rm -v {}:/mnt busybox cat /mnt/below/file", dir.display()));
    let read_only =
        c.run(&format!("run --rm -v {}:/mnt:ro busybox sh -c 'echo x >/mnt/below/x'", dir.display()));
    enter(&format!("umount {}/below", dir.display()));
    output.ok().out("deep\n");
    // Before Docker 25 a submount of a read-only bind could be written to.
    if c.is_knarr_engine() {
        read_only.code(1).err_has("Read-only file system");
    }
}

fn a_symlink_in_the_image_cannot_lead_a_bind_out(c: &Client) {
    let canary = host_dir(c);
    let hostile = e2e::Tar::default()
        .symlink("out", &format!("/../../../..{}", canary.display()))
        .symlink("rel", "../../../../../../tmp");
    c.feed("load", &e2e::Image::on_busybox(hostile, serde_json::json!({})).docker_archive("leading:1")).ok();
    let source = host_dir(c);
    c.run(&format!("run --rm -v {}:/out/made leading:1 cat /out/made/from-host", source.display()))
        .ok()
        .out("host\n");
    assert!(!canary.join("made").exists(), "a mount point was made on the host");
    c.run(&format!("run --rm -w /out/cwd -v {}:/rel/e2e-made leading:1 pwd", source.display())).ok();
    assert!(!canary.join("cwd").exists() && !PathBuf::from("/tmp/e2e-made").exists());
    c.run("rmi leading:1").ok();
}

fn the_image_is_not_touched(c: &Client) {
    c.run("run --rm busybox sh -c 'rm -rf /etc /home; echo x >/bin/plain'").ok();
    c.run("run --rm busybox sh -c 'cat /etc/plain; ls -d /home; ls /bin/plain 2>&1'")
        .code(1)
        .out_has("not a program\n/home\n");
}

fn nothing_of_ours_is_in_the_writable_layer(c: &Client) {
    let id = c.start("busybox sh -c 'echo mine >/root/mine; sleep 100'");
    e2e::until("it wrote", || c.run(&format!("exec {id} cat /root/mine")).stdout == "mine\n");
    let upper = c.field(&id, "/GraphDriver/Data/UpperDir").as_str().expect("a path").to_owned();
    let mut found: Vec<_> = fs::read_dir(&upper)
        .expect("look into the writable layer")
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    found.sort();
    assert_eq!(found, ["root"]);
    c.run(&format!("rm -f {id}")).ok();
    e2e::until("the writable layer goes", || !PathBuf::from(&upper).exists());
}

fn an_image_with_its_own_hosts_keeps_it(c: &Client) {
    let own = e2e::Tar::default()
        .dir("etc/", 0o755)
        .file("etc/hosts", 0o644, "of the image\n")
        .dir("dev/", 0o755)
        .file("dev/own", 0o644, "x");
    c.feed("load", &e2e::Image::on_busybox(own, serde_json::json!({})).docker_archive("own:1")).ok();
    c.run("run --rm own:1 cat /etc/hosts").ok().out_has("localhost").out_lacks("of the image");
    let id = c.run("create own:1 true").ok().line();
    let layers = c.field(&id, "/GraphDriver/Data/LowerDir").as_str().expect("paths").to_owned();
    let kept = layers.split(':').any(|layer| {
        fs::read_to_string(format!("{layer}/etc/hosts")).is_ok_and(|text| text == "of the image\n")
    });
    assert!(kept, "{layers}");
    c.run(&format!("rm {id}")).ok();
    c.run("rmi own:1").ok();
}
