//! Any bytes are one document, or refused; what is read is written and read back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci::image::{Document, ImageConfig, media};

fuzz_target!(|bytes: &[u8]| {
    for media_type in [None, Some(media::MANIFEST), Some(media::INDEX)] {
        match Document::parse(bytes, media_type) {
            Ok(Document::Manifest(manifest)) => {
                assert_ne!(media_type, Some(media::INDEX), "read as what it is not (CVE-2021-41190)");
                assert!(manifest.layers.iter().all(|layer| layer.size <= 1 << 53));
            }
            Ok(Document::Index(_)) => assert_ne!(media_type, Some(media::MANIFEST)),
            Err(_) => {}
        }
    }
    let _ = ImageConfig::parse(bytes);
});
