//! Docker's json-file log: one object a line of output, rotated by size.
//!
//! Written a batch for each read, with one time for each batch, and without building any value: a busy container's
//! log is the shim's one hot path. A disk that is full or broken costs lines, never the container.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::{escape::escape, time::rfc3339};

/// A longer line is split, as Docker does.
const PART: usize = 16 << 10;
/// Written early when a batch has grown to this.
const BATCH: usize = 128 << 10;
const STREAMS: [&str; 2] = ["stdout", "stderr"];

/// The log of one container.
#[derive(Debug)]
pub(crate) struct JsonFile {
    path: PathBuf,
    max_size: u64,
    max_files: u32,
    /// None after it could not be opened; tried again with the next batch.
    file: Option<File>,
    size: u64,
    batch: Vec<u8>,
    lines: [Line; 2],
    /// Bytes of log lost since it last went well.
    lost: u64,
}

/// The unfinished line of a stream.
#[derive(Debug, Default)]
struct Line {
    text: Vec<u8>,
    /// What ends the objects of a line that is split: all its parts carry the first one's time.
    ending: Option<String>,
}

impl JsonFile {
    /// Appends to `path`.
    pub(crate) fn open(path: &Path, max_size: u64, max_files: u32) -> io::Result<Self> {
        let file = append_to(path)?;
        Ok(Self {
            path: path.to_owned(),
            max_size,
            max_files: max_files.max(1),
            size: file.metadata()?.len(),
            file: Some(file),
            batch: Vec::new(),
            lines: Default::default(),
            lost: 0,
        })
    }

    /// Logs `bytes` of a stream (0 is output, 1 error), read at `now` (nanoseconds since 1970).
    pub(crate) fn write(&mut self, stream: usize, mut bytes: &[u8], now: i64) {
        let ending = ending(stream, now);
        let mut line = std::mem::take(&mut self.lines[stream]);
        while !bytes.is_empty() {
            let room = PART - line.text.len();
            let window = &bytes[..room.min(bytes.len())];
            let end = memchr::memchr(b'\n', window).map(|at| at + 1);
            if end.is_none() && window.len() < room {
                line.text.extend_from_slice(window);
                break;
            }
            let (piece, rest) = bytes.split_at(end.unwrap_or(room));
            bytes = rest;
            let time = line.ending.as_ref().unwrap_or(&ending);
            if line.text.is_empty() && end.is_some() {
                self.object(piece, time);
            } else {
                line.text.extend_from_slice(piece);
                let whole = if end.is_some() { line.text.len() } else { whole_characters(&line.text) };
                self.object(&line.text[..whole], time);
                line.text.drain(..whole);
            }
            line.ending = if end.is_some() { None } else { line.ending.or_else(|| Some(ending.clone())) };
        }
        self.lines[stream] = line;
        self.flush();
    }

    /// Logs the last, unended lines.
    pub(crate) fn finish(&mut self, now: i64) {
        for stream in 0..STREAMS.len() {
            let line = std::mem::take(&mut self.lines[stream]);
            if !line.text.is_empty() {
                self.object(&line.text, &line.ending.unwrap_or_else(|| ending(stream, now)));
            }
        }
        self.flush();
    }

    /// Gives memory back that a burst has left.
    pub(crate) fn shrink(&mut self) {
        self.batch = Vec::new();
        self.lines.iter_mut().for_each(|line| line.text.shrink_to_fit());
    }

    fn object(&mut self, text: &[u8], ending: &str) {
        let start = self.batch.len();
        self.batch.extend_from_slice(b"{\"log\":\"");
        escape(text, &mut self.batch);
        self.batch.extend_from_slice(ending.as_bytes());
        let reached = self.size + self.batch.len() as u64;
        if self.max_size > 0 && reached > self.max_size && self.size + start as u64 > 0 {
            let newest = self.batch.split_off(start);
            self.flush();
            self.rotate();
            self.batch = newest;
        } else if self.batch.len() > BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        let written = self.append(&batch);
        match written {
            Ok(()) if self.lost > 0 => {
                eprintln!("log {}: goes on; {} bytes were lost", self.path.display(), self.lost);
                self.lost = 0;
            }
            Ok(()) => {}
            Err(error) => {
                if self.lost == 0 {
                    eprintln!("log {}: {error}; output is dropped", self.path.display());
                }
                self.lost += batch.len() as u64;
            }
        }
        self.batch = batch;
        self.batch.clear();
    }

    /// Writes all of `batch`, or leaves the file as it was: a torn line would spoil the next one.
    fn append(&mut self, batch: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let file = append_to(&self.path)?;
                self.size = file.metadata()?.len();
                none.insert(file)
            }
        };
        let written = file.write_all(batch);
        match written {
            Ok(()) => self.size += batch.len() as u64,
            // What is no regular file has no length, and no torn lines either.
            Err(_) => drop(file.set_len(self.size)),
        }
        written
    }

    /// `PATH.1` becomes `PATH.2` and so on, `PATH` becomes `PATH.1`; the oldest goes. With one file it begins anew.
    fn rotate(&mut self) {
        let numbered = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        for number in (1..self.max_files.saturating_sub(1)).rev() {
            // Not there yet while there are fewer files than allowed.
            let _ = std::fs::rename(numbered(number), numbered(number + 1));
        }
        let begun = if self.max_files == 1 {
            self.file.as_ref().map_or(Ok(()), |file| file.set_len(0))
        } else {
            std::fs::rename(&self.path, numbered(1)).map(|()| self.file = None)
        };
        match begun {
            Ok(()) => self.size = 0,
            Err(error) => eprintln!("log {}: cannot rotate: {error}", self.path.display()),
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

/// What follows a line's text.
fn ending(stream: usize, now: i64) -> String {
    format!("\",\"stream\":\"{}\",\"time\":\"{}\"}}\n", STREAMS[stream], rfc3339(now))
}

/// Length of `text` without a character that is cut at its end.
fn whole_characters(text: &[u8]) -> usize {
    let last = (1..=text.len().min(3)).find(|&back| text[text.len() - back] & 0xc0 != 0x80);
    let Some(back) = last else { return text.len() };
    let needed = match text[text.len() - back] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    };
    if needed > back { text.len() - back } else { text.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_000_000_000_000_000_000;

    fn log(max_size: u64, max_files: u32) -> (tempfile::TempDir, PathBuf, JsonFile) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.log");
        let log = JsonFile::open(&path, max_size, max_files).unwrap();
        (dir, path, log)
    }

    fn texts(path: &Path) -> Vec<String> {
        let content = std::fs::read_to_string(path).unwrap();
        let parse = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        content.lines().map(|line| parse(line)["log"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_line_is_one_object_whatever_the_reads() {
        let (_dir, path, mut log) = log(0, 1);
        log.write(0, b"one\ntw", NOON);
        log.write(1, b"error\n", NOON + 5);
        log.write(0, b"o\n\nlast", NOON + 10);
        log.finish(NOON);
        let time = "\"time\":\"2001-09-09T01:46:40";
        let expected = format!(
            "{{\"log\":\"one\\n\",\"stream\":\"stdout\",{time}Z\"}}\n\
             {{\"log\":\"error\\n\",\"stream\":\"stderr\",{time}.000000005Z\"}}\n\
             {{\"log\":\"two\\n\",\"stream\":\"stdout\",{time}.00000001Z\"}}\n\
             {{\"log\":\"\\n\",\"stream\":\"stdout\",{time}.00000001Z\"}}\n\
             {{\"log\":\"last\",\"stream\":\"stdout\",{time}Z\"}}\n"
        );
        assert_eq!(std::fs::read_to_string(path).unwrap(), expected);
    }

    #[test]
    fn long_lines_are_split_at_16_kib_and_never_inside_a_character() {
        let (_dir, path, mut log) = log(0, 1);
        let mut text = vec![b'x'; PART - 1];
        text.extend_from_slice("€".as_bytes());
        text.extend(vec![b'y'; PART]);
        text.push(b'\n');
        for piece in text.chunks(1000) {
            log.write(0, piece, NOON);
        }
        log.finish(NOON);
        let parts = texts(&path);
        assert_eq!(parts.iter().map(String::len).collect::<Vec<_>>(), [PART - 1, PART, 4]);
        assert_eq!(parts.concat().into_bytes(), text);
        // Exactly a part and a newline: the newline comes alone.
        log.write(0, &[vec![b'z'; PART], vec![b'\n']].concat(), NOON);
        assert_eq!(texts(&path)[3..].iter().map(String::len).collect::<Vec<_>>(), [PART, 1]);
    }

    #[test]
    fn rotation_keeps_every_file_below_the_size_and_the_newest_lines() {
        let (dir, path, mut log) = log(1000, 3);
        for number in 0..100 {
            log.write(0, format!("line {number}\n").as_bytes(), NOON);
        }
        let mut kept = Vec::new();
        for name in ["c.log.2", "c.log.1", "c.log"] {
            let file = dir.path().join(name);
            assert!(std::fs::metadata(&file).unwrap().len() <= 1000);
            kept.extend(texts(&file));
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
        let expected: Vec<_> = (100 - kept.len()..100).map(|number| format!("line {number}\n")).collect();
        assert_eq!(kept, expected);
        drop(log);
        let appended = JsonFile::open(&path, 0, 1).unwrap();
        assert!(appended.size > 0, "an existing log is continued");
    }

    #[test]
    fn after_a_full_disk_it_goes_on_with_whole_lines() {
        use rustix::mount::{
            FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
        };
        use std::os::fd::AsRawFd;
        // A small file system that is mounted nowhere.
        let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
        fsconfig_set_string(&context, "size", "64k").unwrap();
        fsconfig_create(&context).unwrap();
        let disk = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap();
        let root = PathBuf::from(format!("/proc/self/fd/{}", disk.as_raw_fd()));
        std::fs::write(root.join("filler"), vec![0; 40_000]).unwrap();
        let path = root.join("c.log");
        let mut log = JsonFile::open(&path, 0, 1).unwrap();
        let lines = |from: u32| {
            [
                b"a line
"
                .repeat(99),
                format!(
                    "{from}
"
                )
                .into_bytes(),
            ]
            .concat()
        };
        for from in 0..20 {
            log.write(0, &lines(from), NOON);
        }
        assert!(log.lost > 0);
        std::fs::remove_file(root.join("filler")).unwrap();
        log.write(0, b"space again\n", NOON);
        assert_eq!(log.lost, 0);
        let texts = texts(&path);
        assert_eq!(texts[0], "a line\n");
        assert_eq!(texts.last().unwrap(), "space again\n");
    }

    #[test]
    fn one_file_begins_anew() {
        let (dir, path, mut log) = log(1000, 1);
        for number in 0..100 {
            log.write(0, format!("line {number}\n").as_bytes(), NOON);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(texts(&path).last().unwrap(), "line 99\n");
    }

    #[test]
    #[ignore = "a measurement"]
    fn measure_writer() {
        let lines = [&[b'x'; 99][..], b"\n"].concat().repeat((256 << 10) / 100);
        for place in ["/dev/null", "/dev/shm/knarr-measure.log", "/tmp/knarr-measure.log"] {
            let mut log = JsonFile::open(Path::new(place), 0, 1).unwrap();
            let began = std::time::Instant::now();
            for _ in 0..1000 {
                log.write(0, &lines, NOON);
            }
            let rate = lines.len() as f64 * 1000.0 / 1e6 / began.elapsed().as_secs_f64();
            println!("{place}: {rate:.0} MB/s");
            if place != "/dev/null" {
                std::fs::remove_file(place).unwrap();
            }
        }
    }
}
