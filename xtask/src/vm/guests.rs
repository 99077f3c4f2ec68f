//! Which guests there are, and which tests run in which.

/// A machine to run tests in.
pub(super) struct Guest {
    /// As a person calls it.
    pub(super) name: &'static str,
    /// What it is good for, in a line.
    pub(super) about: &'static str,
    /// Debian on a disk; else busybox in memory.
    pub(super) debian: bool,
    /// More words for the kernel.
    pub(super) kernel: &'static str,
    /// In MiB.
    pub(super) memory: u32,
    /// When it is called hung, in seconds.
    pub(super) patience: u64,
    /// Which tests.
    pub(super) runs: &'static [Runs],
}

/// Tests for a guest.
pub(super) struct Runs {
    pub(super) package: &'static str,
    /// `*` is every program of the package but those for a special guest.
    program: &'static str,
    /// Parts of tests' names; all, if there is none.
    tests: &'static [&'static str],
}

const fn runs(package: &'static str, program: &'static str, tests: &'static [&'static str]) -> Runs {
    Runs { package, program, tests }
}

/// All of them, quickest first.
pub(super) const GUESTS: [Guest; 3] = [
    Guest {
        name: "v2",
        about: "cgroup v2 with all controllers; busybox",
        debian: false,
        kernel: "",
        memory: 1536,
        patience: 900,
        runs: &[runs("knarr-runtime", "*", &[]), runs("knarr-sys", "*", &[])],
    },
    Guest {
        name: "v1",
        about: "cgroup v1 without v2; busybox",
        debian: false,
        kernel: "",
        memory: 1536,
        patience: 600,
        runs: &[
            runs("knarr-runtime", "exec", &[]),
            runs("knarr-runtime", "lifecycle", &[]),
            runs("knarr-runtime", "limits", &[]),
        ],
    },
    Guest {
        name: "debian",
        about: "cgroup v2, systemd, AppArmor; Debian",
        debian: true,
        kernel: "apparmor=1 security=apparmor systemd.unified_cgroup_hierarchy=1 systemd.show_status=0",
        memory: 2048,
        patience: 900,
        runs: &[
            runs("knarr-runtime", "guest_*", &[]),
            runs("knarr-runtime", "cgroups_systemd", &[]),
            // What the small guests lack the programs for.
            runs("knarr-runtime", "command_line", &["service_manager", "as_runcs_does"]),
            runs("knarr-runtime", "filter", &["every_entry"]),
            runs("knarr-runtime", "mounts_devices", &["may_not_make_nodes"]),
            runs("knarr-runtime", "process", &["raising_a_limit"]),
            // The whole engine.
            runs("knarr-e2e", "hello", &["it_sees_its_limits"]),
            runs("knarr-e2e", "limits", &[]),
        ],
    },
];

/// A test that does not run in a guest, and why.
pub(super) struct LeftOut {
    /// Empty: in none.
    guest: &'static str,
    package: &'static str,
    /// Empty: any.
    program: &'static str,
    /// A part of its name.
    test: &'static str,
    pub(super) why: &'static str,
}

const fn left_out(words: [&'static str; 4], why: &'static str) -> LeftOut {
    let [guest, package, program, test] = words;
    LeftOut { guest, package, program, test, why }
}

const LEFT_OUT: &[LeftOut] = &[
    left_out(["v2", "knarr-runtime", "cgroups_systemd", ""], "needs systemd; runs in the guest debian"),
    left_out(["v1", "knarr-runtime", "limits", "v2_keys"], "needs cgroup v2"),
    left_out(
        ["", "knarr-runtime", "syscall_numbers", ""],
        "compares tables with headers; no kernel takes part",
    ),
    left_out(["", "knarr-runtime", "runtime", "seccomp::tests"], "computes for long; no kernel takes part"),
    left_out(["v2", "knarr-runtime", "filter", "every_entry"], "needs gcc; runs in the guest debian"),
    left_out(
        ["v2", "knarr-runtime", "command_line", "service_manager"],
        "needs python; runs in the guest debian",
    ),
    left_out(
        ["v2", "knarr-runtime", "command_line", "as_runcs_does"],
        "needs runc; runs in the guest debian",
    ),
    left_out(["", "knarr-runtime", "config_fuzz", ""], "computes for long; no kernel takes part"),
    left_out(["", "knarr-runtime", "crash", ""], "traces every step with strace, too slow for an emulator"),
    left_out(["", "knarr-runtime", "escapes_process", ""], "needs gcc with a C library"),
    left_out(
        ["", "knarr-runtime", "escapes_mounts", "what_the_runtime_makes_and_the_image_has_already"],
        "needs chattr",
    ),
    left_out(
        ["v2", "knarr-runtime", "process", "raising_a_limit"],
        "needs prlimit; runs in the guest debian",
    ),
    left_out(
        ["v2", "knarr-runtime", "mounts_devices", "may_not_make_nodes"],
        "needs util-linux's setpriv; runs in the guest debian",
    ),
    left_out(["v2", "knarr-runtime", "mounts", "propagation_of_the_root"], "needs util-linux's mount"),
    left_out(["v2", "knarr-runtime", "escapes_mounts", "a_terminal_is_one"], "needs bsdutils' script"),
    left_out(["v2", "knarr-runtime", "net_devices", ""], "needs iproute2"),
    left_out(["v2", "knarr-runtime", "mounts_ids", "ids_are_mapped"], "tmpfs is id-mapped since Linux 6.3"),
    left_out(["v2", "knarr-runtime", "mounts_ids", "for_one_mount"], "tmpfs is id-mapped since Linux 6.3"),
    left_out(["v2", "knarr-runtime", "rootless", ""], "needs util-linux's setpriv and newuidmap"),
    left_out(["v2", "knarr-runtime", "refusals", ""], "watches system calls with strace"),
    left_out(["v2", "knarr-runtime", "checkpoint", "saved_and_brought_back"], "needs criu"),
    left_out(["v2", "knarr-runtime", "seccomp_agent", ""], "its agent needs python"),
    left_out(["v2", "knarr-runtime", "seccomp_escapes", ""], "needs gcc with a C library"),
    left_out(["", "knarr-e2e", "", "::docker"], "needs docker's client"),
];

impl Guest {
    /// The one of this name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        GUESTS.iter().find(|guest| guest.name == name)
    }

    /// Whether this test runs here, or would if it were not left out.
    pub(super) fn takes(&self, package: &str, program: &str, test: &str) -> bool {
        let special = program.starts_with("guest_");
        self.runs.iter().any(|runs| {
            let here = match runs.program {
                "*" => !special,
                "guest_*" => special,
                name => name == program,
            };
            here && runs.package == package
                && (runs.tests.is_empty() || runs.tests.iter().any(|part| test.contains(part)))
        })
    }

    /// Why this test of a program that runs here does not, if so.
    pub(super) fn leaves_out(&self, package: &str, program: &str, test: &str) -> Option<&'static LeftOut> {
        LEFT_OUT.iter().find(|left| {
            (left.guest.is_empty() || left.guest == self.name)
                && left.package == package
                && (left.program.is_empty() || left.program == program)
                && test.contains(left.test)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_programs_go_to_their_guest() {
        let takes = |name: &str, program: &str, test: &str| {
            Guest::named(name).unwrap().takes("knarr-runtime", program, test)
        };
        assert!(takes("v2", "limits", "any") && !takes("v2", "guest_systemd", "any"));
        assert!(takes("debian", "guest_systemd", "any") && !takes("debian", "limits", "any"));
        assert!(takes("debian", "filter", "every_entry_is") && !takes("debian", "filter", "other"));
        assert!(!Guest::named("v2").unwrap().takes("knarr-shim", "it", "any"));
    }

    #[test]
    fn one_test_or_a_program_is_left_out() {
        let out = |guest: &str, package: &str, program: &str, test: &str| {
            Guest::named(guest).unwrap().leaves_out(package, program, test).is_some()
        };
        assert!(out("v1", "knarr-runtime", "syscall_numbers", "any"));
        assert!(!out("v2", "knarr-runtime", "filter", "another"));
        assert!(out("debian", "knarr-e2e", "limits", "memory::docker"));
        assert!(!out("debian", "knarr-e2e", "limits", "memory::knarr"));
    }
}
