//! What a container is kept from.

use e2e::{Client, any_client, each_client};

each_client![
    its_own_pid_1,
    capabilities,
    no_capabilities_for_a_user,
    seccomp,
    masked_and_read_only_paths,
    devices
];
any_client![
    namespaces_differ_from_the_hosts,
    no_descriptor_leaks,
    nothing_of_the_host_is_mounted,
    the_host_does_not_see_its_mounts,
    cgroups_cannot_be_written,
    a_child_gets_no_more,
    setuid_still_works,
];

fn its_own_pid_1(c: &Client) {
    c.run("run --rm busybox sh -c 'echo $$; ls -d /proc/[0-9]*'").ok().out_has("1\n/proc/1\n");
    let output = c.run("run --rm busybox ps -o pid,comm").ok();
    assert_eq!(output.lines().len(), 2, "{output:?}");
}

fn capabilities(c: &Client) {
    // chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service net_raw sys_chroot mknod
    // audit_write setfcap
    let output = c.run("run --rm busybox grep Cap /proc/self/status").ok();
    let expected = |line: &str| match line.split_once(":\t") {
        Some(("CapPrm" | "CapEff" | "CapBnd", value)) => value == "00000000a80425fb",
        // 20.10.24 and later, after CVE-2022-24769: none is inheritable; runc 1.1.2 on sets none ambient.
        Some(("CapInh" | "CapAmb", value)) => value == "0000000000000000",
        _ => false,
    };
    assert!(output.lines().len() == 5 && output.lines().iter().all(|line| expected(line)), "{output:?}");
    c.run("run --rm busybox hostname other").fails().err_has("Operation not permitted");
    c.run("run --rm busybox mount -t tmpfs none /tmp").fails().err_has("ermission denied");
    c.run("run --rm busybox chown 5:5 /tmp").ok();
}

fn no_capabilities_for_a_user(c: &Client) {
    let output = c.run("run --rm -u alice busybox grep -E 'Cap(Prm|Eff|Amb)' /proc/self/status").ok();
    assert!(output.lines().iter().all(|line| line.ends_with("\t0000000000000000")), "{output:?}");
}

fn seccomp(c: &Client) {
    c.run("run --rm busybox grep -E ^Seccomp: /proc/self/status").ok().out("Seccomp:\t2\n");
    c.run("run --rm busybox unshare -U true").fails().err_has("Operation not permitted");
    c.run("run --rm busybox unshare -m true").fails().err_has("Operation not permitted");
}

fn masked_and_read_only_paths(c: &Client) {
    let output = c.run("run --rm busybox sh -c 'for f in /proc/keys /proc/timer_list /proc/kcore /proc/sched_debug; do if test -e $f; then head -c 1 $f | wc -c; fi; done; ls /sys/firmware | wc -l; if test -e /proc/acpi; then ls /proc/acpi | wc -l; fi'").ok();
    assert!(output.lines().iter().all(|line| line == "0"), "{output:?}");
    for path in [
        "/proc/sys/kernel/hostname",
        "/proc/sysrq-trigger",
        "/sys/kernel/uevent_helper",
        "/sys/kernel/mm/ksm/run",
    ] {
        c.run(&format!("run --rm busybox sh -c 'test ! -e {path} || echo 1 >{path}'"))
            .code(i32::from(std::path::Path::new(path).exists()));
    }
}

fn devices(c: &Client) {
    c.run("run --rm busybox sh -c 'mknod /tmp/disk b 8 0 && mknod /tmp/null c 1 3 && echo x >/tmp/null && cat /tmp/disk'")
        .code(1)
        .err_has("Operation not permitted");
    c.run("run --rm busybox sh -c 'mknod /tmp/mem c 1 1 && cat /tmp/mem'")
        .code(1)
        .err_has("Operation not permitted");
}

fn namespaces_differ_from_the_hosts(c: &Client) {
    let id = c.start("--network none busybox sleep 100");
    let link = |pid: u32, name: &str| {
        std::fs::read_link(format!("/proc/{pid}/ns/{name}")).expect("the process lives")
    };
    // On v1 Docker shares the host's cgroup namespace.
    let cgroup: &[&str] = if c.is_knarr_engine() { &["cgroup"] } else { &[] };
    for name in ["pid", "mnt", "uts", "ipc", "net"].iter().chain(cgroup) {
        assert_ne!(link(c.pid(&id), name), link(c.engine().pid(), name), "{name}");
        assert_ne!(link(c.pid(&id), name), link(std::process::id(), name), "{name}");
    }
    c.run(&format!("rm -f {id}")).ok();
}

fn no_descriptor_leaks(c: &Client) {
    // 3 is the directory that ls reads.
    c.run("run --rm busybox ls /proc/self/fd").ok().out("0\n1\n2\n3\n");
    let id = c.start("-i -t busybox sleep 100");
    c.run(&format!("exec {id} ls /proc/1/fd")).ok().out("0\n1\n2\n");
    c.run(&format!("exec {id} ls /proc/self/fd")).ok().out("0\n1\n2\n3\n");
    c.run(&format!("rm -f {id}")).ok();
}

fn nothing_of_the_host_is_mounted(c: &Client) {
    let mounts = c.run("run --rm busybox cat /proc/self/mountinfo").ok().stdout;
    let points: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    let known = |point: &&str| {
        ["/", "/proc", "/sys", "/dev", "/etc/resolv.conf", "/etc/hostname", "/etc/hosts"].contains(point)
            || ["/proc/", "/sys/", "/dev/"].iter().any(|below| point.starts_with(below))
    };
    assert!(points.iter().all(known), "{mounts}");
    // A mount that leads back out would be seen by its propagation.
    assert!(!mounts.contains(" shared:"), "{mounts}");
    c.run("run --rm busybox sh -c 'test ! -e /.oldroot && ls -d /..'").ok().out("/..\n");
}

fn the_host_does_not_see_its_mounts(c: &Client) {
    let id = c.start("busybox sleep 100");
    let of = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("the process lives");
    assert!(!of(std::process::id()).contains(&id));
    // dockerd keeps them in its own namespace.
    if c.is_knarr_engine() {
        assert!(!of(c.engine().pid()).contains(&id));
    }
    c.run(&format!("rm -f {id}")).ok();
}

fn cgroups_cannot_be_written(c: &Client) {
    c.run("run --rm busybox sh -c 'for f in /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/*/cgroup.procs; do test -e $f && echo 0 >$f && echo wrote; done; mkdir /sys/fs/cgroup/x /sys/fs/cgroup/memory/x'")
        .fails()
        .out_lacks("wrote");
}

fn a_child_gets_no_more(c: &Client) {
    c.run("run --rm busybox sh -c 'sh -c \"grep -e ^CapBnd: -e ^Seccomp: /proc/self/status\"'")
        .ok()
        .out("CapBnd:\t00000000a80425fb\nSeccomp:\t2\n");
}

fn setuid_still_works(c: &Client) {
    c.run("run --rm -u 1000 busybox grep NoNewPrivs /proc/self/status").ok().out("NoNewPrivs:\t0\n");
}
