//! What can be said on the command line, as data: runc's words, each with what it does.

/// Long name, short name, whether a value follows, what it is for.
pub type Flag = (&'static str, Option<char>, bool, &'static str);

/// A subcommand.
#[derive(Debug)]
pub struct Command {
    /// `create`
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// What follows its flags.
    pub arguments: &'static str,
    /// Its own flags.
    pub flags: &'static [&'static [Flag]],
    /// How many other words it takes at least and at most.
    pub words: (usize, usize),
    /// Whether flags may also stand after other words.
    pub mixed: bool,
}

const ANY: usize = usize::MAX;

const fn command(
    name: &'static str,
    words: (usize, usize),
    arguments: &'static str,
    flags: &'static [&'static [Flag]],
    about: &'static str,
) -> Command {
    Command { name, about, arguments, flags, words, mixed: true }
}

/// Before the subcommand.
pub const GLOBAL: &[Flag] = &[
    (
        "root",
        None,
        true,
        "directory of the containers' records; on a tmpfs (default: /run/knarr/runtime, for others than root $XDG_RUNTIME_DIR/knarr/runtime)",
    ),
    ("log", None, true, "file to write messages to, besides standard error"),
    ("log-format", None, true, "text or json (default: text)"),
    ("debug", None, false, "say in the log what is done"),
    ("criu", None, true, "the criu program for checkpoint and restore (default: criu)"),
    ("trace", None, true, "file to write the timeline of this call to"),
    ("systemd-cgroup", None, false, "let systemd make the control groups"),
    (
        "rootless",
        None,
        true,
        "whether control groups that may not be made are done without: true, false or auto",
    ),
    ("version", Some('v'), false, "say which version this is"),
    HELP,
];

/// Every command has it.
pub(super) const HELP: Flag = ("help", Some('h'), false, "say how it is used");

const BUNDLE: &[Flag] = &[("bundle", Some('b'), true, "the bundle's directory (default: the current one)")];
const PROCESS: &[Flag] = &[
    ("console-socket", None, true, "unix socket that is sent the terminal's other end"),
    ("pid-file", None, true, "file to write the process's id to"),
];
const MAKE: &[Flag] = &[
    ("preserve-fds", None, true, "hand so many more descriptors on, besides those of LISTEN_FDS"),
    ("no-pivot", None, false, "move the root instead of pivoting; for a root on a ramdisk"),
    ("no-new-keyring", None, false, "keep the caller's session keyring"),
];
const DETACH: &[Flag] = &[("detach", Some('d'), false, "do not wait for the process")];
const RUN: &[Flag] = &[
    ("keep", None, false, "do not delete the container when it has ended"),
    // There is never one to switch off: `run` waits for its own child only.
    ("no-subreaper", None, false, "do not become the reaper of orphans; this never does"),
];
const EXEC: &[Flag] = &[
    ("process", Some('p'), true, "file with the process, as in config.json"),
    ("cwd", None, true, "directory in the container"),
    ("env", Some('e'), true, "environment variable, NAME=VALUE"),
    ("user", Some('u'), true, "UID[:GID]"),
    ("additional-gids", Some('g'), true, "one more group"),
    ("cap", Some('c'), true, "one more capability"),
    ("apparmor", None, true, "the AppArmor profile"),
    ("process-label", None, true, "the SELinux label"),
    ("preserve-fds", None, true, "hand so many more descriptors on"),
    ("tty", Some('t'), false, "with a terminal"),
    ("no-new-privs", None, false, "without ways to gain privileges"),
    ("ignore-paused", None, false, "also in a paused container"),
    ("cgroup", None, true, "a control group below the container's, [CONTROLLER:]PATH"),
];
const EVENTS: &[Flag] = &[
    ("interval", None, true, "time from one set of numbers to the next (default: 5s)"),
    ("stats", None, false, "one set of numbers, then end"),
];
/// A number of 0, or no value, leaves what is there.
const UPDATE: &[Flag] = &[
    (
        "resources",
        Some('r'),
        true,
        "file with the limits, as linux.resources of config.json; - is standard input",
    ),
    ("blkio-weight", None, true, "share of input and output, 10 to 1000"),
    ("cpu-period", None, true, "microseconds in which the quota may be used up"),
    ("cpu-quota", None, true, "microseconds of processor time in each period; -1 for no limit"),
    ("cpu-burst", None, true, "microseconds that may be saved up"),
    ("cpu-rt-period", None, true, "the same as cpu-period, for realtime processes"),
    ("cpu-rt-runtime", None, true, "the same as cpu-quota, for realtime processes"),
    ("cpu-share", None, true, "share of processor time"),
    ("cpu-idle", None, true, "1: only what nobody else wants"),
    ("cpuset-cpus", None, true, "processors, as 0-3,7"),
    ("cpuset-mems", None, true, "memory nodes, as 0-3,7"),
    ("memory", None, true, "most memory in bytes, or with a unit; -1 for no limit"),
    ("memory-reservation", None, true, "memory to be left with when there is too little"),
    ("memory-swap", None, true, "most memory and swap together; -1 for no limit"),
    ("kernel-memory", None, true, "most memory of the kernel's (old v1 kernels)"),
    ("kernel-memory-tcp", None, true, "most memory of TCP's buffers (v1)"),
    ("pids-limit", None, true, "most processes and threads; -1 for no limit"),
    ("l3-cache-schema", None, true, "Intel RDT: share of the L3 cache"),
    ("mem-bw-schema", None, true, "Intel RDT: share of the memory's bandwidth"),
];
const IMAGES: &[Flag] = &[
    ("image-path", None, true, "directory of the saved processes (default: checkpoint)"),
    ("work-path", None, true, "directory of CRIU's logs (default: that of the saved processes)"),
    ("tcp-established", None, false, "with open TCP connections"),
    ("ext-unix-sk", None, false, "with unix sockets that lead out"),
    ("shell-job", None, false, "with a terminal of the caller's"),
    ("file-locks", None, false, "with locks of files"),
    ("manage-cgroups-mode", None, true, "ignore: groups are made from the bundle's config"),
    ("empty-ns", None, true, "make this namespace without what was in it (network)"),
    ("auto-dedup", None, false, "keep each page of memory once"),
    ("lazy-pages", None, false, "not supported"),
];
const CHECKPOINT: &[Flag] = &[
    ("leave-running", None, false, "let the container go on"),
    ("pre-dump", None, false, "save memory alone, ahead of the checkpoint, and let the container go on"),
    ("parent-path", None, true, "directory of an earlier pre-dump, relative to the image path"),
    ("page-server", None, true, "not supported"),
    ("status-fd", None, true, "not supported"),
];
const RESTORE: &[Flag] = &[
    ("lsm-profile", None, true, "security label to restore with, TYPE:NAME"),
    ("lsm-mount-context", None, true, "not supported"),
    ("no-pivot", None, false, "move the root instead of pivoting; for a root on a ramdisk"),
    ("no-subreaper", None, false, "do not become the reaper of orphans; this never does"),
];
const FORMAT: &[Flag] = &[("format", Some('f'), true, "table or json (default: table)")];
const LIST: &[Flag] = &[("quiet", Some('q'), false, "only ids")];
const KILL: &[Flag] = &[("all", Some('a'), false, "every process of the container")];
const DELETE: &[Flag] = &[("force", Some('f'), false, "end it first; no error if there is none")];
const SPEC: &[Flag] = &[("rootless", None, false, "for somebody who is not root")];

/// All of them.
pub const COMMANDS: &[Command] = &[
    command(
        "checkpoint",
        (1, 1),
        "<container-id>",
        &[IMAGES, CHECKPOINT],
        "save a container's processes to files",
    ),
    command(
        "restore",
        (1, 1),
        "<container-id>",
        &[BUNDLE, PROCESS, DETACH, IMAGES, RESTORE],
        "create a container from saved processes",
    ),
    command("create", (1, 1), "<container-id>", &[BUNDLE, PROCESS, MAKE], "create a container"),
    command("delete", (1, 1), "<container-id>", &[DELETE], "delete what a container holds"),
    Command {
        mixed: false,
        ..command(
            "exec",
            (1, ANY),
            "<container-id> <command> [argument...]",
            &[PROCESS, DETACH, EXEC],
            "run one more process in a container",
        )
    },
    command(
        "events",
        (1, 1),
        "<container-id>",
        &[EVENTS],
        "show what a container uses, and when memory runs out",
    ),
    command("features", (0, 0), "", &[], "show what this runtime can do"),
    command("kill", (1, 2), "<container-id> [signal]", &[KILL], "send a signal (default: SIGTERM)"),
    command("list", (0, 0), "", &[FORMAT, LIST], "list containers"),
    command("pause", (1, 1), "<container-id>", &[], "suspend all processes of a container"),
    command("plan", (1, 1), "<container-id>", &[BUNDLE, MAKE], "print what create would do"),
    Command {
        mixed: false,
        ..command("ps", (1, ANY), "<container-id> [ps options]", &[FORMAT], "list a container's processes")
    },
    command("resume", (1, 1), "<container-id>", &[], "let a paused container go on"),
    command(
        "run",
        (1, 1),
        "<container-id>",
        &[BUNDLE, PROCESS, MAKE, DETACH, RUN],
        "create and start a container",
    ),
    command("spec", (0, 0), "", &[BUNDLE, SPEC], "write a config.json to begin with"),
    command("start", (1, 1), "<container-id>", &[], "start a created container's process"),
    command("state", (1, 1), "<container-id>", &[], "show a container's state"),
    command("update", (1, 1), "<container-id>", &[UPDATE], "change a container's limits"),
];
