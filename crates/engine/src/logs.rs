//! `logs`: reads what shims write, Docker's json-file, also rotated, also while it grows.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use tokio::sync::{mpsc, watch};

use crate::{
    Engine, LogLine, LogQuery, blocking,
    config::Log,
    directories::Listener,
    error::{Error, Kind, Result},
    handle::Published,
};

/// Lines in flight between reader and door.
const IN_FLIGHT: usize = 256;
/// A line of the file: 16 KiB of output, each byte escaped to six at worst, and the rest of the object.
const LONGEST: u64 = 128 << 10;

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    log: std::borrow::Cow<'a, str>,
    stream: &'a str,
    time: Timestamp,
}

type Sink = mpsc::Sender<Result<LogLine>>;

impl Engine {
    /// Lines of the container's log, oldest first; with `follow`, until it ends.
    pub fn logs(&self, key: &str, query: LogQuery) -> Result<mpsc::Receiver<Result<LogLine>>> {
        let handle = self.0.containers.find(key)?;
        let container = handle.now();
        let (Log::JsonFile { max_files, .. }, Some(path)) =
            (&container.config.host.log, container.log_path.clone())
        else {
            let text = "configured logging driver does not support reading: \
                        the container was created with --log-driver none";
            return Err(Error::new(Kind::Unsupported, text));
        };
        let files = *max_files;
        let (sink, lines) = mpsc::channel(IN_FLIGHT);
        // Watching begins before reading, so that nothing is written unseen in between.
        let follow = if query.follow { Some((handle.follow(), self.listen(key, &path)?)) } else { None };
        tokio::spawn(async move {
            let failed = sink.clone();
            if let Err(error) = deliver(path, files, query, follow, sink).await {
                let _ = failed.send(Err(error)).await;
            }
        });
        Ok(lines)
    }

    fn listen(&self, key: &str, path: &Path) -> Result<Listener> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        self.0.directories.listen(directory).map_err(|error| match error.kind() {
            // It has just been removed.
            io::ErrorKind::NotFound => Error::new(Kind::NotFound, format!("No such container: {key}")),
            _ => Error::at("watch", directory, &error),
        })
    }
}

async fn deliver(
    path: PathBuf,
    files: u32,
    query: LogQuery,
    follow: Option<(watch::Receiver<Published>, Listener)>,
    sink: Sink,
) -> Result<()> {
    let mut reader = Reader { path, query, partial: Vec::new(), current: None };
    reader = on_thread(reader, &sink, move |reader, sink| reader.read_kept(files, sink)).await?;
    let Some((mut follow, mut listener)) = follow else {
        return Ok(());
    };
    loop {
        let over = follow.borrow_and_update().container.state.pid().is_none();
        reader = on_thread(reader, &sink, Reader::read_grown).await?;
        if over || reader.past_until() {
            return Ok(());
        }
        tokio::select! {
            () = listener.changed() => {}
            _ = follow.changed() => {}
            () = sink.closed() => return Ok(()),
        }
    }
}

async fn on_thread(
    mut reader: Reader,
    sink: &Sink,
    work: impl FnOnce(&mut Reader, &Sink) -> io::Result<()> + Send + 'static,
) -> Result<Reader> {
    let sink = sink.clone();
    blocking(move || match work(&mut reader, &sink) {
        Ok(()) => Ok(reader),
        Err(error) => Err(Error::at("read", &reader.path, &error)),
    })
    .await?
}

struct Reader {
    path: PathBuf,
    query: LogQuery,
    /// Of a line that is still being written.
    partial: Vec<u8>,
    /// The newest file, read so far.
    current: Option<BufReader<File>>,
}

impl Reader {
    /// Everything there is now: the rotated files, oldest first, and the newest.
    fn read_kept(&mut self, files: u32, sink: &Sink) -> io::Result<()> {
        let rotated = (1..files).rev().map(|n| PathBuf::from(format!("{}.{n}", self.path.display())));
        let mut open = Vec::new();
        for path in rotated.chain([self.path.clone()]) {
            match File::open(&path) {
                Ok(file) => open.push(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(tail) = self.query.tail {
            skip_to_tail(&mut open, tail)?;
        }
        for file in open {
            self.partial.clear();
            self.current = Some(BufReader::with_capacity(64 << 10, file));
            self.read_current(sink)?;
        }
        Ok(())
    }

    /// What was written since, through any rotation.
    fn read_grown(&mut self, sink: &Sink) -> io::Result<()> {
        self.read_current(sink)?;
        let newest = match File::open(&self.path) {
            Ok(newest) => newest,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let same = match &self.current {
            Some(current) => current.get_ref().metadata()?.ino() == newest.metadata()?.ino(),
            None => false,
        };
        if !same {
            self.read_current(sink)?;
            self.partial.clear();
            self.current = Some(BufReader::with_capacity(64 << 10, newest));
            self.read_current(sink)?;
        }
        Ok(())
    }

    fn read_current(&mut self, sink: &Sink) -> io::Result<()> {
        let Some(mut current) = self.current.take() else {
            return Ok(());
        };
        loop {
            let room = LONGEST - self.partial.len() as u64;
            current.by_ref().take(room).read_until(b'\n', &mut self.partial)?;
            if self.partial.last() != Some(&b'\n') && (self.partial.len() as u64) < LONGEST {
                break; // The end of what is written so far.
            }
            let sent = self.send(sink);
            self.partial.clear();
            if !sent {
                break;
            }
        }
        self.current = Some(current);
        Ok(())
    }

    /// Whether the client is still there and wants more. A line that a power cut spoilt is passed over.
    fn send(&self, sink: &Sink) -> bool {
        let Ok(line) = serde_json::from_slice::<Line<'_>>(&self.partial) else {
            return true;
        };
        let LogQuery { stdout, stderr, since, until, .. } = self.query;
        let is_stderr = line.stream == "stderr";
        if until.is_some_and(|until| line.time > until) {
            return false;
        }
        if since.is_some_and(|since| line.time < since) || !(if is_stderr { stderr } else { stdout }) {
            return true;
        }
        let text = Bytes::copy_from_slice(line.log.as_bytes());
        sink.blocking_send(Ok(LogLine { at: line.time, stderr: is_stderr, text })).is_ok()
    }

    fn past_until(&self) -> bool {
        self.query.until.is_some_and(|until| Timestamp::now() > until)
    }
}

/// Leaves of `files` (oldest first) only what holds the last `wanted` lines, each file placed where they begin.
fn skip_to_tail(files: &mut Vec<File>, wanted: u64) -> io::Result<()> {
    let mut missing = wanted;
    for index in (0..files.len()).rev() {
        let (start, found) = tail_start(&mut files[index], missing)?;
        files[index].seek(SeekFrom::Start(start))?;
        missing -= found;
        if missing == 0 {
            files.drain(..index);
            break;
        }
    }
    Ok(())
}

/// Where the last `wanted` lines of `file` begin, and how many there are of them.
fn tail_start(file: &mut File, wanted: u64) -> io::Result<(u64, u64)> {
    const BLOCK: u64 = 64 << 10;
    let length = file.metadata()?.len();
    let (mut end, mut found) = (length, 0);
    let mut block = vec![0; BLOCK as usize];
    if wanted == 0 {
        return Ok((length, 0));
    }
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let block = &mut block[..(end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(block)?;
        for (index, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let line_start = start + index as u64 + 1;
            // The newline that ends the file begins no line.
            if line_start < length {
                found += 1;
                if found == wanted {
                    return Ok((line_start, found));
                }
            }
        }
        end = start;
    }
    Ok((0, if length > 0 { found + 1 } else { 0 }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_tail_begins_where_the_last_lines_do() {
        let mut file = tempfile::tempfile().unwrap();
        write!(file, "one\ntwo\nthree\n").unwrap();
        for (wanted, start, found) in [(0, 14, 0), (1, 8, 1), (2, 4, 2), (3, 0, 3), (9, 0, 3)] {
            assert_eq!(tail_start(&mut file, wanted).unwrap(), (start, found), "{wanted}");
        }
        assert_eq!(tail_start(&mut tempfile::tempfile().unwrap(), 5).unwrap(), (0, 0));
    }

    #[test]
    fn a_tail_reaches_into_rotated_files() {
        let with = |text: &str| {
            let mut file = tempfile::tempfile().unwrap();
            write!(file, "{text}").unwrap();
            file
        };
        let mut files = vec![with("a\n"), with("b\nc\n"), with("d\n")];
        skip_to_tail(&mut files, 2).unwrap();
        let text: Vec<String> = files
            .into_iter()
            .map(|mut file| {
                let mut text = String::new();
                file.read_to_string(&mut text).unwrap();
                text
            })
            .collect();
        assert_eq!(text, ["c\n", "d\n"]);
    }
}
