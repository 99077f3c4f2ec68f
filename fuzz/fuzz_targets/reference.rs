//! Any text is refused, or a name that reads back as itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci::{Digest, Platform, Reference};

fuzz_target!(|text: &str| {
    if let Ok(name) = text.parse::<Reference>() {
        assert_eq!(name.to_string().parse::<Reference>().as_ref(), Ok(&name));
        assert_eq!(name.familiar().parse::<Reference>().as_ref(), Ok(&name));
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.as_str(), text);
        assert!(!digest.hex().contains('/'), "a digest is never a path (CVE-2024-3727)");
    }
    if let Ok(platform) = text.parse::<Platform>() {
        assert_eq!(platform.to_string(), text);
    }
});
