//! The one thing that webpki does not tell about a certificate: from when until when it is good (RFC 5280, 4.1.2.5).

/// Not before, not after: seconds since 1970.
pub(crate) fn validity(der: &[u8]) -> Option<(u64, u64)> {
    let certificate = Der(der).take(0x30)?.0;
    let mut body = Der(Der(certificate).take(0x30)?.0);
    // Version, if it is not the first.
    if body.0.first() == Some(&0xa0) {
        body = Der(body.take(0xa0)?.1);
    }
    // Serial number, signature's algorithm, issuer.
    for tag in [0x02, 0x30, 0x30] {
        body = Der(body.take(tag)?.1);
    }
    let times = Der(body.take(0x30)?.0);
    let (from, rest) = time(&times)?;
    Some((from, time(&Der(rest))?.0))
}

struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The content of the first element, if it has that tag, and what comes after it.
    fn take(&self, tag: u8) -> Option<(&'a [u8], &'a [u8])> {
        let (first, rest) = self.0.split_first()?;
        let (length, mut rest) = rest.split_first()?;
        let mut length = usize::from(*length);
        if length >= 0x80 {
            let bytes;
            (bytes, rest) = rest.split_at_checked(length - 0x80).filter(|(bytes, _)| bytes.len() <= 4)?;
            length = bytes.iter().fold(0, |all, byte| all << 8 | usize::from(*byte));
        }
        (*first == tag).then(|| rest.split_at_checked(length)).flatten()
    }
}

/// `UTCTime` or `GeneralizedTime`.
fn time<'a>(der: &Der<'a>) -> Option<(u64, &'a [u8])> {
    let ((text, rest), short) = match der.take(0x17) {
        Some(found) => (found, true),
        None => (der.take(0x18)?, false),
    };
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, text) = text.split_at_checked(if short { 2 } else { 4 })?;
    if text.len() != 10 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let year: u64 = year.parse().ok()?;
    let year = match (short, year) {
        (true, ..50) => year + 2000,
        (true, _) => year + 1900,
        (false, 1970..) => year,
        _ => return None,
    };
    let part = |at: usize| text[at..at + 2].parse::<u64>().ok();
    let (month, day) = (part(0)?, part(2)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year < 1970 {
        return None;
    }
    let seconds = (part(4)? * 60 + part(6)?) * 60 + part(8)?;
    Some((days(year, month, day) * 86400 + seconds, rest))
}

/// Since 1970-01-01, in the Gregorian calendar.
fn days(year: u64, month: u64, day: u64) -> u64 {
    const BEFORE: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let leap_day = u64::from(is_leap && month > 2);
    (year - 1970) * 365 + leaps(year - 1) - leaps(1969) + BEFORE[month as usize - 1] + leap_day + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calendars_agree() {
        for (date, want) in [
            ((1970, 1, 1), 0),
            ((2000, 2, 29), 11016),
            ((2000, 3, 1), 11017),
            ((2026, 11, 24), 20781),
            ((2100, 3, 1), 47541),
        ] {
            assert_eq!(days(date.0, date.1, date.2), want, "{date:?}");
        }
    }

    #[test]
    fn garbage_has_no_dates() {
        for bytes in [
            &b""[..],
            &[0x30],
            &[0x30, 0x84, 255, 255, 255, 255],
            &[0x30, 0x85, 1, 1, 1, 1, 1],
            &[0x30, 2, 0x30, 0],
        ] {
            assert_eq!(validity(bytes), None);
        }
    }
}
