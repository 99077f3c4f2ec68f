//! The same archives through GNU tar and Python's tarfile.

use std::{
    fs,
    io::{Read, Write},
    path::Path,
    process::{Command, Stdio},
};

use archive::{Header, Kind, Reader, Time, Writer};

#[track_caller]
fn run(program: &str, arguments: &[&str], input: &[u8]) -> String {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} must be installed: {error}"));
    let mut stdin = child.stdin.take().expect("stdin");
    let output = std::thread::scope(|scope| {
        // Not to wait for a program that ends before it has read all.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().expect("output")
    });
    assert!(output.status.success(), "{program} {arguments:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn line(name: &[u8], kind: char, header: &Header, content: &[u8]) -> String {
    let trimmed = name.strip_suffix(b"/").unwrap_or(name);
    let sum: u64 = content.iter().map(|byte| u64::from(*byte)).sum();
    format!(
        "{} {kind} {:o} {} {} {} {} {} {}:{} {sum}\n",
        trimmed.escape_ascii(),
        header.mode,
        header.uid,
        header.gid,
        header.mtime.seconds,
        header.size,
        header.link.escape_ascii(),
        header.device.0,
        header.device.1,
    )
}

/// What this crate sees.
fn ours(bytes: &[u8]) -> String {
    let mut reader = Reader::new(bytes);
    let mut lines = String::new();
    while let Some(mut entry) = reader.next().expect("entry") {
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("content");
        let header = entry.header();
        let kind = match header.kind {
            Kind::File => 'f',
            Kind::HardLink => 'h',
            Kind::Symlink => 'l',
            Kind::Directory => 'd',
            Kind::CharDevice => 'c',
            Kind::BlockDevice => 'b',
            Kind::Fifo => 'p',
            Kind::Other(_) => '?',
        };
        lines.push_str(&line(&header.path, kind, header, &content));
    }
    reader.finish().expect("end");
    assert!(reader.is_marked());
    lines
}

const PYTHON: &str = r"
import sys, tarfile, math
kinds = {b'0':'f', b'\0':'f', b'7':'f', b'S':'f', b'1':'h', b'2':'l', b'5':'d', b'3':'c', b'4':'b', b'6':'p'}
def text(s):
    out = ''
    for byte in s.encode('utf-8', 'surrogateescape'):
        out += {10:'\\n', 13:'\\r', 9:'\\t', 34:'\\\x22', 39:'\\\x27', 92:'\\\\'}.get(byte) or (chr(byte) if 32 <= byte < 127 else '\\x%02x' % byte)
    return out
archive = tarfile.open(fileobj=sys.stdin.buffer, mode='r|', encoding='utf-8')
for m in archive:
    content, total = b'', 0
    if m.isreg(): content = archive.extractfile(m).read()
    total = sum(content)
    device = (m.devmajor, m.devminor) if m.ischr() or m.isblk() else (0, 0)
    size = m.size if m.isreg() else 0
    link = m.linkname if m.issym() or m.islnk() else ''
    print(text(m.name), kinds[m.type], '%o' % (m.mode & 0o7777), m.uid, m.gid, math.floor(m.mtime), size, text(link), '%d:%d' % device, total)
";

fn python(bytes: &[u8]) -> String {
    run("python3", &["-c", PYTHON], bytes)
}

fn tree(base: &Path) {
    let long = "l".repeat(180);
    fs::create_dir_all(base.join("d/e").join(&long)).expect("mkdir");
    fs::write(base.join("d/file"), "content").expect("write");
    fs::write(base.join("d/e").join(&long).join("umlaut-ä\nnewline"), vec![7; 5000]).expect("write");
    fs::write(base.join("empty"), "").expect("write");
    fs::hard_link(base.join("d/file"), base.join("hard")).expect("link");
    std::os::unix::fs::symlink(format!("/somewhere/{long}"), base.join("soft")).expect("symlink");
    let mut sparse = fs::File::create(base.join("sparse")).expect("create");
    for at in 0..60_u64 {
        std::io::Seek::seek(&mut sparse, std::io::SeekFrom::Start(at * 65_536)).expect("seek");
        sparse.write_all(b"data").expect("write");
    }
    sparse.set_len(5 << 20).expect("extend");
    let path = |name: &str| base.join(name).to_string_lossy().into_owned();
    run("mkfifo", &[&path("pipe")], b"");
    run("mknod", &[&path("null"), "c", "1", "3"], b"");
    run("chown", &["3000000:4000000", &path("empty")], b"");
    run("touch", &["-d", "@-5.5", &path("hard")], b"");
}

/// Every format that GNU tar writes reads the same here, in Python and, for sparse files, on disk.
#[test]
fn archives_of_gnu_tar_read_as_python_reads_them() {
    let base = tempfile::tempdir().expect("temporary directory");
    tree(base.path());
    let at = base.path().to_str().expect("path");
    for options in [
        "--format=gnu",
        "--format=oldgnu",
        "--format=pax",
        "--format=gnu --sparse",
        "--format=pax --sparse --sparse-version=0.0",
        "--format=pax --sparse --sparse-version=0.1",
        "--format=pax --sparse --sparse-version=1.0",
    ] {
        let mut arguments: Vec<&str> = options.split(' ').collect();
        arguments.extend(["--sort=name", "-C", at, "-cf", "-", "."]);
        let output = Command::new("tar").args(&arguments).output().expect("tar");
        assert!(output.status.success());
        let seen = ours(&output.stdout);
        assert_eq!(seen, python(&output.stdout), "{options}");
        let whole = fs::read(base.path().join("sparse")).expect("read");
        let mut reader = Reader::new(&output.stdout[..]);
        while let Some(mut entry) = reader.next().expect("entry") {
            if entry.header().path == b"./sparse" {
                assert_eq!(entry.extents().len() > 50, options.contains("sparse"), "{options}");
                let mut content = Vec::new();
                entry.read_to_end(&mut content).expect("content");
                assert!(content == whole, "{options}");
            }
        }
    }
}

fn of_every_kind() -> Vec<Header> {
    vec![
        Header { path: b"d".to_vec(), kind: Kind::Directory, mode: 0o1777, ..Header::default() },
        Header {
            path: b"d/f".to_vec(),
            size: 5,
            mode: 0o4755,
            uid: 4_000_000_000,
            gid: 7,
            ..Header::default()
        },
        Header { path: [b"p/".repeat(90), b"x".repeat(99)].concat(), size: 5, ..Header::default() },
        Header {
            path: b"x".repeat(300),
            size: 5,
            mtime: Time { seconds: -7, nanoseconds: 5 },
            ..Header::default()
        },
        Header { path: "ü\n".into(), kind: Kind::Symlink, link: b"t".repeat(150), ..Header::default() },
        Header { path: b"h".to_vec(), kind: Kind::HardLink, link: b"d/f".to_vec(), ..Header::default() },
        Header { path: b"c".to_vec(), kind: Kind::CharDevice, device: (1, 3), ..Header::default() },
        Header { path: b"b".to_vec(), kind: Kind::BlockDevice, device: (259, 70_000), ..Header::default() },
        Header {
            path: b"p1".to_vec(),
            kind: Kind::Fifo,
            mtime: Time { seconds: 1 << 35, nanoseconds: 0 },
            ..Header::default()
        },
    ]
}

/// What this crate writes, GNU tar and Python read as it was meant.
#[test]
fn our_archives_read_the_same_elsewhere() {
    let entries = of_every_kind();
    for sub_second in [false, true] {
        let mut writer = Writer::new(Vec::new()).sub_second(sub_second);
        for header in &entries {
            writer.append(header, &b"hello"[..]).expect("append");
        }
        let bytes = writer.finish().expect("finish");
        assert_eq!(ours(&bytes), python(&bytes));
        let listed = run("tar", &["--quoting-style=escape", "-tf", "-"], &bytes);
        assert_eq!(listed.matches("d/f").count(), 1);
        assert_eq!(listed.lines().count(), entries.len(), "{listed}");
    }
}
