//! What no host could give, refused before anything is made; limits in Docker's words, which tools parse.

use crate::{
    config::{Bind, Config, Resources},
    error::{Error, Kind, Result},
    signal,
};

/// Docker's: less does not start.
const LEAST_MEMORY: i64 = 6 << 20;

/// Checks a request as far as it can be checked without looking at the image.
pub(crate) fn check(config: &Config, cpus: usize) -> Result<()> {
    limits(&config.host.resources, cpus).map_err(invalid)?;
    if !config.stop_signal.is_empty() {
        signal::parse(&config.stop_signal)?;
    }
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return Err(invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        )));
    }
    if config.hostname.len() > 63 || config.hostname.contains(|c: char| c == '/' || c.is_control()) {
        return Err(invalid(format!(
            "invalid hostname: {:?}: at most 63 characters, no slash",
            config.hostname
        )));
    }
    no_nul(config)?;
    for entry in &config.env {
        if entry.is_empty() || entry.starts_with('=') || entry.contains('\0') {
            return Err(invalid(format!("invalid environment variable: {entry:?}")));
        }
    }
    mount_points(config)
}

/// The kernel takes none of these with a NUL byte; better said here than by a start that fails.
fn no_nul(config: &Config) -> Result<()> {
    let words = config.command.iter().chain(config.entrypoint.iter()).flatten();
    let rest = [
        ("working directory", &config.working_dir),
        ("user", &config.user),
        ("domain name", &config.domainname),
    ];
    let all = words.map(|word| ("command", word)).chain(rest);
    for (what, text) in all {
        if text.contains('\0') {
            return Err(invalid(format!("invalid {what} {text:?}: it contains a NUL byte")));
        }
    }
    Ok(())
}

fn limits(limits: &Resources, cpus: usize) -> std::result::Result<(), String> {
    let Resources { memory, memory_swap, memory_reservation, nano_cpus, cpu_period, cpu_quota, .. } = *limits;
    let wrong = |bad: bool, text: &str| if bad { Err(text.to_owned()) } else { Ok(()) };
    wrong(memory != 0 && memory < LEAST_MEMORY, "Minimum memory limit allowed is 6MB")?;
    wrong(
        memory > 0 && memory_swap > 0 && memory_swap < memory,
        "Minimum memoryswap limit should be larger than memory limit, see usage",
    )?;
    wrong(
        memory == 0 && memory_swap > 0,
        "You should always set the Memory limit when using Memoryswap limit, see usage",
    )?;
    wrong(
        memory_reservation != 0 && memory_reservation < LEAST_MEMORY,
        "Minimum memory reservation allowed is 6MB",
    )?;
    wrong(
        memory > 0 && memory_reservation > memory,
        "Minimum memory limit can not be less than memory reservation limit, see usage",
    )?;
    wrong(
        nano_cpus > 0 && cpu_period > 0,
        "Conflicting options: Nano CPUs and CPU Period cannot both be set",
    )?;
    wrong(nano_cpus > 0 && cpu_quota > 0, "Conflicting options: Nano CPUs and CPU Quota cannot both be set")?;
    if nano_cpus < 0 || nano_cpus > cpus as i64 * 1_000_000_000 {
        return Err(format!(
            "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        ));
    }
    wrong(nano_cpus > 0 && nano_cpus < 10_000_000, "range of CPUs is from 0.01 upwards")?;
    wrong(
        cpu_period != 0 && !(1_000..=1_000_000).contains(&cpu_period),
        "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
    )?;
    wrong(cpu_quota > 0 && cpu_quota < 1_000, "CPU cfs quota can not be less than 1ms (i.e. 1000)")?;
    wrong(limits.cpu_shares < 0, "shares must be a positive integer")?;
    cpu_list(&limits.cpuset_cpus, Some(cpus))
        .map_err(|reason| cpuset("cpus", &limits.cpuset_cpus, &reason))?;
    cpu_list(&limits.cpuset_mems, None).map_err(|reason| cpuset("mems", &limits.cpuset_mems, &reason))
}

fn cpuset(what: &str, list: &str, reason: &str) -> String {
    format!("Invalid value {list:?} for cpuset {what}: {reason}")
}

/// `0-3,7`; short, so that nothing is made of a giant list (CVE-2018-20699).
fn cpu_list(list: &str, available: Option<usize>) -> std::result::Result<(), String> {
    if list.len() > 1024 {
        return Err("longer than 1024 characters".to_owned());
    }
    for part in list.split(',').filter(|_| !list.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let number =
            |text: &str| text.trim().parse::<usize>().map_err(|_| format!("{text:?} is not a number"));
        let (from, to) = (number(from)?, number(to)?);
        if from > to {
            return Err(format!("{part:?} runs backwards"));
        }
        if let Some(available) = available.filter(|&available| to >= available) {
            return Err(format!("this host has 0-{}", available - 1));
        }
    }
    Ok(())
}

/// Places where a mount would hide what confinement rests on (CVE-2019-16884, CVE-2015-3630).
fn mount_points(config: &Config) -> Result<()> {
    let binds = config.host.binds.iter().map(|Bind { target, .. }| target);
    let tmpfs = config.host.tmpfs.iter().map(|(path, _)| path);
    let mut seen = std::collections::BTreeSet::new();
    for target in binds.chain(tmpfs) {
        let parts: Vec<&str> = target.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        if !target.starts_with('/') {
            return Err(invalid(format!(
                "invalid mount target {target:?}: must be an absolute path in the container"
            )));
        }
        if parts.contains(&"..") {
            return Err(invalid(format!("invalid mount target {target:?}: must not contain '..'")));
        }
        match parts.as_slice() {
            [] => {
                return Err(invalid(
                    "invalid mount target '/': the root itself cannot be mounted over".to_owned(),
                ));
            }
            ["proc", ..] => {
                return Err(invalid(format!("invalid mount target {target:?}: /proc belongs to the engine")));
            }
            _ => {}
        }
        if !seen.insert(parts.join("/")) {
            return Err(invalid(format!("Duplicate mount point: {target}")));
        }
    }
    Ok(())
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl FnOnce(&mut Config)) -> std::result::Result<(), String> {
        let mut config = Config::default();
        change(&mut config);
        check(&config, 4).map_err(|error| error.message)
    }

    #[test]
    fn limits_in_dockers_words() {
        assert_eq!(
            with(|c| c.host.resources.memory = 1024).unwrap_err(),
            "Minimum memory limit allowed is 6MB"
        );
        assert!(with(|c| c.host.resources.memory = 6 << 20).is_ok());
        assert!(
            with(|c| (c.host.resources.memory, c.host.resources.memory_swap) = (64 << 20, 32 << 20)).is_err()
        );
        assert!(with(|c| c.host.resources.nano_cpus = 5_000_000_000).unwrap_err().contains("only 4 CPUs"));
        assert!(with(|c| c.host.resources.cpuset_cpus = "0-3".into()).is_ok());
        for bad in ["4", "3-1", "a", "0,,1", "0-", &"0,".repeat(600)] {
            assert!(with(|c| c.host.resources.cpuset_cpus = bad.into()).is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_with_a_nul_byte_is_taken() {
        let command = Some(vec!["sh".to_owned(), "a\0b".to_owned()]);
        assert!(with(|c| c.command.clone_from(&command)).unwrap_err().contains("NUL byte"));
        assert!(with(|c| c.entrypoint = command).is_err());
        assert!(with(|c| c.working_dir = "/a\0".into()).unwrap_err().contains("working directory"));
        assert!(with(|c| c.user = "\0".into()).is_err());
        assert!(with(|c| c.command = Some(vec!["sh".into()])).is_ok());
    }

    #[test]
    fn the_engines_places_cannot_be_mounted_over() {
        for bad in ["/proc", "/proc/./", "//proc/self", "/", "data", "/a/../proc"] {
            assert!(with(|c| c.host.tmpfs.push((bad.into(), String::new()))).is_err(), "{bad}");
        }
        for good in ["/data", "/dev/shm", "/process", "/sys/fs/cgroup", "/dev"] {
            assert!(with(|c| c.host.tmpfs.push((good.into(), String::new()))).is_ok(), "{good}");
        }
    }
}
