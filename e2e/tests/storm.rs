//! Many clients at once, on few names, while the daemon is killed: every answer is one that some order of the
//! requests explains, nothing hangs, and nothing is left.
//!
//! `STORM_SECONDS` makes it longer, `STORM_SEED` repeats the choices of a run (not their interleaving).

use std::{
    collections::BTreeSet,
    env, fs,
    io::{ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use e2e::{Engine, Setup, knarr_only, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

knarr_only![
    eight_clients_and_a_daemon_that_dies,
    a_lost_shim_ends_its_container,
    abandoned_exec_sessions_leave_nothing,
    two_hundred_vanished_listeners_leave_nothing,
    a_stopped_shim_is_its_containers_trouble_only,
    adoption_does_not_wait_for_one_of_fifty,
    what_is_removed_on_exit_can_be_restarted,
    a_forced_removal_does_not_wait_for_a_patient_stop,
];

/// No answer takes longer.
const HANG: Duration = Duration::from_secs(15);
const NAMES: [&str; 6] = ["ant", "bee", "cat", "dog", "eel", "fox"];
/// What containers run, and how that can end.
const PROGRAMS: [(&str, &[i64]); 5] = [
    ("exec sleep 1000", &[137]),
    ("echo in; sleep 0.2; echo out; exit 7", &[7, 137]),
    ("exit 0", &[0, 137]),
    ("trap 'exit 9' TERM; while :; do echo tick; sleep 0.05; done", &[9, 137]),
    ("while :; do echo tick; sleep 0.01; done", &[137]),
];

/// How a request went.
#[derive(Debug)]
enum Went {
    Answered(u16, String),
    /// The connection could not be made, or broke before there was an answer.
    Cut,
    /// We had waited long enough; the status if there was one.
    Left(Option<u16>),
}

/// One request, read to its end or for so long.
fn request(socket: &PathBuf, method: &str, path: &str, body: &Value, patience: Duration) -> Went {
    let Ok(mut stream) = UnixStream::connect(socket) else { return Went::Cut };
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: e2e\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    if stream.write_all((head + &body).as_bytes()).is_err() {
        return Went::Cut;
    }
    let until = Instant::now() + patience;
    let (mut answer, mut piece) = (Vec::new(), [0; 16 << 10]);
    let status = |answer: &[u8]| String::from_utf8_lossy(answer).split(' ').nth(1)?.parse().ok();
    loop {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        stream.set_read_timeout(Some(left)).expect("set a timeout");
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => answer.extend(&piece[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Went::Left(status(&answer));
            }
            Err(_) => return Went::Cut,
        }
    }
    match (status(&answer), String::from_utf8_lossy(&answer).split_once("\r\n\r\n")) {
        (Some(status), Some((_, body))) => Went::Answered(status, body.to_owned()),
        _ => Went::Cut,
    }
}

/// What all clients share.
struct Storm {
    socket: PathBuf,
    /// Kills of the daemon so far; odd while it is down.
    kills: AtomicU64,
    over: AtomicBool,
    requests: AtomicU64,
}

/// One of them.
struct Caller {
    storm: Arc<Storm>,
    random: u64,
}

impl Caller {
    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn name(&mut self) -> &'static str {
        NAMES[self.random(NAMES.len() as u64) as usize]
    }

    /// A request that must be answered in time, with one of these; none if the daemon was killed meanwhile.
    fn ask(&self, method: &str, path: &str, body: &Value, fits: &[u16]) -> Option<(u16, String)> {
        match self.went(method, path, body, HANG) {
            Some(Went::Answered(status, body)) => {
                assert!(fits.contains(&status), "{method} {path}: {status} {body}");
                Some((status, body))
            }
            Some(other) => panic!("{method} {path}: {other:?} after {HANG:?}"),
            None => None,
        }
    }

    /// None if the daemon was killed meanwhile.
    fn went(&self, method: &str, path: &str, body: &Value, patience: Duration) -> Option<Went> {
        let before = self.storm.kills.load(Ordering::SeqCst);
        self.storm.requests.fetch_add(1, Ordering::Relaxed);
        let went = request(&self.storm.socket, method, path, body, patience);
        let killed = before % 2 == 1 || self.storm.kills.load(Ordering::SeqCst) != before;
        match went {
            Went::Cut if killed => {
                thread::sleep(Duration::from_millis(10));
                None
            }
            Went::Cut => panic!("{method} {path}: the connection was cut"),
            // What a dying daemon said may be half of it.
            Went::Answered(..) | Went::Left(_) if killed => None,
            went => Some(went),
        }
    }

    fn post(&self, path: &str, fits: &[u16]) {
        self.ask("POST", path, &Value::Null, fits);
    }

    /// What is known of a container now; none if there is none (or no daemon).
    fn inspect(&self, key: &str) -> Option<Value> {
        let (status, body) =
            self.ask("GET", &format!("/containers/{key}/json"), &Value::Null, &[200, 404])?;
        (status == 200).then(|| serde_json::from_str(&body).expect("inspect is JSON"))
    }

    fn one_step(&mut self) {
        let name = self.name();
        let on = |verb: &str| format!("/containers/{name}/{verb}");
        match self.random(24) {
            0..=3 => self.create_and_start(name),
            4 | 5 => self.post(&on("start"), &[204, 304, 404, 409]),
            6 | 7 => self.exec(name),
            8 => self.listen("GET", &on("logs?follow=1&stdout=1&stderr=1"), &[200, 404]),
            9 => self.listen("POST", &on("attach?stream=1&stdout=1&stderr=1"), &[200, 404, 409]),
            10 => self.kill(name),
            11 => self.post(&on("stop?t=0"), &[204, 304, 404]),
            12 => self.post(&on("pause"), &[204, 404, 409]),
            13 => self.post(&on("unpause"), &[204, 404, 409]),
            14 => self.post(&on("restart?t=0"), &[204, 404, 409]),
            15 => {
                let other = self.name();
                self.post(&on(&format!("rename?name={other}")), &[204, 404, 409]);
            }
            16 => self.remove(name, ""),
            17 => self.remove(name, "?force=1"),
            18 | 19 => self.wait(name),
            20 | 21 => self.look(name),
            22 => self.list(),
            _ => self.events(),
        }
    }

    fn create_and_start(&mut self, name: &str) {
        let (program, codes) = PROGRAMS[self.random(PROGRAMS.len() as u64) as usize];
        let body = json!({
            "Image": "busybox",
            "Cmd": ["sh", "-c", program],
            "Labels": { "codes": json!(codes).to_string() },
            "HostConfig": { "AutoRemove": self.random(3) == 0, "NetworkMode": "none" },
        });
        let made = self.ask("POST", &format!("/containers/create?name={name}"), &body, &[201, 409]);
        if let Some((201, answer)) = made {
            let answer: Value = serde_json::from_str(&answer).expect("create answers JSON");
            let id = answer["Id"].as_str().expect("create answers an id");
            self.post(&format!("/containers/{id}/start"), &[204, 304, 404, 409]);
        }
    }

    fn kill(&mut self, name: &str) {
        let signal = ["KILL", "TERM", "USR1"][self.random(3) as usize];
        self.post(&format!("/containers/{name}/kill?signal={signal}"), &[204, 404, 409]);
    }

    fn exec(&mut self, name: &str) {
        let (detach, code) = (self.random(2) == 0, 20 + self.random(9));
        let script = format!("echo token-{code}; exit {code}");
        let body = json!({ "Cmd": ["sh", "-c", script], "AttachStdout": true, "AttachStderr": true });
        let made = self.ask("POST", &format!("/containers/{name}/exec"), &body, &[201, 404, 409]);
        let Some((201, answer)) = made else { return };
        let answer: Value = serde_json::from_str(&answer).expect("exec answers JSON");
        let id = answer["Id"].as_str().expect("exec answers an id");
        if self.random(8) == 0 {
            return; // Changed its mind.
        }
        let path = format!("/exec/{id}/start");
        let started = self.ask("POST", &path, &json!({ "Detach": detach }), &[200, 404, 409]);
        let Some((200, said)) = started else { return };
        let begun = Instant::now();
        loop {
            let Some((200, now)) = self.ask("GET", &format!("/exec/{id}/json"), &Value::Null, &[200, 404])
            else {
                return;
            };
            let now: Value = serde_json::from_str(&now).expect("exec inspect is JSON");
            if now["Running"] == false && !now["ExitCode"].is_null() {
                let ended = now["ExitCode"].as_u64();
                let well = ended == Some(code) && (detach || said.contains(&format!("token-{code}")));
                // Ended with its container, before or after its beginning.
                assert!(
                    well || matches!(ended, Some(126 | 127 | 137)),
                    "exec of {code}: {said:?}, then {now}"
                );
                return;
            }
            if !detach {
                // Its output has ended: it never ran, for its container had ended or was paused by then.
                let never = now["Running"] == false && !said.contains("token-");
                assert!(never, "exec of {code}: {said:?}, and yet: {now}");
                return;
            }
            // A paused container's sessions do not end.
            if begun.elapsed() > Duration::from_millis(500) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Listens for a while.
    fn listen(&mut self, method: &str, path: &str, fits: &[u16]) {
        let patience = Duration::from_millis(20 + self.random(400));
        match self.went(method, path, &Value::Null, patience) {
            Some(Went::Answered(status, body)) => {
                assert!(fits.contains(&status), "{path}: {status} {body}");
                assert!(!body.contains("Error grabbing"), "{path}: {body}");
            }
            Some(Went::Left(Some(status))) => assert!(fits.contains(&status), "{path}: {status}"),
            _ => {}
        }
    }

    fn remove(&self, name: &str, how: &str) {
        let Some(before) = self.inspect(name) else { return };
        let id = before["Id"].as_str().expect("an id");
        let path = format!("/containers/{id}{how}");
        if let Some((204, _)) = self.ask("DELETE", &path, &Value::Null, &[204, 404, 409]) {
            assert_eq!(self.inspect(id).map(|now| now["State"].clone()), None, "{id} was removed");
        }
    }

    fn wait(&mut self, name: &str) {
        let Some(before) = self.inspect(name) else { return };
        let id = before["Id"].as_str().expect("an id");
        let path = format!("/containers/{id}/wait?condition=next-exit");
        let patience = Duration::from_millis(20 + self.random(600));
        let Some(Went::Answered(status, body)) = self.went("POST", &path, &Value::Null, patience) else {
            return;
        };
        let answer: Value = serde_json::from_str(&body).unwrap_or_default();
        let code = answer["StatusCode"].as_i64().unwrap_or(-1);
        // One that was removed without another end tells the last.
        let fits = status == 404 || codes(&before).contains(&code) || self.inspect(id).is_none();
        assert!(fits, "wait: {status} {body}; {before}");
    }

    fn look(&self, name: &str) {
        let Some(seen) = self.inspect(name) else { return };
        let state = &seen["State"];
        let (status, code) = (state["Status"].as_str().unwrap_or(""), state["ExitCode"].as_i64());
        let running = matches!(status, "running" | "paused");
        assert_eq!(running, state["Pid"].as_i64() != Some(0), "{state}");
        assert_eq!(running, state["Running"] == true, "{state}");
        if status == "exited" {
            assert!(codes(&seen).contains(&code.unwrap_or(-1)), "{state}: {}", seen["Config"]["Cmd"]);
        }
        assert_eq!(state["Error"], "", "{state}");
    }

    fn list(&self) {
        let Some((_, body)) = self.ask("GET", "/containers/json?all=1", &Value::Null, &[200]) else { return };
        let all: Vec<Value> = serde_json::from_str(&body).expect("a list");
        let names: BTreeSet<String> = all.iter().map(|one| one["Names"].to_string()).collect();
        assert_eq!(names.len(), all.len(), "a name is listed twice: {body}");
        assert!(all.len() <= NAMES.len(), "{body}");
    }

    fn events(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let path = format!("/events?since={}&until={now}", now - 5);
        self.ask("GET", &path, &Value::Null, &[200]);
    }
}

fn codes(container: &Value) -> Vec<i64> {
    let text = container["Config"]["Labels"]["codes"].as_str().unwrap_or("[]");
    serde_json::from_str(text).expect("a list of codes")
}

/// What the daemon holds.
#[derive(Debug, Clone, Copy)]
struct Weight {
    descriptors: usize,
    threads: usize,
    resident_kib: u64,
}

fn weigh(pid: u32) -> Weight {
    let count = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, Iterator::count);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let resident_kib = line.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0);
    Weight { descriptors: count("fd"), threads: count("task"), resident_kib }
}

/// Waits until the daemon holds no more descriptors than it did.
#[track_caller]
fn assert_back_at(engine: &Engine, before: Weight) {
    let started = Instant::now();
    let back = |now: Weight| now.descriptors <= before.descriptors + 3 && now.threads <= before.threads + 4;
    while !back(weigh(engine.pid())) {
        // Idle threads for blocking work end after 10 s.
        let now = weigh(engine.pid());
        assert!(started.elapsed() < Duration::from_secs(14), "{before:?} became {now:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Nothing is left of any container but the daemon itself.
#[track_caller]
fn assert_nothing_left(engine: &Engine) {
    let daemon = format!("process {} ", engine.pid());
    let left = || -> Vec<String> {
        let left = engine.place.leaks().into_iter().chain(engine.directories_left());
        left.filter(|leak| !leak.starts_with(&daemon)).collect()
    };
    let started = Instant::now();
    while !left().is_empty() && started.elapsed() < Duration::from_secs(10) {
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(left(), Vec::<String>::new());
}

fn remove_all(engine: &Engine) {
    let (_, all) = engine.get("/containers/json?all=1").expect("a list");
    for one in all.as_array().expect("a list") {
        let path = format!("/containers/{}?force=1", one["Id"].as_str().expect("an id"));
        let (status, answer) = engine.request("DELETE", &path, "").expect("an answer");
        assert!(matches!(status, 204 | 404), "{path}: {status} {answer}");
    }
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().expect(variable))
}

fn eight_clients_and_a_daemon_that_dies() {
    let seconds = number("STORM_SECONDS").unwrap_or(15);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let seed = number("STORM_SEED").unwrap_or(now.as_nanos() as u64);
    let engine = Engine::with_busybox(Setup::default());
    engine.stop_daemon();
    engine.start_daemon();
    let fresh = weigh(engine.pid());
    let storm = Arc::new(Storm {
        socket: engine.socket(),
        kills: AtomicU64::new(0),
        over: AtomicBool::new(false),
        requests: AtomicU64::new(0),
    });
    let callers: Vec<_> = (1..=8_u64)
        .map(|number| {
            let random = (seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15)) | 1;
            let mut caller = Caller { storm: storm.clone(), random };
            thread::spawn(move || {
                while !caller.storm.over.load(Ordering::Relaxed) {
                    caller.one_step();
                }
            })
        })
        .collect();
    let part = Duration::from_secs(seconds) / 5;
    let rest = |time: Duration| {
        let started = Instant::now();
        while started.elapsed() < time && !callers.iter().any(thread::JoinHandle::is_finished) {
            thread::sleep(Duration::from_millis(20));
        }
    };
    for _ in 0..(seconds / 5).max(1) {
        rest(Duration::from_secs(3));
        storm.kills.fetch_add(1, Ordering::SeqCst);
        engine.kill_daemon();
        engine.start_daemon();
        storm.kills.fetch_add(1, Ordering::SeqCst);
    }
    rest(part);
    let warm = weigh(engine.pid());
    rest(part);
    storm.over.store(true, Ordering::Relaxed);
    let ended: Vec<_> = callers.into_iter().map(thread::JoinHandle::join).collect();
    let failed = ended.iter().filter(|end| end.is_err()).count();
    assert_eq!(failed, 0, "clients had answers that make no sense; STORM_SEED={seed}");
    assert!(storm.requests.load(Ordering::Relaxed) > 20 * seconds, "too few requests to mean anything");
    remove_all(&engine);
    assert_nothing_left(&engine);
    assert_back_at(&engine, fresh);
    let calm = weigh(engine.pid());
    assert!(calm.resident_kib < warm.resident_kib + (8 << 10), "{warm:?} became {calm:?}");
    eprintln!("{} requests; {fresh:?}, {warm:?}, {calm:?}", storm.requests.load(Ordering::Relaxed));
}

// The shim of a container: the process whose argument is its bundle.
fn shim_of(engine: &Engine, id: &str) -> Pid {
    let bundle = engine.exec_root().join("containers").join(id);
    let mut processes = fs::read_dir("/proc").expect("/proc").flatten().filter_map(|entry| {
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let words: Vec<_> = line.split(|byte| *byte == 0).collect();
        let is_it = words.first()?.ends_with(b"knarr-shim")
            && words.get(1)? == &bundle.as_os_str().as_encoded_bytes();
        is_it.then(|| entry.file_name().to_string_lossy().parse().ok()).flatten()
    });
    processes.next().and_then(Pid::from_raw).expect("the container has a shim")
}

/// Whether a process is there, and not only because nobody has buried it.
fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// A stopped process that goes on, however the test ends.
struct Stopped(Pid);

impl Stopped {
    fn new(pid: Pid) -> Self {
        kill_process(pid, Signal::STOP).expect("stop the shim");
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

fn a_lost_shim_ends_its_container() {
    let engine = Engine::with_busybox(Setup::default());
    let c = engine.any_client();
    let id = c.start("busybox sh -c 'sleep 1000 & sleep 1000'");
    let session = c.run(&format!("exec -d {id} sleep 1000"));
    session.ok();
    let execs = c.field(&id, "/ExecIDs");
    let exec = execs[0].as_str().expect("a session").to_owned();
    let pid = c.pid(&id);
    kill_process(shim_of(&engine, &id), Signal::KILL).expect("kill the shim");
    c.run(&format!("wait {id}")).ok().out("137\n");
    c.await_status(&id, "exited");
    let state = c.field(&id, "/State");
    assert_eq!((&state["ExitCode"], &state["Error"]), (&json!(137), &json!("its shim was lost")));
    assert!(!lives(pid), "its process lives on");
    until("its groups are gone", || engine.place.cgroups_left().is_empty());
    until("its session has ended", || {
        engine.get(&format!("/exec/{exec}/json")).is_ok_and(|(_, exec)| exec["Running"] == false)
    });
    c.run(&format!("start {id}")).ok();
    c.run(&format!("exec {id} echo again")).ok().out("again\n");
    // Once more, while nobody looks.
    let shim = shim_of(&engine, &id);
    engine.kill_daemon();
    kill_process(shim, Signal::KILL).expect("kill the shim");
    engine.start_daemon();
    assert_eq!(c.field(&id, "/State/ExitCode"), 137);
    c.run(&format!("start {id}")).ok();
    c.run(&format!("rm -f {id}")).ok();
    assert_nothing_left(&engine);
}

fn descriptors(pid: Pid) -> usize {
    fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())).map_or(0, Iterator::count)
}

fn abandoned_exec_sessions_leave_nothing() {
    let engine = Engine::with_busybox(Setup::default());
    let c = engine.any_client();
    let id = c.start("busybox sleep 1000");
    c.run(&format!("exec {id} true")).ok();
    let shim = shim_of(&engine, &id);
    let (before, shim_before) = (weigh(engine.pid()), descriptors(shim));
    let body = json!({ "Cmd": ["true"], "AttachStdin": true, "AttachStdout": true }).to_string();
    for round in 0..1000 {
        let (_, made) = engine.request("POST", &format!("/containers/{id}/exec"), &body).expect("an answer");
        let session = made["Id"].as_str().unwrap_or_else(|| panic!("{made}"));
        if round % 2 == 0 {
            let mut stream = UnixStream::connect(engine.socket()).expect("connect");
            let start =
                "Upgrade: tcp\r\nConnection: Upgrade\r\nContent-Type: application/json\r\nContent-Length: 2";
            write!(stream, "POST /exec/{session}/start HTTP/1.1\r\nHost: e2e\r\n{start}\r\n\r\n{{}}")
                .expect("start");
            // Some vanish at once, some while it runs.
            e2e::rest(round % 7);
        }
    }
    until("its sessions have ended", || c.field(&id, "/ExecIDs").is_null());
    assert_back_at(&engine, before);
    until("its shim has let go", || descriptors(shim) <= shim_before);
    let after = weigh(engine.pid());
    assert!(after.resident_kib < before.resident_kib + (8 << 10), "{before:?} became {after:?}");
    c.run(&format!("exec {id} echo still")).ok().out("still\n");
    c.run(&format!("rm -f {id}")).ok();
    assert_nothing_left(&engine);
}

fn two_hundred_vanished_listeners_leave_nothing() {
    let engine = Engine::with_busybox(Setup::default());
    let c = engine.any_client();
    let id = c.start("busybox sh -c 'while :; do echo tick; sleep 0.1; done'");
    let made = c.run("create busybox true").ok().line();
    c.run(&format!("logs {id}")).ok();
    let before = weigh(engine.pid());
    let paths = [
        ("GET", "/events".to_owned()),
        ("GET", format!("/containers/{id}/logs?follow=1&stdout=1")),
        ("POST", format!("/containers/{id}/wait")),
        ("POST", format!("/containers/{made}/attach?stream=1&stdout=1")),
    ];
    for (method, path) in &paths {
        let mut streams: Vec<_> = (0..200)
            .map(|_| {
                let mut stream = UnixStream::connect(engine.socket()).expect("connect");
                write!(stream, "{method} {path} HTTP/1.1\r\nHost: e2e\r\n\r\n").expect("ask");
                stream
            })
            .collect();
        let heads: BTreeSet<_> = streams
            .iter_mut()
            .map(|stream| {
                let mut head = [0; 12];
                stream.set_read_timeout(Some(HANG)).expect("set a timeout");
                stream.read_exact(&mut head).map(|()| String::from_utf8_lossy(&head).into_owned()).ok()
            })
            .collect();
        assert_eq!(heads, BTreeSet::from([Some("HTTP/1.1 200".to_owned())]), "{path}");
        if path.contains("logs") {
            for stream in &mut streams {
                let (mut seen, mut piece) = (Vec::new(), [0; 4096]);
                while !String::from_utf8_lossy(&seen).contains("tick") {
                    let count = stream.read(&mut piece).expect("read");
                    assert!(count > 0, "the log ended: {}", String::from_utf8_lossy(&seen));
                    seen.extend(&piece[..count]);
                }
                assert!(!String::from_utf8_lossy(&seen).contains("Error"), "{seen:?}");
            }
        }
        drop(streams);
        assert_back_at(&engine, before);
    }
    c.run(&format!("rm -f {id} {made}")).ok();
}

/// Answers in time, whatever others do.
#[track_caller]
fn assert_quick(engine: &Engine, paths: &[&str]) {
    for path in paths {
        let started = Instant::now();
        let (status, answer) = engine.get(path).expect("an answer");
        assert_eq!(status, 200, "{path}: {answer}");
        assert!(started.elapsed() < Duration::from_millis(100), "{path}: {:?}", started.elapsed());
    }
}

fn a_stopped_shim_is_its_containers_trouble_only() {
    let engine = Engine::with_busybox(Setup::default());
    let c = engine.any_client();
    let (stuck, other) =
        (c.start("--name stuck busybox sleep 1000"), c.start("--name other busybox sleep 1000"));
    let pid = c.pid(&stuck);
    let shim = Stopped::new(shim_of(&engine, &stuck));
    let looks =
        ["/containers/json", "/containers/stuck/json", "/events?since=1&until=2", "/version", "/info"];
    assert_quick(&engine, &looks);
    let mut stop = c.spawn("stop -t 0 stuck");
    let mut exec = c.spawn("kill -s USR1 stuck");
    e2e::rest(200);
    assert_quick(&engine, &looks);
    c.run("exec other echo works").ok().out("works\n");
    let _ = (&mut stop, &mut exec);
    let process = format!("shim (process {}) has not answered `signal` within 3 s", shim.0.as_raw_nonzero());
    stop.output().code(1).err_has(&process);
    exec.output().code(1).err_has(&process);
    // It goes on where it was, and so does the container.
    drop(shim);
    c.run("exec stuck echo again").ok().out("again\n");
    let _shim = Stopped::new(shim_of(&engine, &stuck));
    let started = Instant::now();
    c.run("rm -f stuck").ok();
    assert!(started.elapsed() < HANG, "{:?}", started.elapsed());
    assert!(!lives(pid), "its process lives on");
    c.run(&format!("rm -f {other}")).ok();
    assert_nothing_left(&engine);
}

fn adoption_does_not_wait_for_one_of_fifty() {
    let engine = Engine::with_busybox(Setup::default());
    let c = engine.any_client();
    let ids: Vec<_> =
        (0..50).map(|n| c.start(&format!("--name n{n} --network none busybox sleep 1000"))).collect();
    let stuck = Stopped::new(shim_of(&engine, &ids[7]));
    engine.kill_daemon();
    let started = Instant::now();
    engine.start_daemon();
    let took = started.elapsed();
    assert!(took < Duration::from_secs(6), "the daemon was back after {took:?}");
    assert_eq!(c.run("ps -q").ok().lines().len(), 50);
    c.run("exec n6 echo works").ok().out("works\n");
    c.run("exec n8 echo works").ok().out("works\n");
    // It is taken up as soon as its shim goes on.
    drop(stuck);
    c.run("exec n7 echo works").ok().out("works\n");
    c.run("stop -t 0 n7").ok();
    c.await_status("n7", "exited");
    assert_eq!(c.field("n7", "/State/ExitCode"), 137);
    // And can be removed if that never happens.
    let _stuck = Stopped::new(shim_of(&engine, &ids[9]));
    engine.kill_daemon();
    engine.start_daemon();
    c.run("rm -f n9").ok();
    c.run(&format!("rm -f {}", ids.join(" ")));
    assert_nothing_left(&engine);
}

fn what_is_removed_on_exit_can_be_restarted() {
    let engine = Engine::with_busybox(Setup::default());
    let c = engine.any_client();
    let id = c.start("--rm busybox sleep 1000");
    let pid = c.pid(&id);
    c.run(&format!("restart -t 0 {id}")).ok();
    assert_ne!(c.pid(&id), pid);
    c.run(&format!("kill {id}")).ok();
    until("it is removed", || c.run(&format!("inspect {id}")).code == 1);
}

fn a_forced_removal_does_not_wait_for_a_patient_stop() {
    let engine = Engine::with_busybox(Setup::default());
    let c = engine.any_client();
    let id = c.start("busybox sleep 1000");
    let stop = c.spawn(&format!("stop -t 1000 {id}"));
    e2e::rest(200);
    c.run(&format!("rm -f {id}")).ok();
    stop.output();
}
