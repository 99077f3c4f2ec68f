//! What is written is read back, and no bytes make the reader panic.

use std::{collections::BTreeMap, io::Read};

use archive::{Header, Kind, Reader, Time, Writer};
use proptest::{
    collection::{btree_map, vec},
    prelude::*,
};

fn text(longest: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![1 => 1_u8..=255, 3 => Just(b'/'), 8 => b'a'..=b'z'], 1..longest)
}

fn header() -> impl Strategy<Value = Header> {
    let kind = prop_oneof![
        Just(Kind::File),
        Just(Kind::HardLink),
        Just(Kind::Symlink),
        Just(Kind::Directory),
        Just(Kind::CharDevice),
        Just(Kind::BlockDevice),
        Just(Kind::Fifo),
    ];
    let time = (any::<i64>().prop_map(|seconds| seconds >> 4), 0..1_000_000_000_u32);
    let name = vec(prop_oneof![1_u8..=60, 62_u8..=255], 1..40);
    (
        text(400),
        kind,
        0..0o10000_u32,
        any::<(u32, u32)>(),
        time,
        text(200),
        (0..4096_u32, 0..1_048_576_u32),
        btree_map(name, vec(any::<u8>(), 0..99), 0..3),
    )
        .prop_map(|(path, kind, mode, (uid, gid), (seconds, nanoseconds), link, device, xattrs)| {
            let devices = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
            Header {
                path,
                kind,
                mode,
                uid,
                gid,
                mtime: Time { seconds, nanoseconds },
                link: if matches!(kind, Kind::HardLink | Kind::Symlink) { link } else { Vec::new() },
                device: if devices { device } else { (0, 0) },
                xattrs,
                ..Header::default()
            }
        })
}

proptest! {
    #[test]
    fn what_is_written_is_read(entries in vec((header(), vec(any::<u8>(), 0..1500)), 0..5)) {
        let mut writer = Writer::new(Vec::new()).sub_second(true);
        let mut wanted = Vec::new();
        for (mut header, content) in entries {
            let content = if header.kind == Kind::File { content } else { Vec::new() };
            header.size = content.len() as u64;
            writer.append(&header, &content[..]).expect("append");
            if header.kind == Kind::Directory && !header.path.ends_with(b"/") {
                header.path.push(b'/');
            }
            wanted.push((header, content));
        }
        let bytes = writer.finish().expect("finish");
        let mut reader = Reader::new(&bytes[..]);
        for (header, content) in wanted {
            let mut entry = reader.next().expect("entry").expect("one more");
            let mut read = Vec::new();
            entry.read_to_end(&mut read).expect("content");
            let found = Header { pax: BTreeMap::new(), ..entry.header().clone() };
            prop_assert_eq!(found, header);
            prop_assert_eq!(read, content);
        }
        prop_assert!(reader.next().expect("end").is_none());
        prop_assert!(reader.is_marked());
    }

    /// Flips bytes of a good archive, with checksums set right again.
    #[test]
    fn damaged_archives_end_in_an_error_or_at_their_end(
        entries in vec(header(), 1..4),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut writer = Writer::new(Vec::new()).sub_second(true);
        for header in &entries {
            writer.append(header, std::io::empty()).expect("append");
        }
        let mut bytes = writer.finish().expect("finish");
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let block = &mut bytes[at / 512 * 512..][..512];
            if block[257..262] == *b"ustar" {
                block[148..156].fill(b' ');
                let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        let mut reader = Reader::new(&bytes[..]);
        while let Ok(Some(mut entry)) = reader.next() {
            let _ = std::io::copy(&mut entry.data(), &mut std::io::sink());
        }
    }
}
