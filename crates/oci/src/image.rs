//! Image documents: descriptor, manifest, index, config (image-spec 1.1; Docker's schema 2 has the same shape).

/// The image config document.
#[derive(Debug, Clone)]
pub struct ImageConfig {}
