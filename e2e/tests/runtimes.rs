//! Other OCI runtimes behind the same engine: `runc` and `crun`, as oracles.

use e2e::{Client, Engine, Kind, Setup, any_client, knarr_only};

any_client![runc_runs, runc_execs, an_unknown_runtime];
knarr_only![ours_makes_what_runc_makes];

const PROBE: &str = "grep -E \"^(Cap|Seccomp:|NoNewPrivs|Uid|Gid|Groups)\" /proc/self/status; \
    ls /dev; env | grep -v HOSTNAME | sort; pwd; ulimit -a; cat /proc/sys/net/ipv4/ping_group_range; \
    cat /proc/self/oom_score_adj; ls /proc/self/fd; \
    cut -d\" \" -f5 /proc/self/mountinfo | grep -v ^/sys/fs/cgroup | sort; umask; readlink /dev/stdin /dev/ptmx /dev/fd";

fn runc_runs(c: &Client) {
    c.run("run --rm --runtime runc busybox sh -c 'echo out; exit 3'").code(3).out("out\n");
    c.run("run --rm --runtime runc busybox nonesuch").code(127).err_has("nonesuch");
    c.run("run --rm --runtime runc busybox /etc/plain").code(126).err_has("permission denied");
    c.feed(
        "run --rm -i --runtime runc -m 64m --pids-limit 20 -u alice --read-only --tmpfs /tmp busybox cat",
        b"through",
    )
    .ok()
    .out("through");
    let mut pty = c.terminal("run --rm -it --runtime runc busybox sh", 24, 80);
    pty.expect("# ");
    pty.send("tty; exit 4\r");
    pty.expect("/dev/pts/0");
    pty.code(4);
}

fn runc_execs(c: &Client) {
    let id = c.start("--runtime runc busybox sleep 100");
    c.run(&format!("exec {id} sh -c 'echo in; exit 5'")).code(5).out("in\n");
    c.run(&format!("pause {id}")).ok();
    c.run(&format!("unpause {id}")).ok();
    c.run(&format!("kill {id}")).ok();
    c.run(&format!("wait {id}")).ok().out("137\n");
    c.run(&format!("rm {id}")).ok();
}

fn an_unknown_runtime(c: &Client) {
    c.run("run --rm --runtime nonesuch busybox true").code(125).err_has("nonesuch");
}

fn ours_makes_what_runc_makes() {
    let c = Client::any();
    for flags in ["", "-u alice", "-t", "--read-only", "--init", "-v /usr/share:/mnt:ro --tmpfs /scratch"] {
        let run =
            |runtime: &str| c.run(&format!("run --rm {runtime} {flags} busybox sh -c '{PROBE}'")).stdout;
        let (ours, theirs) = (run(""), run("--runtime runc"));
        assert!(!ours.is_empty());
        assert_eq!(ours, theirs, "with {flags:?}");
    }
}

#[test]
fn crun_runs_where_only_v1_is_seen() {
    // crun refuses hybrid hierarchies: show the daemon, in its own mount namespace, those of v1 alone.
    const VIEW: &str = "old=$(mktemp -d) && mount --rbind /sys/fs/cgroup $old && mount -t tmpfs cgroup /sys/fs/cgroup && \
        for hierarchy in $old/*/; do name=$(basename $hierarchy); test $name = unified && continue; \
        mkdir /sys/fs/cgroup/$name && mount --bind $hierarchy /sys/fs/cgroup/$name || exit 1; done; \
        umount -l $old && rmdir $old && exec \"$@\"";
    let args = match Kind::chosen() {
        Kind::Docker => vec!["--add-runtime=crun=/usr/bin/crun".to_owned()],
        Kind::Knarr => vec![],
    };
    let wrapper =
        ["unshare", "-m", "--propagation=private", "sh", "-c", VIEW, "sh"].map(str::to_owned).to_vec();
    let hybrid = std::path::Path::new("/sys/fs/cgroup/unified").exists();
    let wrapper = if hybrid { wrapper } else { vec![] };
    let engine = Engine::with_busybox(Setup { args, wrapper, ..Default::default() });
    let c = engine.any_client();
    c.run("run --rm --runtime crun busybox sh -c 'echo out; exit 3'").code(3).out("out\n");
    // Docker finds 127 by the words that runc uses.
    let missing = if c.is_knarr_engine() { 127 } else { 125 };
    c.run("run --rm --runtime crun busybox nonesuch").code(missing).err_has("nonesuch");
    let id = c.start("--runtime crun busybox sleep 100");
    c.run(&format!("exec {id} echo in")).ok().out("in\n");
    c.run(&format!("rm -f {id}")).ok();
}

#[test]
fn ours_runs_where_only_v2_is_seen() {
    // On a hybrid host: the daemon is shown, in its own mount namespace, nothing but the unified hierarchy.
    const VIEW: &str = "if test -d /sys/fs/cgroup/unified; then mount --bind /sys/fs/cgroup/unified /sys/fs/cgroup; fi; exec \"$@\"";
    if Kind::chosen() != Kind::Knarr {
        return;
    }
    let wrapper =
        ["unshare", "-m", "--propagation=private", "sh", "-c", VIEW, "sh"].map(str::to_owned).to_vec();
    let engine = Engine::with_busybox(Setup { wrapper, ..Default::default() });
    let c = engine.any_client();
    c.run("run --rm busybox cat /proc/self/cgroup").ok().out_has("0::/\n");
    let id = c.start("busybox sleep 100");
    c.run(&format!("pause {id}")).ok();
    assert_eq!(c.field(&id, "/State/Paused"), true);
    c.run(&format!("unpause {id}")).ok();
    c.run(&format!("exec {id} echo in")).ok().out("in\n");
    c.run(&format!("rm -f {id}")).ok();
    engine.assert_clean();
}
