//! How long ago a moment was, as listings say it.

use jiff::{Timestamp, tz::TimeZone};

/// `5 minutes ago`; nothing for Docker's zero time.
pub(crate) fn since_unix(seconds: i64, now: Timestamp) -> String {
    if seconds <= 0 {
        return "N/A".into();
    }
    format!("{} ago", super::duration::human(now.as_second() - seconds))
}

/// `2026-11-24 00:52:06 +0100 CET`, in the local zone, as Go prints a time.
pub(crate) fn go_time(seconds: i64) -> String {
    go_time_in(seconds, TimeZone::system())
}

fn go_time_in(seconds: i64, zone: TimeZone) -> String {
    let Ok(at) = Timestamp::from_second(seconds) else {
        return "N/A".into();
    };
    at.to_zoned_datetime(zone).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
}

/// `2026-11-23 23:52:06.000000005 +0000 UTC`: an RFC 3339 moment in its own zone, as Go prints it with all its digits.
/// What is no moment stays as it is.
pub(crate) fn go_text(text: &str) -> String {
    go_text_in(text, TimeZone::system())
}

fn go_text_in(text: &str, here: TimeZone) -> String {
    let (Ok(at), Ok(pieces)) = (text.parse::<Timestamp>(), jiff::fmt::temporal::Pieces::parse(text)) else {
        return text.to_owned();
    };
    let offset = pieces.to_numeric_offset().unwrap_or(jiff::tz::Offset::UTC);
    let local = here.to_offset(at) == offset;
    // Go knows a zone's name only where it is its own.
    let (zone, shape) = match (text.ends_with('Z'), local) {
        (true, _) => (TimeZone::UTC, "%z UTC"),
        (_, true) => (here, "%z %Z"),
        (_, false) => (offset.to_time_zone(), "%z %z"),
    };
    let at = at.to_zoned_datetime(zone);
    let digits = at.strftime("%.9f").to_string();
    let digits = digits.trim_end_matches('0').trim_end_matches('.');
    format!("{}{digits} {}", at.strftime("%Y-%m-%d %H:%M:%S"), at.strftime(shape))
}

/// `2026-11-24T00:52:06.000000005+01:00`, in the local zone, as Go prints RFC 3339.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    rfc3339_in(at, TimeZone::system())
}

fn rfc3339_in(at: Timestamp, zone: TimeZone) -> String {
    let at = at.to_zoned_datetime(zone);
    let zone = if at.offset().seconds() == 0 { "Z".into() } else { at.strftime("%:z").to_string() };
    format!("{}{zone}", at.strftime("%Y-%m-%dT%H:%M:%S.%9f"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_in_the_zone_of_who_reads() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        assert_eq!(go_time_in(1_795_477_926, TimeZone::UTC), "2026-11-23 23:52:06 +0000 UTC");
        assert_eq!(go_time_in(1_795_477_926, berlin.clone()), "2026-11-24 00:52:06 +0100 CET");
        for (text, want) in [
            ("2026-11-23T23:52:06.500000000Z", "2026-11-23 23:52:06.5 +0000 UTC"),
            ("2026-11-24T00:52:06+01:00", "2026-11-24 00:52:06 +0100 CET"),
            ("2026-11-24T01:52:06+02:00", "2026-11-24 01:52:06 +0200 +0200"),
            ("yesterday", "yesterday"),
        ] {
            assert_eq!(go_text_in(text, berlin.clone()), want);
        }
        let at = Timestamp::new(1_795_477_926, 5).unwrap();
        assert_eq!(rfc3339_in(at, TimeZone::UTC), "2026-11-23T23:52:06.000000005Z");
        assert_eq!(rfc3339_in(at, berlin), "2026-11-24T00:52:06.000000005+01:00");
    }
}
