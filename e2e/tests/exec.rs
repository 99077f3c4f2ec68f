//! `exec`: one more process in a container that runs.

use e2e::{Client, any_client, each_client};

each_client![
    streams_and_exit_codes,
    input_is_piped,
    user_directory_environment,
    detached,
    what_cannot_be_run,
    it_is_inside,
    not_in_one_that_does_not_run,
    it_ends_with_the_container,
    the_exit_code_of_a_signal,
];
any_client![it_shares_the_cgroup, inspecting_a_session, limits_of_the_container_hold];

fn sleeper(c: &Client) -> String {
    c.start("busybox sleep 100")
}

fn streams_and_exit_codes(c: &Client) {
    let id = sleeper(c);
    c.run(&format!("exec {id} sh -c 'echo out; echo err >&2; exit 3'")).code(3).out("out\n").err_has("err\n");
    c.run(&format!("exec {id} true")).ok();
    c.run(&format!("rm -f {id}")).ok();
}

fn input_is_piped(c: &Client) {
    let id = sleeper(c);
    c.feed(&format!("exec -i {id} cat"), b"a\nb").ok().out("a\nb");
    c.feed(&format!("exec {id} cat"), b"not sent").ok().out("");
    let input = "0123456789abcde\n".repeat(100_000);
    let output = c.feed(&format!("exec -i {id} cat"), input.as_bytes()).ok();
    assert!(output.stdout == input, "{} bytes came back", output.stdout.len());
    c.run(&format!("rm -f {id}")).ok();
}

fn user_directory_environment(c: &Client) {
    let id = c.start("-e A=1 -e B=1 -w /tmp -u alice busybox sleep 100");
    c.run(&format!("exec {id} sh -c 'id -u; pwd; echo $A $B'")).ok().out("1000\n/tmp\n1 1\n");
    c.run(&format!("exec -u 0 -w /etc -e B=2 -e C=3 {id} sh -c 'id -u; pwd; echo $A $B $C'"))
        .ok()
        .out("0\n/etc\n1 2 3\n");
    c.run(&format!("exec -u 7:8 {id} sh -c 'id -u; id -g'")).ok().out("7\n8\n");
    c.run(&format!("exec -u alice {id} id -G")).ok().out("1000 50 63\n");
    c.run(&format!("exec -u nobody-here {id} true")).fails().has("unable to find user nobody-here");
    c.run(&format!("rm -f {id}")).ok();
}

fn detached(c: &Client) {
    let id = sleeper(c);
    c.run(&format!("exec -d {id} sh -c 'echo done >/tmp/done'")).ok().out("");
    e2e::until("the detached session wrote", || {
        c.run(&format!("exec {id} cat /tmp/done")).stdout == "done\n"
    });
    c.run(&format!("rm -f {id}")).ok();
}

fn what_cannot_be_run(c: &Client) {
    let id = sleeper(c);
    // 20.10 still said 126.
    let missing = if c.is_knarr_engine() { 127 } else { 126 };
    c.run(&format!("exec {id} nonesuch")).code(missing).has("nonesuch");
    c.run(&format!("exec {id} /etc/plain")).code(126).has("permission denied");
    c.run(&format!("exec -w /nowhere {id} true")).fails().has("/nowhere");
    c.run(&format!("exec {id} true")).ok();
    c.run(&format!("rm -f {id}")).ok();
}

fn it_is_inside(c: &Client) {
    let id = sleeper(c);
    for namespace in ["pid", "mnt", "uts", "ipc", "net", "cgroup"] {
        let of = |pid: &str| c.run(&format!("exec {id} readlink /proc/{pid}/ns/{namespace}")).ok().line();
        assert_eq!(of("self"), of("1"), "{namespace}");
    }
    let status = "grep -E ^(Cap|Seccomp:|NoNewPrivs) /proc/self/status";
    let theirs = c.run(&format!("exec {id} {}", status.replace("self", "1"))).ok().stdout;
    c.run(&format!("exec {id} {status}")).ok().out(&theirs);
    c.run(&format!("exec {id} sh -c 'ls /proc/$$/fd'")).ok().out_lacks("4");
    c.run(&format!("rm -f {id}")).ok();
}

fn it_shares_the_cgroup(c: &Client) {
    let id = sleeper(c);
    let _session = c.spawn(&format!("exec {id} sleep 99"));
    e2e::until("the session's process is in the container's group", || {
        let procs = std::fs::read_to_string(e2e::cgroup_of(c.pid(&id), "pids").join("cgroup.procs"));
        procs.unwrap_or_default().lines().count() == 2
    });
    c.run(&format!("rm -f {id}")).ok();
}

fn limits_of_the_container_hold(c: &Client) {
    let id = c.start("-m 32m --memory-swap 32m busybox sleep 100");
    c.run(&format!("exec {id} tail /dev/zero")).code(137);
    c.run(&format!("exec {id} true")).ok();
    c.run(&format!("rm -f {id}")).ok();
}

fn not_in_one_that_does_not_run(c: &Client) {
    let id = c.run("create busybox sleep 100").ok().line();
    c.run(&format!("exec {id} true")).code(1).err_has("is not running");
    c.run("exec nobody-here true").code(1).err_has("No such container: nobody-here");
    c.run(&format!("rm {id}")).ok();
}

fn it_ends_with_the_container(c: &Client) {
    let id = sleeper(c);
    let mut session = c.spawn(&format!("exec {id} sh -c 'echo ready; sleep 100'"));
    assert_eq!(session.line(), "ready");
    c.run(&format!("kill {id}")).ok();
    session.output().code(137);
    c.run(&format!("rm {id}")).ok();
}

fn the_exit_code_of_a_signal(c: &Client) {
    let id = sleeper(c);
    c.run(&format!("exec {id} sh -c 'kill -TERM $$'")).code(143);
    c.run(&format!("rm -f {id}")).ok();
}

fn inspecting_a_session(c: &Client) {
    let id = sleeper(c);
    let body = r#"{"Cmd":["sh","-c","exit 5"],"AttachStdout":true}"#;
    let (status, made) =
        c.engine().request("POST", &format!("/v1.41/containers/{id}/exec"), body).expect("create");
    assert_eq!(status, 201, "{made}");
    let session = made["Id"].as_str().expect("an id").to_owned();
    let inspect = || c.engine().get(&format!("/v1.41/exec/{session}/json")).expect("inspect").1;
    assert_eq!(inspect()["Running"], false);
    assert_eq!(inspect()["ProcessConfig"]["entrypoint"], "sh");
    let (status, _) = c
        .engine()
        .request("POST", &format!("/v1.41/exec/{session}/start"), r#"{"Detach":true}"#)
        .expect("start");
    assert_eq!(status, 200);
    e2e::until("the exit code is known", || inspect()["ExitCode"] == 5);
    assert_eq!(inspect()["ContainerID"], id.as_str());
    c.run(&format!("rm -f {id}")).ok();
}
