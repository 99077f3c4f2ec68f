//! Detach keys: the sequence that leaves a terminal without ending what runs in it.

use crate::failure::{Failure, Result};

/// Ctrl-P Ctrl-Q.
const DEFAULT: &[u8] = &[0x10, 0x11];

/// Reads Docker's syntax: single characters and `ctrl-X` (X one of `a-z@[\]^_`), separated by commas. Empty is
/// the default.
pub(crate) fn parse(text: &str) -> Result<Vec<u8>> {
    if text.is_empty() {
        return Ok(DEFAULT.to_vec());
    }
    let key = |word: &str| {
        let control = word.strip_prefix("ctrl-").unwrap_or_default();
        match (word.as_bytes(), control.as_bytes()) {
            (&[byte], _) => Some(byte),
            (_, &[letter @ b'a'..=b'z']) => Some(letter - b'a' + 1),
            (_, b"@") => Some(0),
            (_, &[sign @ (b'[' | b'\\' | b']' | b'^' | b'_')]) => Some(sign - b'[' + 27),
            _ => None,
        }
    };
    text.split(',')
        .map(|word| key(word).ok_or_else(|| Failure::invalid(format!("Unknown character: '{word}'"))))
        .collect()
}

/// Looks for the sequence in what a client types, wherever it is cut.
#[derive(Debug)]
pub(crate) struct Detach {
    keys: Vec<u8>,
    matched: usize,
}

impl Detach {
    pub(crate) fn new(keys: Vec<u8>) -> Self {
        Self { keys, matched: 0 }
    }

    /// What to pass on, and whether the sequence is complete. Keys that may begin it are held back until the next
    /// one decides.
    pub(crate) fn feed(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut pass = Vec::with_capacity(typed.len());
        for &byte in typed {
            if self.keys.get(self.matched) != Some(&byte) {
                pass.extend(&self.keys[..self.matched]);
                self.matched = 0;
            }
            if self.keys.get(self.matched) == Some(&byte) {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return (pass, true);
                }
            } else {
                pass.push(byte);
            }
        }
        (pass, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_syntax() {
        assert_eq!(parse("").unwrap(), [16, 17]);
        assert_eq!(parse("ctrl-a").unwrap(), [1]);
        assert_eq!(parse("ctrl-@,ctrl-[,ctrl-_,x").unwrap(), [0, 27, 31, b'x']);
        for bad in ["ctrl-A", "ab", "ctrl-", "a,,b", "ctrl-é"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_sequence_is_found_and_nothing_else_is_lost() {
        let feed = |detach: &mut Detach, text: &[u8]| detach.feed(text);
        let mut one = Detach::new(vec![16, 17]);
        assert_eq!(feed(&mut one, b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(feed(&mut one, b"\x11"), (vec![], true));
        let mut other = Detach::new(vec![16, 17]);
        assert_eq!(feed(&mut other, b"\x10c"), (b"\x10c".to_vec(), false));
        assert_eq!(feed(&mut other, b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(feed(&mut other, b"\x11z"), (vec![], true));
    }
}
