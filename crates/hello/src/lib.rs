//! The program of the embedded image `hello`, as bytes, and the little that its image config says.
//!
//! The source lies in `program/`; `build.rs` compiles it to one static file. It tells what it sees from inside a
//! container: namespaces, layers, limits, addresses, capabilities; as text, as JSON, or over HTTP (`hello serve`).

/// The program: a static executable for the machine that knarr itself is built for.
pub static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hello"));

/// Where the program lies in the image; also the image's entrypoint.
pub const ENTRYPOINT: &str = "/hello";

/// The port that `hello serve` listens on when it is given none.
pub const PORT: u16 = 8080;

/// The environment variable by which an engine may tell the program its own namespaces, as `NAME=INODE,…` with the
/// names of `/proc/self/ns` (`mnt=4026531841,net=4026531840`). Without it the program goes by the numbers that the
/// kernel fixes for the initial namespaces, and says of `mnt` and `net`, which have none, that it does not know.
pub const HOST_NAMESPACES: &str = "KNARR_HOST_NAMESPACES";

#[cfg(test)]
#[path = "../program/main.rs"]
#[allow(dead_code, reason = "the tests use its modules, not its `main`")]
mod program;

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::{BufRead, BufReader, Read, Write},
        net::{TcpListener, TcpStream},
        os::unix::fs::PermissionsExt,
        path::PathBuf,
        process::{Command, Stdio},
        sync::{PoisonError, RwLock, RwLockReadGuard},
    };

    use super::*;

    /// Whoever starts a program reads: a child between fork and exec holds every descriptor, and a file that anybody
    /// holds open for writing cannot be executed (ETXTBSY).
    static STARTING: RwLock<()> = RwLock::new(());

    /// The program in a file, removed with the value.
    struct File(PathBuf, #[allow(dead_code, reason = "held, not read")] RwLockReadGuard<'static, ()>);

    impl File {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("knarr-hello-{}-{name}", std::process::id()));
            {
                let _nobody_starts = STARTING.write().unwrap_or_else(PoisonError::into_inner);
                fs::write(&path, PROGRAM).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            }
            Self(path, STARTING.read().unwrap_or_else(PoisonError::into_inner))
        }

        fn command(&self, args: &[&str]) -> Command {
            let mut command = Command::new(&self.0);
            command.args(args).env(HOST_NAMESPACES, "mnt=1,net=2");
            command
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            fs::remove_file(&self.0).unwrap();
        }
    }

    #[test]
    fn the_program_is_small_static_and_names_no_build_machine() {
        assert!(PROGRAM.len() < 1280 * 1024, "{} bytes", PROGRAM.len());
        assert_eq!(&PROGRAM[..4], b"\x7fELF");
        assert_eq!(PROGRAM[16], 2, "ET_EXEC: no interpreter, no relocations");
        let here = env!("CARGO_MANIFEST_DIR").as_bytes();
        assert!(!PROGRAM.windows(here.len()).any(|window| window == here));
    }

    #[test]
    fn it_tells_what_it_sees() {
        let hello = File::new("tells");
        let out = hello.command(&[]).output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        assert!(out.status.success(), "{text}");
        assert!(text.starts_with("Hello"), "{text}");
        for word in ["namespaces", "capabilities", "seccomp", "mounts", "127.0.0.1"] {
            assert!(text.contains(word), "{word} is missing in\n{text}");
        }
        let json = String::from_utf8(hello.command(&["--json"]).output().unwrap().stdout).unwrap();
        assert!(json.starts_with('{') && json.ends_with("}\n"), "{json}");
        assert!(json.contains(r#""name":"mnt""#), "{json}");
    }

    #[test]
    fn what_it_does_not_know_it_refuses() {
        let hello = File::new("refuses");
        for (args, word) in [
            (&["fly"][..], "fly"),
            (&["serve", "0"], "0"),
            (&["serve", "70000"], "70000"),
            (&["serve", "1", "2"], "usage"),
        ] {
            let out = hello.command(args).output().unwrap();
            let text = String::from_utf8(out.stderr).unwrap();
            assert_eq!(out.status.code(), Some(2), "{args:?}: {text}");
            assert!(text.contains(word), "{args:?}: {text}");
        }
    }

    #[test]
    fn it_serves_until_it_is_asked_to_end() {
        let hello = File::new("serves");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        let mut server = hello.command(&["serve", &port]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains(&port), "{line}");

        // A client that says nothing keeps nobody else waiting.
        let silent = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        let mut client = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        client.write_all(b"GET /json HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\"pid\":"), "{answer}");
        drop(silent);

        let second = hello.command(&["serve", &port]).output().unwrap();
        let error = String::from_utf8(second.stderr).unwrap();
        assert!(second.status.code() == Some(1) && error.contains(&port), "{error}");

        let id = server.id().to_string();
        assert!(Command::new("sh").args(["-c", "kill -TERM $0", &id]).status().unwrap().success());
        assert_eq!(server.wait().unwrap().code(), Some(0));
    }
}
