//! `events`: what a container uses, again and again, and when memory runs out in it; one JSON object on a line.

use std::{
    io::Write,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use oci::spec::Status;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

use super::Context;
use crate::{
    cgroup::{self, Watch},
    container::Container,
    error::{During, Error, Result},
};

pub(super) fn events(context: &mut Context) -> Result<u8> {
    let interval = context.call.value("interval").unwrap_or("5s");
    let interval = duration(interval).ok_or_else(|| {
        Error::new(format!("--interval {interval:?}: is no duration such as 5s, 500ms or 1m30s"))
    })?;
    if interval.is_zero() {
        return Err(Error::new("duration interval must be greater than 0"));
    }
    let container = Container::load(&context.global.root, context.call.id())?;
    let (Some(process), true) = (container.process(), container.status() != Status::Stopped) else {
        return Err(Error::new(format!("container with id {} is not running", container.record.id)));
    };
    let id = &container.record.id;
    let places = &container.record.places;
    let stats = || print(&json!({ "type": "stats", "id": id, "data": cgroup::stats(places) }));
    if context.call.has("stats") {
        return stats().map(|()| 0);
    }
    let mut watch = Some(Watch::new(places)?);
    let mut next = Instant::now() + interval;
    loop {
        let left = next.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let mut fds = vec![PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)];
        fds.extend(watch.as_ref().map(|watch| PollFd::from_borrowed_fd(watch.bell(), PollFlags::IN)));
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Error::refused("poll", &error.into())),
        }
        let ended = !fds[0].revents().is_empty();
        if fds.get(1).is_some_and(|bell| !bell.revents().is_empty()) {
            match watch.as_mut().and_then(Watch::heard) {
                Some(times) => (0..times).try_for_each(|_| print(&json!({ "type": "oom", "id": id })))?,
                None => watch = None,
            }
        }
        if ended {
            return Ok(0);
        }
        if left.is_zero() {
            stats()?;
            // From now: numbers that take longer than the interval must not keep us from what happens.
            next = Instant::now() + interval;
        }
    }
}

fn print(event: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{event}").and_then(|()| out.flush()).during(|| "write to standard output")
}

/// As Go writes them.
fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 7] =
        [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let length = rest.find(|letter: char| letter.is_ascii_digit()).unwrap_or(rest.len());
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == &rest[..length])?;
        seconds += number * unit;
        rest = &rest[length..];
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(seconds).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::duration;
    use std::time::Duration;

    #[test]
    fn durations_are_gos() {
        for (text, milliseconds) in
            [("5s", 5000), ("500ms", 500), ("1m30s", 90_000), ("1.5s", 1500), ("0", 0)]
        {
            assert_eq!(duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "5", "s", "5x", "-1s", "1..5s"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
