//! Debian's `docker-registry` for one test, with what it needs: passwords, a token server, certificates; and images
//! for a server of the test's own.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use oci::Digest;
use registry::Config;
use serde_json::json;

use crate::{
    common::{self, INDEX, MANIFEST, run},
    fake::{Answer, Asked, Fake},
};

/// A running registry; it ends with the value.
pub struct House {
    child: Child,
    port: u16,
    _place: tempfile::TempDir,
}

impl House {
    /// `settings` are lines of its configuration; those of `http` begin with two blanks.
    pub fn start(settings: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        let data = place.path().join("data");
        let (http, others): (Vec<_>, Vec<_>) =
            settings.split("---\n").enumerate().partition(|(at, _)| *at == 1);
        let text = |parts: Vec<(usize, &str)>| parts.into_iter().map(|(_, part)| part).collect::<String>();
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n{}http:\n  addr: 127.0.0.1:0\n  secret: x\n{}",
            data.display(),
            text(others),
            text(http),
        );
        let file = place.path().join("config.yml");
        fs::write(&file, config).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("docker-registry is needed (Debian package of the same name): {e}"));
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let port = lines.find_map(|line| {
            let rest = line.split("listening on 127.0.0.1:").nth(1)?;
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        });
        // It would stop at a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, port: port.expect("docker-registry says where it listens"), _place: place }
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for House {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Settings for one user with a password.
pub fn htpasswd(place: &Path, user: &str, password: &str) -> String {
    let file = place.join("htpasswd");
    fs::write(&file, run("htpasswd", &["-Bbn", user, password])).unwrap();
    format!("auth: {{htpasswd: {{realm: house, path: {}}}}}\n", file.display())
}

fn openssl(place: &Path, words: &str) {
    let words: Vec<_> = words.split_whitespace().collect();
    let done = Command::new("openssl").args(&words).current_dir(place).output();
    let done = done.unwrap_or_else(|e| panic!("openssl is needed (Debian package of the same name): {e}"));
    assert!(done.status.success(), "openssl {words:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A token server for the user `user` with the password `secret`, who may do everything; others may pull. And the
/// settings of a registry that believes it.
pub fn tokens(place: &Path) -> (Fake, String) {
    openssl(
        place,
        "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=tokens",
    );
    let directory = place.to_owned();
    let server = Fake::start(move |asked| {
        let by_refresh = asked.method == "POST"
            && String::from_utf8_lossy(&asked.body).contains("refresh_token=refresh-me");
        let by_password = asked.header("authorization") == Some("Basic dXNlcjpzZWNyZXQ=");
        if asked.header("authorization").is_some() && !by_password {
            return Answer::new(401).body(r#"{"details":"incorrect username or password"}"#);
        }
        let actions: &[&str] = if by_refresh || by_password { &["pull", "push"] } else { &["pull"] };
        let token = token(&directory, &scopes(asked), actions);
        let refresh = if asked.path.contains("offline_token") { "refresh-me" } else { "" };
        Answer::ok(json!({"access_token": token, "refresh_token": refresh, "expires_in": 60}).to_string())
    });
    let settings = format!(
        "auth: {{token: {{realm: \"{}\", service: house, issuer: tokens, rootcertbundle: {}}}}}\n",
        server.url("/token"),
        place.join("cert.pem").display()
    );
    (server, settings)
}

/// The repositories that a token is asked for.
fn scopes(asked: &Asked) -> Vec<String> {
    let body = String::from_utf8_lossy(&asked.body).replace("%20", " ");
    let query = asked.path.split_once('?').map_or("", |(_, query)| query).to_owned();
    let parts = query.split('&').chain(body.split('&')).filter_map(|part| part.strip_prefix("scope="));
    let words: Vec<_> = parts.flat_map(|scopes| scopes.split(' ')).map(str::to_owned).collect();
    words.iter().filter_map(|scope| scope.split(':').nth(1).map(str::to_owned)).collect()
}

fn token(place: &Path, repositories: &[String], actions: &[&str]) -> String {
    let certificate = fs::read_to_string(place.join("cert.pem")).unwrap();
    let certificate: String = certificate.lines().filter(|line| !line.starts_with('-')).collect();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let access: Vec<_> = repositories
        .iter()
        .map(|name| json!({"type": "repository", "name": name, "actions": actions}))
        .collect();
    let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [certificate]});
    let claims = json!({"iss": "tokens", "sub": "user", "aud": "house", "exp": now + 60, "nbf": now - 60,
        "iat": now, "jti": "1", "access": access});
    let text = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let work = tempfile::tempdir().unwrap();
    fs::write(work.path().join("text"), &text).unwrap();
    let key = place.join("key.pem");
    openssl(work.path(), &format!("dgst -sha256 -sign {} -out signature text", key.display()));
    let signature = fs::read(work.path().join("signature")).unwrap();
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Certificates of all kinds, in a directory.
pub struct Pki(PathBuf);

/// An authority, and what it signed: `good`, `expired`, `elsewhere`; and `itself`, its own authority, as Docker's own
/// instructions for a registry make one.
pub fn pki(place: &Path) -> Pki {
    openssl(
        place,
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=authority",
    );
    for (name, address, dates) in [
        ("good", "IP:127.0.0.1", "-days 2"),
        ("elsewhere", "DNS:elsewhere.example", "-days 2"),
        ("expired", "IP:127.0.0.1", "-days -1"),
    ] {
        openssl(
            place,
            &format!("req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"),
        );
        fs::write(place.join("names"), format!("subjectAltName={address}")).unwrap();
        openssl(
            place,
            &format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names -out {name}.pem {dates}"
            ),
        );
    }
    openssl(
        place,
        "req -x509 -newkey rsa:2048 -nodes -keyout itself.key -out itself.pem -days 2 -subj /CN=itself -addext subjectAltName=IP:127.0.0.1",
    );
    Pki(place.to_owned())
}

impl Pki {
    /// Settings of a registry that shows the certificate `name`.
    pub fn tls(&self, name: &str) -> String {
        let path = |kind: &str| self.0.join(format!("{name}.{kind}")).display().to_string();
        format!("---\n  tls: {{certificate: {}, key: {}}}\n", path("pem"), path("key"))
    }

    /// A client's settings that make it look at certificates also on loopback, and trust this authority.
    pub fn config(&self, host: &str, authority: Option<&str>) -> Config {
        let directories =
            self.0.join(format!("certs-{}-{}", host.replace(':', "-"), authority.unwrap_or("none")));
        let own = directories.join(host);
        fs::create_dir_all(&own).unwrap();
        let known =
            authority.map(|name| format!("ca = \"{}\"\n", self.0.join(format!("{name}.pem")).display()));
        let text = format!(
            "server = \"https://{host}\"\n{}",
            known.unwrap_or_else(|| "skip_verify = false\n".into())
        );
        fs::write(own.join("hosts.toml"), text).unwrap();
        Config { directories: vec![directories], ..Config::default() }
    }
}

/// An image as a registry has it.
#[derive(Clone)]
pub struct Made {
    pub blobs: BTreeMap<Digest, Vec<u8>>,
    pub layer: Digest,
    pub manifest: Digest,
}

/// An image of one gzipped layer.
pub fn oci_image(layer: &[u8]) -> Made {
    let packed = common::gzip(layer);
    let config = common::config(&[layer]).to_string().into_bytes();
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "config": common::descriptor(common::CONFIG, &config),
        "layers": [common::descriptor(&format!("{}+gzip", common::LAYER), &packed)]});
    let manifest = manifest.to_string().into_bytes();
    let (of_layer, of_manifest) = (common::digest(&packed), common::digest(&manifest));
    let blobs = [packed, config, manifest].map(|bytes| (common::digest(&bytes), bytes));
    Made { blobs: blobs.into(), layer: of_layer, manifest: of_manifest }
}

/// An image of the layers of two.
pub fn join(lower: &Made, upper: &Made) -> Made {
    let mut blobs = lower.blobs.clone();
    blobs.extend(upper.blobs.clone());
    let parse = |digest: &Digest| serde_json::from_slice::<serde_json::Value>(&blobs[digest]).unwrap();
    let (mut manifest, other) = (parse(&lower.manifest), parse(&upper.manifest));
    let config_of = |manifest: &serde_json::Value| {
        parse(&manifest["config"]["digest"].as_str().unwrap().parse::<Digest>().unwrap())
    };
    let (mut config, other_config) = (config_of(&manifest), config_of(&other));
    let diff_ids = config["rootfs"]["diff_ids"].as_array_mut().unwrap();
    diff_ids.push(other_config["rootfs"]["diff_ids"][0].clone());
    let config = config.to_string().into_bytes();
    manifest["config"] = common::descriptor(common::CONFIG, &config);
    manifest["layers"].as_array_mut().unwrap().push(other["layers"][0].clone());
    let manifest = manifest.to_string().into_bytes();
    let of_manifest = common::digest(&manifest);
    blobs.extend([config, manifest].map(|bytes| (common::digest(&bytes), bytes)));
    Made { blobs, layer: upper.layer.clone(), manifest: of_manifest }
}

/// An index that has the image for each of the platforms.
pub fn index(made: &Made, platforms: &[&str]) -> Vec<u8> {
    let manifests: Vec<_> = platforms
        .iter()
        .map(|platform| {
            let mut one = common::descriptor(MANIFEST, &made.blobs[&made.manifest]);
            one["platform"] = serde_json::to_value(platform.parse::<oci::Platform>().unwrap()).unwrap();
            one
        })
        .collect();
    json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).to_string().into_bytes()
}
