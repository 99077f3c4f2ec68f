//! Signals by name or number, as `docker kill` and `STOPSIGNAL` take them.

use crate::error::{Error, Kind, Result};

/// `signal(7)`, in order of their numbers on every architecture knarr builds for, from 1.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
const ALIASES: [(&str, i32); 4] = [("IOT", 6), ("CLD", 17), ("POLL", 29), ("UNUSED", 31)];
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// SIGKILL.
pub(crate) const KILL: i32 = 9;
/// SIGTERM.
pub(crate) const TERM: i32 = 15;

/// The number of `text`: a number from 1 to 64, or a name with or without `SIG`, in any case.
pub(crate) fn parse(text: &str) -> Result<i32> {
    let invalid = || Error::new(Kind::Invalid, format!("Invalid signal: {text}"));
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=RTMAX).contains(&number) { Ok(number) } else { Err(invalid()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |rest: &str| {
        if rest.is_empty() { Some(0) } else { rest.parse::<i32>().ok() }
    };
    let realtime = if let Some(rest) = name.strip_prefix("RTMIN") {
        offset(rest).map(|plus| RTMIN + plus)
    } else if let Some(rest) = name.strip_prefix("RTMAX") {
        offset(rest).map(|minus| RTMAX + minus)
    } else {
        None
    };
    let known = NAMES.iter().position(|known| *known == name).map(|index| index as i32 + 1);
    let alias = || ALIASES.iter().find(|(alias, _)| *alias == name).map(|(_, number)| *number);
    known.or_else(alias).or(realtime.filter(|number| (RTMIN..=RTMAX).contains(number))).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_nonsense() {
        let good = [
            ("9", 9),
            ("KILL", 9),
            ("sigterm", 15),
            ("SIGUSR1", 10),
            ("IOT", 6),
            ("RTMIN+3", 37),
            ("SIGRTMAX-1", 63),
            ("SYS", 31),
        ];
        for (text, number) in good {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for bad in ["", "0", "-1", "65", "SIG", "SIGNOPE", "RTMIN+99", "RTMAX+1", "9x", " 9"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
