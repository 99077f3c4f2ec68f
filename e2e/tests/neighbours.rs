//! Several engines on one machine.

use e2e::{Engine, Setup};

#[test]
fn two_side_by_side() {
    let (left, right) = (Engine::with_busybox(Setup::default()), Engine::with_busybox(Setup::default()));
    let (l, r) = (left.any_client(), right.any_client());
    let in_left = l.start("--name same busybox sleep 100");
    let in_right = r.start("--name same busybox sleep 100");
    assert_ne!(in_left, in_right);
    l.run("ps -q --no-trunc").ok().out(&format!("{in_left}\n"));
    r.run("ps -q --no-trunc").ok().out(&format!("{in_right}\n"));
    r.run(&format!("inspect {in_left}")).code(1);
    r.run("tag busybox only-right").ok();
    l.run("run --rm only-right true").code(125);
    l.run("rm -f same").ok();
    assert_eq!(r.field("same", "/State/Running"), true);
    drop(left);
    r.run("exec same echo still").ok().out("still\n");
    r.run("rm -f same").ok();
}

#[test]
fn one_data_root_has_one_engine() {
    let engine = Engine::start(Setup::default());
    let mut second = engine.spawn_daemon();
    let mut code = None;
    e2e::until("the second gives up", || {
        code = second.try_wait().ok().flatten();
        code.is_some()
    });
    assert!(code.is_some_and(|code| !code.success()), "{code:?}");
    assert!(engine.answers(), "the first is harmed");
    let log = engine.log();
    assert!(log.contains(&engine.place.dir.display().to_string()), "{log}");
}

#[test]
fn a_socket_left_by_a_dead_engine_is_replaced() {
    let engine = Engine::with_busybox(Setup::default());
    engine.kill_daemon();
    assert!(engine.socket().exists());
    engine.start_daemon();
    engine.any_client().run("run --rm busybox true").ok();
}
