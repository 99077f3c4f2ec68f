//! From what a person types to an image, in Docker's order: a name, then the beginning of an id.

use oci::{Digest, Reference};

use crate::{Error, Image, catalog::Catalog};

pub(crate) fn get(catalog: &Catalog, text: &str) -> Result<Image, Error> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    if let Ok(id) = format!("sha256:{hex}").parse::<Digest>() {
        return catalog.by_id(&id).ok_or_else(|| Error::NotFound(text.to_owned()));
    }
    let name = text.parse::<Reference>().map_err(Error::invalid)?.with_default_tag();
    let named = match name.digest() {
        Some(digest) => catalog.by_manifest(&name, digest),
        None => catalog.by_name(&name),
    };
    match named {
        Some(image) => Ok(image),
        None => by_prefix(catalog, text, hex)?.ok_or_else(|| Error::NotFound(name.familiar())),
    }
}

/// Whether a word is an id, whole or its beginning, and no name.
pub(crate) fn is_id(catalog: &Catalog, text: &str) -> bool {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let whole = format!("sha256:{hex}").parse::<Digest>().is_ok();
    let named =
        text.parse::<Reference>().is_ok_and(|name| catalog.by_name(&name.with_default_tag()).is_some());
    whole || (!named && matches!(by_prefix(catalog, text, hex), Ok(Some(_)) | Err(_)))
}

fn by_prefix(catalog: &Catalog, text: &str, hex: &str) -> Result<Option<Image>, Error> {
    let is_hex = !hex.is_empty() && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !is_hex {
        return Ok(None);
    }
    let mut ids = catalog.ids_from(hex);
    let first = ids.next();
    if let (Some(one), Some(other)) = (first, ids.next()) {
        return Err(Error::Conflict(format!(
            "image id {text} is ambiguous: {one}, {other}; give more digits"
        )));
    }
    Ok(first.and_then(|id| catalog.by_id(id)))
}
