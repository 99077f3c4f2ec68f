//! The facts over HTTP: as much of HTTP/1.1 as three answers need, and no more.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use super::{facts::Facts, json, say, signal, text};

/// A request's head beyond this is not read.
const LONGEST_HEAD: usize = 16 * 1024;
/// A client that says nothing for so long is left.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers on every address until a signal ends the program.
pub(crate) fn run(port: u16) -> io::Result<()> {
    let listener = listen(port).map_err(|error| named(&error, &format!("cannot listen on port {port}")))?;
    signal::end_when_asked();
    say(&format!("listening on port {port}: GET / as text, GET /json as JSON\n"))?;
    loop {
        match listener.accept() {
            // Where no thread can be started (a limit on pids), this client is dropped and the next may have luck.
            Ok((client, _)) => drop(thread::Builder::new().spawn(move || answer(client))),
            // The client left early, or descriptors ran out; the wait keeps the latter from becoming a busy loop.
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// On IPv6 and through it IPv4; on IPv4 alone where the kernel has no IPv6.
fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).or_else(|error| match error.kind() {
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Err(error),
        _ => TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
    })
}

fn named(error: &io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

fn answer(mut client: TcpStream) {
    let deadline = client.set_read_timeout(Some(PATIENCE)).and(client.set_write_timeout(Some(PATIENCE)));
    if deadline.is_err() {
        return;
    }
    let Some(head) = head(&mut client) else { return };
    let answer = respond(&head, Facts::gather);
    // A client that is gone needs no answer.
    let _ = client.write_all(answer.as_bytes());
}

/// The request up to its empty line; `None` if it never comes.
fn head(client: &mut impl Read) -> Option<String> {
    let mut head = Vec::new();
    let mut part = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = client.read(&mut part).ok().filter(|&count| count > 0)?;
        head.extend_from_slice(&part[..count]);
        if head.len() > LONGEST_HEAD {
            return None;
        }
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

fn respond(head: &str, facts: impl FnOnce() -> Facts) -> String {
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let (Some(method), Some(target), Some("HTTP/1.1" | "HTTP/1.0"), None) =
        (method, target, version, words.next())
    else {
        return message("400 Bad Request", "text/plain", "this is not HTTP/1\n", true);
    };
    let body = method != "HEAD";
    if !matches!(method, "GET" | "HEAD") {
        return message(
            "405 Method Not Allowed\r\nAllow: GET, HEAD",
            "text/plain",
            "only GET and HEAD\n",
            body,
        );
    }
    match target.split('?').next() {
        Some("/") => message("200 OK", "text/plain", &text::render(&facts()), body),
        Some("/json") => message("200 OK", "application/json", &json::render(&facts()), body),
        _ => message("404 Not Found", "text/plain", "there is / and /json\n", body),
    }
}

fn message(status: &str, kind: &str, content: &str, body: bool) -> String {
    let length = content.len();
    let shown = if body { content } else { "" };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{shown}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(request: &str) -> String {
        let answer = respond(&format!("{request}\r\n\r\n"), Facts::gather);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let length: usize =
            head.split("Content-Length: ").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
        if request.starts_with("HEAD") {
            assert!(body.is_empty() && length > 0, "{answer}");
        } else {
            assert_eq!(body.len(), length, "{answer}");
        }
        head.lines().next().unwrap().to_owned()
    }

    #[test]
    fn answers() {
        for (request, answer) in [
            ("GET / HTTP/1.1", "200 OK"),
            ("GET /?a=b HTTP/1.0", "200 OK"),
            ("HEAD /json HTTP/1.1", "200 OK"),
            ("GET /json/ HTTP/1.1", "404 Not Found"),
            ("POST / HTTP/1.1", "405 Method Not Allowed"),
            ("GET /", "400 Bad Request"),
            ("GET / HTTP/2", "400 Bad Request"),
            ("GET / x HTTP/1.1", "400 Bad Request"),
            ("", "400 Bad Request"),
        ] {
            assert_eq!(status(request), format!("HTTP/1.1 {answer}"), "{request}");
        }
    }

    #[test]
    fn a_head_without_end_is_given_up() {
        assert_eq!(head(&mut &b"GET / HTTP/1.1\r\n"[..]), None);
        assert_eq!(head(&mut io::repeat(b'a')), None);
        assert!(head(&mut &b"GET / HTTP/1.1\r\n\r\n"[..]).is_some());
    }
}
