//! Image references: `[HOST[:PORT]/]PATH[:TAG][@DIGEST]`, normalised as Docker does.

/// A normalised name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {}
