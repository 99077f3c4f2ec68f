//! Ids, and names for containers that were given none.

use crate::error::{Error, Kind, Result};

const ADJECTIVES: [&str; 48] = [
    "able", "agile", "amber", "bold", "brave", "bright", "brisk", "calm", "clear", "clever", "daring",
    "deft", "eager", "early", "fair", "fleet", "frosty", "gallant", "gentle", "golden", "grand", "hardy",
    "hearty", "jolly", "keen", "kind", "lively", "loyal", "lucky", "merry", "mighty", "neat", "noble",
    "patient", "proud", "quick", "quiet", "ready", "sharp", "silver", "sleek", "steady", "sturdy", "sunny",
    "swift", "trusty", "vivid", "wise",
];
const THINGS: [&str; 48] = [
    "anchor", "barque", "beacon", "bow", "breeze", "brig", "buoy", "capstan", "caravel", "cog", "compass",
    "coracle", "cove", "cutter", "dhow", "dinghy", "dory", "ferry", "fjord", "frigate", "galleon", "galley",
    "gull", "harbour", "haven", "helm", "hulk", "kayak", "keel", "ketch", "lagoon", "lantern", "longship",
    "lugger", "mast", "oar", "packet", "pilot", "pinnace", "quay", "rudder", "schooner", "skiff", "sloop",
    "tiller", "trawler", "umiak", "yawl",
];

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::new(Kind::Internal, format!("read random bytes: {error}")))?;
    Ok(bytes)
}

/// 64 hex digits. Never all decimal in its first twelve, which would pass for a number as a hostname.
pub(crate) fn id() -> Result<String> {
    loop {
        let id = oci::Digest::sha256(random()?).hex().to_owned();
        if !id[..12].bytes().all(|digit| digit.is_ascii_digit()) {
            return Ok(id);
        }
    }
}

/// `swift_longship`; from the third try on with a digit behind it.
pub(crate) fn suggest(attempt: u32) -> Result<String> {
    let [first, second, digit] = random::<3>()?;
    let name = format!("{}_{}", ADJECTIVES[usize::from(first) % 48], THINGS[usize::from(second) % 48]);
    Ok(if attempt < 2 { name } else { format!("{name}{}", digit % 10) })
}

/// Docker's rule: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`, with an optional leading slash that is dropped.
pub(crate) fn check(name: &str) -> Result<String> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let mut bytes = bare.bytes();
    let good = bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bare.len() >= 2
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if good {
        return Ok(bare.to_owned());
    }
    let message = format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
    Err(Error::new(Kind::Invalid, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_dockers_rule() {
        for good in ["web", "/web", "a1", "A_b.c-d", "0x"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "a", "-a", "_a", "a b", "a/b", "é1", "a\n"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        for attempt in 0..50 {
            assert!(check(&suggest(attempt).unwrap()).is_ok());
        }
        assert_eq!(id().unwrap().len(), 64);
    }
}
