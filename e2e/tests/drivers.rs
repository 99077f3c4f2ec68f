//! The same stories on every storage driver.

use std::process::Command;

use e2e::{Engine, Kind, Setup, knarr_only};

knarr_only![on_overlay, on_vfs, on_fuse_overlayfs, on_btrfs, a_data_root_belongs_to_one_driver, sizes];

fn on_overlay() {
    stories("overlay", Vec::new(), "overlay2");
}

fn on_vfs() {
    stories("vfs", Vec::new(), "vfs");
}

fn on_fuse_overlayfs() {
    stories("fuse-overlayfs", Vec::new(), "fuse-overlayfs");
}

/// The data root on a file system of its own, in memory; the kernel frees its loop device with the last mount.
fn btrfs() -> Vec<String> {
    let script = "set -e; d=$(mktemp -d /dev/shm/knarr-XXXXXX); trap \"rm -rf $d\" EXIT; \
                  truncate -s 400M $d/image; mkfs.btrfs -q $d/image; \
                  mkdir -p \"$1\"; mount -t btrfs -o loop $d/image \"$1\"; rm -r $d; shift; exec \"$@\"";
    let words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", "{data}"];
    words.map(str::to_owned).to_vec()
}

fn on_btrfs() {
    stories("btrfs", btrfs(), "btrfs");
}

fn setup(driver: &str, wrapper: Vec<String>, more: &[&str]) -> Setup {
    let args = ["--storage-driver", driver].iter().chain(more).map(|word| (*word).to_owned()).collect();
    Setup { kind: Some(Kind::Knarr), args, wrapper, ..Setup::default() }
}

fn stories(driver: &str, wrapper: Vec<String>, shown: &str) {
    let engine = Engine::with_busybox(setup(driver, wrapper, &[]));
    let c = engine.any_client();
    c.run("info --format {{.Driver}}").ok().out(&format!("{shown}\n"));
    c.run("run --rm busybox echo hello").ok().out("hello\n");
    let change = "echo new > /etc/new; rm /etc/group; chmod 700 /tmp; echo more >> /etc/passwd; id -u";
    c.run(&format!("run --name one -u 0 busybox sh -c '{change}'")).ok().out("0\n");
    let mut diff = c.run("diff one").ok().lines();
    diff.sort_unstable();
    assert_eq!(diff, ["A /etc/new", "C /etc", "C /etc/passwd", "C /tmp", "D /etc/group"], "{driver}");
    c.run("start -a one").ok();
    assert!(c.run("export one").ok().out_has("new").all().len() > 1 << 20, "{driver}");
    c.run("commit one two").ok();
    c.run("rm one").ok();
    c.run("run --rm two sh -c 'cat /etc/new; ls /etc/group 2>/dev/null; tail -n 1 /etc/passwd; stat -c %a /tmp'")
        .code(0)
        .out("new\nmore\n700\n");
    let long = c.start("two sleep 100");
    c.run(&format!("exec {long} sh -c 'echo live > /live'")).ok();
    c.run(&format!("diff {long}")).ok().out("A /live\n");
    c.run(&format!("exec -u 1 {long} sh -c 'id -u; cat /live'")).ok().out("1\nlive\n");
    c.run(&format!("ps -s --filter id={long} --format {{{{.Size}}}}")).ok().out_lacks("0B (");
    c.run(&format!("rm -f {long}")).ok();
    c.run("rmi two").ok();
    engine.assert_clean();
}

fn a_data_root_belongs_to_one_driver() {
    let engine = Engine::with_busybox(setup("vfs", Vec::new(), &[]));
    engine.stop_daemon();
    let said = Command::new(e2e::program("knarr"))
        .args(["daemon", "--storage-driver", "overlay2"])
        .arg("--data-root")
        .arg(engine.data_root())
        .arg("--exec-root")
        .arg(engine.exec_root())
        .output()
        .expect("knarr");
    let text = String::from_utf8_lossy(&said.stderr);
    assert!(!said.status.success() && text.contains("made by the storage driver vfs"), "{text}");
    engine.start_daemon();
}

fn sizes() {
    let engine = Engine::with_busybox(setup("btrfs", btrfs(), &["--storage-opt", "size=60M"]));
    let c = engine.any_client();
    let write = |flags: &str, megabytes: u32| {
        c.run(&format!(
            "run --rm {flags} busybox sh -c 'dd if=/dev/urandom of=/f bs=1M count={megabytes} && sync'"
        ))
    };
    write("--storage-opt size=20M", 8).ok();
    write("--storage-opt size=20M", 40).code(1).err_has("quota exceeded");
    write("", 40).ok();
    write("", 90).code(1).err_has("quota exceeded");
    write("--storage-opt size=nonsense", 1).code(125).err_has("invalid size: 'nonsense'");
    write("--storage-opt dm.basesize=1G", 1).code(125).err_has("unknown storage option dm.basesize");
}
