//! The platform of an image (image-spec, image-index.md).

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
