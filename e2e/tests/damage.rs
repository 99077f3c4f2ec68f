//! A damaged record, a full disk, an old kernel: the engine says so and goes on.

use std::{fs, path::Path, process::Command};

use e2e::{Engine, Image, Setup, Tar, knarr_only};
use serde_json::json;

knarr_only![
    records_that_are_garbage,
    records_that_are_cut_off,
    a_damaged_exit_record,
    a_missing_blob_or_layer,
    layers_of_another_boot_are_made_again,
    an_old_kernel_names_what_is_missing,
];

/// `{data}` on a small file system that only the daemon sees.
fn on_a_small_disk(megabytes: u32) -> Engine {
    let script = format!("mount -t tmpfs -o size={megabytes}m small {{data}} && exec \"$@\"");
    let wrapper =
        ["unshare", "-m", "--propagation=private", "sh", "-c", &script, "sh"].map(str::to_owned).to_vec();
    Engine::with_busybox(Setup { wrapper, ..Default::default() })
}

fn big_image(megabytes: usize, name: &str) -> Vec<u8> {
    Image::on_busybox(Tar::default().file("big", 0o644, vec![b'x'; megabytes << 20]), json!({}))
        .docker_archive(name)
}

#[test]
fn a_load_that_fills_the_disk_is_undone() {
    let engine = on_a_small_disk(64);
    let c = engine.any_client();
    for _ in 0..3 {
        c.feed("load", &big_image(80, "big:1")).code(1).err_has("o space left on device");
        c.run("images -q big").ok().out("");
    }
    // Nothing was left of the three: this one has room.
    c.feed("load", &big_image(12, "fits:1")).ok();
    c.run("run --rm fits:1 true").ok();
}

#[test]
fn a_full_disk_is_said_and_survived() {
    let engine = on_a_small_disk(64);
    let c = engine.any_client();
    let running = c.start("busybox sh -c 'while :; do echo tick; sleep 0.05; done'");
    let inside = |script: &str| {
        let script = script.replace("{data}", &engine.data_root().display().to_string());
        let pid = engine.pid().to_string();
        Command::new("nsenter").args(["-m", "-t", &pid, "sh", "-c", &script]).output().expect("run nsenter");
    };
    inside("dd if=/dev/zero of={data}/fill bs=64k; dd if=/dev/zero of={data}/fill2 bs=1");
    let output = c.run("run --name full busybox true").code(125).err_has("o space left on device");
    assert!(engine.answers(), "{output:?}");
    assert_eq!(c.field(&running, "/State/Running"), true);
    inside("rm {data}/fill {data}/fill2");
    c.run("rm -f full");
    c.run("run --rm --name full busybox echo again").ok().out("again\n");
    c.run(&format!("rm -f {running}")).ok();
}

#[test]
fn a_container_that_fills_the_disk_hurts_itself() {
    let engine = on_a_small_disk(64);
    let c = engine.any_client();
    c.run("run --name greedy busybox dd if=/dev/zero of=/x bs=1M").code(1).err_has("No space left on device");
    c.run("rm greedy").ok();
    // The name is free at once, the space soon after.
    e2e::until("there is room again", || c.run("run --rm busybox true").code == 0);
}

/// Starts the daemon after this was done to its stopped data root; it must come up and be usable.
fn after_damage(damage: impl FnOnce(&Path, &str)) -> (Engine, String) {
    let engine = Engine::with_busybox(Setup::default());
    let c = engine.any_client();
    let id = c.run("create --name witness busybox true").ok().line();
    engine.stop_daemon();
    damage(&engine.data_root(), &id);
    engine.start_daemon();
    (engine, id)
}

fn set_aside(engine: &Engine) -> Vec<String> {
    let entries = fs::read_dir(engine.data_root().join("set-aside")).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn records_that_are_garbage() {
    let (engine, _) = after_damage(|data, _| {
        fs::write(data.join("records.redb"), b"garbage".repeat(10_000)).expect("damage the records");
    });
    assert!(set_aside(&engine).iter().any(|name| name.contains("records")), "{:?}", set_aside(&engine));
    assert!(engine.log().contains("records.redb"), "{}", engine.log());
    let c = engine.any_client();
    // A readable copy lies beside each container's data.
    assert_eq!(c.field("witness", "/State/Status"), "created");
    c.feed("load", &e2e::busybox().docker_archive("busybox:latest")).ok();
    c.run("run --rm busybox true").ok();
}

fn records_that_are_cut_off() {
    for keep in [0, 100, 4096, 20_000] {
        let (engine, _) = after_damage(|data, _| {
            let file =
                fs::File::options().write(true).open(data.join("records.redb")).expect("open the records");
            file.set_len(keep).expect("cut the records");
        });
        let c = engine.any_client();
        c.feed("load", &e2e::busybox().docker_archive("busybox:latest")).ok();
        c.run("run --rm busybox true").ok();
    }
}

fn a_damaged_exit_record() {
    let engine = Engine::with_busybox(Setup::default());
    let c = engine.any_client();
    let id = c.start("busybox sleep 0.3");
    engine.kill_daemon();
    e2e::rest(800);
    let record = engine.exec_root().join("containers").join(&id).join("exit.json");
    fs::write(&record, "{\"code\":").expect("damage the exit record");
    engine.start_daemon();
    assert_eq!(c.field(&id, "/State/Status"), "exited");
    assert!(engine.log().contains("exit.json"), "{}", engine.log());
    c.run(&format!("start {id}")).ok();
    c.run(&format!("wait {id}")).ok().out("0\n");
    c.run(&format!("rm {id}")).ok();
}

fn a_missing_blob_or_layer() {
    let (engine, id) = after_damage(|data, _| {
        for part in ["overlay/layers", "blobs/sha256"] {
            fs::remove_dir_all(data.join(part)).expect("remove");
            fs::create_dir(data.join(part)).expect("make");
        }
    });
    let c = engine.any_client();
    c.run(&format!("start {id}")).fails().err_has("layer");
    c.run(&format!("rm {id}")).ok();
    c.feed("load", &e2e::busybox().docker_archive("busybox:latest")).ok();
    c.run("run --rm busybox true").ok();
}

fn an_old_kernel_names_what_is_missing() {
    // strace stands in for a kernel before the call: 5.6 has openat2, 5.2 the new mount calls, 5.3 clone3 and pidfds.
    for missing in ["openat2", "fsopen", "clone3", "pidfd_open", "close_range", "mount_setattr"] {
        let inject = format!("inject={missing}:error=ENOSYS");
        let wrapper =
            ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", &inject].map(str::to_owned).to_vec();
        let engine = Engine::prepare(Setup { wrapper, ..Default::default() });
        if !engine.try_start_daemon() {
            // What nothing works without, it says at once.
            assert!(engine.log().contains(missing), "{missing}: {}", engine.log());
            continue;
        }
        let c = engine.any_client();
        let loaded = c.feed("load", &e2e::busybox().docker_archive("busybox:latest"));
        let output = if loaded.code == 0 { c.run("run --rm busybox echo works") } else { loaded };
        // It does without, or it names the call.
        if output.code == 0 {
            output.out("works\n");
        } else {
            output.err_has(missing);
        }
        assert!(engine.answers(), "without {missing}");
    }
}

/// After a crash of the machine, layers that the disk may not have had are unpacked again from their blobs.
fn layers_of_another_boot_are_made_again() {
    let engine = Engine::with_busybox(Setup::default());
    let c = engine.any_client();
    c.run("run --name kept busybox sh -c 'echo kept > /f'").ok();
    engine.stop_daemon();
    for layer in fs::read_dir(engine.data_root().join("overlay/layers")).expect("layers").flatten() {
        let path = layer.path();
        let (name, boot) = ("trusted.knarr.unsettled", b"another boot");
        rustix::fs::setxattr(&path, name, boot, rustix::fs::XattrFlags::empty()).expect("mark");
        fs::write(path.join("bin/busybox"), "damaged by the crash").expect("damage");
    }
    engine.start_daemon();
    c.run("start -a kept").ok();
    c.run("run --rm busybox echo whole").ok().out("whole\n");
}
