//! The embedded image: nothing to load, nothing to download.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
};

use e2e::{Client, Engine, Kind, Program, Setup, knarr_only};

knarr_only![
    it_runs_on_an_empty_engine,
    it_tells_what_it_sees,
    it_sees_its_limits,
    it_serves,
    it_is_an_image_like_others,
    it_comes_back,
    a_name_of_the_users_wins,
];

/// Both clients, each with what it should see.
fn clients() -> Vec<Client> {
    [Program::Docker, Program::Knarr].into_iter().filter_map(Client::shared).collect()
}

fn it_runs_on_an_empty_engine() {
    let engine = Engine::start(Setup::default());
    for program in [Program::Docker, Program::Knarr] {
        engine.client(program).run("run --rm hello").ok().out_has("Hello from inside a container!");
    }
}

fn it_tells_what_it_sees() {
    for c in clients() {
        let output = c.run("run --rm --hostname seafarer hello").ok();
        for (heading, content) in [
            ("process", "pid 1"),
            ("hostname", "seafarer"),
            ("user", "uid 0"),
            ("uid map", "identity"),
            ("root", "overlay"),
            ("limits", "no limit"),
            ("network", "lo"),
            ("capabilities", "chown"),
            ("seccomp", "filter"),
            ("mounts", "/proc"),
        ] {
            let at = output
                .stdout
                .find(&format!("\n{heading} "))
                .unwrap_or_else(|| panic!("no {heading} in {}", output.stdout));
            let section: String = output.stdout[at + 1..]
                .lines()
                .enumerate()
                .take_while(|(index, line)| *index == 0 || line.starts_with(' '))
                .map(|(_, line)| line.to_lowercase() + "\n")
                .collect();
            assert!(section.contains(content), "{content} is not in {section}");
        }
        for own in ["pid", "mnt", "uts", "ipc", "net", "cgroup"] {
            let line = output
                .lines()
                .into_iter()
                .find(|line| line.split_whitespace().any(|word| word == own) && line.contains("its own"));
            assert!(line.is_some(), "{own} in {}", output.stdout);
        }
    }
}

fn it_sees_its_limits() {
    for c in clients() {
        let json = c.run("run --rm -m 64m --cpus 0.5 --pids-limit 42 --read-only hello --json").ok().json();
        let text = json.to_string();
        assert!(text.contains("67108864") && text.contains("42") && text.contains("50000"), "{json:#}");
        assert_eq!(json["pid"], 1, "{json:#}");
    }
}

fn it_serves() {
    for c in clients() {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("find a free port")
            .port();
        let id = c.start(&format!("--network host hello serve {port}"));
        let ask = |path: &str| {
            let mut stream = c.engine().within(|| TcpStream::connect(("127.0.0.1", port))).ok()?;
            write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            Some(answer)
        };
        e2e::until("it answers", || {
            ask("/").is_some_and(|answer| answer.contains("200 OK") && answer.contains("pid 1"))
        });
        let answer = ask("/json").expect("an answer");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok(), "{body}");
        let started = std::time::Instant::now();
        c.run(&format!("stop {id}")).ok();
        assert!(started.elapsed().as_secs() < 5, "it does not heed TERM");
        c.run(&format!("rm {id}")).ok();
    }
}

fn it_is_an_image_like_others() {
    for c in clients() {
        c.run("run --rm hello").ok();
        c.run("images").ok().out_has("hello");
        assert_eq!(c.field("hello", "/Os"), "linux");
        c.run("tag hello hello:mine").ok();
        c.run("run --rm hello:mine").ok().out_has("pid 1");
        c.run("rmi hello:mine").ok();
    }
}

fn it_comes_back() {
    let engine = Engine::start(Setup::default());
    let c = engine.any_client();
    c.run("run --rm hello").ok();
    c.run("rmi hello");
    c.run("run --rm hello").ok().out_has("pid 1");
    engine.kill_daemon();
    engine.start_daemon();
    c.run("run --rm hello").ok().out_has("pid 1");
}

fn a_name_of_the_users_wins() {
    assert_eq!(Kind::chosen(), Kind::Knarr);
    let engine = Engine::with_busybox(Setup::default());
    let c = engine.any_client();
    c.run("tag busybox hello").ok();
    c.run("run --rm hello echo of the user").ok().out("of the user\n");
}
