//! Capabilities by name.

use rustix::thread::CapabilitySet;

/// Names in the order of their numbers in `linux/capability.h`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The five sets as bits.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Sets {
    /// The most that any program can get.
    pub bounding: u64,
    /// In force.
    pub effective: u64,
    /// Kept across exec of files that have them inheritable.
    pub inheritable: u64,
    /// May be made effective.
    pub permitted: u64,
    /// Kept across exec of ordinary files.
    pub ambient: u64,
}

/// The bit of `CAP_X` (or `X`).
pub fn bit(name: &str) -> Option<u64> {
    let upper = name.to_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    let number = NAMES.iter().position(|known| *known == short)?;
    Some(1 << number)
}

/// The names of `bits`, separated by blanks.
pub fn names(bits: u64) -> String {
    if bits & ALL == ALL {
        return "all".to_owned();
    }
    let set = NAMES.iter().enumerate().filter(|(number, _)| bits >> number & 1 == 1);
    set.map(|(_, name)| *name).collect::<Vec<_>>().join(" ")
}

/// Every capability by its full name.
pub fn all() -> Vec<String> {
    NAMES.iter().map(|name| format!("CAP_{name}")).collect()
}

/// All that there are.
pub const ALL: u64 = (1 << NAMES.len()) - 1;

/// Reads the spec's sets; the names that nobody knows come back beside them.
pub fn parse(wanted: &oci::spec::Capabilities) -> (Sets, Vec<String>) {
    let mut unknown = Vec::new();
    let mut read = |names: &[String]| {
        names.iter().fold(0, |bits, name| {
            if bit(name).is_none() {
                unknown.push(name.clone());
            }
            bits | bit(name).unwrap_or(0)
        })
    };
    let sets = Sets {
        bounding: read(&wanted.bounding),
        effective: read(&wanted.effective),
        inheritable: read(&wanted.inheritable),
        permitted: read(&wanted.permitted),
        ambient: read(&wanted.ambient),
    };
    unknown.sort();
    unknown.dedup();
    (sets, unknown)
}

/// As rustix takes them.
pub fn set(bits: u64) -> CapabilitySet {
    CapabilitySet::from_bits_retain(bits)
}
