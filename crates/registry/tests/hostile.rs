//! What registries, and those who stand between, may try. The servers are on loopback and of the test's own.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

mod common;

use std::{
    io,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use common::{Answer, Asked, Fake};
use oci::{Digest, Reference};
use registry::{Action, Cancel, Client, Config, Credentials, Error, Receiver, Upload};
use sha2::{Digest as _, Sha256};

fn digest(bytes: &[u8]) -> Digest {
    Digest::sha256(Sha256::digest(bytes).into())
}

fn config() -> Config {
    Config { directories: Vec::new(), patience: Duration::from_millis(400), ..Config::default() }
}

fn secret() -> Credentials {
    Credentials { username: "user".into(), password: "secret".into(), ..Credentials::default() }
}

fn client_with(config: &Config, host: &str, action: Action, cancel: &Cancel) -> Client {
    let name: Reference = format!("{host}/a/b").parse().unwrap();
    Client::new(config, &name, action, &[], secret(), cancel.clone()).unwrap()
}

fn client(host: &str) -> Client {
    client_with(&config(), host, Action::Pull, &Cancel::default())
}

/// Wants basic authentication, then answers.
fn guarded(asked: &Asked, answer: impl FnOnce() -> Answer) -> Answer {
    match asked.header("authorization") {
        Some("Basic dXNlcjpzZWNyZXQ=") => answer(),
        _ => Answer::new(401).with("WWW-Authenticate", "Basic realm=\"x\""),
    }
}

#[derive(Default)]
struct Bytes(Vec<u8>);

impl Receiver for Bytes {
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

struct Sent(Vec<u8>);

impl Upload for Sent {
    fn open(&self, from: u64) -> io::Result<Box<dyn io::Read + Send>> {
        Ok(Box::new(io::Cursor::new(self.0[from as usize..].to_vec())))
    }
}

fn big() -> Vec<u8> {
    (0..2_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Logs every request; nothing secret may be in one.
fn eavesdropper() -> Fake {
    Fake::start(|asked| match asked.method.as_str() {
        "GET" if asked.path.starts_with("/token") => Answer::ok(r#"{"token":"t"}"#),
        "GET" => Answer::ok(b"content".to_vec()),
        "PATCH" | "PUT" => Answer::new(201),
        _ => Answer::new(200),
    })
}

fn assert_told_nothing(spy: &Fake) {
    for asked in spy.asked() {
        let secret = ["authorization", "cookie"].iter().find(|name| asked.headers.contains_key(**name));
        assert_eq!(secret, None, "{asked:?}");
        assert!(!asked.path.contains("user") && !asked.path.contains("secret"), "{asked:?}");
    }
}

#[test]
fn credentials_stay_at_their_origin_when_a_blob_is_elsewhere() {
    for status in [301, 302, 303, 307, 308] {
        let spy = eavesdropper();
        let target = spy.url("/storage?signature=x");
        let registry =
            Fake::start(move |asked| guarded(asked, || Answer::new(status).with("Location", &target)));
        let mut bytes = Bytes::default();
        client(&registry.host()).blob(&digest(b"content"), 7, 0, &mut bytes).unwrap();
        assert_eq!(bytes.0, b"content");
        assert!(registry.asked().iter().any(|asked| asked.header("authorization").is_some()));
        assert!(!spy.asked().is_empty());
        assert_told_nothing(&spy);
    }
}

#[test]
fn credentials_stay_at_their_origin_when_an_upload_goes_elsewhere() {
    let spy = eavesdropper();
    let target = spy.url("/upload");
    let registry = Fake::start(move |asked| {
        guarded(asked, || {
            Answer::new(if asked.method == "POST" { 202 } else { 500 }).with("Location", &target)
        })
    });
    let content = b"content".to_vec();
    client_with(&config(), &registry.host(), Action::Push, &Cancel::default())
        .upload(&digest(&content), 7, &Sent(content))
        .unwrap();
    assert!(spy.asked().iter().any(|asked| asked.method == "PUT" && asked.body == b"content"));
    assert_told_nothing(&spy);
}

#[test]
fn a_token_server_elsewhere_gets_no_credentials() {
    let spy = eavesdropper();
    let realm = format!("Bearer realm=\"{}\",service=\"s\"", spy.url("/token"));
    let registry = Fake::start(move |asked| match asked.header("authorization") {
        Some("Bearer t") => Answer::ok(r#"{"tags":["x"]}"#),
        _ => Answer::new(401).with("WWW-Authenticate", &realm),
    });
    let error = client(&registry.host()).tags().unwrap_err();
    assert!(matches!(&error, Error::Denied(why) if why.contains(&spy.host())), "{error}");
    assert!(spy.asked().is_empty());
    // Nobody's token may be asked for.
    let name: Reference = format!("{}/a", registry.host()).parse().unwrap();
    let nobody =
        Client::new(&config(), &name, Action::Pull, &[], Credentials::default(), Cancel::default()).unwrap();
    assert_eq!(nobody.tags().unwrap(), ["x"]);
    assert_told_nothing(&spy);
    // What an administrator lists is trusted.
    let place = tempfile::tempdir().unwrap();
    let own = place.path().join(registry.host());
    std::fs::create_dir_all(&own).unwrap();
    let text = format!("server = \"{}\"\nrealm = \"{}\"\n", registry.url(""), spy.url(""));
    std::fs::write(own.join("hosts.toml"), text).unwrap();
    let config = Config { directories: vec![place.path().to_owned()], ..config() };
    let trusting = client_with(&config, &registry.host(), Action::Pull, &Cancel::default());
    assert_eq!(trusting.tags().unwrap(), ["x"]);
    assert!(spy.asked().iter().any(|asked| asked.header("authorization") == Some("Basic dXNlcjpzZWNyZXQ=")));
}

#[test]
fn lists_do_not_go_on_elsewhere_or_for_ever() {
    let spy = eavesdropper();
    let next = format!("<{}>; rel=\"next\"", spy.url("/v2/a/b/tags/list"));
    let registry =
        Fake::start(move |asked| guarded(asked, || Answer::ok(r#"{"tags":["x"]}"#).with("Link", &next)));
    assert!(matches!(client(&registry.host()).tags(), Err(Error::Invalid(_))));
    assert!(spy.asked().is_empty());
    let pages = Fake::start(|asked| {
        let last: u32 = asked.path.split("last=").nth(1).map_or(0, |number| number.parse().unwrap());
        let page = Answer::ok(format!("{{\"tags\":[\"t{last}\"]}}"));
        let link = format!("</v2/a/b/tags/list?last={}>; rel=\"next\"", last + 1);
        if last < 3 { page.with("Link", link) } else { page }
    });
    assert_eq!(client(&pages.host()).tags().unwrap(), ["t0", "t1", "t2", "t3"]);
}

#[test]
fn mirrors_get_no_credentials() {
    let mirror = Fake::start(|_| Answer::new(401).with("WWW-Authenticate", "Basic realm=\"x\""));
    let registry = Fake::start(|asked| guarded(asked, || Answer::ok(r#"{"tags":["x"]}"#)));
    let place = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(place.path().join("docker.io")).unwrap();
    let text = format!("server = \"{}\"\n[host.\"{}\"]\n", registry.url(""), mirror.url(""));
    std::fs::write(place.path().join("docker.io/hosts.toml"), text).unwrap();
    let config = Config { directories: vec![place.path().to_owned()], ..config() };
    let name: Reference = "alpine".parse().unwrap();
    let client = Client::new(&config, &name, Action::Pull, &[], secret(), Cancel::default()).unwrap();
    assert_eq!(client.tags().unwrap(), ["x"]);
    assert!(
        mirror.asked().iter().any(|asked| asked.path == "/v2/library/alpine/tags/list?ns=docker.io&n=1000")
    );
    assert_told_nothing(&mirror);
}

#[test]
fn a_broken_download_goes_on_where_it_stopped() {
    let content = big();
    let whole = content.clone();
    let registry = Fake::start(move |asked| match asked.header("range") {
        None => Answer::ok(whole.clone()).cut(700_001),
        Some(range) => {
            let from: usize = range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap();
            let rest = whole[from..].to_vec();
            let range = format!("bytes {from}-{}/{}", whole.len() - 1, whole.len());
            let answer = Answer::new(206).with("Content-Range", range).body(rest);
            if from < 1_000_000 { answer.cut(600_000) } else { answer }
        }
    });
    let mut bytes = Bytes::default();
    client(&registry.host()).blob(&digest(&content), content.len() as u64, 0, &mut bytes).unwrap();
    assert_eq!(bytes.0, content);
    let fetched: Vec<_> =
        registry.asked().iter().map(|asked| asked.header("range").map(str::to_owned)).collect();
    assert_eq!(fetched, [None, Some("bytes=700001-".into()), Some("bytes=1300001-".into())]);
}

#[test]
fn servers_without_ranges_send_it_all_again() {
    let content = big();
    let whole = content.clone();
    let first = Mutex::new(true);
    let registry = Fake::start(move |_| {
        let answer = Answer::ok(whole.clone());
        if std::mem::take(&mut *first.lock().unwrap()) { answer.cut(500_000) } else { answer }
    });
    let mut bytes = Bytes::default();
    client(&registry.host()).blob(&digest(&content), content.len() as u64, 0, &mut bytes).unwrap();
    assert_eq!(bytes.0, content);
}

#[test]
fn blobs_have_the_size_that_was_promised() {
    for (body, length, said) in [(10, None, 7), (3, None, 7), (7, Some("9"), 7)] {
        let registry = Fake::start(move |_| {
            let answer = Answer::ok(vec![b'x'; body]);
            match length {
                Some(length) => answer.with("Content-Length", length),
                None => answer,
            }
        });
        let error = client(&registry.host()).blob(&digest(b"x"), said, 0, &mut Bytes::default()).unwrap_err();
        assert!(matches!(&error, Error::Invalid(why) if why.contains("its descriptor")), "{error}");
    }
    // Without a length, what is too much is seen as it comes.
    let registry = Fake::start(|_| {
        Answer::ok(b"a\r\nxxxxxxxxxx\r\n0\r\n\r\n".to_vec())
            .with("Transfer-Encoding", "chunked")
            .with("Content-Length", "")
    });
    let once = Config { attempts: 1, ..config() };
    let client = client_with(&once, &registry.host(), Action::Pull, &Cancel::default());
    assert!(client.blob(&digest(b"x"), 7, 0, &mut Bytes::default()).is_err());
}

#[test]
fn silence_is_noticed_and_slowness_is_not() {
    let slow = Fake::start(|_| Answer::ok(vec![b'x'; 8000]).pace(Duration::from_millis(150)));
    let mut bytes = Bytes::default();
    client(&slow.host()).blob(&digest(&[b'x'; 8000]), 8000, 0, &mut bytes).unwrap();
    assert_eq!(bytes.0.len(), 8000);
    let silent = Fake::start(|_| Answer::ok(vec![b'x'; 8000]).pace(Duration::from_secs(3)));
    let once = Config { attempts: 1, ..config() };
    let started = Instant::now();
    let error = client_with(&once, &silent.host(), Action::Pull, &Cancel::default())
        .blob(&digest(b"x"), 8000, 0, &mut Bytes::default())
        .unwrap_err();
    assert!(matches!(error, Error::Unreachable(_)), "{error}");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[test]
fn who_cancels_does_not_wait() {
    let silent = Fake::start(|_| Answer::ok(vec![b'x'; 8000]).pace(Duration::from_secs(30)));
    let patient = Config { patience: Duration::from_mins(1), ..config() };
    let cancel = Cancel::default();
    let other = cancel.clone();
    let cancelling = thread::spawn(move || {
        thread::sleep(Duration::from_millis(200));
        other.cancel();
    });
    let started = Instant::now();
    let client = client_with(&patient, &silent.host(), Action::Pull, &cancel);
    let error = client.blob(&digest(b"x"), 8000, 0, &mut Bytes::default()).unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert!(matches!(client.tags(), Err(Error::Cancelled)));
    cancelling.join().unwrap();
}

#[test]
fn limits_are_heeded() {
    let count = Arc::new(Mutex::new(0));
    let counted = count.clone();
    let busy = Fake::start(move |_| {
        let mut count = counted.lock().unwrap();
        *count += 1;
        if *count < 3 { Answer::new(429).with("Retry-After", "0") } else { Answer::ok(r#"{"tags":[]}"#) }
    });
    assert!(client(&busy.host()).tags().unwrap().is_empty());
    let full = Fake::start(|_| {
        let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your limit"}]}"#;
        Answer::new(429).with("Retry-After", "3600").body(body)
    });
    let error = client(&full.host()).tags().unwrap_err();
    assert_eq!(error.to_string(), "toomanyrequests: You have reached your limit");
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

#[test]
fn manifests_are_what_they_are_called() {
    let good = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{0}","size":1}},"layers":[]}}"#,
        digest(b"x")
    );
    let huge = format!("{}{}", " ".repeat(4 << 20), good);
    let both = good.replace("\"layers\":[]", "\"layers\":[],\"manifests\":[]");
    let index = "application/vnd.oci.image.index.v1+json";
    let old = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    for (kind, body, word) in [
        (MANIFEST, good.as_str(), ""),
        ("application/json", &good, ""),
        (index, &good, "calls itself"),
        (MANIFEST, &both, "ambiguous"),
        (MANIFEST, &huge, "longer than"),
        (old, r#"{"schemaVersion":1}"#, "schema 1"),
        (MANIFEST, "<html>", "expected"),
    ] {
        let (kind, text) = (kind.to_owned(), body.to_owned());
        let registry = Fake::start(move |_| Answer::ok(text.clone()).with("Content-Type", &kind));
        match client(&registry.host()).manifest("latest") {
            Ok(document) => assert!(word.is_empty() && document.digest == digest(body.as_bytes())),
            Err(error) => assert!(!word.is_empty() && error.to_string().contains(word), "{error}"),
        }
        let other = digest(b"another");
        let error = client(&registry.host()).manifest(other.as_str()).unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error}");
    }
    let lying = Fake::start(move |_| {
        Answer::ok(good.clone()).with("Content-Type", MANIFEST).with("Docker-Content-Digest", digest(b"y"))
    });
    let error = client(&lying.host()).manifest("latest").unwrap_err().to_string();
    assert!(error.contains(digest(b"y").as_str()), "{error}");
}

#[test]
fn redirects_end() {
    let registry = Fake::start(|asked| Answer::new(302).with("Location", format!("{}x", asked.path)));
    let error = client(&registry.host()).tags().unwrap_err().to_string();
    assert!(error.contains("too many redirects"), "{error}");
    for bad in ["", "ftp://x/y", "http://user:pass@127.0.0.1/", "file:///etc/passwd"] {
        let registry = Fake::start(move |_| Answer::new(302).with("Location", bad));
        assert!(matches!(client(&registry.host()).tags(), Err(Error::Invalid(_))), "{bad}");
    }
}

#[test]
fn a_broken_upload_goes_on_where_the_registry_says() {
    const KEPT: usize = 400_000;
    let content = big();
    let stored: Arc<Mutex<Vec<u8>>> = Arc::default();
    let state = stored.clone();
    let registry = Fake::start(move |asked| {
        let mut stored = state.lock().unwrap();
        let range = |stored: &[u8]| format!("0-{}", stored.len().saturating_sub(1));
        match asked.method.as_str() {
            "POST" => Answer::new(202).with("Location", "/v2/a/b/blobs/uploads/u?state=1"),
            // The first piece gets lost on its way.
            "PATCH" if stored.is_empty() => {
                stored.extend_from_slice(&asked.body[..KEPT]);
                Answer::new(500)
            }
            "PATCH" => {
                let from: usize =
                    asked.header("content-range").unwrap().split('-').next().unwrap().parse().unwrap();
                if from != stored.len() {
                    return Answer::new(416).with("Range", range(&stored));
                }
                stored.extend_from_slice(&asked.body);
                Answer::new(202)
                    .with("Location", "/v2/a/b/blobs/uploads/u?state=2")
                    .with("Range", range(&stored))
            }
            "GET" => Answer::new(204)
                .with("Location", "/v2/a/b/blobs/uploads/u?state=3")
                .with("Range", range(&stored)),
            "PUT" => Answer::new(201),
            _ => Answer::new(405),
        }
    });
    let client = client_with(&config(), &registry.host(), Action::Push, &Cancel::default());
    client.upload(&digest(&content), content.len() as u64, &Sent(content.clone())).unwrap();
    assert_eq!(*stored.lock().unwrap(), content);
    let put = registry.asked().into_iter().find(|asked| asked.method == "PUT").unwrap();
    assert!(put.path.contains("state=2&digest=sha256:"), "{}", put.path);
    let sent: usize = registry.asked().iter().map(|asked| asked.body.len()).sum();
    assert_eq!(sent, content.len() + content.len() - KEPT);
}

#[test]
fn pieces_are_as_large_as_the_registry_wants_them() {
    let registry = Fake::start(|asked| match asked.method.as_str() {
        "POST" => Answer::new(202).with("Location", "/u").with("OCI-Chunk-Min-Length", "17000000"),
        "PATCH" => {
            let end = asked.header("content-range").unwrap().split('-').nth(1).unwrap().to_owned();
            Answer::new(202).with("Location", "/u").with("Range", format!("0-{end}"))
        }
        _ => Answer::new(201),
    });
    let content = vec![7; 40_000_000];
    let client = client_with(&config(), &registry.host(), Action::Push, &Cancel::default());
    client.upload(&digest(&content), content.len() as u64, &Sent(content)).unwrap();
    let pieces: Vec<_> = registry
        .asked()
        .iter()
        .filter(|asked| asked.method == "PATCH")
        .map(|asked| asked.body.len())
        .collect();
    assert_eq!(pieces, [17_000_000, 17_000_000, 6_000_000]);
}
