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

#[cfg(test)]
mod tests {
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
