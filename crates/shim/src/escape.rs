//! Text inside a JSON string, byte for byte as Docker's json-file log has it.

/// Bytes that are looked at in one go; the compiler turns the test of a chunk into vector instructions.
const CHUNK: usize = 32;

/// Appends `text` as the inside of a JSON string. HTML's characters and U+2028/9 are escaped, and each byte that is
/// not UTF-8 becomes U+FFFD.
pub(crate) fn escape(text: &[u8], out: &mut Vec<u8>) {
    for chunk in text.utf8_chunks() {
        escape_valid(chunk.valid().as_bytes(), out);
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

fn escape_valid(mut text: &[u8], out: &mut Vec<u8>) {
    loop {
        let (plain, rest) = text.split_at(plain_length(text));
        out.extend_from_slice(plain);
        let Some((&special, after)) = rest.split_first() else {
            return;
        };
        text = after;
        match special {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', special]),
            0xe2 => match after {
                [0x80, last @ (0xa8 | 0xa9), ..] => {
                    out.extend_from_slice(&[b'\\', b'u', b'2', b'0', b'2', hex(last & 0xf)]);
                    text = &after[2..];
                }
                _ => out.push(special),
            },
            _ => out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(special >> 4), hex(special & 0xf)]),
        }
    }
}

/// How many bytes at the beginning stand for themselves.
fn plain_length(text: &[u8]) -> usize {
    let plain = |chunk: &&[u8]| chunk.iter().fold(0, |any, &byte| any | u8::from(is_special(byte))) == 0;
    let whole = text.chunks_exact(CHUNK).take_while(plain).count();
    let start = whole * CHUNK;
    text[start..].iter().position(|&byte| is_special(byte)).map_or(text.len(), |at| start + at)
}

/// 0xe2 begins U+2028 and U+2029 (among others).
#[allow(clippy::needless_bitwise_bool)] // Without branches the test of a chunk is vectorised.
fn is_special(byte: u8) -> bool {
    (byte < 0x20)
        | (byte == b'"')
        | (byte == b'\\')
        | (byte == b'<')
        | (byte == b'>')
        | (byte == b'&')
        | (byte == 0xe2)
}

fn hex(digit: u8) -> u8 {
    b"0123456789abcdef"[usize::from(digit & 0xf)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &[u8]) -> String {
        let mut out = Vec::new();
        escape(text, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn as_docker_writes_it() {
        let cases: &[(&[u8], &str)] = &[
            (b"plain ~\x7f", "plain ~\x7f"),
            (b"\"\\/\r\n\t\0\x08\x0c\x1b[0m", r#"\"\\/\r\n\u0009\u0000\u0008\u000c\u001b[0m"#),
            (b"<a href='x'>&</a>", r"\u003ca href='x'\u003e\u0026\u003c/a\u003e"),
            ("€ \u{2028}\u{2029}\u{202a} 😀".as_bytes(), "€ \\u2028\\u2029\u{202a} 😀"),
            (b"\xff\xe2\x82x\xed\xa0\x80", r"\ufffd\ufffd\ufffdx\ufffd\ufffd\ufffd"),
        ];
        for (text, expected) in cases {
            assert_eq!(escaped(text), *expected);
        }
    }

    #[test]
    fn every_place_in_a_long_line_is_looked_at() {
        for at in 0..100 {
            let mut text = vec![b'a'; 100];
            text[at] = b'<';
            assert_eq!(escaped(&text), format!("{}\\u003c{}", "a".repeat(at), "a".repeat(99 - at)));
        }
    }
}
