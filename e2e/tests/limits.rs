//! Limits, as the kernel holds them: read from the host's side and from inside.

use std::fs;

use e2e::{Client, any_client, cgroup_of, each_client};

each_client![memory, swap, cpus, pids, cpuset, a_memory_hog_is_killed, without_limits_there_are_none];
any_client![a_fork_bomb_is_held, a_killed_child_leaves_pid_1, the_group_lies_below_the_parent, wrong_limits];

/// A file of the cgroup that holds the container, by its v1 and its v2 name.
#[track_caller]
fn held(c: &Client, id: &str, controller: &str, v1: &str, v2: &str) -> String {
    let group = cgroup_of(c.pid(id), controller);
    let file = if group.join(v1).exists() { group.join(v1) } else { group.join(v2) };
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display())).trim().to_owned()
}

fn memory(c: &Client) {
    let id = c.start("-m 64m busybox sleep 100");
    assert_eq!(held(c, &id, "memory", "memory.limit_in_bytes", "memory.max"), "67108864");
    let inside =
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max";
    c.run(&format!("exec {id} sh -c '{inside}'")).ok().out("67108864\n");
    c.run(&format!("rm -f {id}")).ok();
}

fn swap(c: &Client) {
    // v1 counts memory and swap together, v2 swap alone.
    for (flags, v1, v2) in [
        ("-m 64m", "134217728", "67108864"),
        ("-m 64m --memory-swap 96m", "100663296", "33554432"),
        ("-m 64m --memory-swap 64m", "67108864", "0"),
    ] {
        let id = c.start(&format!("{flags} busybox sleep 100"));
        let value = held(c, &id, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max");
        assert!(value == v1 || value == v2, "{flags}: {value}");
        c.run(&format!("rm -f {id}")).ok();
    }
}

fn cpus(c: &Client) {
    let id = c.start("--cpus 0.5 --cpu-shares 512 busybox sleep 100");
    let quota = held(c, &id, "cpu", "cpu.cfs_quota_us", "cpu.max");
    assert!(quota == "50000" || quota == "50000 100000", "{quota}");
    let shares = held(c, &id, "cpu", "cpu.shares", "cpu.weight");
    assert!(["512", "20", "59"].contains(&shares.as_str()), "{shares}");
    c.run(&format!("rm -f {id}")).ok();
}

fn pids(c: &Client) {
    let id = c.start("--pids-limit 33 busybox sleep 100");
    assert_eq!(held(c, &id, "pids", "pids.max", "pids.max"), "33");
    c.run(&format!("rm -f {id}")).ok();
}

fn cpuset(c: &Client) {
    let id = c.start("--cpuset-cpus 1 busybox sleep 100");
    assert_eq!(held(c, &id, "cpuset", "cpuset.cpus", "cpuset.cpus"), "1");
    c.run(&format!("exec {id} grep Cpus_allowed_list /proc/self/status")).ok().out("Cpus_allowed_list:\t1\n");
    c.run(&format!("rm -f {id}")).ok();
}

fn a_memory_hog_is_killed(c: &Client) {
    let name = c.name("hog");
    // `tail` keeps what it reads until there is a line's end; as pid 1 itself it is what the kernel chooses.
    c.run(&format!("run --name {name} -m 32m --memory-swap 32m busybox tail /dev/zero")).code(137);
    assert_eq!(c.field(&name, "/State/OOMKilled"), true);
    assert_eq!(c.field(&name, "/State/ExitCode"), 137);
    c.run(&format!("rm {name}")).ok();
}

fn without_limits_there_are_none(c: &Client) {
    let id = c.start("busybox sleep 100");
    let memory = held(c, &id, "memory", "memory.limit_in_bytes", "memory.max");
    assert!(memory == "max" || memory.parse::<u64>().is_ok_and(|bytes| bytes > 1 << 60), "{memory}");
    let quota = held(c, &id, "cpu", "cpu.cfs_quota_us", "cpu.max");
    assert!(quota == "-1" || quota.starts_with("max"), "{quota}");
    c.run(&format!("rm -f {id}")).ok();
}

fn a_fork_bomb_is_held(c: &Client) {
    let bomb = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 5 & done; wait";
    c.run(&format!("run --rm --pids-limit 8 busybox sh -c '{bomb}'"))
        .fails()
        .err_has("Resource temporarily unavailable");
}

fn a_killed_child_leaves_pid_1(c: &Client) {
    let name = c.name("child");
    c.run(&format!(
        "run --name {name} -m 32m --memory-swap 32m busybox sh -c 'tail /dev/zero; echo code $?'"
    ))
    .ok()
    .out("code 137\n");
    assert_eq!(c.field(&name, "/State/ExitCode"), 0);
    c.run(&format!("rm {name}")).ok();
}

fn the_group_lies_below_the_parent(c: &Client) {
    let id = c.start("busybox sleep 100");
    let expected = format!("{}/{id}", c.engine().place.cgroup);
    for controller in ["memory", "pids", "cpu", "devices", "freezer"] {
        let group = cgroup_of(c.pid(&id), controller).display().to_string();
        assert!(group.ends_with(&expected), "{group} does not end in {expected}");
    }
    c.run(&format!("rm -f {id}")).ok();
}

fn wrong_limits(c: &Client) {
    c.run("run --rm -m 1k busybox true").code(125).err_has("Minimum memory limit allowed is 6MB");
    c.run("run --rm -m 64m --memory-swap 32m busybox true")
        .code(125)
        .err_has("Minimum memoryswap limit should be larger than memory limit, see usage");
    c.run("run --rm --memory-swap 64m busybox true")
        .code(125)
        .err_has("You should always set the Memory limit when using Memoryswap limit, see usage");
    c.run("run --rm --cpus 9999 busybox true").code(125).err_has("ange of CPUs is from 0.01 to ");
    c.run("run --rm --cpuset-cpus 0-9999 busybox true").code(125).err_has("0-9999");
    c.run("run --rm --cpuset-cpus nonsense busybox true").code(125).err_has("nonsense");
    c.run("run --rm -m many busybox true").code(125).err_has("many");
}
