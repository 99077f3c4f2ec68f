//! One record's bytes: `{"version":1,"check":"…","value":{…}}`.
//!
//! The check is ours because redb verifies its pages' checksums only when the file is opened.

use std::fmt::Write;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::Table;

#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    version: u32,
    check: &'a str,
    #[serde(borrow)]
    value: &'a RawValue,
}

/// Why a record could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    /// The bytes are not what was written, or the value is not what the table holds.
    #[error("damaged: {0}")]
    Damaged(String),
    /// Not ours to judge.
    #[error("written by a newer knarr (schema version {found}, this one knows {known}); it is left as it is")]
    Newer { found: u32, known: u32 },
}

/// The beginning of SHA-256: against accidents, not against an owner of the file.
pub(crate) fn check(parts: &[&[u8]]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().iter().take(8).fold(String::with_capacity(16), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub(crate) fn write<T: Serialize>(table: Table, value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let value = serde_json::value::to_raw_value(value)?;
    let check = check(&[&table.version.to_le_bytes(), value.get().as_bytes()]);
    serde_json::to_vec(&Envelope { version: table.version, check: &check, value: &value })
}

fn open(bytes: &[u8]) -> Result<Envelope<'_>, Unreadable> {
    let envelope: Envelope<'_> =
        serde_json::from_slice(bytes).map_err(|e| Unreadable::Damaged(e.to_string()))?;
    let computed = check(&[&envelope.version.to_le_bytes(), envelope.value.get().as_bytes()]);
    if computed != envelope.check {
        return Err(Unreadable::Damaged("its checksum does not fit its content".to_owned()));
    }
    Ok(envelope)
}

pub(crate) fn read<T: DeserializeOwned>(table: Table, bytes: &[u8]) -> Result<T, Unreadable> {
    let envelope = open(bytes)?;
    if envelope.version > table.version {
        return Err(Unreadable::Newer { found: envelope.version, known: table.version });
    }
    serde_json::from_str(envelope.value.get()).map_err(|e| Unreadable::Damaged(e.to_string()))
}

/// Says so if the record was written by a newer program.
pub(crate) fn newer(table: Table, bytes: &[u8]) -> Option<Unreadable> {
    match open(bytes) {
        Ok(envelope) if envelope.version > table.version => {
            Some(Unreadable::Newer { found: envelope.version, known: table.version })
        }
        _ => None,
    }
}

/// For people: the value, or the text of what is not one.
pub(crate) fn show(bytes: &[u8]) -> serde_json::Value {
    open(bytes)
        .ok()
        .and_then(|envelope| serde_json::from_str(envelope.value.get()).ok())
        .unwrap_or_else(|| String::from_utf8_lossy(bytes).into_owned().into())
}
