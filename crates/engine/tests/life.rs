//! The engine by itself, on the real kernel: a container's life through every verb, under a real shim and runtime.
//!
//! `RUNTIME=runc` runs the same under another runtime.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

use std::{
    collections::BTreeMap,
    io::Cursor,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use archive::{Header, Kind as Entry, Writer};
use engine::{
    AttachOptions, Config, Engine, ExecConfig, Frame, Import, Input, Kind, LogQuery, Options, State, WaitFor,
};

struct House {
    engine: Engine,
    options: Options,
    _place: tempfile::TempDir,
}

impl House {
    async fn open() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let place = tempfile::tempdir().expect("a temporary directory");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let options = Options {
            data_root: place.path().join("data"),
            exec_root: place.path().join("run"),
            cgroup_parent: format!("/knarr/engine-test-{}-{number}", std::process::id()),
            shim: program("knarr-shim"),
            runtime: program("knarr-runtime"),
            storage: engine::Storage::default(),
            runtimes: BTreeMap::new(),
            registries: engine::Registries::default(),
            bridge: None,
        };
        let engine = Engine::open(options.clone()).await.expect("open the engine");
        engine
            .import(
                Cursor::new(busybox()),
                Import { name: Some("busybox".parse().unwrap()), ..Import::default() },
            )
            .await
            .unwrap();
        Self { engine, options, _place: place }
    }

    async fn run(&self, words: &[&str], change: impl FnOnce(&mut Config)) -> String {
        let mut config = config(words);
        change(&mut config);
        let created = self.engine.create(None, config).await.unwrap();
        self.engine.start(&created.id).await.unwrap();
        created.id
    }

    async fn output(&self, id: &str) -> String {
        let query = LogQuery { stdout: true, stderr: true, follow: true, ..LogQuery::default() };
        let mut lines = self.engine.logs(id, query).unwrap();
        let mut text = String::new();
        while let Some(line) = lines.recv().await {
            text += &String::from_utf8_lossy(&line.unwrap().text);
        }
        text
    }
}

impl Drop for House {
    fn drop(&mut self) {
        for container in self.engine.list() {
            if let Some(pid) = container.state.pid().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        // Shims take the cgroups of their containers away; the parent is the test's own.
        for _ in 0..100 {
            let left = parents(&self.options.cgroup_parent)
                .filter(|path| std::fs::remove_dir(path).is_err())
                .count();
            if left == 0 {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        eprintln!("left behind: cgroups under {}", self.options.cgroup_parent);
    }
}

fn parents(path: &str) -> impl Iterator<Item = PathBuf> {
    let path = path.trim_start_matches('/').to_owned();
    let hierarchies =
        std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    hierarchies
        .chain([PathBuf::from("/sys/fs/cgroup")])
        .map(move |root| root.join(&path))
        .filter(|path| path.is_dir())
}

fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this test's own path");
    let directory = test.parent().and_then(Path::parent).expect("target/…/deps");
    let path = directory.join(name);
    assert!(path.is_file(), "{} is missing: build the workspace first", path.display());
    path
}

fn config(words: &[&str]) -> Config {
    let mut config = Config { image: "busybox".into(), command: Some(owned(words)), ..Config::default() };
    config.host.runtime = std::env::var("RUNTIME").unwrap_or_default();
    // The default network would be a bridge in this machine's own namespace.
    config.host.network = engine::config::Network::None;
    config
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn busybox() -> Vec<u8> {
    let program = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    let mut writer = Writer::new(Vec::new());
    for directory in ["bin", "etc", "tmp"] {
        let header =
            Header { path: directory.into(), kind: Entry::Directory, mode: 0o755, ..Header::default() };
        writer.append(&header, &b""[..]).unwrap();
    }
    let header =
        Header { path: "bin/busybox".into(), mode: 0o755, size: program.len() as u64, ..Header::default() };
    writer.append(&header, &program[..]).unwrap();
    for applet in ["sh", "cat", "echo", "sleep", "true", "id", "ls", "stty"] {
        let path = format!("bin/{applet}").into();
        let header =
            Header { path, kind: Entry::Symlink, mode: 0o777, link: "busybox".into(), ..Header::default() };
        writer.append(&header, &b""[..]).unwrap();
    }
    writer.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn from_create_to_remove() {
    let house = House::open().await;
    let id = house.run(&["sh", "-c", "echo out; echo err >&2; exit 3"], |_| {}).await;
    assert_eq!(house.engine.wait(&id, WaitFor::NotRunning).unwrap().done().await.code, 3);
    assert_eq!(house.output(&id).await, "out\nerr\n");
    let container = house.engine.inspect(&id).unwrap();
    assert_eq!((&container.state, container.last.exit_code), (&State::Exited, 3));
    house.engine.start(&id).await.unwrap();
    house.engine.wait(&id, WaitFor::NotRunning).unwrap().done().await;
    assert_eq!(house.output(&id).await, "out\nerr\nout\nerr\n");
    house.engine.remove(&id, false).await.unwrap();
    assert_eq!(house.engine.inspect(&id).unwrap_err().kind, Kind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_attached_before_the_start_misses_nothing() {
    let house = House::open().await;
    let mut config = config(&["cat"]);
    config.open_stdin = true;
    config.host.auto_remove = true;
    let id = house.engine.create(Some("echo-cat"), config).await.unwrap().id;
    let mut streams =
        house.engine.attach(&id, AttachOptions { stdin: true, stdout: true, stderr: true }).await.unwrap();
    let gone = house.engine.wait(&id, WaitFor::Removed).unwrap();
    house.engine.start("echo-cat").await.unwrap();
    streams.input.send(Input::Data("hello\n".into())).await.unwrap();
    assert_eq!(streams.output.recv().await, Some(Frame::Stdout("hello\n".into())));
    streams.input.send(Input::Close).await.unwrap();
    assert_eq!(streams.output.recv().await, None);
    assert_eq!(gone.done().await.code, 0);
    assert!(house.engine.list().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_run_in_a_container_that_runs() {
    let house = House::open().await;
    let id = house.run(&["sleep", "1000"], |_| {}).await;
    let config = ExecConfig {
        command: owned(&["sh", "-c", "id -u; exit 5"]),
        user: "7".into(),
        ..ExecConfig::default()
    };
    let session = house.engine.exec_create(&id, config).await.unwrap();
    let wanted = AttachOptions { stdin: false, stdout: true, stderr: true };
    let mut streams = house.engine.exec_start(&session, Some(wanted)).await.unwrap().unwrap();
    assert_eq!(streams.output.recv().await, Some(Frame::Stdout("7\n".into())));
    assert_eq!(streams.output.recv().await, None);
    for _ in 0..100 {
        if house.engine.exec_inspect(&session).unwrap().exit_code.is_some() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(house.engine.exec_inspect(&session).unwrap().exit_code, Some(5));
    assert_eq!(house.engine.exec_start(&session, None).await.unwrap_err().kind, Kind::Conflict);
    house.engine.stop(&id, None, Some(0)).await.unwrap();
    assert_eq!(house.engine.inspect(&id).unwrap().last.exit_code, 137);
    house.engine.remove(&id, false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_ended_sessions_are_let_go_and_never_a_fresh_one() {
    let house = House::open().await;
    let id = house.run(&["sleep", "1000"], |_| {}).await;
    let config = ExecConfig { command: owned(&["no-such-program"]), ..ExecConfig::default() };
    for _ in 0..140 {
        let session = house.engine.exec_create(&id, config.clone()).await.unwrap();
        assert!(house.engine.exec_start(&session, None).await.is_err());
        assert_eq!(house.engine.exec_inspect(&session).unwrap().exit_code, Some(127));
    }
    house.engine.remove(&id, true).await.unwrap();
}
