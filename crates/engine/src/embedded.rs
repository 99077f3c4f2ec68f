//! The image that ships inside the engine, so that the first run needs no registry and no download.

use archive::{Header, Kind, Writer};

use crate::{
    Import,
    error::{Error, Result},
};

const PASSWD: &[u8] = b"root:x:0:0:root:/:/hello\nnobody:x:65534:65534:nobody:/:/hello\n";
const GROUP: &[u8] = b"root:x:0:\nnobody:x:65534:\n";

/// The root file system: the program, and who root is.
pub(crate) fn rootfs() -> Result<Vec<u8>> {
    let mut writer = Writer::new(Vec::with_capacity(hello::PROGRAM.len() + 8192));
    let directory =
        |path: &str| Header { path: path.into(), kind: Kind::Directory, mode: 0o755, ..Header::default() };
    let file = |path: &str, mode, content: &[u8]| Header {
        path: path.into(),
        mode,
        size: content.len() as u64,
        ..Header::default()
    };
    let program = hello::ENTRYPOINT.trim_start_matches('/');
    for (header, content) in [
        (directory("etc"), &b""[..]),
        (file("etc/group", 0o644, GROUP), GROUP),
        (file("etc/passwd", 0o644, PASSWD), PASSWD),
        (file(program, 0o755, hello::PROGRAM), hello::PROGRAM),
    ] {
        writer.append(&header, content).map_err(Error::internal)?;
    }
    writer.finish().map_err(Error::internal)
}

/// Its name and config.
pub(crate) fn image() -> Result<Import> {
    Ok(Import {
        name: Some("hello:latest".parse().map_err(Error::internal)?),
        changes: vec![format!("ENTRYPOINT [\"{}\"]", hello::ENTRYPOINT), format!("EXPOSE {}", hello::PORT)],
        message: "shipped with knarr".to_owned(),
        platform: None,
    })
}
