//! The stream of JSON messages that long requests answer with.

use api::message::Progress;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::board::Board;
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
pub(crate) async fn show(mut body: Incoming, to: Plain) -> Result<()> {
    let mut lines = Lines::default();
    let mut board = Board::new(to);
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            for line in lines.feed(&data) {
                one(&line, &mut board)?;
            }
        }
    }
    match lines.rest() {
        Some(line) => one(&line, &mut board),
        None => Ok(()),
    }?;
    Ok(board.end()?)
}

fn one(line: &[u8], board: &mut Board) -> Result<()> {
    let said: Progress =
        api::go::decode(line).map_err(|e| message(format!("the daemon's answer is not understood: {e}")))?;
    let error = said.error_detail.as_ref().map_or(said.error.as_str(), |detail| detail.message.as_str());
    if !error.is_empty() {
        board.end()?;
        return Err(message(error));
    }
    Ok(board.line(&said)?)
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
