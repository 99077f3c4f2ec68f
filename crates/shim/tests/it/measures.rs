//! Figures, not judgements: `cargo test --release -p knarr-shim measure -- --ignored --nocapture --test-threads 1`.

use std::{fs, time::Instant};

use shim::protocol::{Log, Request};

use crate::common::{ALL, Bundle, collect, done, eventually, exit_event};

const MIB: usize = 256;

/// 100-byte lines, 16 MiB of them sixteen times.
fn flood() -> Bundle {
    let bundle = Bundle::sh("for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do cat /etc/lines; done");
    let line = [&[b'x'; 99][..], b"\n"].concat();
    fs::write(bundle.path().join("image/etc/lines"), line.repeat((MIB << 20) / 16 / 100)).unwrap();
    bundle
}

fn report(what: &str, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    println!("{what}: {:.0} MB/s", (MIB << 20) as f64 / 1e6 / seconds);
}

#[test]
#[ignore = "a measurement"]
fn measure_log() {
    for (what, log) in [("json-file", true), ("no log", false)] {
        let mut bundle = flood();
        if !log {
            bundle.config.log = Log::None;
        }
        let mut shim = bundle.create();
        let mut watcher = shim.watch();
        let began = Instant::now();
        shim.start();
        exit_event(&mut watcher, None);
        report(what, began);
        shim.exit();
    }
}

#[test]
#[ignore = "a measurement"]
fn measure_log_and_client() {
    let mut shim = flood().create();
    let mut client = shim.attach(ALL);
    let began = Instant::now();
    shim.start();
    let bytes = collect(&mut client).0.len();
    report("json-file and one client", began);
    assert!(bytes > 0);
    shim.exit();
}

#[test]
#[ignore = "a measurement"]
fn measure_memory_and_steps() {
    let mut shim = Bundle::sh("seq 1 100000; sleep 100").create();
    let mut client = shim.attach(ALL);
    shim.start();
    crate::common::expect(&mut client, "100000\n");
    drop(client);
    std::thread::sleep(std::time::Duration::from_millis(2500));
    let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", shim.child.id())).unwrap();
    for field in ["Rss", "Pss", "Private_Dirty"] {
        println!("{}", rollup.lines().find(|line| line.starts_with(field)).unwrap());
    }
    for step in shim.state().timeline.steps {
        println!("{}: {} us", step.what, step.took / 1000);
    }
    done(&mut shim.client(), &Request::Signal { session: None, signal: 9 });
    let began = Instant::now();
    eventually("exit.json", || shim.bundle.path().join("exit.json").exists());
    println!("kill to exit.json: {} us", began.elapsed().as_micros());
    shim.exit();
}
