//! Archives that nobody makes by accident.

use std::io::Read;

use archive::{Error, Header, Reader, Writer};

/// One header block; `magic` is `ustar\000` or GNU's.
fn block(name: &str, kind: u8, size: &[u8]) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    for (at, text) in [(100, "0000644"), (108, "0000000"), (116, "0000000"), (136, "00000000000")] {
        block[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    block[124..124 + size.len()].copy_from_slice(size);
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    seal(&mut block);
    block
}

fn seal(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn gnu(mut block: Vec<u8>) -> Vec<u8> {
    block[257..265].copy_from_slice(b"ustar  \0");
    seal(&mut block);
    block
}

fn octal(size: usize) -> Vec<u8> {
    format!("{size:011o}\0").into_bytes()
}

fn padded(body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    body.resize(body.len().next_multiple_of(512), 0);
    body
}

/// A header and its body, whatever the header says.
fn entry(name: &str, kind: u8, body: &[u8]) -> Vec<u8> {
    [block(name, kind, &octal(body.len())), padded(body)].concat()
}

fn record(text: &str) -> String {
    (2..9)
        .map(|digits| format!("{} {text}\n", text.len() + 2 + digits - 1))
        .find(|record| record.len().to_string() == record.split(' ').next().unwrap_or_default())
        .unwrap_or_default()
}

fn pax(records: &[&str]) -> Vec<u8> {
    entry("PaxHeaders", b'x', records.iter().map(|text| record(text)).collect::<String>().as_bytes())
}

/// Names and sizes, or the first error.
fn walk(parts: &[Vec<u8>]) -> Result<Vec<(String, u64)>, Error> {
    let bytes = [parts.concat(), vec![0; 1024]].concat();
    let mut reader = Reader::new(&bytes[..]);
    let mut seen = Vec::new();
    while let Some(entry) = reader.next()? {
        seen.push((String::from_utf8_lossy(&entry.header().path).into_owned(), entry.header().size));
    }
    reader.finish()?;
    Ok(seen)
}

#[track_caller]
fn refused(parts: &[Vec<u8>], because: &str) {
    let error = walk(parts).expect_err(because).to_string();
    assert!(error.contains(because), "{error:?} does not say {because:?}");
}

/// CVE-2025-62518: who skips by ustar's size sees an entry that is content.
#[test]
fn the_extended_size_decides_what_is_content() {
    let smuggled = entry("smuggled", b'0', b"");
    let mut body = smuggled.clone();
    body.resize(1024, 0);
    let carrier = [block("carrier", b'0', &octal(0)), body].concat();
    let seen = walk(&[pax(&["size=1024"]), carrier, entry("after", b'0', b"x")]).expect("well-formed");
    assert_eq!(seen, [("carrier".to_owned(), 1024), ("after".to_owned(), 1)]);
    // The other way round.
    let inverse = block("carrier", b'0', &octal(1024));
    let seen = walk(&[pax(&["size=0"]), inverse, smuggled]).expect("well-formed");
    assert_eq!(seen.len(), 2);
    // Only files have content, whatever a directory or a link claims.
    let seen = walk(&[block("d/", b'5', &octal(512)), entry("f", b'0', b"x")]).expect("well-formed");
    assert_eq!(seen, [("d/".to_owned(), 0), ("f".to_owned(), 1)]);
}

#[test]
fn malformed_extended_headers_are_errors() {
    let file = || entry("f", b'0', b"");
    for body in ["10 path=x", "path=x\n", "99 path=x\n", "0 a=b\n", "6 =ab\n", "7 abcd\n", "-8 a=bc\n"] {
        refused(&[entry("x", b'x', body.as_bytes()), file()], "bad extended header record");
    }
    refused(&[pax(&["size=-1"]), file()], "bad size");
    refused(&[pax(&["size=99999999999999999999"]), file()], "bad size");
    refused(&[pax(&["size=9223372036854775808"]), file()], "bad size");
    refused(&[pax(&["uid=4294967296"]), file()], "bad user id");
    refused(&[pax(&["mtime=yesterday"]), file()], "bad modification time");
    refused(&[pax(&["path=a\0b"]), file()], "a NUL in a name");
    refused(&[pax(&["a=b"])], "no entry behind it");
    refused(&[pax(&["a=b"]), pax(&["a=b"]), file()], "several extended headers");
    refused(&[pax(&["a=b"]), entry("g", b'g', b""), file()], "several extended headers");
    refused(&[entry("g", b'g', record("path=x").as_bytes()), file()], "a global");
    refused(&[entry("g", b'g', record("size=9").as_bytes()), file()], "a global");
    refused(&[pax(&["path=one"]), entry("L", b'L', b"two\0"), file()], "two names for one entry");
    refused(&[pax(&[&format!("path={}", "p".repeat(5000))]), file()], "a path of more than");
    refused(&[pax(&["LIBARCHIVE.xattr.user.a=***"]), file()], "extended attribute");
    refused(&[entry("", b'0', b"")], "an entry without a name");
    let seen = walk(&[pax(&["path=a\n9 path=x", "path="]), entry("short", b'0', b"")]).expect("well-formed");
    assert_eq!(seen[0].0, "short", "an empty value takes a record back");
}

#[test]
fn sizes_never_become_memory() {
    for (kind, size) in [(b'x', 1 << 31), (b'L', 1 << 30), (b'g', 1 << 33)] {
        refused(&[block("big", kind, &octal(size))], "an extended header of more than");
    }
    let negative = b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";
    refused(&[block("f", b'0', negative)], "bad size");
    refused(&[block("f", b'x', negative)], "bad size");
    let huge = b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff";
    let error = walk(&[block("f", b'0', huge)]).expect_err("cut short");
    assert!(matches!(error, Error::Truncated(inside) if inside.contains("\"f\"")));
    let records: String = (0..40_000).map(|number| record(&format!("k{number}=v"))).collect();
    refused(&[entry("x", b'x', records.as_bytes()), entry("f", b'0', b"")], "too many records");
}

#[test]
fn sparse_maps_are_checked() {
    let file = |body: &[u8]| entry("f", b'0', body);
    let sparse = |map: &str, size: &str, body: &[u8]| {
        vec![pax(&[&format!("GNU.sparse.map={map}"), &format!("GNU.sparse.size={size}")]), file(body)]
    };
    assert_eq!(walk(&sparse("0,2,10,2,20,0", "20", b"abcd")).expect("well-formed"), [("f".to_owned(), 20)]);
    refused(&sparse("0,3,2,1", "20", b"abcd"), "overlapping");
    refused(&sparse("10,2,0,2", "20", b"abcd"), "overlapping");
    refused(&sparse("0,4", "3", b"abcd"), "misplaced");
    refused(&sparse("0,18446744073709551615,1,1", "20", b"abcd"), "misplaced");
    refused(&sparse("0,2", "20", b"abcd"), "a sparse map of 2 bytes over content of 4");
    refused(&sparse("0,2,3", "20", b"ab"), "bad sparse map");
    refused(&sparse("0,x", "20", b"ab"), "bad sparse map");
    refused(&sparse("0,2", "-1", b"ab"), "without a proper file size");
    refused(&[pax(&["GNU.sparse.numbytes=1", "GNU.sparse.offset=0"]), file(b"a")], "bad sparse map");
    refused(&[pax(&["GNU.sparse.major=2", "GNU.sparse.minor=0"]), file(b"")], "unknown version");
    let inside = ["GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.realsize=8"];
    refused(&[pax(&inside), file(b"99999999\n")], "too many extents");
    refused(&[pax(&inside), file(b"1\n0\n")], "bad sparse map");
    refused(&[pax(&inside), entry("d", b'5', b"")], "not a file");
    refused(&[block("f", b'S', &octal(0))], "bad sparse header");
    let mut old = block("f", b'S', &octal(0));
    old[482] = 1;
    let mut extension = vec![0; 512];
    extension[504] = 1;
    let mut endless = vec![gnu(old)];
    endless.extend(vec![extension; 100]);
    // The end blocks end it.
    assert_eq!(walk(&endless).expect("an empty file").len(), 1);
    endless.push(vec![b'9'; 512]);
    refused(&endless, "bad sparse header");
}

#[test]
fn an_archive_can_be_cut_anywhere() {
    let mut writer = Writer::new(Vec::new());
    for name in ["a".to_owned(), "b".repeat(300)] {
        let header = Header { path: name.into_bytes(), size: 700, ..Header::default() };
        writer.append(&header, &[1; 700][..]).expect("append");
    }
    let whole = writer.finish().expect("finish");
    for length in 0..whole.len() {
        let mut reader = Reader::new(&whole[..length]);
        let result = loop {
            match reader.next() {
                Ok(Some(mut entry)) => {
                    if let Err(error) = entry.read_to_end(&mut Vec::new()) {
                        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
                    }
                }
                Ok(None) => break Ok(reader.is_marked()),
                Err(error) => break Err(error),
            }
        };
        match result {
            // At the end of an entry, or one end block.
            Ok(marked) => assert!(length % 512 == 0 && marked == (length + 512 >= whole.len()), "{length}"),
            Err(Error::Truncated(_) | Error::Malformed { .. }) => {}
            Err(other) => panic!("{length}: {other}"),
        }
    }
}

#[test]
fn other_bytes_are_no_archive() {
    for bytes in [&b"PK\x03\x04"[..], b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"] {
        let mut reader = Reader::new(std::io::Cursor::new(padded(bytes)));
        let error = reader.next().expect_err("not an archive").to_string();
        assert!(error.contains("not a tar header"), "{error}");
        assert!(reader.next().is_err(), "an error is not forgotten");
    }
    refused(&[entry("f", b'0', b""), vec![0; 512], entry("g", b'0', b"")], "in the middle");
}
