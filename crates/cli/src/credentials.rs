//! Who the user is at which registry: `config.json` of Docker's, and the helpers that it names.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::base64;
use crate::client::plain;
use crate::error::{Result, message};

/// Docker Hub's name in `config.json`, from the days of version 1.
pub(crate) const HUB: &str = "https://index.docker.io/v1/";
/// A helper's user name for a secret that is a token.
const TOKEN: &str = "<token>";

/// Docker's `AuthConfig`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Auth {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) password: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) serveraddress: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) identitytoken: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) registrytoken: String,
}

impl Auth {
    /// For `X-Registry-Auth`.
    pub(crate) fn header(&self) -> String {
        base64::encode_url(&serde_json::to_vec(self).unwrap_or_default())
    }
}

/// The file as it is; what is not understood stays in it.
#[derive(Debug)]
pub(crate) struct Credentials {
    path: PathBuf,
    config: Map<String, Value>,
}

/// Whether a secret was put where everybody who reads the file reads it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    ByHelper,
    InFile,
}

impl Credentials {
    /// `$DOCKER_CONFIG/config.json`, or `~/.docker/config.json`; none is as good as an empty one.
    pub(crate) fn open() -> Result<Self> {
        let env = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let directory = env("DOCKER_CONFIG").or_else(|| env("HOME").map(|home| home.join(".docker")));
        Self::read(directory.unwrap_or_else(|| ".docker".into()).join("config.json"))
    }

    fn read(path: PathBuf) -> Result<Self> {
        let config = match fs::read(&path) {
            Ok(text) if text.iter().all(u8::is_ascii_whitespace) => Map::new(),
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|e| message(format!("Error loading config file: {}: {e}", path.display())))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Map::new(),
            Err(e) => {
                return Err(message(format!("Error loading config file: {}: {}", path.display(), plain(&e))));
            }
        };
        Ok(Self { path, config })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The program that keeps the secrets of `server`, if there is one.
    fn helper(&self, server: &str) -> Option<String> {
        let of_server = self.config.get("credHelpers").and_then(|helpers| helpers.get(server));
        let name = of_server.or_else(|| self.config.get("credsStore"))?.as_str()?;
        (!name.is_empty()).then(|| format!("docker-credential-{name}"))
    }

    /// What is known about `server` (as in `config.json`); nothing, if that is nothing.
    pub(crate) fn get(&self, server: &str) -> Result<Auth> {
        let found = match self.helper(server) {
            Some(helper) => ask_helper(&helper, server)?,
            None => self.in_file(server)?,
        };
        Ok(Auth { serveraddress: server.to_owned(), ..found.unwrap_or_default() })
    }

    fn in_file(&self, server: &str) -> Result<Option<Auth>> {
        let Some(all) = self.config.get("auths").and_then(Value::as_object) else { return Ok(None) };
        let found = all
            .get(server)
            .or_else(|| all.iter().find(|(key, _)| host_of(key) == host_of(server)).map(|(_, v)| v));
        let text = |key: &str| found.and_then(|one| one.get(key)?.as_str()).unwrap_or_default().to_owned();
        let mut auth = Auth {
            username: text("username"),
            password: text("password"),
            identitytoken: text("identitytoken"),
            registrytoken: text("registrytoken"),
            serveraddress: String::new(),
        };
        let both = text("auth");
        if !both.is_empty() {
            let bytes = base64::decode(&both).and_then(|bytes| String::from_utf8(bytes).ok());
            let (name, secret) = bytes.as_deref().and_then(|both| both.split_once(':')).ok_or_else(|| {
                message(format!(
                    "Error loading config file: {}: invalid auth of {server}",
                    self.path.display()
                ))
            })?;
            name.clone_into(&mut auth.username);
            secret.trim_end_matches('\0').clone_into(&mut auth.password);
        }
        Ok(found.map(|_| auth))
    }

    /// Keeps what is known about a server, in the helper's hands or in the file.
    pub(crate) fn put(&mut self, server: &str, auth: &Auth) -> Result<Kept> {
        let saving = |e: String| message(format!("Error saving credentials: {e}"));
        if let Some(helper) = self.helper(server) {
            let (name, secret) = if auth.identitytoken.is_empty() {
                (auth.username.as_str(), &auth.password)
            } else {
                (TOKEN, &auth.identitytoken)
            };
            let input = json!({ "ServerURL": server, "Username": name, "Secret": secret }).to_string();
            run(&helper, "store", &input).map_err(|e| saving(format!("error storing credentials - {e}")))?;
            self.auths().insert(server.to_owned(), json!({}));
            self.write().map_err(saving)?;
            return Ok(Kept::ByHelper);
        }
        let mut entry = Map::new();
        // With a token in hand, the password is not kept.
        let secret = if auth.identitytoken.is_empty() { &auth.password } else { "" };
        entry.insert("auth".into(), base64::encode(format!("{}:{secret}", auth.username).as_bytes()).into());
        if !auth.identitytoken.is_empty() {
            entry.insert("identitytoken".into(), auth.identitytoken.clone().into());
        }
        self.auths().insert(server.to_owned(), entry.into());
        self.write().map_err(saving)?;
        Ok(Kept::InFile)
    }

    /// Forgets every way to write the server's name.
    pub(crate) fn erase(&mut self, server: &str) -> Result<()> {
        let failed = |e: String| message(format!("WARNING: could not erase credentials:\n{server}: {e}"));
        if let Some(helper) = self.helper(server) {
            run(&helper, "erase", server).map_err(failed)?;
        }
        let host = host_of(server).to_owned();
        let names = |key: &str| key == server || (server != HUB && host_of(key) == host);
        self.auths().retain(|key, _| !names(key));
        self.write().map_err(failed)
    }

    fn auths(&mut self) -> &mut Map<String, Value> {
        let all = self.config.entry("auths").or_insert_with(|| json!({}));
        if !all.is_object() {
            *all = json!({});
        }
        match all {
            Value::Object(all) => all,
            _ => unreachable!("it was made an object"),
        }
    }

    /// Whole or not at all; a link stays one.
    fn write(&self) -> std::result::Result<(), String> {
        let path = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let told = |e: io::Error| format!("{}: {}", path.display(), plain(&e));
        let directory = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(directory).map_err(told)?;
        let new = path.with_extension(format!("json.{}", std::process::id()));
        let mut text = Vec::new();
        let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut writer = serde_json::Serializer::with_formatter(&mut text, tabs);
        self.config.serialize(&mut writer).map_err(|e| e.to_string())?;
        let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new);
        let written = file.and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()));
        written.and_then(|()| fs::rename(&new, &path)).map_err(|e| {
            // It is of no use to anybody.
            let _ = fs::remove_file(&new);
            told(e)
        })
    }
}

/// `https://r.example/v2/` is at `r.example`.
fn host_of(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default()
}

/// The server, as `config.json` writes it, of the registry in an image's name.
pub(crate) fn server_of(image: &str) -> String {
    match image.split_once('/') {
        Some((first, _)) if first == "localhost" || first.contains(['.', ':']) => server(first),
        _ => HUB.to_owned(),
    }
}

/// As `config.json` writes it.
pub(crate) fn server(typed: &str) -> String {
    match host_of(typed) {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => HUB.to_owned(),
        host => host.to_owned(),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Secret {
    username: String,
    secret: String,
}

fn ask_helper(helper: &str, server: &str) -> Result<Option<Auth>> {
    let told = |e: String| message(format!("error getting credentials - {e}"));
    let answer = match run(helper, "get", server) {
        Ok(answer) => answer,
        Err(e) if e.contains("credentials not found in native keychain") => return Ok(None),
        Err(e) => return Err(told(e)),
    };
    let Secret { username, secret } = serde_json::from_str(&answer).map_err(|e| told(e.to_string()))?;
    Ok(Some(match username.as_str() {
        TOKEN => Auth { identitytoken: secret, ..Auth::default() },
        _ => Auth { username, password: secret, ..Auth::default() },
    }))
}

/// Docker's protocol with its helpers: a verb, input on standard input, the answer on standard output.
fn run(helper: &str, verb: &str, input: &str) -> std::result::Result<String, String> {
    let missing = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => {
            format!("err: exec: {helper:?}: executable file not found in $PATH, out: ``")
        }
        _ => format!("err: exec: {helper:?}: {e}, out: ``"),
    };
    let child = Command::new(helper).arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.map_err(missing)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read its input says so by its exit.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(missing)?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() { Ok(text) } else { Err(format!("err: {}, out: `{text}`", output.status)) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn at(directory: &Path, text: &str) -> Credentials {
        let path = directory.join("config.json");
        fs::write(&path, text).unwrap();
        Credentials::read(path).unwrap()
    }

    #[test]
    fn the_file_is_docker_s() {
        let place = tempfile::tempdir().unwrap();
        let mut file =
            at(place.path(), r#"{"auths":{"https://r.example/v1/":{"auth":"dTpwOnE="}},"psFormat":"x"}"#);
        let known = file.get("r.example").unwrap();
        assert_eq!((known.username.as_str(), known.password.as_str()), ("u", "p:q"));
        assert_eq!(file.get("other.example").unwrap().username, "");
        let auth = Auth { username: "user".into(), password: "secret".into(), ..Auth::default() };
        assert_eq!(file.put("localhost:5000", &auth).unwrap(), Kept::InFile);
        let token = Auth { identitytoken: "t".into(), ..auth.clone() };
        file.put(HUB, &token).unwrap();
        let text = fs::read_to_string(file.path()).unwrap();
        assert!(
            text.contains("\"psFormat\": \"x\"")
                && text.contains("\t\t\"localhost:5000\": {\n\t\t\t\"auth\": \"dXNlcjpzZWNyZXQ=\"\n")
        );
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
        let read = Credentials::read(file.path().to_owned()).unwrap();
        assert_eq!(read.get("localhost:5000").unwrap().password, "secret");
        assert_eq!(read.get(HUB).unwrap().identitytoken, "t");
        assert!(
            !text.contains(&base64::encode(b"user:secret")[..8])
                || !read.get(HUB).unwrap().password.contains("secret")
        );
        file.erase("r.example").unwrap();
        assert_eq!(Credentials::read(file.path().to_owned()).unwrap().get("r.example").unwrap().username, "");
        assert!(Credentials::read(place.path().join("none/config.json")).is_ok());
        fs::write(place.path().join("bad"), "{").unwrap();
        assert!(Credentials::read(place.path().join("bad")).is_err());
    }

    #[test]
    fn helpers_keep_what_they_are_given() {
        let place = tempfile::tempdir().unwrap();
        let script = place.path().join("docker-credential-test");
        let kept = place.path().join("kept");
        let text = format!(
            "#!/bin/sh\ncase $1 in store) cat > {0};; get) [ -e {0} ] && cat {0} || {{ echo credentials not found in native keychain; exit 1; }};; erase) rm {0};; esac\n",
            kept.display()
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        // The protocol is what is tested; a path stands for a search along $PATH.
        let helper = script.display().to_string();
        assert_eq!(ask_helper(&helper, "r").unwrap(), None);
        run(&helper, "store", r#"{"ServerURL":"r","Username":"u","Secret":"s"}"#).unwrap();
        let found = ask_helper(&helper, "r").unwrap().unwrap();
        assert_eq!((found.username.as_str(), found.password.as_str()), ("u", "s"));
        run(&helper, "store", r#"{"Username":"<token>","Secret":"t"}"#).unwrap();
        assert_eq!(ask_helper(&helper, "r").unwrap().unwrap().identitytoken, "t");
        run(&helper, "erase", "r").unwrap();
        assert!(!kept.exists());
        let file = at(place.path(), r#"{"credsStore":"a","credHelpers":{"r.example":"b"}}"#);
        assert_eq!(file.helper("r.example").unwrap(), "docker-credential-b");
        assert_eq!(file.helper("x").unwrap(), "docker-credential-a");
        let error = run("docker-credential-nix", "get", "x").unwrap_err();
        assert_eq!(
            error,
            r#"err: exec: "docker-credential-nix": executable file not found in $PATH, out: ``"#
        );
    }

    #[test]
    fn names_of_servers() {
        for (image, name) in [
            ("alpine", HUB),
            ("a/b", HUB),
            ("docker.io/a", HUB),
            ("localhost/x", "localhost"),
            ("r.example:5/x:1", "r.example:5"),
        ] {
            assert_eq!(server_of(image), name, "{image}");
        }
        assert_eq!(server("https://r.example/v2/"), "r.example");
    }
}
