//! The one image of several that fits a platform (image-spec, image-index.md).

use oci::{Platform, image::Descriptor};

use crate::Error;

/// The manifest for `wanted` among those of an index.
pub(crate) fn choose<'a>(
    wanted: &Platform,
    manifests: &'a [Descriptor],
    name: &str,
) -> Result<&'a Descriptor, Error> {
    let of =
        |manifest: &'a Descriptor| manifest.platform.as_ref().map(|platform| (manifest, normal(platform)));
    let known: Vec<_> =
        manifests.iter().filter_map(of).filter(|(_, platform)| platform.os != "unknown").collect();
    let wanted = normal(wanted);
    let ranked = known.iter().filter_map(|(manifest, platform)| Some((rank(&wanted, platform)?, *manifest)));
    // The first of equals, as everybody does.
    if let Some((_, best)) = ranked.min_by_key(|(rank, _)| *rank) {
        return Ok(best);
    }
    let mut have: Vec<_> = known.iter().map(|(_, platform)| platform.to_string()).collect();
    have.dedup();
    let have = if have.is_empty() { "none".to_owned() } else { have.join(", ") };
    Err(Error::Missing(format!(
        "no matching manifest for {wanted} in the manifest list entries of {name}; there are: {have}"
    )))
}

/// How well `have` does for `wanted`, the best first; a processor also runs what was made for its elders.
fn rank(wanted: &Platform, have: &Platform) -> Option<u32> {
    if (&wanted.os, &wanted.architecture) != (&have.os, &have.architecture) {
        return None;
    }
    match (&wanted.variant, &have.variant) {
        (wanted, have) if wanted == have => Some(0),
        (Some(wanted), Some(have)) => {
            let age = |variant: &str| variant.strip_prefix('v')?.parse::<u32>().ok();
            age(wanted)?.checked_sub(age(have)?)
        }
        (Some(_), None) => Some(50),
        (None, Some(_)) => Some(100),
        (None, None) => Some(0),
    }
}

/// Many names, one meaning: `arm64` is `arm64/v8`, `arm` is `arm/v7`, `x86_64` is `amd64`.
pub(crate) fn normal(platform: &Platform) -> Platform {
    let architecture = match platform.architecture.to_lowercase().as_str() {
        "x86_64" | "x86-64" => "amd64".to_owned(),
        "aarch64" => "arm64".to_owned(),
        "armhf" => "arm".to_owned(),
        "i386" => "386".to_owned(),
        other => other.to_owned(),
    };
    let variant = match (architecture.as_str(), platform.variant.as_deref()) {
        ("arm64", Some("8" | "v8" | "")) | ("amd64", Some("v1" | "")) => None,
        ("arm", None | Some("" | "7")) => Some("v7".to_owned()),
        (_, variant) => variant.map(str::to_lowercase),
    };
    Platform { os: platform.os.to_lowercase(), architecture, variant }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use oci::Digest;

    use super::*;

    fn index(platforms: &[&str]) -> Vec<Descriptor> {
        let one = |(at, text): (usize, &&str)| Descriptor {
            media_type: oci::image::media::MANIFEST.into(),
            digest: Digest::sha256([at as u8; 32]),
            size: 1,
            platform: text.parse().ok(),
            annotations: BTreeMap::new(),
        };
        platforms.iter().enumerate().map(one).collect()
    }

    #[test]
    fn the_best_that_fits() {
        let many = index(&[
            "linux/arm/v5",
            "linux/arm/v7",
            "linux/amd64",
            "linux/arm64/v8",
            "unknown/unknown",
            "linux/amd64/v3",
        ]);
        for (wanted, at) in [
            ("linux/amd64", 2),
            ("linux/x86_64", 2),
            ("linux/arm64", 3),
            ("linux/arm", 1),
            ("linux/arm/v6", 0),
            ("linux/amd64/v3", 5),
        ] {
            let chosen = choose(&wanted.parse().unwrap(), &many, "x").unwrap();
            assert_eq!(chosen.digest, many[at].digest, "{wanted}");
        }
        let error = choose(&"linux/s390x".parse().unwrap(), &many, "x").unwrap_err().to_string();
        assert!(
            error.contains("linux/s390x") && error.ends_with("linux/amd64, linux/arm64, linux/amd64/v3"),
            "{error}"
        );
    }
}
