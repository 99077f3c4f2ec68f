//! The two clocks, and how Docker writes a time.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since 1970.
pub(crate) fn now() -> i64 {
    nanoseconds(ClockId::Realtime)
}

/// Nanoseconds of the clock that [`trace::Step`] counts.
pub(crate) fn monotonic() -> u64 {
    nanoseconds(ClockId::Monotonic) as u64
}

fn nanoseconds(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// RFC 3339 in UTC, as short as the time allows (Go's `RFC3339Nano`).
pub(crate) fn rfc3339(time: i64) -> String {
    let (seconds, fraction) = (time.div_euclid(1_000_000_000), time.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let fraction = format!(".{fraction:09}");
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// Year, month and day of the Gregorian calendar, from days since 1970: years are taken to begin in March, so that
/// the leap day is the last of its year.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn times_are_written_as_go_does() {
        let second = 1_000_000_000;
        for (time, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399 * second + 120_000_000, "2000-02-28T23:59:59.12Z"),
            (951_782_400 * second, "2000-02-29T00:00:00Z"),
            (1_709_251_199 * second + 999_999_999, "2024-02-29T23:59:59.999999999Z"),
            (4_107_542_400 * second + 1, "2100-03-01T00:00:00.000000001Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
        ] {
            assert_eq!(rfc3339(time), text);
        }
    }
}
