//! Sizes: `512m` is 536870912 when a limit is set; `1.98MB` is decimal when an image is listed.

/// Bytes of a size in binary units, as every limit flag takes it: `64`, `64b`, `1k`, `1.5GiB`, `0.5g`.
/// `-1` is kept, because some limits use it for "none".
pub(crate) fn parse_binary(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid size: '{text}'");
    if text == "-1" {
        return Ok(-1);
    }
    let trimmed = text.trim_end();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let number: f64 = number.parse().map_err(|_| invalid())?;
    let unit = unit.trim_start().to_ascii_lowercase();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" if unit.is_empty() || unit == "b" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(invalid()),
    };
    let bytes = number * 1024_f64.powi(power);
    if bytes.is_finite() && bytes < 9.2e18 { Ok(bytes as i64) } else { Err(invalid()) }
}

/// As [`parse_binary`], for flags that have no word for "none".
pub(crate) fn parse_positive(text: &str) -> Result<i64, String> {
    match parse_binary(text)? {
        -1 => Err(format!("invalid size: '{text}'")),
        bytes => Ok(bytes),
    }
}

/// Three significant digits in decimal units: `1.98MB`, `0B`, `12.3kB`.
pub(crate) fn human_decimal(bytes: f64) -> String {
    human(bytes, 1000.0, 3, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// Four significant digits in decimal units: `1.984MB`.
pub(crate) fn human_finer(bytes: f64) -> String {
    human(bytes, 1000.0, 4, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// Four significant digits in binary units: `23.54GiB`.
pub(crate) fn human_binary(bytes: f64) -> String {
    human(bytes, 1024.0, 4, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

fn human(mut value: f64, base: f64, digits: usize, units: &[&str]) -> String {
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    format!("{}{}", significant(value, digits), units[unit])
}

/// C's `%.{digits}g` for numbers that need no exponent.
fn significant(value: f64, digits: usize) -> String {
    let whole = if value.abs() < 1.0 { 1 } else { value.abs().log10().floor() as usize + 1 };
    let text = format!("{value:.*}", digits.saturating_sub(whole));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_binary() {
        for (text, bytes) in [
            ("512m", 536_870_912),
            ("1k", 1024),
            ("64", 64),
            ("64b", 64),
            ("1.5GiB", 1_610_612_736),
            ("0.5g", 536_870_912),
            ("2 GB", 2_147_483_648),
            ("1KB", 1024),
            ("-1", -1),
            ("0", 0),
        ] {
            assert_eq!(parse_binary(text), Ok(bytes), "{text}");
        }
        for text in ["", "foo", "k", "-5m", "1x", "1bb", "1.2.3", "1i", "1ee", "99999999999p"] {
            assert!(parse_binary(text).is_err(), "{text}");
        }
        assert_eq!(parse_positive("foo"), Err("invalid size: 'foo'".into()));
        assert!(parse_positive("-1").is_err());
    }

    #[test]
    fn listings_are_decimal() {
        for (bytes, text) in [
            (0.0, "0B"),
            (999.0, "999B"),
            (1000.0, "1kB"),
            (1_983_456.0, "1.98MB"),
            (77_800_000.0, "77.8MB"),
            (117_000_000.0, "117MB"),
            (1_230_000_000.0, "1.23GB"),
        ] {
            assert_eq!(human_decimal(bytes), text);
        }
        assert_eq!(human_binary(25_276_000_000.0), "23.54GiB");
    }
}
