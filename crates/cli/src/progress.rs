//! The stream of JSON messages that long requests answer with.

use std::io::Write;

use api::message::Progress;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::error::{Result, message};
use crate::terminal::Plain;

/// Values that come one after another, wherever the chunks are cut.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    kept: Vec<u8>,
}

impl Lines {
    /// The whole lines that are there after one more chunk.
    pub(crate) fn feed(&mut self, chunk: &[u8]) -> Vec<Vec<u8>> {
        self.kept.extend_from_slice(chunk);
        let Some(end) = self.kept.iter().rposition(|b| *b == b'\n') else {
            return Vec::new();
        };
        let rest = self.kept.split_off(end + 1);
        let whole = std::mem::replace(&mut self.kept, rest);
        let lines = whole.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
        lines.map(<[u8]>::to_vec).collect()
    }

    /// What came after the last line break.
    pub(crate) fn rest(self) -> Option<Vec<u8>> {
        Some(self.kept.trim_ascii().to_vec()).filter(|rest| !rest.is_empty())
    }
}

/// Shows the messages of a request until it ends; a message that tells of an error is the request's.
pub(crate) async fn show(mut body: Incoming, mut to: Plain) -> Result<()> {
    let mut lines = Lines::default();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            for line in lines.feed(&data) {
                one(&line, &mut to)?;
            }
        }
    }
    match lines.rest() {
        Some(line) => one(&line, &mut to),
        None => Ok(()),
    }
}

fn one(line: &[u8], to: &mut Plain) -> Result<()> {
    let said: Progress =
        api::go::decode(line).map_err(|e| message(format!("the daemon's answer is not understood: {e}")))?;
    if let Some(error) = said.error_detail {
        return Err(message(error.message));
    }
    if !said.error.is_empty() {
        return Err(message(said.error));
    }
    // A bar is redrawn many times a second; lines are enough to see that it goes on.
    let moving = said.progress_detail.is_some_and(|detail| detail.current > 0 || detail.total > 0);
    if !said.stream.is_empty() {
        to.write_all(said.stream.as_bytes())?;
    } else if !moving && !said.status.is_empty() {
        let id = if said.id.is_empty() { String::new() } else { format!("{}: ", said.id) };
        writeln!(to, "{id}{}", said.status)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole() {
        let mut lines = Lines::default();
        assert!(lines.feed(b"{\"a\"").is_empty());
        assert_eq!(lines.feed(b":1}\r\n{\"b\":2}\n{"), [b"{\"a\":1}".to_vec(), b"{\"b\":2}".to_vec()]);
        assert_eq!(lines.rest(), Some(b"{".to_vec()));
    }
}
