//! Where in a JSON text something is, as people write it: `linux.namespaces[2].type`. Only asked for when something is
//! wrong, so that a config that is right costs no more than its reading.

/// An open object or array on the way to the place.
enum Level {
    /// With the member that is being read, and whether its name is next.
    Object(Option<String>, bool),
    /// With the element's number, and whether it has begun.
    Array(usize, bool),
}

/// The member or element that the text's byte number `end` belongs to; empty at the top.
pub(super) fn at(text: &[u8], end: usize) -> String {
    let mut open = Vec::new();
    let mut index = 0;
    while index < end.min(text.len()) {
        let byte = text[index];
        let mut next = index + 1;
        match (byte, open.last_mut()) {
            (b'"', Some(Level::Object(name, wanted @ true))) => {
                next = string_end(text, index);
                *name = serde_json::from_slice(&text[index..next]).ok();
                *wanted = false;
            }
            (b',', Some(Level::Object(name, wanted))) => (*name, *wanted) = (None, true),
            (b',', Some(Level::Array(number, begun))) => (*number, *begun) = (*number + 1, false),
            (b'}' | b']', Some(_)) => drop(open.pop()),
            (b' ' | b'\t' | b'\r' | b'\n' | b':', _) => {}
            (_, top) => {
                if let Some(Level::Array(_, begun)) = top {
                    *begun = true;
                }
                match byte {
                    b'"' => next = string_end(text, index),
                    b'{' => open.push(Level::Object(None, true)),
                    b'[' => open.push(Level::Array(0, false)),
                    _ => {}
                }
            }
        }
        index = next;
    }
    // A value of the wrong type is complained of before it is read.
    let next = text[index.min(text.len())..].iter().find(|byte| !byte.is_ascii_whitespace());
    if let Some(Level::Array(_, begun)) = open.last_mut() {
        *begun |= next.is_some_and(|byte| *byte != b']');
    }
    // Deeper than any config goes, a path is no help.
    open.truncate(16);
    open.iter().fold(String::new(), |path, level| match level {
        Level::Object(Some(name), _) => member(&path, name),
        Level::Array(number, true) => format!("{path}[{number}]"),
        _ => path,
    })
}

/// A member's path: with a point if its name is a plain word, else in brackets.
pub(super) fn member(path: &str, name: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    match (name.chars().all(plain) && !name.is_empty(), path) {
        (true, "") => name.to_owned(),
        (true, _) => format!("{path}.{name}"),
        (false, _) => format!("{path}[{name:?}]"),
    }
}

/// The byte after the closing quote of the string that begins at `start`.
fn string_end(text: &[u8], start: usize) -> usize {
    let mut index = start + 1;
    while index < text.len() {
        match text[index] {
            b'\\' => index += 2,
            b'"' => return index + 1,
            _ => index += 1,
        }
    }
    text.len()
}

/// The byte number of a line and column as `serde_json` counts them.
pub(super) fn offset(text: &[u8], line: usize, column: usize) -> usize {
    let starts = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(index, _)| index + 1);
    let start = std::iter::once(0).chain(starts).nth(line.saturating_sub(1)).unwrap_or(text.len());
    start + column
}

/// Where a NUL byte is written in a string: `\u0000`.
pub(super) fn nul(text: &str) -> Option<usize> {
    text.match_indices("\\u0000").map(|(index, _)| index).find(|index| {
        let before = text.as_bytes()[..*index].iter().rev();
        before.take_while(|byte| **byte == b'\\').count() % 2 == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_named() {
        let text = r#"{"a": {"b": [1, {"c.d": "x]\"}", "e": 7}]}, "f": [[], [2"#;
        for (needle, path) in [
            ("{\"b", "a"),
            ("1", "a.b[0]"),
            ("x]", "a.b[1][\"c.d\"]"),
            ("7", "a.b[1].e"),
            ("}]}", "a.b[1]"),
            ("2", "f[1][0]"),
        ] {
            let index = text.find(needle).unwrap();
            assert_eq!(at(text.as_bytes(), index + 1), path, "{needle}");
        }
        assert_eq!(at(b"", 9), "");
        assert_eq!(at(b"[", 9), "");
    }

    #[test]
    fn only_what_stands_for_a_nul_byte_is_one() {
        assert_eq!(nul(r#""\u0000""#), Some(1));
        assert_eq!(nul(r#""\\u0000""#), None);
        assert_eq!(nul(r#""\\\u0000""#), Some(3));
    }
}
