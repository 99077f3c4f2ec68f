//! knarr's command line with a real dockerd behind it, and knarr under the name of `docker`.
//!
//! `E2E_ENGINE=docker E2E_CLIENT=knarr` runs all other files this way, too.

use std::{os::unix::fs::symlink, process::Command};

use e2e::{Client, Engine, Kind, Program, Setup, program};

fn knarr_on_dockerd() -> (Engine, Client) {
    let engine = Engine::with_busybox(Setup { kind: Some(Kind::Docker), ..Default::default() });
    let client = engine.client(Program::Knarr);
    (engine, client)
}

#[test]
fn runs_and_streams() {
    let (_engine, c) = knarr_on_dockerd();
    c.run("run --rm busybox sh -c 'echo out; echo err >&2; exit 3'").code(3).out("out\n").err_has("err\n");
    c.feed("run --rm -i busybox cat", b"through").ok().out("through");
    c.run("run --rm busybox nonesuch").code(127).err_has("nonesuch");
    c.run("run --rm -m 1k busybox true").code(125).err_has("inimum memory limit");
    let mut pty = c.terminal("run --rm -it busybox sh", 24, 80);
    pty.expect("# ");
    pty.send("exit 5\r");
    pty.code(5);
}

#[test]
fn verbs() {
    let (_engine, c) = knarr_on_dockerd();
    let id = c.start("--name verbs busybox sh -c 'echo said; sleep 100'");
    c.await_log("verbs", "said");
    c.run("ps").ok().out_has("verbs").out_has(&id[..12]);
    c.run("exec verbs echo in").ok().out("in\n");
    assert_eq!(c.field("verbs", "/State/Running"), true);
    c.run("stop -t 0 verbs").ok();
    c.run("wait verbs").ok().out("137\n");
    c.run("rm verbs").ok();
    c.run("version").ok().out_has("20.10");
    c.run("info").ok();
    c.run("images").ok().out_has("busybox");
    c.run("tag busybox other:1").ok();
    c.run("rmi other:1").ok().out_has("Untagged: other:1");
}

#[test]
fn explain_says_that_dockerd_cannot() {
    let (_engine, c) = knarr_on_dockerd();
    let output = c.run("run --rm --explain busybox echo ran");
    assert!(output.all().contains("ran"), "{output:?}");
    output.err_has("timeline");
}

#[test]
fn knarr_called_docker() {
    let engine = Engine::with_busybox(Setup::default());
    let docker = engine.place.dir.join("docker");
    symlink(program("knarr"), &docker).expect("make a link");
    let output = Command::new(&docker)
        .args(["run", "--rm", "--network", "none", "busybox", "echo", "hi"])
        .env("DOCKER_HOST", format!("unix://{}", engine.socket().display()))
        .output()
        .expect("run it");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hi\n", "{output:?}");
}
