//! The service as its clients meet it: over its socket, as a process of its own.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{Read, Write},
    net::Shutdown,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(20);

/// A service with its own roots, programs and cgroup; stopped, with everything it ran, when dropped.
struct Service {
    root: tempfile::TempDir,
    child: Option<Child>,
}

impl Service {
    fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        let bin = root.path().join("bin");
        fs::create_dir(&bin).unwrap();
        let built = PathBuf::from(std::env::current_exe().unwrap().ancestors().nth(2).unwrap());
        fs::copy(built.join("examples/knarrd"), bin.join("knarrd")).unwrap();
        for program in ["knarr-shim", "knarr-runtime"] {
            let from = built.join(program);
            assert!(from.exists(), "build {program} first: cargo build -p {program}");
            fs::copy(from, bin.join(program)).unwrap();
        }
        let mut service = Self { root, child: None };
        service.child = Some(service.command(&[]).spawn().unwrap());
        service.wait_until(|| UnixStream::connect(service.socket()).is_ok());
        service
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(self.root.path().join("bin/knarrd"));
        let name = self.root.path().file_name().unwrap().to_str().unwrap().to_owned();
        command
            .args(["--data-root", self.at("data").to_str().unwrap()])
            .args(["--exec-root", self.at("run").to_str().unwrap()])
            .args(["--cgroup-parent", &format!("/knarr/{name}")])
            .args(["--add-runtime", "runc=/usr/sbin/runc"])
            .args(more)
            .stderr(Stdio::piped());
        command
    }

    fn at(&self, part: &str) -> PathBuf {
        self.root.path().join(part)
    }

    fn socket(&self) -> PathBuf {
        self.at("run/knarr.sock")
    }

    fn wait_until(&self, done: impl Fn() -> bool) {
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < PATIENCE, "nothing happened in {}", self.root.path().display());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Status and body of one request.
    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = self.connect();
        let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        let length = body.len();
        // A service that refuses a body need not read it.
        let _ = write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n{kind}Content-Length: {length}\r\n\r\n{body}"
        );
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn docker(&self, args: &[&str]) -> Output {
        let host = format!("unix://{}", self.socket().display());
        let ran = Command::new("docker").env("DOCKER_HOST", host).args(args).output();
        ran.expect("these tests need the docker client (package docker.io)")
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.docker(args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {args:?}: {said}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// An image `bb` of one static program.
    fn with_busybox(self) -> Self {
        let tree = self.at("tree/bin");
        fs::create_dir_all(&tree).unwrap();
        fs::copy("/bin/busybox", tree.join("busybox"))
            .expect("these tests need a static busybox (package busybox-static)");
        for name in ["sh", "cat", "sleep", "echo", "true"] {
            std::os::unix::fs::symlink("busybox", tree.join(name)).unwrap();
        }
        let tar = self.at("bb.tar");
        let made = Command::new("tar").arg("-C").arg(self.at("tree")).arg("-cf").arg(&tar).arg(".").status();
        assert!(made.unwrap().success());
        self.ok(&["import", tar.to_str().unwrap(), "bb"]);
        self
    }

    /// A container that is made and not started.
    fn created(&self, command: &[&str]) -> String {
        let mut args = vec!["create", "-i", "--runtime", "runc", "--network", "none", "bb"];
        args.extend(command);
        self.ok(&args)
    }

    /// Joins its streams; the answer's head is read.
    fn attach(&self, id: &str) -> UnixStream {
        let mut stream = self.connect();
        write!(
            stream,
            "POST /containers/{id}/attach?stream=1&stdin=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: d\r\n\
             Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
        )
        .unwrap();
        let head = head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        assert!(head.contains("application/vnd.docker.multiplexed-stream"), "{head}");
        stream
    }

    fn terminate(&mut self) -> String {
        let mut child = self.child.take().unwrap();
        let kill = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        assert!(kill.unwrap().success());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(child.wait().unwrap().success(), "{said}");
        said
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let ids = String::from_utf8_lossy(&self.docker(&["ps", "-aq"]).stdout).into_owned();
            for id in ids.split_whitespace() {
                self.docker(&["rm", "-f", id]);
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        // A shim takes its container's groups away a moment after the removal was answered.
        let name = self.root.path().file_name().unwrap_or_default();
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        let mut left: Vec<_> = hierarchies.map(|entry| entry.path().join("knarr").join(name)).collect();
        for _ in 0..250 {
            left.retain(|group| fs::remove_dir(group).is_err() && group.exists());
            if left.is_empty() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        eprintln!("left behind: {left:?}");
    }
}

/// Everything before the body, byte by byte so that nothing of the body is taken.
fn head(stream: &mut UnixStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn errors_are_docker_s() {
    let service = Service::start();
    let message = |text: &str| format!("{{\"message\":\"{text}\"}}\n");
    for (method, path, body, status, text) in [
        (
            "GET",
            "/v1.99/info",
            "",
            400,
            "client version 1.99 is too new. Maximum supported API version is 1.51",
        ),
        ("GET", "/nowhere", "", 404, "page not found"),
        ("PUT", "/info", "", 404, "page not found"),
        ("GET", "/v1.24/containers/zz/json", "", 404, "No such container: zz"),
        ("POST", "/containers/create", r#"{"Image":"zz"}"#, 404, "No such image: zz:latest"),
        ("POST", "/containers/create", "{}", 400, "Config cannot be empty in order to create a container"),
        ("POST", "/containers/create", r#"{"Image":"#, 400, "unexpected EOF"),
        ("POST", "/build", "", 501, "knarr does not implement ImageBuild yet"),
        (
            "POST",
            "/images/create?fromImage=localhost:1/zz&tag=latest",
            "",
            500,
            r#"Head \"http://localhost:1/v2/zz/manifests/latest\": dial tcp localhost:1: connect: connection refused"#,
        ),
    ] {
        assert_eq!(service.ask(method, path, body), (status, message(text)), "{method} {path}");
    }
}

#[test]
fn pings_are_short_and_bodies_bounded() {
    let service = Service::start();
    assert_eq!(service.ask("GET", "/_ping", ""), (200, "OK".to_owned()));
    assert_eq!(service.ask("HEAD", "/_ping", ""), (200, String::new()));
    let (status, large) =
        service.ask("POST", "/containers/create", &format!("{{\"Image\":\"{}\"}}", "x".repeat(5 << 20)));
    assert!(status == 413 && large.contains("larger than 4 MiB"), "{status} {large}");
}

#[test]
fn one_service_a_root_and_nothing_left_of_it() {
    let mut service = Service::start();
    assert_eq!(fs::metadata(service.socket()).unwrap().permissions().mode() & 0o7777, 0o660);
    let second = service.command(&["-H", "unix:///proc/none.sock"]).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && said.contains(service.at("").to_str().unwrap()), "{said}");
    let said = service.terminate();
    assert!(said.contains("containers go on"), "{said}");
    assert!(!service.socket().exists());
    let tcp = service.command(&["-H", "tcp://127.0.0.1:2375"]).output().unwrap();
    assert!(String::from_utf8_lossy(&tcp.stderr).contains("TLS"));
}

#[test]
fn attached_before_the_start_nothing_is_missed() {
    let service = Service::start().with_busybox();
    let id = service.created(&["sh", "-c", "cat; echo end >&2"]);
    let mut stream = service.attach(&id);
    // `wait` answers its head before there is anything to tell.
    let mut wait = service.connect();
    write!(
        wait,
        "POST /containers/{id}/wait?condition=next-exit HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    assert!(head(&mut wait).starts_with("HTTP/1.1 200"));
    assert_eq!(service.ask("POST", &format!("/containers/{id}/start"), "").0, 204);
    stream.write_all(b"hello\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).unwrap();
    assert_eq!(said, b"\x01\0\0\0\0\0\0\x06hello\n\x02\0\0\0\0\0\0\x04end\n");
    let mut waited = String::new();
    wait.read_to_string(&mut waited).unwrap();
    assert!(waited.contains(r#"{"StatusCode":0}"#), "{waited}");
}

#[test]
fn a_client_that_vanishes_ends_only_input_that_was_its_own() {
    let service = Service::start().with_busybox();
    let own = service.created(&["cat"]);
    let client = service.attach(&own);
    assert_eq!(service.ask("POST", &format!("/containers/{own}/start"), "").0, 204);
    drop(client);
    assert_eq!(service.ok(&["wait", &own]), "0", "as with Docker: nobody else would ever end it");

    let shared = r#"{"Image":"bb","Cmd":["cat"],"OpenStdin":true,"HostConfig":{"NetworkMode":"none","Runtime":"runc"}}"#;
    let (status, created) = service.ask("POST", "/containers/create?name=shared", shared);
    assert_eq!(status, 201, "{created}");
    let id = "shared";
    let mut first = service.attach(id);
    assert_eq!(service.ask("POST", &format!("/containers/{id}/start"), "").0, 204);
    first.write_all(b"one\n").unwrap();
    let mut frame = [0; 12];
    first.read_exact(&mut frame).unwrap();
    assert_eq!(&frame[8..], b"one\n");
    drop(first);
    let mut second = service.attach(id);
    second.write_all(b"two\n").unwrap();
    second.read_exact(&mut frame).unwrap();
    assert_eq!(&frame[8..], b"two\n");
    assert_eq!(service.ok(&["inspect", "-f", "{{.State.Running}}", id]), "true");
}

#[test]
fn detach_keys_leave_a_terminal_and_the_log_is_replayed() {
    let service = Service::start().with_busybox();
    let id = service.ok(&[
        "run",
        "-dit",
        "--runtime",
        "runc",
        "--network",
        "none",
        "bb",
        "sh",
        "-c",
        "echo first; cat",
    ]);
    service.wait_until(|| service.ok(&["logs", &id]).contains("first"));
    let mut stream = service.connect();
    write!(
        stream,
        "POST /containers/{id}/attach?stream=1&logs=1&stdin=1&stdout=1&detachKeys=ctrl-a,x HTTP/1.1\r\nHost: d\r\n\
         Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
    )
    .unwrap();
    assert!(head(&mut stream).contains("application/vnd.docker.raw-stream"));
    let mut first = [0; 7];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"first\r\n");
    stream.write_all(b"\x01").unwrap();
    stream.write_all(b"x").unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");
    assert_eq!(service.ok(&["inspect", "-f", "{{.State.Running}}", &id]), "true");
    let (status, text) =
        service.ask("POST", &format!("/containers/{id}/attach?stream=1&detachKeys=ctrl-ab"), "");
    assert_eq!((status, text.contains("Unknown character")), (400, true));
}

#[test]
fn clients_that_left_leave_nothing_open() {
    let service = Service::start().with_busybox();
    let id = service.created(&["sleep", "1000"]);
    service.ok(&["start", &id]);
    let pid = service.child.as_ref().unwrap().id();
    let open = || fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let before = open();
    for path in
        ["/events", &format!("/containers/{id}/wait"), &format!("/containers/{id}/logs?follow=1&stdout=1")]
    {
        let method = if path.ends_with("wait") { "POST" } else { "GET" };
        for _ in 0..20 {
            let mut stream = service.connect();
            write!(stream, "{method} {path} HTTP/1.1\r\nHost: d\r\n\r\n").unwrap();
            assert!(head(&mut stream).starts_with("HTTP/1.1 200"), "{path}");
        }
        for _ in 0..5 {
            drop(service.attach(&id));
        }
        service.wait_until(|| open() <= before);
    }
}

#[test]
fn the_real_client_runs_containers() {
    let service = Service::start().with_busybox();
    let run = |more: &[&str]| {
        let mut args = vec!["run", "--rm", "--runtime", "runc", "--network", "none"];
        args.extend(more);
        service.docker(&args)
    };
    let output = run(&["-e", "A=b", "-w", "/tmp", "bb", "sh", "-c", "echo $A; pwd; echo err >&2; exit 7"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "b\n/tmp\n");
    assert_eq!((output.stderr.as_slice(), output.status.code()), (&b"err\n"[..], Some(7)));
    assert_eq!(run(&["bb", "nothing-there"]).status.code(), Some(127));
    assert_eq!(run(&["nobody"]).status.code(), Some(125));

    let id = service.ok(&[
        "run",
        "-d",
        "--runtime",
        "runc",
        "--network",
        "none",
        "bb",
        "sh",
        "-c",
        "echo up; sleep 1000",
    ]);
    service.wait_until(|| service.ok(&["logs", &id]) == "up");
    assert_eq!(service.ok(&["exec", &id, "echo", "in"]), "in");
    assert_eq!(service.docker(&["exec", &id, "sh", "-c", "exit 3"]).status.code(), Some(3));
    assert!(service.ok(&["top", &id]).contains("sleep 1000"));
    assert!(service.ok(&["ps", "--filter", "ancestor=bb", "--no-trunc", "-q"]).contains(&id));
    service.ok(&["stop", "-t", "0", &id]);
    assert_eq!(service.ok(&["wait", &id]), "137");
    service.ok(&["rm", &id]);
    assert_eq!(service.ok(&["ps", "-aq"]), "");
    // The client tells `--until` in whole seconds.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let events = service.ok(&[
        "events",
        "--since",
        "0",
        "--until",
        "0s",
        "--filter",
        "type=container",
        "--format",
        "{{.Action}}",
    ]);
    for action in ["create", "start", "die", "destroy", "exec_create: echo in"] {
        assert!(events.lines().any(|line| line == action), "{action} is not among {events}");
    }
}

/// docker-py reads the head of the answer through a buffer and then the socket itself: what came with the head is lost.
#[test]
fn an_exec_says_nothing_before_its_client_listens() {
    let service = Service::start().with_busybox();
    let id = service.created(&["sleep", "1000"]);
    service.ok(&["start", &id]);
    for _ in 0..10 {
        let (_, made) = service.ask(
            "POST",
            &format!("/containers/{id}/exec"),
            r#"{"Cmd":["echo","x"],"AttachStdout":true,"AttachStderr":true}"#,
        );
        let exec = made.split('"').nth(3).unwrap();
        let mut stream = service.connect();
        write!(
            stream,
            "POST /exec/{exec}/start HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\
             Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
        )
        .unwrap();
        // As slow as Python, and still faster than any runtime.
        let mut first = [0; 8192];
        stream.read_exact(&mut first[..1]).unwrap();
        std::thread::sleep(Duration::from_millis(5));
        let length = 1 + stream.read(&mut first[1..]).unwrap();
        assert!(first[..length].ends_with(b"\r\n\r\n"), "{}", String::from_utf8_lossy(&first[..length]));
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"\x01\0\0\0\0\0\0\x02x\n");
        let (status, again) = service.ask("POST", &format!("/exec/{exec}/start"), "{}");
        assert_eq!((status, again.contains("has already run")), (409, true), "{again}");
    }
    let missing = service.created(&["nothing-there"]);
    let (status, text) = service.ask("POST", &format!("/containers/{missing}/start"), "");
    assert_eq!((status, text.contains("executable file not found")), (400, true), "{text}");
}

/// What is served is a list that can only grow.
#[test]
fn coverage_is_known() {
    let served = daemon::coverage().filter(|(_, served)| *served).count();
    let all = daemon::coverage().count();
    assert!(served >= 37 && all >= 109, "{served} of {all}");
}

#[test]
fn what_no_client_means_is_refused_in_words() {
    let service = Service::start();
    for (query, want) in [("all=%zz", "invalid URL escape"), ("all=1;limit=2", "semicolon")] {
        let (status, body) = service.ask("GET", &format!("/v1.51/containers/json?{query}"), "");
        assert!(status == 400 && body.contains(want), "{query}: {status} {body}");
    }
    let create = |body: &str| service.ask("POST", "/v1.51/containers/create", body);
    let (status, body) = create(r#"{"Image":"x","Cmd":["a\u0000b"]}"#);
    assert!(status == 400 && body.contains("NUL byte"), "{status} {body}");
    // Larger than any buffer between: who goes on sending sees the answer all the same.
    let (status, body) = create(&format!(r#"{{"Image":"{}"}}"#, "a".repeat(10 << 20)));
    assert!(status == 413 && body.contains("larger than 4 MiB"), "{status} {body}");
}

/// docker-py reads the head through a buffer and goes on below it: what came in one piece with the head is lost.
#[test]
fn output_never_comes_in_one_piece_with_the_head() {
    let service = Service::start().with_busybox();
    let id = service.created(&["echo", "all"]);
    service.ok(&["start", "-a", &id]);
    for _ in 0..5 {
        let mut stream = service.connect();
        write!(
            stream,
            "POST /containers/{id}/attach?logs=1&stdout=1 HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\n\
             Upgrade: tcp\r\nContent-Length: 0\r\n\r\n"
        )
        .unwrap();
        std::thread::sleep(Duration::from_millis(30));
        let mut piece = [0; 8192];
        let length = stream.read(&mut piece).unwrap();
        assert!(piece[..length].ends_with(b"\r\n\r\n"), "{}", String::from_utf8_lossy(&piece[..length]));
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(rest.ends_with(b"all\n"), "{}", String::from_utf8_lossy(&rest));
    }
}
