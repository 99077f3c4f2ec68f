//! What was written relaxed since the last durable commit, one line each.
//!
//! redb keeps a commit without durability in memory, where it dies with the daemon. A line appended here is in the
//! page cache at once, so it survives everything but the machine, for the price of one `write`. Every commit has a
//! number, kept in the database by the commit itself; lines up to that number are history.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use redb::{Database, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use crate::{Error, definition, record};

/// The number of the last commit, under the empty key.
pub(crate) const SEQUENCE: TableDefinition<'_, &str, u64> = TableDefinition::new("_sequence");
/// From here on a relaxed write is made durable, which empties the journal.
const MAX_LENGTH: u64 = 4 << 20;

#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    length: u64,
}

/// One relaxed write. No record means that it was removed.
pub(crate) struct Entry<'a> {
    pub(crate) sequence: u64,
    pub(crate) table: &'a str,
    pub(crate) key: &'a str,
    pub(crate) record: Option<&'a [u8]>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    sequence: u64,
    check: String,
    table: String,
    key: String,
    record: Option<String>,
}

impl Line {
    fn computed(&self) -> String {
        let kind = u8::from(self.record.is_some());
        let record = self.record.as_deref().unwrap_or_default();
        record::check(&[
            &self.sequence.to_le_bytes(),
            self.table.as_bytes(),
            self.key.as_bytes(),
            &[kind],
            record.as_bytes(),
        ])
    }
}

/// Takes the next number within the transaction that it is for.
pub(crate) fn next_sequence(transaction: &WriteTransaction) -> Result<u64, redb::Error> {
    let mut table = transaction.open_table(SEQUENCE)?;
    let last = table.get("")?.map_or(0, |n| n.value());
    table.insert("", last + 1)?;
    Ok(last + 1)
}

impl Journal {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let failed = |e| Error::new(format!("open {}", path.display()), e);
        let file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        Ok(Self { file, length })
    }

    pub(crate) fn has_room(&self) -> bool {
        self.length < MAX_LENGTH
    }

    pub(crate) fn append(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        let mut line = Line {
            sequence: entry.sequence,
            check: String::new(),
            table: entry.table.to_owned(),
            key: entry.key.to_owned(),
            record: entry
                .record
                .map(|r| str::from_utf8(r).map(str::to_owned))
                .transpose()
                .map_err(io::Error::other)?,
        };
        line.check = line.computed();
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        if let Err(error) = self.file.write_all(&text) {
            // Half a line would hide the lines after it.
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += text.len() as u64;
        Ok(())
    }

    /// Everything in it is on disk. Should this fail, the lines are recognised as history by their numbers.
    pub(crate) fn clear(&mut self) {
        if self.length > 0 && self.file.set_len(0).is_ok() {
            self.length = 0;
        }
    }

    /// Applies what the database does not have yet. Ends at the first line that is not whole: after a power cut
    /// nothing behind it can be trusted.
    pub(crate) fn replay(&mut self, database: &Database) -> Result<(), Box<dyn std::error::Error>> {
        if self.length == 0 {
            return Ok(());
        }
        self.file.rewind()?;
        let transaction = database.begin_write()?;
        {
            let mut sequence = transaction.open_table(SEQUENCE)?;
            let mut last = sequence.get("")?.map_or(0, |n| n.value());
            for text in BufReader::new(&self.file).split(b'\n') {
                let Ok(line) = serde_json::from_slice::<Line>(&text?) else {
                    break;
                };
                if line.check != line.computed() {
                    break;
                }
                if line.sequence <= last {
                    continue;
                }
                let mut table = transaction.open_table(definition(&line.table))?;
                match &line.record {
                    Some(record) => drop(table.insert(line.key.as_str(), record.as_bytes())?),
                    None => drop(table.remove(line.key.as_str())?),
                }
                last = line.sequence;
            }
            sequence.insert("", last)?;
        }
        transaction.commit()?;
        self.clear();
        Ok(())
    }
}
