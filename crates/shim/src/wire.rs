//! Messages and stream frames as bytes: pure functions, for both ends of [`crate::protocol`].

use std::io;

use serde::Serialize;

use crate::protocol::{MAX_FRAME, MAX_MESSAGE};

/// Bytes in front of a message's JSON.
pub const MESSAGE_HEADER: usize = 4;
/// Bytes in front of a frame's content.
pub const FRAME_HEADER: usize = 8;

/// A whole message, its length in front.
pub fn message(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; MESSAGE_HEADER];
    serde_json::to_writer(&mut bytes, value)?;
    let length = u32::try_from(bytes.len() - MESSAGE_HEADER).unwrap_or(u32::MAX);
    bytes[..MESSAGE_HEADER].copy_from_slice(&message_length(length.to_be_bytes())?.to_be_bytes());
    Ok(bytes)
}

/// How many bytes of JSON follow; an error when the protocol does not allow so many.
pub fn message_length(header: [u8; MESSAGE_HEADER]) -> io::Result<u32> {
    match u32::from_be_bytes(header) {
        length @ 0..=MAX_MESSAGE => Ok(length),
        length => Err(too_long("message", length, MAX_MESSAGE)),
    }
}

/// What stands in front of `length` bytes of stream `kind`.
pub fn frame_header(kind: u8, length: u32) -> [u8; FRAME_HEADER] {
    let [a, b, c, d] = length.to_be_bytes();
    [kind, 0, 0, 0, a, b, c, d]
}

/// Kind and length of the frame behind `header`.
pub fn parse_frame_header(header: [u8; FRAME_HEADER]) -> io::Result<(u8, u32)> {
    let [kind, 0, 0, 0, a, b, c, d] = header else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a stream frame"));
    };
    match u32::from_be_bytes([a, b, c, d]) {
        length @ 0..=MAX_FRAME => Ok((kind, length)),
        length => Err(too_long("stream frame", length, MAX_FRAME)),
    }
}

/// The JSON of the first whole message in `bytes`; none when more bytes are needed.
pub fn first_message(bytes: &[u8]) -> io::Result<Option<&[u8]>> {
    let Some((header, rest)) = bytes.split_first_chunk() else {
        return Ok(None);
    };
    Ok(rest.get(..message_length(*header)? as usize))
}

/// Kind and content of the first whole frame in `bytes`; none when more bytes are needed.
pub fn first_frame(bytes: &[u8]) -> io::Result<Option<(u8, &[u8])>> {
    let Some((header, rest)) = bytes.split_first_chunk() else {
        return Ok(None);
    };
    let (kind, length) = parse_frame_header(*header)?;
    Ok(rest.get(..length as usize).map(|content| (kind, content)))
}

fn too_long(what: &str, length: u32, most: u32) -> io::Error {
    let text = format!("{what} of {length} bytes; at most {most} are allowed");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Request, STDOUT};

    #[test]
    fn messages_come_back_whole_or_not_yet() {
        let bytes = message(&Request::Start).unwrap();
        let json = first_message(&bytes).unwrap().unwrap();
        assert!(matches!(serde_json::from_slice(json).unwrap(), Request::Start));
        for cut in 0..bytes.len() {
            assert!(first_message(&bytes[..cut]).unwrap().is_none());
        }
        assert!(first_message(&[0xff; 5]).is_err());
    }

    #[test]
    fn frames_are_dockers_and_bounded() {
        assert_eq!(frame_header(STDOUT, 258), [1, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(first_frame(&[0, 0, 0, 0, 0, 0, 0, 2, 7, 8, 9]).unwrap(), Some((0, &[7, 8][..])));
        assert_eq!(first_frame(&[0, 0, 0, 0, 0, 0, 0, 2, 7]).unwrap(), None);
        assert!(first_frame(&[0, 0, 1, 0, 0, 0, 0, 2]).is_err());
        assert!(first_frame(&[0, 0, 0, 0, 0, 1, 0, 1]).is_err());
    }
}
