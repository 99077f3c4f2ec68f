//! Sizes in words.

/// `10m`, `1.5GiB`, `512`: bytes in powers of 1024, as Docker reads them.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let power = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return None,
    };
    Some((number * 1024_f64.powi(power)) as u64)
}

/// `1.234MB`: four digits, powers of 1000, as docker shows sizes.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1000.0 && unit + 1 < UNITS.len() {
        size /= 1000.0;
        unit += 1;
    }
    let before = if size >= 100.0 {
        3
    } else if size >= 10.0 {
        2
    } else {
        1
    };
    let text = format!("{size:.*}", 4 - before);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{}{}", if text.is_empty() { "0" } else { text }, UNITS[unit])
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_for_people() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1536, "1.536kB"),
            (123_456_789, "123.5MB"),
            (2_000_000_000, "2GB"),
        ] {
            assert_eq!(super::human(bytes), text);
        }
    }

    #[test]
    fn docker_sizes() {
        for (text, bytes) in
            [("512", 512), ("10m", 10 << 20), ("1.5k", 1536), ("2 GiB", 2 << 30), ("1KB", 1024)]
        {
            assert_eq!(super::parse(text), Some(bytes), "{text}");
        }
        for bad in ["", "x", "m", "-1", "1x", "1 0"] {
            assert_eq!(super::parse(bad), None, "{bad}");
        }
    }
}
