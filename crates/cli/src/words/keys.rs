//! Detach keys: the sequence that leaves a terminal session without ending it.

/// What is used when nothing else was said.
pub(crate) const DEFAULT: &str = "ctrl-p,ctrl-q";

/// The bytes of a sequence such as `ctrl-p,ctrl-q` or `ctrl-@,x`.
pub(crate) fn parse(text: &str) -> Result<Vec<u8>, String> {
    text.split(',').map(key).collect::<Option<_>>().ok_or_else(|| {
        format!("invalid detach keys ({text}): use single characters and ctrl-<a-z, @, [, \\, ], ^, _>, joined by ','")
    })
}

fn key(word: &str) -> Option<u8> {
    if let [byte] = word.as_bytes() {
        return Some(*byte);
    }
    match word.strip_prefix("ctrl-")?.as_bytes() {
        [letter @ (b'a'..=b'z')] => Some(letter - b'a' + 1),
        [sign @ (b'@' | b'['..=b'_')] => Some(sign - b'@'),
        _ => None,
    }
}

/// Watches what is typed for the sequence. Bytes of a sequence that began and broke off are passed on.
#[derive(Debug)]
pub(crate) struct Watch {
    keys: Vec<u8>,
    seen: usize,
}

impl Watch {
    /// Watches for `keys`.
    pub(crate) fn new(keys: Vec<u8>) -> Watch {
        Watch { keys, seen: 0 }
    }

    /// Appends to `out` what is to be sent of `typed`; true once the sequence is complete.
    pub(crate) fn pass(&mut self, typed: &[u8], out: &mut Vec<u8>) -> bool {
        for &byte in typed {
            if self.keys.get(self.seen) == Some(&byte) {
                self.seen += 1;
                if self.seen == self.keys.len() {
                    return true;
                }
                continue;
            }
            out.extend_from_slice(&self.keys[..self.seen]);
            self.seen = usize::from(self.keys.first() == Some(&byte));
            if self.seen == 0 {
                out.push(byte);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_bytes() {
        assert_eq!(parse(DEFAULT), Ok(vec![16, 17]));
        assert_eq!(parse("ctrl-@,x,ctrl-_"), Ok(vec![0, b'x', 31]));
        for bad in ["", "ctrl-", "ctrl-A", "ab", "ctrl-ab", "a,,b"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_sequence_is_swallowed_and_its_beginnings_are_not() {
        let play = |chunks: &[&[u8]]| {
            let mut watch = Watch::new(vec![16, 17]);
            let mut out = Vec::new();
            let done = chunks.iter().any(|chunk| watch.pass(chunk, &mut out));
            (out, done)
        };
        assert_eq!(play(&[b"ls\n"]), (b"ls\n".to_vec(), false));
        assert_eq!(play(&[b"a\x10", b"\x11b"]), (b"a".to_vec(), true));
        assert_eq!(play(&[b"\x10x"]), (b"\x10x".to_vec(), false));
        assert_eq!(play(&[b"\x10\x10\x11"]), (b"\x10".to_vec(), true));
    }
}
