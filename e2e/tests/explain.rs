//! `run --explain`: what was done, with real times.

use e2e::{Client, Program, knarr_only};

knarr_only![
    every_room_tells,
    the_output_stays_apart,
    it_explains_failures_too,
    the_timeline_is_kept_for_a_while
];

fn knarr() -> Option<Client> {
    Client::shared(Program::Knarr)
}

fn every_room_tells() {
    let Some(c) = knarr() else { return };
    let output = c.run("run --rm --explain -m 64m busybox true").ok();
    let told = output.stderr.to_lowercase();
    let layers = c.engine().data_root().join("overlay/layers").display().to_string();
    for part in [
        "image",
        "busybox",
        "layer",
        "namespace",
        "pid",
        "mnt",
        "net",
        "overlay",
        "cgroup",
        "memory",
        "67108864",
        "exec",
        "/bin/true",
    ] {
        assert!(told.contains(part), "{part} is not in\n{}", output.stderr);
    }
    // Long values are folded.
    let unfolded: String = output.stderr.split_whitespace().collect();
    assert!(unfolded.contains(&layers), "{layers} is not in\n{}", output.stderr);
    let numbers = output.stderr.split(|c: char| !c.is_ascii_digit());
    assert!(
        numbers.filter(|number| number.len() == 10 && number.starts_with("402653")).count() >= 5,
        "no inode numbers of namespaces in\n{}",
        output.stderr
    );
}

fn the_output_stays_apart() {
    let Some(c) = knarr() else { return };
    c.run("run --rm --explain busybox sh -c 'echo out; exit 3'").code(3).out("out\n");
    c.feed("run --rm -i --explain busybox cat", b"through").ok().out("through");
}

fn it_explains_failures_too() {
    let Some(c) = knarr() else { return };
    c.run("run --rm --explain busybox nonesuch").code(127).err_has("nonesuch");
}

fn the_timeline_is_kept_for_a_while() {
    let c = Client::any();
    let id = c.start("--rm busybox true");
    e2e::until("it is gone", || c.run(&format!("inspect {id}")).code == 1);
    let (status, steps) = c.engine().get(&format!("/v1.41/containers/{id}/timeline")).expect("answer");
    assert_eq!(status, 200, "{steps}");
    let steps = steps.as_array().expect("a list");
    let rooms: std::collections::BTreeSet<&str> =
        steps.iter().filter_map(|step| step["room"].as_str()).collect();
    for room in ["engine", "shim", "runtime", "init"] {
        assert!(rooms.contains(room), "{room} is silent: {rooms:?}");
    }
    let starts: Vec<u64> = steps.iter().filter_map(|step| step["start"].as_u64()).collect();
    assert!(starts.is_sorted() && starts.len() == steps.len(), "{steps:#?}");
    let span = starts.last().zip(starts.first()).map_or(0, |(last, first)| last - first);
    assert!((100_000..20_000_000_000).contains(&span), "{span} ns from first to last step");
    let (status, _) = c.engine().get("/v1.41/containers/nobody-here/timeline").expect("answer");
    assert_eq!(status, 404);
}
