//! Our numbers of system calls against the kernel's headers and against libseccomp.

#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

const X32: u32 = 0x4000_0000;
const ARCHITECTURES: [&str; 4] = ["X86_64", "X86", "X32", "AARCH64"];

/// The header with an architecture's numbers, and what that architecture wants of it (arm64's `asm/unistd.h`).
fn header(architecture: &str) -> (&'static str, &'static [&'static str]) {
    match architecture {
        "X86_64" => ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", &[]),
        "X86" => ("/usr/include/x86_64-linux-gnu/asm/unistd_32.h", &[]),
        "X32" => ("/usr/include/x86_64-linux-gnu/asm/unistd_x32.h", &[]),
        _ => (
            "/usr/include/asm-generic/unistd.h",
            &[
                "-D__ARCH_WANT_RENAMEAT",
                "-D__ARCH_WANT_NEW_STAT",
                "-D__ARCH_WANT_SET_GET_RLIMIT",
                "-D__ARCH_WANT_SYS_CLONE3",
                "-D__ARCH_WANT_MEMFD_SECRET",
            ],
        ),
    }
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// `__NR_name` → number, as the preprocessor leaves them.
fn from_header(architecture: &str) -> BTreeMap<String, u32> {
    let (path, wants) = header(architecture);
    let text = output(Command::new("gcc").args(["-E", "-dM", "-x", "c"]).args(wants).arg(path));
    let words = |line: &str| {
        line.strip_prefix("#define ")?.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned()))
    };
    let defined: BTreeMap<String, String> = text.lines().filter_map(words).collect();
    let number = |first: &String| -> Option<u32> {
        let mut value = first.as_str();
        while let Some(next) = defined.get(value) {
            value = next;
        }
        match value.strip_prefix("(__X32_SYSCALL_BIT + ") {
            Some(rest) => rest.trim_end_matches(')').parse().ok().map(|number: u32| X32 + number),
            None => value.parse().ok(),
        }
    };
    let named =
        defined.iter().filter_map(|(name, value)| Some((name.strip_prefix("__NR_")?, number(value)?)));
    // How many there are, and where an architecture's own may begin.
    named
        .filter(|(name, _)| !["syscalls", "arch_specific_syscall"].contains(name))
        .map(|(name, number)| (name.to_owned(), number))
        .collect()
}

fn ours(architecture: &str) -> BTreeMap<String, u32> {
    let calls = runtime::seccomp::calls(&format!("SCMP_ARCH_{architecture}")).unwrap();
    calls.into_iter().map(|(name, number)| (name.to_owned(), number)).collect()
}

#[test]
fn they_are_the_headers_numbers_in_both_directions() {
    for architecture in ARCHITECTURES {
        let (header, ours) = (from_header(architecture), ours(architecture));
        assert!(header.len() > 300, "{architecture}: {}", header.len());
        for (name, number) in &header {
            assert_eq!(ours.get(name), Some(number), "{architecture} {name}");
        }
        // x32's own begin at 512 and say nothing about age.
        let last = header.values().filter(|number| *number & !X32 < 512).max().unwrap();
        for (name, number) in ours.iter().filter(|(name, _)| !header.contains_key(*name)) {
            let late = ["uretprobe", "uprobe"].contains(&name.as_str());
            assert!(number > last || late, "{architecture} {name} {number}: unknown to the kernel's headers");
        }
        let distinct: BTreeSet<u32> = ours.values().copied().collect();
        assert_eq!(distinct.len(), ours.len(), "{architecture}: two names have one number");
    }
}

/// Every name of Docker's default profile and of our tables.
fn names() -> BTreeSet<String> {
    let text = include_str!("../../engine/data/seccomp-default.json");
    let profile: serde_json::Value = serde_json::from_str(text).unwrap();
    let rules = profile["syscalls"].as_array().unwrap().iter();
    let mut names: BTreeSet<String> = rules
        .flat_map(|rule| rule["names"].as_array().unwrap())
        .map(|name| name.as_str().unwrap().to_owned())
        .collect();
    names.extend(ARCHITECTURES.into_iter().flat_map(ours).map(|(name, _)| name));
    names
}

/// Prints architecture, name and number for every name in its arguments.
const ASK: &str = "
import seccomp, sys
for name in ['X86_64', 'X86', 'X32', 'AARCH64']:
    architecture = seccomp.Arch(getattr(seccomp.Arch, name))
    for call in sys.argv[1:]:
        print(name, call, seccomp.resolve_syscall(architecture, call))
";

#[test]
fn they_are_libseccomps_numbers() {
    let text = output(Command::new("/usr/bin/python3").args(["-c", ASK]).args(names()));
    let ours: BTreeMap<&str, _> = ARCHITECTURES.into_iter().map(|name| (name, ours(name))).collect();
    let mut compared = 0;
    for line in text.lines() {
        let [architecture, name, theirs] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let theirs: i64 = theirs.parse().unwrap();
        // -1: a name younger than this libseccomp. 102 and 117: it answers with i386's multiplexers.
        let muxed =
            architecture == "X86" && [102, 117].contains(&theirs) && !["socketcall", "ipc"].contains(&name);
        // This libseccomp says that x32 lacks it; the kernel's table has it for all.
        if theirs == -1 || muxed || (architecture, name) == ("X32", "map_shadow_stack") {
            continue;
        }
        compared += 1;
        assert_eq!(ours[architecture].get(name).copied(), u32::try_from(theirs).ok(), "{line}");
    }
    assert!(compared > 1500, "{compared}");
}
