//! `run`: streams, exit codes, and what the program finds itself as.

use e2e::{Client, any_client, each_client};

each_client![
    output_and_errors_are_apart,
    input_is_piped,
    a_large_pipe_arrives_whole,
    the_exit_code_is_the_programs,
    a_signal_counts_from_128,
    a_missing_command_is_127,
    a_command_without_x_bit_is_126,
    a_wrong_flag_or_limit_is_125,
    environment,
    working_directory,
    users_by_name_and_number,
    entrypoint,
    hostname,
    labels,
    a_name_in_use,
    rm_removes,
    detached_prints_the_id,
    create_then_start_attached,
];
any_client![image_defaults, supplementary_groups];

fn output_and_errors_are_apart(c: &Client) {
    c.run("run --rm busybox sh -c 'echo out; echo err >&2'").ok().out("out\n").err_has("err\n");
}

fn input_is_piped(c: &Client) {
    c.feed("run --rm -i busybox cat", b"one\ntwo").ok().out("one\ntwo");
    c.feed("run --rm busybox cat", b"not sent without -i").ok().out("");
}

fn a_large_pipe_arrives_whole(c: &Client) {
    let line = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde\n";
    let input = line.repeat(64 * 1024);
    let output = c.feed("run --rm -i busybox cat", input.as_bytes()).ok();
    assert!(output.stdout == input, "{} bytes of {} came back", output.stdout.len(), input.len());
}

fn the_exit_code_is_the_programs(c: &Client) {
    c.run("run --rm busybox true").code(0);
    c.run("run --rm busybox sh -c 'exit 3'").code(3);
    c.run("run --rm busybox sh -c 'exit 255'").code(255);
}

fn a_signal_counts_from_128(c: &Client) {
    // Signals from inside do not end pid 1; its child's code is handed on by the shell.
    c.run("run --rm busybox sh -c 'sh -c \"kill -KILL \\$\\$\"; exit $?'").code(137);
    let name = c.name("killed");
    let waiting = c.spawn(&format!("run --rm --name {name} busybox sleep 100"));
    c.await_running(&name);
    c.run(&format!("kill {name}")).ok();
    waiting.output().code(137);
    let name = c.name("terminated");
    let waiting = c.spawn(&format!("run --rm --name {name} --init busybox sleep 100"));
    c.await_running(&name);
    c.run(&format!("kill -s TERM {name}")).ok();
    waiting.output().code(143);
}

fn a_missing_command_is_127(c: &Client) {
    c.run("run --rm busybox nonesuch").code(127).err_has("nonesuch").err_has("not found in $PATH");
    c.run("run --rm busybox /no/such").code(127).err_has("/no/such").err_has("no such file or directory");
}

fn a_command_without_x_bit_is_126(c: &Client) {
    c.run("run --rm busybox /etc/plain").code(126).err_has("/etc/plain").err_has("permission denied");
    c.run("run --rm busybox /etc").code(126).err_has("/etc");
}

fn a_wrong_flag_or_limit_is_125(c: &Client) {
    c.run("run --rm --no-such-flag busybox true").code(125).err_has("no-such-flag");
    c.run("run --rm -m 1k busybox true").code(125).err_has("inimum memory limit");
    c.run("run --rm").code(1).err_has("requires at least 1 argument");
}

fn environment(c: &Client) {
    let output = c.run("run --rm -e ONE=1 -e TWO='2 2' --env THREE= busybox env").ok();
    let lines = output.lines();
    for expected in [
        "ONE=1",
        "TWO=2 2",
        "THREE=",
        "HOME=/root",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ] {
        assert!(lines.iter().any(|line| line == expected), "{expected} is not in {lines:?}");
    }
    assert!(lines.iter().any(|line| line.starts_with("HOSTNAME=")), "{lines:?}");
    assert_eq!(lines.len(), 6, "nothing else is there: {lines:?}");
}

fn working_directory(c: &Client) {
    c.run("run --rm busybox pwd").ok().out("/\n");
    c.run("run --rm -w /tmp busybox pwd").ok().out("/tmp\n");
    c.run("run --rm -w /made/as/needed busybox pwd").ok().out("/made/as/needed\n");
    c.run("run --rm -w relative busybox pwd").code(125).err_has("working directory 'relative' is invalid");
}

fn users_by_name_and_number(c: &Client) {
    c.run("run --rm busybox id -u").ok().out("0\n");
    c.run("run --rm -u alice busybox sh -c 'id -u; id -g; echo $HOME'").ok().out("1000\n1000\n/home/alice\n");
    c.run("run --rm -u 1000 busybox sh -c 'id -u; id -g'").ok().out("1000\n1000\n");
    c.run("run --rm -u 4321:games busybox sh -c 'id -u; id -g; id -G'").ok().out("4321\n60\n60\n");
    c.run("run --rm -u alice:0 busybox sh -c 'id -u; id -g'").ok().out("1000\n0\n");
    c.run("run --rm -u 77:88 busybox sh -c 'id -u; id -g'").ok().out("77\n88\n");
    c.run("run --rm -u nobody-here busybox true").code(125).err_has("unable to find user nobody-here");
}

fn supplementary_groups(c: &Client) {
    c.run("run --rm -u alice busybox id -G").ok().out("1000 50 63\n");
}

fn entrypoint(c: &Client) {
    c.run("run --rm --entrypoint echo busybox one two").ok().out("one two\n");
    // An entrypoint of the user's drops the image's command.
    c.run("run --rm --entrypoint echo busybox").ok().out("\n");
}

fn hostname(c: &Client) {
    c.run("run --rm --hostname knorr busybox hostname").ok().out("knorr\n");
    let id = c.start("busybox sleep 100");
    c.run(&format!("exec {id} hostname")).ok().out(&format!("{}\n", &id[..12]));
    c.run(&format!("rm -f {id}")).ok();
}

fn labels(c: &Client) {
    let name = c.name("labels");
    c.run(&format!("run --name {name} -l a=1 --label b busybox true")).ok();
    assert_eq!(c.field(&name, "/Config/Labels"), serde_json::json!({ "a": "1", "b": "" }));
    c.run(&format!("ps -aq --filter label=a=1 --filter name={name}")).ok().out_has("\n");
    c.run(&format!("ps -aq --filter label=a=2 --filter name={name}")).ok().out("");
    c.run(&format!("rm {name}")).ok();
}

fn a_name_in_use(c: &Client) {
    let name = c.name("taken");
    let id = c.start(&format!("--name {name} busybox sleep 100"));
    c.run(&format!("run --rm --name {name} busybox true"))
        .code(125)
        .err_has(&format!("Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."));
    c.run(&format!("run --rm --name '{name} x' busybox true")).code(125).err_has("Invalid container name");
    c.run(&format!("rm -f {name}")).ok();
    c.run(&format!("run --rm --name {name} busybox true")).ok();
}

fn rm_removes(c: &Client) {
    let name = c.name("gone");
    c.run(&format!("run --rm --name {name} busybox true")).ok();
    c.run(&format!("inspect {name}")).code(1).err_has(&name);
    let id = c.start(&format!("--rm --name {name} busybox true"));
    e2e::until("a detached one goes too", || {
        c.run(&format!("ps -aq --no-trunc --filter id={id}")).ok().stdout.is_empty()
    });
}

fn detached_prints_the_id(c: &Client) {
    let id = c.start("busybox true");
    assert!(id.len() == 64 && id.bytes().all(|digit| digit.is_ascii_hexdigit()), "{id}");
    c.run(&format!("wait {id}")).ok().out("0\n");
    c.run(&format!("rm {id}")).ok();
}

fn create_then_start_attached(c: &Client) {
    let id = c.run("create busybox sh -c 'echo hi; exit 4'").ok().line();
    assert_eq!(c.field(&id, "/State/Status"), "created");
    c.run(&format!("start -a {id}")).code(4).out("hi\n");
    c.run(&format!("rm {id}")).ok();
}

fn image_defaults(c: &Client) {
    let image = e2e::Image::on_busybox(
        e2e::Tar::default().dir("srv/", 0o755),
        serde_json::json!({
            "Entrypoint": ["sh", "-c", "echo $A $(pwd) $(id -u) $0 $1; exit 9"],
            "Cmd": ["from", "image"], "Env": ["PATH=/bin", "A=b"], "WorkingDir": "/srv", "User": "alice",
            "Labels": { "of": "image" }
        }),
    );
    c.feed("load", &image.docker_archive("defaults:1")).ok().out_has("Loaded image: defaults:1");
    c.run("run --rm defaults:1").code(9).out("b /srv 1000 from image\n");
    c.run("run --rm -e A=c -w / -u 0 defaults:1 my command").code(9).out("c / 0 my command\n");
    c.run("rmi defaults:1").ok();
}
