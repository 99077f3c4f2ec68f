//! The kernel's doors that a default container finds shut: every system call by every entry, new namespaces, mounts,
//! release agents.

#![allow(missing_docs, clippy::unwrap_used)]

mod bundle;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    process::Command,
};

use bundle::{Bundle, hierarchies};
use serde_json::{Value, json};

fn profile() -> Value {
    serde_json::from_str(include_str!("../src/seccomp/default.json")).unwrap()
}

/// Compiles a C program into the bundle, static.
fn compile(bundle: &Bundle, name: &str, source: &str) {
    let file = bundle.path().join(format!("{name}.c"));
    fs::write(&file, source).unwrap();
    let mut gcc = Command::new("gcc");
    let output =
        gcc.args(["-O1", "-static", "-o"]).args([&bundle.rootfs().join(name), &file]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Reads lines `ENTRY NUMBER FIRST-ARGUMENT`, makes each call with zeros behind it, and prints the line and the errno.
const CALLER: &str = r#"
#include <stdio.h>
static long interrupt(long number, long a) {
    long answer;
    __asm__ volatile("int $0x80" : "=a"(answer) : "a"(number), "b"(a), "c"(0), "d"(0), "S"(0), "D"(0)
        : "memory", "r8", "r9", "r10", "r11");
    return (int)answer;
}
static long native(long number, long a) {
    long answer;
    register long r10 __asm__("r10") = 0, r8 __asm__("r8") = 0, r9 __asm__("r9") = 0;
    __asm__ volatile("syscall" : "=a"(answer) : "a"(number), "D"(a), "S"(0), "d"(0), "r"(r10), "r"(r8), "r"(r9)
        : "rcx", "r11", "memory");
    return answer;
}
int main(void) {
    char entry[16]; unsigned long number; long first;
    FILE *list = fopen("/list", "r");
    while (list && fscanf(list, "%15s %lu %ld", entry, &number, &first) == 3) {
        long answer = entry[0] == 'i' ? interrupt(number, first) : native(number, first);
        printf("%s %lu %ld %ld\n", entry, number, first, answer < 0 ? -answer : 0);
    }
    return 0;
}
"#;

/// An answer that no call gives of its own: what answers so was stopped by the filter.
const STOPPED: u64 = 71;
const NO_SUCH_CALL: u64 = 38;

/// What a profile says, read anew from its words: nothing of the compiler is used but names' numbers.
struct Oracle {
    /// Rules for each number: `None` without comparisons.
    rules: BTreeMap<u32, Vec<Value>>,
}

impl Oracle {
    fn of(profile: &Value, architecture: &str) -> Self {
        let numbers: BTreeMap<&str, u32> =
            runtime::seccomp::calls(architecture).unwrap().into_iter().collect();
        let mut rules: BTreeMap<u32, Vec<Value>> = BTreeMap::new();
        for rule in profile["syscalls"].as_array().unwrap() {
            for name in rule["names"].as_array().unwrap() {
                if let Some(number) = numbers.get(name.as_str().unwrap()) {
                    rules.entry(*number).or_default().push(rule.clone());
                }
            }
        }
        Self { rules }
    }

    /// The errno of a call that is stopped; `None` for one that is let through.
    fn answer(&self, number: u32, first: u64) -> Option<u64> {
        if number > *self.rules.last_key_value().unwrap().0 {
            return Some(NO_SUCH_CALL);
        }
        let holds = |rule: &&Value| {
            rule["args"].as_array().into_iter().flatten().all(|arg| {
                let given = if arg["index"] == 0 { first } else { 0 };
                let (value, second) = (arg["value"].as_u64().unwrap(), arg["valueTwo"].as_u64().unwrap_or(0));
                match arg["op"].as_str().unwrap() {
                    "SCMP_CMP_EQ" => given == value,
                    "SCMP_CMP_NE" => given != value,
                    "SCMP_CMP_LT" => given < value,
                    "SCMP_CMP_GT" => given > value,
                    "SCMP_CMP_MASKED_EQ" => given & value == second,
                    other => panic!("{other}"),
                }
            })
        };
        let rules = self.rules.get(&number).map(Vec::as_slice).unwrap_or_default();
        let always = rules.iter().find(|rule| rule["args"].as_array().is_none_or(Vec::is_empty));
        match always.or_else(|| rules.iter().find(holds)) {
            None => Some(STOPPED),
            Some(rule) if rule["action"] == "SCMP_ACT_ALLOW" => None,
            Some(rule) => Some(rule["errnoRet"].as_u64().unwrap_or(1)),
        }
    }
}

/// Entry, architecture, what its numbers have in common.
const ENTRIES: [(&str, &str, u32); 3] =
    [("syscall", "SCMP_ARCH_X86_64", 0), ("i386", "SCMP_ARCH_X86", 0), ("x32", "SCMP_ARCH_X32", 0x4000_0000)];

/// `uretprobe` and `uprobe` of x86-64: the kernel lets them past every filter (Linux 6.14, 6.18), and refuses them itself
/// to who is not being probed.
const PAST_FILTERS: [u32; 2] = [335, 336];

/// S-706
#[test]
fn every_number_by_every_entry_answers_as_the_profile_reads() {
    let mut bundle = Bundle::new(&["/caller"]);
    compile(&bundle, "caller", CALLER);
    let mut profile = profile();
    profile["defaultErrnoRet"] = json!(STOPPED);
    let oracles = ENTRIES.map(|(_, architecture, _)| Oracle::of(&profile, architecture));
    let mut list = String::new();
    let mut wanted = BTreeSet::new();
    for ((entry, _, base), oracle) in ENTRIES.iter().zip(&oracles) {
        for number in (0..520).map(|number| base + number).filter(|number| !PAST_FILTERS.contains(number)) {
            // Those that are let through are the kernel's business, and some of them end or stop the caller.
            if let Some(errno) = oracle.answer(number, 0) {
                writeln!(list, "{entry} {number} 0").unwrap();
                wanted.insert(format!("{entry} {number} 0 {errno}"));
            }
        }
    }
    for (entry, number, oracle) in [("syscall", 41, &oracles[0]), ("i386", 359, &oracles[1])] {
        for family in 0..=45 {
            writeln!(list, "{entry} {number} {family}").unwrap();
            if let Some(errno) = oracle.answer(number, family) {
                wanted.insert(format!("{entry} {number} {family} {errno}"));
            }
        }
    }
    fs::write(bundle.rootfs().join("list"), &list).unwrap();
    bundle.spec["linux"]["seccomp"] = profile;
    let said = bundle.run();
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    // AF_ALG and AF_VSOCK, stopped before the kernel could say that it lacks them.
    for family in [38, 40] {
        assert!(wanted.contains(&format!("syscall 41 {family} {STOPPED}")));
    }
    let found: BTreeSet<String> = said.out.lines().map(str::to_owned).collect();
    assert_eq!(found.len(), list.lines().count());
    let stopped = |line: &String| line.ends_with(&format!(" {STOPPED}")) || wanted.contains(line);
    let found: BTreeSet<String> = found.into_iter().filter(stopped).collect();
    let differ: Vec<_> = found.symmetric_difference(&wanted).collect();
    assert!(differ.is_empty(), "{differ:?}");
    assert!(wanted.len() > 500, "{}", wanted.len());
}

/// S-706: an architecture that a profile does not name has no entry at all.
#[test]
fn entries_of_architectures_that_are_not_named_end_the_caller() {
    for (entry, number) in [("i386", 20), ("i386", 102), ("x32", 0x4000_0000 + 39)] {
        let mut bundle = Bundle::new(&["/caller"]);
        compile(&bundle, "caller", CALLER);
        fs::write(bundle.rootfs().join("list"), format!("{entry} {number} 1\n")).unwrap();
        let mut profile = profile();
        profile["architectures"] = json!(["SCMP_ARCH_X86_64"]);
        bundle.spec["linux"]["seccomp"] = profile;
        let said = bundle.run();
        assert_eq!((said.code, said.out.as_str()), (128 + 31, ""), "{entry} {number}: {}", said.err);
    }
}

/// Tries to get namespaces, mounts and a release agent; prints what came of each. An argument asks for a user
/// namespace of its own first.
const ESCAPER: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static void said(const char *what, long answer) { printf("%s %d\n", what, answer < 0 ? errno : 0); fflush(stdout); }
static void apart(const char *what, int flags) {
    if (fork() == 0) { said(what, unshare(flags)); _exit(0); }
    wait(NULL);
}
static void agent(const char *path) {
    int fd = open(path, O_WRONLY);
    if (fd >= 0) { if (write(fd, "/escape", 7) == 7) printf("WROTE %s\n", path); close(fd); }
}
int main(int count, char **words) {
    static char hierarchies[] = "blkio cpu cpuacct cpuset devices freezer memory pids systemd unified net_cls rdma";
    apart("user", CLONE_NEWUSER);
    apart("mnt", CLONE_NEWNS);
    apart("cgroup", CLONE_NEWCGROUP);
    char args[88] = {0};
    said("clone3", syscall(SYS_clone3, args, sizeof args));
    if (count > 1) said("own", unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWCGROUP));
    mkdir("/m", 0700);
    said("tmpfs", mount("none", "/m", "tmpfs", 0, NULL));
    for (char *name = strtok(hierarchies, " "); name; name = strtok(NULL, " ")) {
        char path[128];
        snprintf(path, sizeof path, "/sys/fs/cgroup/%s/release_agent", name);
        agent(path);
        mkdir("/c", 0700);
        if (mount("none", "/c", "cgroup", 0, name) == 0) {
            agent("/c/release_agent");
            mkdir("/c/escape", 0700);
            agent("/c/escape/release_agent");
            rmdir("/c/escape");
            umount2("/c", MNT_DETACH);
        }
    }
    puts("end");
    return 0;
}
"#;

fn release_agents() -> Vec<String> {
    let files = hierarchies().into_iter().map(|name| format!("/sys/fs/cgroup/{name}/release_agent"));
    files.map(|file| fs::read_to_string(file).unwrap_or_default()).collect()
}

/// S-701
#[test]
fn a_default_container_gets_no_namespaces_no_mounts_and_no_release_agent() {
    let mut bundle = Bundle::new(&["/escaper"]);
    compile(&bundle, "escaper", ESCAPER);
    bundle.spec["linux"]["seccomp"] = profile();
    let before = release_agents();
    assert_eq!(bundle.output(), "user 1\nmnt 1\ncgroup 1\nclone3 38\ntmpfs 1\nend");
    assert_eq!(release_agents(), before);
}

/// S-701: without a filter, a user namespace must hold; the container may then make more of them, and gets nowhere.
#[test]
fn a_user_namespace_without_a_filter_reaches_no_release_agent() {
    for own in [false, true] {
        let mut bundle = Bundle::new(if own { &["/escaper", "own"] } else { &["/escaper"] });
        compile(&bundle, "escaper", ESCAPER);
        fs::set_permissions(bundle.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        fs::set_permissions(bundle.rootfs(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        // Mount points must be there: the user namespace's root owns nothing in this root.
        for folder in ["proc", "sys", "dev"] {
            fs::create_dir_all(bundle.rootfs().join(folder)).unwrap();
        }
        let map = json!([{ "containerID": 0, "hostID": 200_000, "size": 65536 }]);
        bundle.spec["linux"]["uidMappings"] = map.clone();
        bundle.spec["linux"]["gidMappings"] = map;
        bundle.spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
        let before = release_agents();
        let output = bundle.output();
        assert!(output.ends_with("end") && !output.contains("WROTE"), "{output}");
        assert!(own || output.contains("tmpfs 1\n"), "{output}");
        assert_eq!(release_agents(), before);
    }
}
