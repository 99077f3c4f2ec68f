//! S-705: what is said is what is heard, at every length, and what a lying child says changes nothing
//! (CVE-2021-43784 was a length in sixteen bits).

use std::{io::Write, os::unix::net::UnixStream, thread};

use oci::spec::{Hooks, State, Status};
use trace::{Room, Step, Timeline};

use super::*;
use crate::{
    cgroup::Places,
    launch::{self, Born, Launch, Starting},
    plan::Plan,
    record::Recorder,
};

/// Says it in one thread and hears it in another: a socket's buffer is smaller than some of it.
fn carried<T: Serialize + DeserializeOwned + Send + Sync>(message: &T) -> T {
    let (mut one, mut other) = Channel::pair().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || one.say(message).unwrap());
        let heard = other.hear::<T>().unwrap().unwrap();
        assert!(other.hear::<T>().unwrap().is_none(), "there is more than was said");
        heard
    })
}

fn noise(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

#[test]
fn what_is_said_is_what_is_heard_at_every_length() {
    const LETTERS: [char; 12] = ['a', '"', '\\', '\n', '\r', '\0', '{', '}', 'é', '\u{2028}', '🚢', '\u{7f}'];
    let mut seed = 0x5eed_0f18_u64;
    let near = |length: usize| [length - 1, length, length + 1];
    let lengths = [near(1), near(1 << 12), near(1 << 16), near(1 << 17), near(1 << 20)].concat();
    for length in lengths {
        let text: String = (0..length).map(|_| LETTERS[noise(&mut seed) as usize % LETTERS.len()]).collect();
        let Message::Ask(heard) = carried(&Message::Ask(text.clone())) else { panic!("{length}") };
        assert!(heard == text, "{length} letters changed on the way");
        let mut error = Error::new(text.clone());
        error.errno = Some(i32::MIN);
        let step = Step { start: u64::MAX, took: 0, room: Room::Init, what: text, details: Vec::new() };
        let timeline = Timeline { steps: vec![step] };
        let said = Message::Failed(error.clone(), timeline.clone());
        let Message::Failed(heard, steps) = carried(&said) else { panic!("{length}") };
        assert!(heard == error && steps == timeline, "{length}");
    }
    for number in [i32::MIN, -1, 0, i32::MAX] {
        let said = Message::Listener { number, taken_at: u64::MAX };
        assert!(
            matches!(carried(&said), Message::Listener { number: heard, taken_at: u64::MAX } if heard == number)
        );
    }
}

/// A channel on which somebody has already said all that he will.
fn saying(bytes: &[u8]) -> Channel {
    let (mut one, other) = UnixStream::pair().unwrap();
    let bytes = bytes.to_vec();
    thread::spawn(move || drop(one.write_all(&bytes)));
    Channel::new(other)
}

#[test]
fn what_is_no_message_is_an_error_and_no_memory() {
    for bytes in [
        &b"\n"[..],
        b"{}\n",
        b"{\"ready\":1}\n",
        b"{\"ask\":\"a\"",
        b"{\"nonsense\":0}\n",
        b"\xff\xfe\n",
        b"{\"listener\":{\"number\":4294967296,\"taken_at\":0}}\n",
        b"{\"listener\":{\"number\":0,\"taken_at\":-1}}\n",
        b"true\n",
    ] {
        assert!(saying(bytes).hear::<Message>().is_err(), "{}", String::from_utf8_lossy(bytes));
    }
    assert!(saying(b"").hear::<Message>().unwrap().is_none());
    let endless = vec![b' '; LONGEST as usize + (1 << 20)];
    let error = saying(&endless).hear::<Message>().unwrap_err().to_string();
    assert!(error.contains("too long"), "{error}");
}

fn state() -> State {
    State {
        oci_version: "1.0.0".into(),
        id: "x".into(),
        status: Status::Creating,
        pid: None,
        bundle: "/".into(),
        annotations: std::collections::BTreeMap::default(),
    }
}

/// A process that is not ours to trust, and what it says.
fn lying(bytes: &[u8]) -> (std::process::Child, Born) {
    let child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    let born = Born::of(child.id().cast_signed(), pidfd, saying(bytes));
    (child, born)
}

#[test]
fn a_child_that_lies_before_it_is_ready_gets_nothing() {
    let plan = Plan::default();
    for (bytes, word) in [
        (&b"{\"ask\":\"id-maps\"}\n"[..], "id-maps"),
        (b"{\"ask\":\"root\"}\n", "root"),
        (b"{\"ask\":\"\"}\n", "asks for"),
        (b"{\"listener\":{\"number\":0,\"taken_at\":0}}\n", "before it is ready"),
        (b"nonsense\n", "other half"),
    ] {
        let (mut child, mut born) = lying(bytes);
        let launch = Launch {
            plan: &plan,
            groups: Places::open(&[]).unwrap(),
            console: None,
            listener: None,
            container: None,
            state: state(),
            hooks: Hooks::default(),
            args: Vec::new(),
            env: Vec::new(),
        };
        let said = launch::see_through(&launch, &mut born, &mut Recorder::new(Room::Runtime, false));
        let error = said.unwrap_err().to_string();
        assert!(error.contains(word), "{word}: {error}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_child_that_lies_when_it_starts_is_ended_or_refused() {
    let state = state();
    for (bytes, word) in [
        (&b"{\"ready\":[]}\n"[..], "says"),
        (b"{\"ask\":\"hooks\"}\n", "says"),
        (b"{\"listener\":{\"number\":1,\"taken_at\":4096}}\n", "no listenerPath"),
    ] {
        let (mut child, born) = lying(b"");
        let (pid, pidfd) = (child.id().cast_signed(), born.pidfd.as_fd());
        let starting = Starting { pid, pidfd, agent: None, state: &state };
        let error = launch::started(&mut saying(bytes), &starting).unwrap_err().to_string();
        assert!(error.contains(word), "{word}: {error}");
        let _ = child.kill();
        child.wait().unwrap();
    }
}
