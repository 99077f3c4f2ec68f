//! How long ago a moment was, as listings say it.

use jiff::Timestamp;

/// `5 minutes ago`; nothing for Docker's zero time.
pub(crate) fn since_unix(seconds: i64, now: Timestamp) -> String {
    if seconds <= 0 {
        return "N/A".into();
    }
    format!("{} ago", super::duration::human(now.as_second() - seconds))
}

/// `2026-11-23 23:52:06 +0000 UTC`, in the local zone, as Go prints a time.
pub(crate) fn go_time(seconds: i64) -> String {
    Timestamp::from_second(seconds)
        .map_or_else(|_| "N/A".into(), |at| at.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string())
}
