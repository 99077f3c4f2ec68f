//! `kill`: sends a signal to a container's first process, or to all.

use super::Context;
use crate::{
    cgroup,
    container::Container,
    error::{Error, Result},
};

/// Names in the order of their numbers on every architecture that knarr runs on.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
const SIGRTMIN: i32 = 34;
const SIGRTMAX: i32 = 64;

/// A number, or a name with or without `SIG`.
fn parse(text: &str) -> Result<i32> {
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |rest: &str| rest.get(1..).and_then(|digits| digits.parse::<i32>().ok()).unwrap_or(0);
    let number = match name {
        _ if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) => name.parse().ok(),
        "IOT" => Some(6),
        "POLL" => Some(29),
        _ if name.starts_with("RTMIN") => Some(SIGRTMIN + offset(&name[5..])),
        _ if name.starts_with("RTMAX") => Some(SIGRTMAX - offset(&name[5..])),
        _ => NAMES.iter().position(|known| *known == name).map(|index| index as i32 + 1),
    };
    number
        .filter(|number| (0..=SIGRTMAX).contains(number))
        .ok_or_else(|| Error::new(format!("unknown signal {text:?}")))
}

pub(super) fn kill(context: &mut Context) -> Result<u8> {
    let signal = parse(context.call.words.get(1).map_or("SIGTERM", String::as_str))?;
    let container = Container::load(&context.global.root, context.call.id())?;
    if !context.call.has("all") {
        container.signal(signal)?;
        return Ok(0);
    }
    if signal == 9 {
        cgroup::kill_all(&container.record.places);
        return Ok(0);
    }
    for pid in cgroup::group_pids(&container.record.places) {
        // Pids read a moment ago from the container's own group; one that has ended meanwhile is no error.
        let _ = sys::process::kill(pid, signal);
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn signals_have_numbers_and_names() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGTERM", 15),
            ("sigusr1", 10),
            ("RTMIN+3", 37),
            ("RTMAX", 64),
            ("0", 0),
        ] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for text in ["", "SIG", "NOPE", "65", "-9"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
