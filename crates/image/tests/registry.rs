//! Pull and push with Debian's `docker-registry`: plain, with TLS, with passwords and with tokens; and downloads that
//! go on, with a server of the test's own.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

mod common;
#[path = "../../registry/tests/common/mod.rs"]
mod fake;
#[path = "common/house.rs"]
mod house;

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use common::Home;
use fake::{Answer, Fake};
use house::{House, Made, htpasswd, tokens};
use image::{Error, Fetched, Image, Layer, Pull, Pulled, Push, PushStep, Step, Unpack};
use oci::{Digest, Platform, Reference};
use registry::{Action, Cancel, Client, Config, Credentials};

/// Keeps what it is given, as a driver would.
#[derive(Default)]
struct Layers {
    unpacked: Mutex<BTreeMap<Digest, Vec<u8>>>,
    steps: Mutex<Vec<Step>>,
}

impl Unpack for Layers {
    fn found(&self, _: &str) {}

    fn has(&self, chain: &[Digest]) -> bool {
        self.unpacked.lock().unwrap().contains_key(chain.last().unwrap())
    }

    fn apply(
        &self,
        chain: &[Digest],
        tar: &mut dyn Read,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut content = Vec::new();
        tar.read_to_end(&mut content)?;
        self.unpacked.lock().unwrap().insert(chain.last().unwrap().clone(), content);
        Ok(())
    }

    fn step(&self, _: &Layer, step: Step) {
        self.steps.lock().unwrap().push(step);
    }
}

fn config() -> Config {
    Config { directories: Vec::new(), ..Config::default() }
}

fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

fn pull_with(
    home: &Home,
    config: &Config,
    text: &str,
    credentials: Credentials,
    platform: Option<&str>,
    layers: &Layers,
) -> Result<Pulled, Error> {
    let client = Client::new(config, &name(text), Action::Pull, &[], credentials, Cancel::default())?;
    let platform = platform.map(|text| text.parse::<Platform>().unwrap());
    home.images.pull(&client, &Pull { name: name(text), platform, at_once: 3 }, layers)
}

fn pull(home: &Home, text: &str, layers: &Layers) -> Result<Pulled, Error> {
    pull_with(home, &config(), text, Credentials::default(), None, layers)
}

fn publish(home: &Home, pulled: Pulled) -> Image {
    match pulled.image {
        Fetched::New(staged) => home.images.publish(staged).unwrap(),
        Fetched::UpToDate(image) => image,
    }
}

fn push_with(
    home: &Home,
    config: &Config,
    text: &str,
    credentials: Credentials,
) -> Result<Vec<PushStep>, Error> {
    let image = home.images.get(text)?;
    let sources = home.images.sources(&image, &name(text));
    let client = Client::new(config, &name(text), Action::Push, &sources, credentials, Cancel::default())?;
    let steps = Mutex::new(Vec::new());
    let watch = |_: &Layer, step: PushStep| steps.lock().unwrap().push(step);
    home.images.push(&client, &image, &Push { name: name(text), at_once: 3 }, &watch)?;
    Ok(steps.into_inner().unwrap())
}

fn user() -> Credentials {
    Credentials { username: "user".into(), password: "secret".into(), ..Credentials::default() }
}

/// An image of two layers, one of them large and stored uncompressed, under `text`.
fn make(home: &Home, text: &str) -> Image {
    let noise: Vec<u8> = (0..3_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let big = common::tar(&[("big", Some(&noise))]);
    let small = common::layer("x");
    let layers = [big.as_slice(), small.as_slice()];
    let archive = common::docker_archive(&common::config(&layers), &layers, &serde_json::json!([text]));
    let staged = home.load(&archive).unwrap().remove(0);
    home.images.publish(staged).unwrap()
}

#[test]
fn what_is_pushed_is_pulled_again() {
    let registry = House::start("");
    let (here, there) = (Home::new(), Home::new());
    let text = format!("{}/a/b:1", registry.host());
    let made = make(&here, &text);
    let steps = push_with(&here, &config(), &text, Credentials::default()).unwrap();
    assert_eq!(steps.iter().filter(|step| **step == PushStep::Complete).count(), 2);
    // It is compressed now, and stays as it is: nothing is sent twice.
    let kept = here.images.get(&text).unwrap();
    assert_eq!(kept.id, made.id);
    assert!(kept.size < made.size && kept.layers.iter().all(|layer| layer.media_type.ends_with("+gzip")));
    let steps = push_with(&here, &config(), &text, Credentials::default()).unwrap();
    assert_eq!(steps.iter().filter(|step| **step == PushStep::Exists).count(), 2);

    let layers = Layers::default();
    let pulled = pull(&there, &text, &layers).unwrap();
    let digest = pulled.digest.clone();
    let image = publish(&there, pulled);
    assert_eq!((&image.id, &image.manifest), (&kept.id, &digest));
    for (diff_id, content) in layers.unpacked.lock().unwrap().iter() {
        assert_eq!(common::digest(content), *diff_id);
    }
    assert_eq!(layers.unpacked.lock().unwrap().len(), 2);
    let names: Vec<_> = image.names.iter().map(Reference::familiar).collect();
    assert_eq!(names, [text.clone(), format!("{}/a/b@{digest}", registry.host())]);
    // By digest, and again: nothing to do.
    let again = pull(&there, &text, &layers).unwrap();
    assert!(matches!(again.image, Fetched::UpToDate(_)));
    let by_digest = pull(&there, &format!("{}/a/b@{digest}", registry.host()), &layers).unwrap();
    assert!(matches!(by_digest.image, Fetched::UpToDate(_)));
    // The bytes that came go out again: the same digest elsewhere, without sending the layers.
    let other = format!("{}/c:2", registry.host());
    there.images.tag(&image.id, &name(&other)).unwrap();
    let steps = push_with(&there, &config(), &other, Credentials::default()).unwrap();
    assert_eq!(steps.iter().filter(|step| **step == PushStep::Mounted("a/b".into())).count(), 2, "{steps:?}");
    let last = pull(&Home::new(), &other, &Layers::default()).unwrap();
    assert_eq!(last.digest, digest);
}

#[test]
fn the_same_content_is_compressed_to_the_same_digest() {
    let registry = House::start("");
    let digests: Vec<_> = ["x:1", "y:1"]
        .iter()
        .map(|repository| {
            let home = Home::new();
            let text = format!("{}/{repository}", registry.host());
            make(&home, &text);
            push_with(&home, &config(), &text, Credentials::default()).unwrap();
            home.images.get(&text).unwrap().manifest
        })
        .collect();
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn passwords() {
    let place = tempfile::tempdir().unwrap();
    let registry = House::start(&htpasswd(place.path(), "user", "secret"));
    let home = Home::new();
    let text = format!("{}/a:1", registry.host());
    make(&home, &text);
    let error = push_with(&home, &config(), &text, Credentials::default()).unwrap_err().to_string();
    assert!(error.ends_with(": no basic auth credentials"), "{error}");
    let wrong = Credentials { password: "wrong".into(), ..user() };
    let error = push_with(&home, &config(), &text, wrong.clone()).unwrap_err();
    assert!(matches!(error, Error::Registry(registry::Error::Unauthorized(_))), "{error}");
    push_with(&home, &config(), &text, user()).unwrap();
    publish(
        &Home::new(),
        pull_with(&Home::new(), &config(), &text, user(), None, &Layers::default()).unwrap(),
    );
    let login = |credentials| Client::login(&config(), &registry.host(), credentials, Cancel::default());
    assert_eq!(login(user()).unwrap(), "");
    assert!(matches!(login(wrong), Err(registry::Error::Unauthorized(_))));
}

#[test]
fn tokens_of_a_token_server() {
    let place = tempfile::tempdir().unwrap();
    let (server, settings) = tokens(place.path());
    let registry = House::start(&settings);
    let home = Home::new();
    let text = format!("{}/a/b:1", registry.host());
    make(&home, &text);
    // The token server is at another port, so it has to be listed.
    let error = push_with(&home, &config(), &text, user()).unwrap_err().to_string();
    assert!(error.contains("not sent"), "{error}");
    assert!(server.asked().is_empty());
    let own = place.path().join("certs.d").join(registry.host());
    fs::create_dir_all(&own).unwrap();
    let toml = format!("server = \"http://{}\"\nrealm = \"{}\"\n", registry.host(), server.url(""));
    fs::write(own.join("hosts.toml"), toml).unwrap();
    let config = Config { directories: vec![place.path().join("certs.d")], ..config() };
    push_with(&home, &config, &text, user()).unwrap();
    // Everybody may read.
    pull_with(&Home::new(), &config, &text, Credentials::default(), None, &Layers::default()).unwrap();
    let error = push_with(&home, &config, &text, Credentials::default()).unwrap_err();
    assert!(matches!(error, Error::Registry(registry::Error::Unauthorized(_))), "{error}");
    // A login gives a refresh token, which then stands for the password.
    let refresh = Client::login(&config, &registry.host(), user(), Cancel::default()).unwrap();
    assert_eq!(refresh, "refresh-me");
    let identity = Credentials { username: "user".into(), identity_token: refresh, ..Credentials::default() };
    push_with(&home, &config, &text, identity).unwrap();
    assert!(server.asked().iter().any(|asked| asked.method == "POST"));
    let scopes = server.asked().iter().filter(|asked| asked.path.contains("pull,push")).count();
    assert!(scopes > 0);
}

#[test]
fn certificates() {
    let place = tempfile::tempdir().unwrap();
    let pki = house::pki(place.path());
    let home = Home::new();
    for (certificate, says) in [
        ("good", "x509: certificate signed by unknown authority"),
        ("expired", "x509: certificate has expired or is not yet valid"),
        ("elsewhere", "x509: certificate is not valid for 127.0.0.1"),
        ("itself", "x509: certificate signed by unknown authority"),
    ] {
        let registry = House::start(&pki.tls(certificate));
        let text = format!("{}/a:1", registry.host());
        make(&home, &text);
        // Loopback would do without; by the name of the host it does not.
        let strict = pki.config(&registry.host(), None);
        let error = push_with(&home, &strict, &text, Credentials::default()).unwrap_err().to_string();
        let known = pki.config(&registry.host(), Some(if certificate == "itself" { "itself" } else { "ca" }));
        let trusted = push_with(&home, &known, &text, Credentials::default());
        match certificate {
            "good" | "itself" => {
                assert!(error.contains(says) && error.contains("ca.crt"), "{certificate}: {error}");
                trusted.unwrap_or_else(|error| panic!("{certificate}: {error}"));
            }
            _ => {
                let error = trusted.unwrap_err().to_string();
                assert!(error.contains(says), "{certificate}: {error}");
            }
        }
    }
    let plain = House::start("");
    let text = format!("{}/a:1", plain.host());
    make(&home, &text);
    let error = push_with(&home, &pki.config(&plain.host(), None), &text, Credentials::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("server gave HTTP response to HTTPS client") && error.contains("insecure-registries"),
        "{error}"
    );
}

/// A registry with one image whose large layer is sent by `layer`.
fn one_image(layer: impl Fn(&fake::Asked, &[u8]) -> Answer + Send + Sync + 'static) -> (Fake, Made) {
    let noise: Vec<u8> = (0..2_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let made = house::oci_image(&common::tar(&[("big", Some(&noise))]));
    let served = made.clone();
    let fake = Fake::start(move |asked| {
        let path = asked.path.as_str();
        if path.ends_with(served.layer.as_str()) {
            return layer(asked, &served.blobs[&served.layer]);
        }
        let found = served.blobs.iter().find(|(digest, _)| path.ends_with(digest.as_str()));
        match found {
            Some((digest, bytes)) if *digest == served.manifest || path.contains("/blobs/") => {
                Answer::ok(bytes.clone()).with("Content-Type", "application/vnd.oci.image.manifest.v1+json")
            }
            None if path.ends_with("/manifests/1") => Answer::ok(served.blobs[&served.manifest].clone())
                .with("Content-Type", "application/vnd.oci.image.manifest.v1+json")
                .with("Docker-Content-Digest", &served.manifest),
            _ => Answer::new(404),
        }
    });
    (fake, made)
}

fn ranged(asked: &fake::Asked, content: &[u8]) -> Answer {
    match asked.header("range") {
        None => Answer::ok(content.to_vec()),
        Some(range) => {
            let from: usize = range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap();
            let said = format!("bytes {from}-{}/{}", content.len() - 1, content.len());
            Answer::new(206).with("Content-Range", said).body(content[from..].to_vec())
        }
    }
}

#[test]
fn a_download_goes_on_after_the_daemon_was_killed() {
    let (fake, made) = one_image(ranged);
    let text = format!("{}/a:1", fake.host());
    let home = Home::new();
    // What a killed daemon leaves: a part of the blob, under its digest.
    let partial = home.dir.path().join("blobs/partial").join(made.layer.hex());
    let content = &made.blobs[&made.layer];
    fs::write(&partial, &content[..content.len() / 2]).unwrap();
    let home = home.reopen();
    let layers = Layers::default();
    let pulled = pull(&home, &text, &layers).unwrap();
    publish(&home, pulled);
    assert_eq!(layers.unpacked.lock().unwrap().len(), 1);
    assert!(!partial.exists());
    let asked = fake.asked().into_iter().find(|asked| asked.path.ends_with(made.layer.as_str())).unwrap();
    assert_eq!(asked.header("range"), Some(format!("bytes={}-", content.len() / 2).as_str()));
}

#[test]
fn a_part_that_is_not_the_blob_s_is_fetched_anew() {
    for length in [1000, 10_000_000] {
        let (fake, made) = one_image(ranged);
        let home = Home::new();
        let partial = home.dir.path().join("blobs/partial").join(made.layer.hex());
        fs::write(&partial, vec![b'x'; length]).unwrap();
        let pulled = pull(&home, &format!("{}/a:1", fake.host()), &Layers::default()).unwrap();
        publish(&home, pulled);
        assert!(!partial.exists());
    }
}

#[test]
fn a_part_that_nobody_wants_is_swept() {
    let home = Home::new();
    let partial = home.dir.path().join("blobs/partial").join("0".repeat(64));
    fs::write(&partial, "x").unwrap();
    let home = home.reopen();
    assert!(partial.exists());
    let long_ago = std::time::SystemTime::now() - Duration::from_hours(24 * 8);
    fs::File::options().write(true).open(&partial).unwrap().set_modified(long_ago).unwrap();
    let _home = home.reopen();
    assert!(!partial.exists());
}

#[test]
fn content_that_is_not_its_digest_leaves_nothing() {
    for wrong in [0, 1000, usize::MAX] {
        let (fake, _) = one_image(move |_, content| {
            let mut content = content.to_vec();
            let at = wrong.min(content.len() - 1);
            content[at] ^= 1;
            Answer::ok(content)
        });
        let home = Home::new();
        let layers = Layers::default();
        let error = pull(&home, &format!("{}/a:1", fake.host()), &layers).unwrap_err();
        assert!(matches!(error, Error::Invalid(_) | Error::Unpack(_)), "{error}");
        assert!(layers.unpacked.lock().unwrap().is_empty());
        assert_eq!(home.blobs(), [""; 0]);
        assert_eq!(fs::read_dir(home.dir.path().join("blobs/partial")).unwrap().count(), 0);
        assert!(home.images.list().unwrap().is_empty());
    }
}

#[test]
fn layers_that_came_are_kept_when_another_does_not() {
    let (good, bad) = (house::oci_image(&common::layer("good")), house::oci_image(&common::layer("bad")));
    let both = house::join(&good, &bad);
    let served = both.clone();
    let broken = bad.layer.clone();
    let fails = std::sync::Arc::new(AtomicUsize::new(1));
    let still = fails.clone();
    let fake = Fake::start(move |asked| {
        if asked.path.ends_with(broken.as_str()) && still.load(Ordering::SeqCst) == 1 {
            return Answer::new(403);
        }
        let found = served.blobs.iter().find(|(digest, _)| asked.path.ends_with(digest.as_str()));
        let bytes = found.map_or(&served.blobs[&served.manifest], |(_, bytes)| bytes);
        Answer::ok(bytes.clone()).with("Content-Type", common::MANIFEST)
    });
    let home = Home::new();
    let text = format!("{}/a:1", fake.host());
    let client =
        Client::new(&config(), &name(&text), Action::Pull, &[], Credentials::default(), Cancel::default());
    let one_by_one = Pull { name: name(&text), platform: None, at_once: 1 };
    home.images.pull(&client.unwrap(), &one_by_one, &Layers::default()).unwrap_err();
    assert_eq!(home.blobs(), [""; 0]);
    fails.store(0, Ordering::SeqCst);
    publish(&home, pull(&home, &text, &Layers::default()).unwrap());
    let asked = fake.asked().iter().filter(|asked| asked.path.ends_with(good.layer.as_str())).count();
    assert_eq!(asked, 1);
}

#[test]
fn one_download_for_all_who_ask() {
    let fetched = std::sync::Arc::new(AtomicUsize::new(0));
    let count = fetched.clone();
    let (fake, _) = one_image(move |asked, content| {
        count.fetch_add(1, Ordering::SeqCst);
        ranged(asked, content).pace(Duration::from_micros(200))
    });
    let home = Home::new();
    let text = format!("{}/a:1", fake.host());
    let layers = Layers::default();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| publish(&home, pull(&home, &text, &layers).unwrap()));
        }
    });
    assert_eq!(fetched.load(Ordering::SeqCst), 1);
    assert_eq!(home.images.list().unwrap().len(), 1);
}

#[test]
fn platforms() {
    let made = house::oci_image(&common::layer("x"));
    let index = house::index(&made, &["linux/amd64", "linux/arm64/v8"]);
    let served = made.clone();
    let fake = Fake::start(move |asked| {
        let blob = served.blobs.iter().find(|(digest, _)| asked.path.ends_with(digest.as_str()));
        let kind = |kind: &str| format!("application/vnd.oci.image.{kind}.v1+json");
        match blob {
            Some((_, bytes)) => Answer::ok(bytes.clone()).with("Content-Type", kind("manifest")),
            None => Answer::ok(index.clone()).with("Content-Type", kind("index")),
        }
    });
    let text = format!("{}/a:1", fake.host());
    let home = Home::new();
    let missing =
        pull_with(&home, &config(), &text, Credentials::default(), Some("linux/s390x"), &Layers::default());
    let error = missing.unwrap_err().to_string();
    assert!(
        error.contains("no matching manifest for linux/s390x") && error.ends_with("linux/amd64, linux/arm64"),
        "{error}"
    );
    let pulled = pull(&home, &text, &Layers::default()).unwrap();
    assert_ne!(pulled.digest, made.manifest);
    let image = publish(&home, pulled);
    assert_eq!(image.manifest, made.manifest);
}
