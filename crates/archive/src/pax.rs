//! Extended header records, `LENGTH KEY=VALUE\n`, cut by their length and never by their newline: values hold
//! any byte (POSIX.1-2017 pax, "pax Extended Header").

use std::collections::BTreeMap;

use crate::{MAX_EXTENTS, MAX_RECORDS, Time};

/// The records of one extended header.
#[derive(Debug, Default)]
pub(crate) struct Records {
    /// Last one wins, as POSIX wants.
    pub(crate) map: BTreeMap<Vec<u8>, Vec<u8>>,
    /// `GNU.sparse.offset` and `.numbytes`, in order: a list in repeated keys (format 0.0).
    pub(crate) sparse: Vec<u64>,
}

pub(crate) fn parse(mut body: &[u8]) -> Result<Records, String> {
    let mut records = Records::default();
    while !body.is_empty() {
        let ((key, value), rest) = record(body)?;
        body = rest;
        let expected: &[u8] = if records.sparse.len().is_multiple_of(2) {
            b"GNU.sparse.offset"
        } else {
            b"GNU.sparse.numbytes"
        };
        if matches!(key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes") {
            let number = decimal(value).filter(|_| key == expected);
            records.sparse.push(number.ok_or_else(|| "bad sparse map in extended header".to_owned())?);
        } else {
            records.map.insert(key.to_vec(), value.to_vec());
        }
        if records.map.len() > MAX_RECORDS || records.sparse.len() > 2 * MAX_EXTENTS {
            return Err("extended header has too many records".to_owned());
        }
    }
    Ok(records)
}

type Record<'a> = (&'a [u8], &'a [u8]);

/// The first record, and the rest.
fn record(body: &[u8]) -> Result<(Record<'_>, &[u8]), String> {
    let malformed = |what: &str| format!("bad extended header record: {what}");
    let space = body.iter().take(20).position(|byte| *byte == b' ').ok_or_else(|| malformed("no length"))?;
    let length = decimal(&body[..space])
        .and_then(|length| usize::try_from(length).ok())
        .filter(|length| (space + 1..=body.len()).contains(length))
        .ok_or_else(|| malformed("its length is not that of the record"))?;
    let (record, rest) = body.split_at(length);
    let text = record[space + 1..].strip_suffix(b"\n").ok_or_else(|| malformed("no newline at its end"))?;
    let equals =
        text.iter().position(|byte| *byte == b'=').filter(|at| *at > 0).ok_or_else(|| malformed("no key"))?;
    let (key, value) = (&text[..equals], &text[equals + 1..]);
    let textual = matches!(key, b"path" | b"linkpath" | b"uname" | b"gname" | b"GNU.sparse.name");
    if key.contains(&0) || (textual && value.contains(&0)) {
        return Err(malformed("a NUL in a name"));
    }
    Ok(((key, value), rest))
}

/// One record with the length that counts itself.
pub(crate) fn write(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // A space, an equals sign, a newline, and the digits.
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(format!("{length} ").as_bytes());
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// Digits and nothing else.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    text.iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// `[-]SECONDS[.FRACTION]`; digits beyond the nanosecond are dropped.
pub(crate) fn time(text: &[u8]) -> Option<Time> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut nanoseconds = 0;
    for at in 0..9 {
        nanoseconds = nanoseconds * 10 + u32::from(fraction.get(at).map_or(0, |digit| digit - b'0'));
    }
    Some(match (negative, nanoseconds) {
        (false, _) => Time { seconds, nanoseconds },
        (true, 0) => Time { seconds: -seconds, nanoseconds },
        (true, _) => Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

/// The inverse of [`time`].
pub(crate) fn time_text(time: Time) -> String {
    let (sign, seconds, nanoseconds) = match (time.seconds < 0, time.nanoseconds) {
        (false, nanoseconds) => ("", time.seconds.unsigned_abs(), nanoseconds),
        (true, 0) => ("-", time.seconds.unsigned_abs(), 0),
        (true, nanoseconds) => ("-", time.seconds.unsigned_abs() - 1, 1_000_000_000 - nanoseconds),
    };
    if nanoseconds == 0 {
        return format!("{sign}{seconds}");
    }
    let text = format!("{sign}{seconds}.{nanoseconds:09}");
    text.trim_end_matches('0').to_owned()
}

/// `SCHILY.xattr.` records hold the value as it is; `LIBARCHIVE.xattr.` ones encode name and value.
pub(crate) fn xattrs(records: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, String> {
    let mut xattrs = BTreeMap::new();
    for (key, value) in records {
        if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
            let decoded = percent(name).zip(base64(value));
            let (name, value) = decoded.ok_or("bad encoding of an extended attribute")?;
            xattrs.insert(name, value);
        }
    }
    for (key, value) in records {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            xattrs.insert(name.to_vec(), value.clone());
        }
    }
    if xattrs.keys().any(|name| name.is_empty() || name.contains(&0)) {
        return Err("bad name of an extended attribute".to_owned());
    }
    Ok(xattrs)
}

fn percent(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        if *byte == b'%' {
            let value = digit(*bytes.next()?)? * 16 + digit(*bytes.next()?)?;
            decoded.push(value as u8);
        } else {
            decoded.push(*byte);
        }
    }
    Some(decoded)
}

fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.trim_ascii_end();
    let text = text.strip_suffix(b"==").or(text.strip_suffix(b"=")).unwrap_or(text);
    let mut decoded = Vec::with_capacity(text.len() * 3 / 4);
    for group in text.chunks(4) {
        let mut bits = 0_u32;
        for at in 0..4 {
            let value = match group.get(at) {
                Some(c @ b'A'..=b'Z') => c - b'A',
                Some(c @ b'a'..=b'z') => c - b'a' + 26,
                Some(c @ b'0'..=b'9') => c - b'0' + 52,
                Some(b'+') => 62,
                Some(b'/') => 63,
                None => 0,
                Some(_) => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        let bytes = group.len().checked_sub(1).filter(|bytes| *bytes > 0)?;
        decoded.extend_from_slice(&bits.to_be_bytes()[1..=bytes]);
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_cut_by_length() {
        let mut body = Vec::new();
        write(&mut body, b"SCHILY.xattr.user.x", b"a\n17 path=smuggled\n\0");
        write(&mut body, b"path", b"new\nline");
        let records = parse(&body).unwrap();
        assert_eq!(records.map[&b"path"[..]], b"new\nline");
        assert_eq!(records.map[&b"SCHILY.xattr.user.x"[..]], b"a\n17 path=smuggled\n\0");
    }

    #[test]
    fn record_lengths_count_themselves() {
        for length in 0..1200 {
            let mut body = Vec::new();
            write(&mut body, b"k", &vec![b'v'; length]);
            assert_eq!(parse(&body).unwrap().map[&b"k"[..]].len(), length);
        }
    }

    #[test]
    fn malformed_records_are_errors() {
        for bad in [
            &b"path=x\n"[..],
            b"8 path=x\n",
            b"11 path=x\n",
            b"9 path=xy",
            b"+9 path=x\n",
            b"4 =x\n",
            b"5 =x\n",
            b"9 pathxx\n",
            b"99999999999999999999 path=x\n",
            b"2147483648 path=x\n",
            b"0 path=x\n",
            b"2 \n",
            b"10 path=\0x\n",
            b"9 path=x\n\0\0\0",
        ] {
            assert!(parse(bad).is_err(), "{}", bad.escape_ascii());
        }
        assert!(parse(b"9 path=x\n").is_ok());
    }

    #[test]
    fn times_round_trip_on_both_sides_of_1970() {
        for (text, seconds, nanoseconds) in [
            ("0", 0, 0),
            ("1350244992.023960108", 1_350_244_992, 23_960_108),
            ("-1.5", -2, 500_000_000),
            ("-1", -1, 0),
            ("-0.25", -1, 750_000_000),
        ] {
            let parsed = time(text.as_bytes()).unwrap();
            assert_eq!(parsed, Time { seconds, nanoseconds }, "{text}");
            assert_eq!(time_text(parsed), text);
        }
        for bad in ["", ".5", "1.x", "+1", "1e3", "99999999999999999999", "--1"] {
            assert!(time(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn libarchive_encodes_names_and_values() {
        assert_eq!(percent(b"user.a%3Db").unwrap(), b"user.a=b");
        assert_eq!(base64(b"aGVsbG8").unwrap(), b"hello");
        assert_eq!(base64(b"aGVsbG8=").unwrap(), b"hello");
        assert!(base64(b"a*b=").is_none());
        assert!(base64(b"a").is_none());
    }
}
