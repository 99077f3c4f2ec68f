//! Moments that `--since` and `--until` take, written as the Engine API takes them.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

/// Unix time with nine decimals, from a Unix time, an RFC 3339 moment (with or without zone, whole days too) or a
/// Go duration before `now`.
pub(crate) fn parse(text: &str, now: Timestamp) -> Result<String, String> {
    parse_in(text, now, TimeZone::system())
}

fn parse_in(text: &str, now: Timestamp, zone: TimeZone) -> Result<String, String> {
    if let Some(nanos) = super::duration::parse(text) {
        let moment = now.as_nanosecond() - nanos;
        return Ok(unix(moment));
    }
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') && text.parse::<f64>().is_ok() {
        return Ok(text.to_owned());
    }
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(unix(moment.as_nanosecond()));
    }
    let invalid = |e: jiff::Error| format!("failed to parse value as time or duration: {text:?}: {e}");
    let (text, zone) = match text.strip_suffix('Z') {
        Some(text) => (text, TimeZone::UTC),
        None => (text, zone),
    };
    let civil: DateTime = text.parse().map_err(invalid)?;
    let moment = zone.to_timestamp(civil).map_err(invalid)?;
    Ok(unix(moment.as_nanosecond()))
}

fn unix(nanos: i128) -> String {
    format!("{}.{:09}", nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_becomes_unix_time() {
        let now = Timestamp::from_second(1_000_000_000).unwrap();
        for (text, want) in [
            ("1136073600", "1136073600"),
            ("1136073600.000000001", "1136073600.000000001"),
            ("42m", "999997480.000000000"),
            ("2006-01-02T15:04:05Z", "1136214245.000000000"),
            ("2006-01-02T15:04:05.5Z", "1136214245.500000000"),
            ("2006-01-02T15:04:05+01:00", "1136210645.000000000"),
            ("2006-01-02T15:04:05", "1136214245.000000000"),
            ("2006-01-02", "1136160000.000000000"),
        ] {
            assert_eq!(parse_in(text, now, TimeZone::UTC).as_deref(), Ok(want), "{text}");
        }
        assert!(parse("yesterday", now).is_err());
        let berlin = || TimeZone::get("Europe/Berlin").unwrap();
        assert_eq!(parse_in("2006-01-02T15:04:05", now, berlin()).unwrap(), "1136210645.000000000");
        assert_eq!(parse_in("2006-01-02Z", now, berlin()).unwrap(), "1136160000.000000000");
    }
}
