//! Any bytes are an archive or an error; what is read as one is written and read back the same.
#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut reader = archive::Reader::new(bytes);
    let mut writer = archive::Writer::new(Vec::new()).sub_second(true);
    let mut headers = Vec::new();
    while let Ok(Some(mut entry)) = reader.next() {
        // Sparse files may claim more than any memory has.
        let mut header = entry.header().clone();
        let mut content = Vec::new();
        if entry.by_ref().take(1 << 20).read_to_end(&mut content).is_err() {
            break;
        }
        header.size = content.len() as u64;
        if header.kind != archive::Kind::File {
            header.size = 0;
        }
        if writer.append(&header, &content[..header.size as usize]).is_ok() {
            headers.push(header);
        }
    }
    let again = writer.finish().expect("memory takes everything");
    let mut reader = archive::Reader::new(&again[..]);
    for header in headers {
        let entry = reader.next().expect("what we wrote is well-formed").expect("as many entries");
        let trim = |path: &[u8]| path.strip_suffix(b"/").unwrap_or(path).to_vec();
        assert_eq!(trim(&entry.header().path), trim(&header.path));
        assert_eq!((&entry.header().link, entry.header().size), (&header.link, header.size));
        assert_eq!((&entry.header().xattrs, entry.header().mtime), (&header.xattrs, header.mtime));
    }
});
