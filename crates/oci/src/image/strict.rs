//! Reading documents so that nobody can read them differently (rule R12): one meaning, no duplicate keys, bounded.

use std::{cell::Cell, collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{Document, ImageConfig, Index, Manifest, media};

/// Largest manifest, index or config that is read; registries refuse more than 4 MiB.
pub const MAX_DOCUMENT: u64 = 4 << 20;
/// More values than any honest document has; keeps a document of `[0,0,0,…` from costing many times its length.
const MAX_VALUES: usize = 200_000;

/// A document that is refused, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidDocument(String);

impl InvalidDocument {
    fn new(reason: impl fmt::Display) -> Self {
        Self(reason.to_string())
    }
}

pub(super) fn config(bytes: &[u8]) -> Result<ImageConfig, InvalidDocument> {
    check(bytes)?;
    serde_json::from_slice(bytes).map_err(InvalidDocument::new)
}

pub(super) fn document(bytes: &[u8], described_as: Option<&str>) -> Result<Document, InvalidDocument> {
    check(bytes)?;
    let shape: Shape = serde_json::from_slice(bytes).map_err(InvalidDocument::new)?;
    if let (Some(said), Some(found)) = (described_as, &shape.media_type)
        && said != found
    {
        return Err(InvalidDocument(format!(
            "the document calls itself {found}, the descriptor calls it {said}"
        )));
    }
    let media_type = described_as.or(shape.media_type.as_deref());
    let is_index = match (shape.is_index(), shape.is_manifest()) {
        (true, true) => {
            return Err(InvalidDocument::new("ambiguous: it has parts of a manifest and parts of an index"));
        }
        (true, false) => true,
        (false, true) => false,
        (false, false) => return Err(InvalidDocument::new("it is neither a manifest nor an index")),
    };
    let fits = match media_type {
        None => true,
        Some(known) if is_index => media::is_index(known),
        Some(known) => media::is_manifest(known),
    };
    if !fits {
        let shown = media_type.unwrap_or_default();
        return Err(InvalidDocument(format!(
            "media type {shown:?} does not fit the document or is not known"
        )));
    }
    if shape.schema_version != 2 {
        return Err(InvalidDocument(format!("schemaVersion is {}, want 2", shape.schema_version)));
    }
    if is_index {
        serde_json::from_slice::<Index>(bytes).map(Document::Index)
    } else {
        serde_json::from_slice::<Manifest>(bytes).map(Document::Manifest)
    }
    .map_err(InvalidDocument::new)
}

/// Which keys are there, whatever they hold.
#[derive(Default)]
struct Shape {
    media_type: Option<String>,
    schema_version: i64,
    keys: HashSet<String>,
}

impl Shape {
    fn is_index(&self) -> bool {
        self.keys.contains("manifests")
    }

    /// `fsLayers` and `history` are of schema 1, which is not read; next to the others they are an ambiguity.
    fn is_manifest(&self) -> bool {
        ["layers", "config", "fsLayers"].iter().any(|key| self.keys.contains(*key))
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a manifest or an index")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
                const KNOWN: [&str; 6] =
                    ["manifests", "layers", "config", "fsLayers", "mediaType", "schemaVersion"];
                let mut shape = Shape::default();
                while let Some(key) = map.next_key::<String>()? {
                    // Go reads keys without regard to case, so `Layers` means something to others.
                    if !KNOWN.contains(&key.as_str()) && KNOWN.iter().any(|k| k.eq_ignore_ascii_case(&key)) {
                        return Err(A::Error::custom(format!("ambiguous key {key:?}")));
                    }
                    match key.as_str() {
                        "mediaType" => {
                            shape.media_type = map.next_value::<Option<String>>()?.filter(|t| !t.is_empty());
                        }
                        "schemaVersion" => shape.schema_version = map.next_value()?,
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                    shape.keys.insert(key);
                }
                Ok(shape)
            }
        }
        d.deserialize_map(Keys)
    }
}

/// Whole and valid JSON without duplicate keys, within bounds.
fn check(bytes: &[u8]) -> Result<(), InvalidDocument> {
    if bytes.len() as u64 > MAX_DOCUMENT {
        return Err(InvalidDocument(format!("it is longer than {MAX_DOCUMENT} bytes")));
    }
    let left = Cell::new(MAX_VALUES);
    let mut json = serde_json::Deserializer::from_slice(bytes);
    NoDuplicates(&left).deserialize(&mut json).map_err(InvalidDocument::new)?;
    json.end().map_err(InvalidDocument::new)
}

/// Walks a value without keeping it.
#[derive(Clone, Copy)]
struct NoDuplicates<'a>(&'a Cell<usize>);

impl NoDuplicates<'_> {
    fn count<E: serde::de::Error>(self) -> Result<(), E> {
        match self.0.get().checked_sub(1) {
            Some(left) => {
                self.0.set(left);
                Ok(())
            }
            None => Err(E::custom(format!("more than {MAX_VALUES} values"))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for NoDuplicates<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NoDuplicates<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        self.count()
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        self.count()
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        self.count()
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        self.count()
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        self.count()
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.count()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        self.count()?;
        while seq.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.count()?;
        let mut keys = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value_seed(self)?;
            if !keys.insert(key.clone()) {
                return Err(A::Error::custom(format!("duplicate key {key:?}")));
            }
        }
        Ok(())
    }
}
