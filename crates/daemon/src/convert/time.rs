//! Times and durations in Docker's words.

use api::Filters;
use jiff::Timestamp;

use crate::failure::{Failure, Result};

/// Seconds since 1970 with an optional fraction, or RFC 3339; empty is none.
pub(crate) fn parse(text: &str) -> Result<Option<Timestamp>> {
    if text.is_empty() {
        return Ok(None);
    }
    let invalid =
        || Failure::invalid(format!("invalid timestamp {text:?}: want seconds since 1970 or RFC 3339"));
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let Ok(seconds) = seconds.parse::<i64>() else {
        return text.parse().map(Some).map_err(|_| invalid());
    };
    if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid());
    }
    let nanoseconds: i32 = format!("{fraction:0<9}").parse().map_err(|_| invalid())?;
    Timestamp::new(seconds, nanoseconds).map(Some).map_err(|_| invalid())
}

/// The `until` filter of prune: a time, or a span before now (`24h`, `1h30m`).
pub(crate) fn until(filters: &Filters) -> Result<Option<Timestamp>> {
    let Some(text) = filters.values("until").first() else {
        return Ok(None);
    };
    match text.parse::<jiff::SignedDuration>() {
        Ok(span) => Ok(Timestamp::now().checked_sub(span).ok()),
        Err(_) => parse(text),
    }
}

/// Nanoseconds always shown, so that lines align.
pub(crate) fn fixed(at: Timestamp) -> String {
    format!("{at:.9}")
}

/// As Go shows it; none is Go's zero.
pub(crate) fn go(at: Option<Timestamp>) -> String {
    at.map_or_else(|| api::NEVER.to_owned(), |at| at.to_string())
}

/// About how long, as `ps` says it.
pub(crate) fn span(seconds: i64) -> String {
    let minutes = seconds / 60;
    // Docker rounds hours to the nearest.
    let hours = (seconds + 1800) / 3600;
    match (seconds, minutes, hours) {
        (..1, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (.., 1) => "About an hour".to_owned(),
        (.., 2..48) => format!("{hours} hours"),
        (.., 48..336) => format!("{} days", hours / 24),
        (.., 336..1440) => format!("{} weeks", hours / 24 / 7),
        (.., 1440..8760) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_in_three_forms() {
        let second = |text: &str| parse(text).unwrap().map(|at| at.to_string());
        assert_eq!(second(""), None);
        assert_eq!(second("0").as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(second("1795477936").as_deref(), Some("2026-11-23T23:52:16Z"));
        assert_eq!(second("1795477936.5").as_deref(), Some("2026-11-23T23:52:16.5Z"));
        assert_eq!(second("2026-11-23T23:52:16.5Z").as_deref(), Some("2026-11-23T23:52:16.5Z"));
        for bad in ["yesterday", "1.x", "1.1234567890", "99999999999999999"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(fixed("2026-11-23T23:52:16.5Z".parse().unwrap()), "2026-11-23T23:52:16.500000000Z");
        assert_eq!(go(None), "0001-01-01T00:00:00Z");
    }

    #[test]
    fn spans_are_docker_s() {
        let words = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3600, "About an hour"),
            (5400, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (14 * 86400, "2 weeks"),
            (60 * 86400, "2 months"),
            (800 * 86400, "2 years"),
        ];
        for (seconds, text) in words {
            assert_eq!(span(seconds), text, "{seconds}");
        }
    }
}
