//! The platform of an image (image-spec, image-index.md).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// `linux/amd64`, `linux/arm/v7`, …
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// GOOS.
    pub os: String,
    /// GOARCH.
    pub architecture: String,
    /// CPU variant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// Whether an image for `other` is what somebody who asked for this one wants: variants count only where one is
    /// asked for.
    pub fn accepts(&self, other: &Platform) -> bool {
        (&self.os, &self.architecture) == (&other.os, &other.architecture)
            && (self.variant.is_none() || self.variant == other.variant)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

/// Not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a platform: want OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, as linux/arm64")]
pub struct InvalidPlatform(String);

impl FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let word = |word: &&str| {
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        };
        let words: Vec<&str> = text.split('/').collect();
        if !words.iter().all(word) {
            return Err(InvalidPlatform(text.to_owned()));
        }
        let platform = |os: &str, architecture: &str, variant: Option<&str>| Platform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        };
        match words[..] {
            [os, architecture] => Ok(platform(os, architecture, None)),
            [os, architecture, variant] => Ok(platform(os, architecture, Some(variant))),
            _ => Err(InvalidPlatform(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_read_and_written() {
        for text in ["linux/amd64", "linux/arm/v7"] {
            assert_eq!(text.parse::<Platform>().map(|platform| platform.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "linux", "linux/", "a/b/c/d", "linux/a b"] {
            assert!(text.parse::<Platform>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_variant_counts_where_it_is_asked_for() {
        let platform = |text: &str| text.parse::<Platform>().unwrap();
        assert!(platform("linux/arm").accepts(&platform("linux/arm/v7")));
        assert!(!platform("linux/arm/v6").accepts(&platform("linux/arm/v7")));
        assert!(!platform("linux/amd64").accepts(&platform("linux/arm64")));
    }
}
