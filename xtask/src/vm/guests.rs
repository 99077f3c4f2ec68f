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
    /// Package and test program; `*` is every program of the package but those for a special guest.
    pub(super) runs: &'static [(&'static str, &'static str)],
}

/// All of them, quickest first.
pub(super) const GUESTS: [Guest; 3] = [
    Guest {
        name: "v2",
        about: "cgroup v2 with all controllers; busybox",
        debian: false,
        kernel: "",
        memory: 1536,
        patience: 300,
        runs: &[("knarr-runtime", "*"), ("knarr-sys", "*")],
    },
    Guest {
        name: "v1",
        about: "cgroup v1 without v2; busybox",
        debian: false,
        kernel: "",
        memory: 1536,
        patience: 300,
        runs: &[
            ("knarr-runtime", "exec"),
            ("knarr-runtime", "lifecycle"),
            ("knarr-runtime", "limits"),
            ("knarr-runtime", "world"),
        ],
    },
    Guest {
        name: "debian",
        about: "cgroup v2, systemd, AppArmor; Debian",
        debian: true,
        kernel: "apparmor=1 security=apparmor systemd.unified_cgroup_hierarchy=1 systemd.show_status=0",
        memory: 2048,
        patience: 300,
        runs: &[
            ("knarr-runtime", "filter"),
            ("knarr-runtime", "guest_*"),
            ("knarr-shim", "it"),
            ("knarr-e2e", "hello"),
            ("knarr-e2e", "limits"),
        ],
    },
];

/// A test that does not run in a guest, and why: guest (empty: all), package, program, test (empty: all).
pub(super) struct LeftOut {
    guest: &'static str,
    package: &'static str,
    program: &'static str,
    test: &'static str,
    pub(super) why: &'static str,
}

const LEFT_OUT: [LeftOut; 4] = [
    LeftOut {
        guest: "",
        package: "knarr-runtime",
        program: "syscall_numbers",
        test: "",
        why: "compares tables with headers; no kernel takes part",
    },
    LeftOut {
        guest: "v2",
        package: "knarr-runtime",
        program: "filter",
        test: "every_entry_to_the_kernel_answers_by_the_default_profile",
        why: "needs gcc; runs in the guest debian",
    },
    LeftOut {
        guest: "debian",
        package: "knarr-e2e",
        program: "hello",
        test: "knarr_only::it_runs_on_an_empty_engine",
        why: "needs docker's client",
    },
    LeftOut {
        guest: "debian",
        package: "knarr-e2e",
        program: "",
        test: "::docker",
        why: "needs docker's client",
    },
];

impl Guest {
    /// The one of this name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        GUESTS.iter().find(|guest| guest.name == name)
    }

    /// Whether this test program runs here.
    pub(super) fn takes(&self, package: &str, program: &str) -> bool {
        let special = program.starts_with("guest_");
        self.runs.iter().any(|(of, pattern)| {
            *of == package
                && match *pattern {
                    "*" => !special,
                    "guest_*" => special,
                    name => name == program,
                }
        })
    }

    /// Why this test of a program that runs here does not, if so.
    pub(super) fn leaves_out(&self, package: &str, program: &str, test: &str) -> Option<&'static LeftOut> {
        LEFT_OUT.iter().find(|left| {
            (left.guest.is_empty() || left.guest == self.name)
                && left.package == package
                && (left.program.is_empty() || left.program == program)
                && (left.test.is_empty()
                    || left.test == test
                    || (left.test.starts_with("::") && test.ends_with(left.test)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_programs_go_to_their_guest() {
        let takes = |name: &str, program: &str| Guest::named(name).unwrap().takes("knarr-runtime", program);
        assert!(takes("v2", "limits") && takes("v2", "runtime") && !takes("v2", "guest_systemd"));
        assert!(takes("debian", "guest_systemd") && !takes("debian", "limits"));
        assert!(!Guest::named("v2").unwrap().takes("knarr-shim", "it"));
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
