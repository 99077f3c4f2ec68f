//! No daemon, no set-up: the first command starts one. Tried in namespaces where `/run` and `/var/lib` are fresh.

use std::process::{Command, Output};

use e2e::{knarr_only, program};

knarr_only![
    the_first_command_starts_a_daemon,
    it_can_be_declined,
    two_at_once_start_one,
    not_for_a_foreign_socket,
    a_plain_user_is_told
];

/// Runs a script as a machine of its own would: when it ends, everything that it started ends.
fn on_a_fresh_machine(script: &str) -> Output {
    const ENTER: &str = "ip link set lo up && mount -t tmpfs run /run && mount -t tmpfs lib /var/lib && exec timeout 60 sh -eu";
    let script = format!("knarr() {{ {} \"$@\"; }}\n{script}", program("knarr").display());
    let mut command = Command::new("unshare");
    command
        .args(["-mpnf", "--kill-child", "--mount-proc", "--propagation=private", "sh", "-c", ENTER])
        .env_remove("DOCKER_HOST")
        .env_remove("KNARR_NO_AUTOSTART");
    let path = std::env::temp_dir().join(format!("knarr-e2e-{}-{:x}.sh", std::process::id(), script.len()));
    std::fs::write(&path, script).expect("write the script");
    let output =
        command.stdin(std::fs::File::open(&path).expect("open the script")).output().expect("run unshare");
    std::fs::remove_file(&path).expect("remove the script");
    output
}

#[track_caller]
fn assert_says(output: &Output, code: i32, parts: &[&str]) {
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

fn the_first_command_starts_a_daemon() {
    let output = on_a_fresh_machine(
        "knarr run --rm --network none hello\n\
         stat -c '%n %a' /run/knarr /run/knarr/knarr.sock /var/lib/knarr\n\
         knarr ps -aq\n\
         docker -H unix:///run/knarr/knarr.sock version --format 'server {{.Server.Os}}'\n",
    );
    let parts =
        ["pid 1", "/run/knarr 711", "/run/knarr/knarr.sock 660", "/var/lib/knarr 710", "server linux"];
    assert_says(&output, 0, &parts);
}

fn it_can_be_declined() {
    let output = on_a_fresh_machine("knarr --no-autostart ps");
    assert_says(&output, 1, &["annot connect", "unix:///run/knarr/knarr.sock"]);
}

fn two_at_once_start_one() {
    let output = on_a_fresh_machine(
        "for i in 1 2 3 4; do knarr run --rm --network none hello >/run/out$i & done\n\
         wait\n\
         for try in $(seq 50); do \
           test $(grep -lz '^daemon' /proc/[0-9]*/cmdline | wc -l) -gt 1 || break; sleep 0.1; \
         done # those that lost the race need a moment to see it\n\
         grep -l 'pid 1' /run/out1 /run/out2 /run/out3 /run/out4\n\
         echo daemons: $(grep -lz '^daemon' /proc/[0-9]*/cmdline | wc -l)\n",
    );
    assert_says(&output, 0, &["/run/out1", "/run/out2", "/run/out3", "/run/out4", "daemons: 1"]);
}

fn not_for_a_foreign_socket() {
    let output = on_a_fresh_machine("DOCKER_HOST=unix:///run/other.sock knarr ps");
    assert_says(&output, 1, &["annot connect", "unix:///run/other.sock"]);
    let output = on_a_fresh_machine("knarr -H unix:///run/other.sock ps");
    assert_says(&output, 1, &["annot connect", "unix:///run/other.sock"]);
}

fn a_plain_user_is_told() {
    // Copied, for the directory of the build may be closed to others.
    let output = on_a_fresh_machine(&format!(
        "cp {} /run/k; chmod 755 /run/k; setpriv --reuid 65534 --clear-groups --regid 65534 /run/k ps",
        program("knarr").display()
    ));
    assert_says(&output, 1, &["/run/knarr/knarr.sock"]);
}
