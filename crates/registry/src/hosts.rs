//! The hosts that stand for a registry, in the order in which they are asked.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{Config, Error, url::Origin};

/// What is to be done there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Read manifests and blobs.
    Pull,
    /// Write them.
    Push,
}

/// One host that may be asked for a registry's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) origin: Origin,
    /// `/v2`, or what a mirror has in its place; without a slash at the end.
    pub(crate) path: String,
    pub(crate) may: Capabilities,
    /// The registry itself, or what the administrator calls its server: it gets the credentials (rule R21).
    pub(crate) is_registry: bool,
    /// It is asked for another registry's content, and told for which (`?ns=`, as containerd does).
    pub(crate) namespace: Option<String>,
    pub(crate) trust: Trust,
    pub(crate) headers: Vec<(String, String)>,
    /// Token servers elsewhere that may see the registry's credentials.
    pub(crate) realms: Vec<Origin>,
}

/// containerd's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_field_names)] // they are what they are
pub(crate) struct Capabilities {
    pub(crate) pull: bool,
    pub(crate) resolve: bool,
    pub(crate) push: bool,
}

const ALL: Capabilities = Capabilities { pull: true, resolve: true, push: true };
const READING: Capabilities = Capabilities { pull: true, resolve: true, push: false };

/// How a host shows that it is the right one, and we that we are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Trust {
    /// Beside the system's, as Docker does it.
    pub(crate) authorities: Vec<PathBuf>,
    /// Certificate and key.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
    pub(crate) unchecked: bool,
}

const DOCKER: &str = "docker.io";
const DOCKER_SERVER: &str = "registry-1.docker.io";

/// The hosts of the registry `name` (as in a reference) for `action`; never empty.
pub(crate) fn of(config: &Config, name: &str, action: Action) -> Result<Vec<Host>, Error> {
    let all = match file_for(config, name) {
        Some(path) => by_file(config, &path, name)?,
        None => by_settings(config, name)?,
    };
    let fits = |host: &Host| match action {
        Action::Pull => host.may.pull || host.may.resolve,
        Action::Push => host.may.push,
    };
    let fitting: Vec<_> = all.into_iter().filter(fits).collect();
    if fitting.is_empty() {
        return Err(Error::config(format!(
            "no host of the registry {name} may be used for this: see its hosts.toml"
        )));
    }
    Ok(fitting)
}

/// What is known about a host that is not asked for itself: a redirect's target, a token server.
pub(crate) fn trust_of(config: &Config, origin: &Origin) -> Result<Trust, Error> {
    let mut trust = certificates(config, &origin.authority)?;
    trust.unchecked = config.is_insecure(&origin.authority);
    Ok(trust)
}

fn server_of(name: &str) -> &str {
    if name == DOCKER { DOCKER_SERVER } else { name }
}

/// Docker's rules: mirrors for docker.io, then the registry; http after https where the registry is insecure.
fn by_settings(config: &Config, name: &str) -> Result<Vec<Host>, Error> {
    let mut hosts = Vec::new();
    if name == DOCKER {
        for mirror in &config.mirrors {
            let (origin, path) = split(mirror)?;
            let trust = trust_of(config, &origin)?;
            let path = versioned(&path);
            let may = READING;
            hosts.push(Host {
                origin,
                path,
                may,
                is_registry: false,
                namespace: None,
                trust,
                headers: vec![],
                realms: vec![],
            });
        }
    }
    hosts.extend(registry(config, name)?);
    Ok(hosts)
}

/// The registry itself.
fn registry(config: &Config, name: &str) -> Result<Vec<Host>, Error> {
    let server = server_of(name);
    let secure = Host {
        origin: Origin::new(true, server),
        path: "/v2".to_owned(),
        may: ALL,
        is_registry: true,
        namespace: None,
        trust: Trust { unchecked: config.is_insecure(server), ..certificates(config, name)? },
        headers: Vec::new(),
        realms: Vec::new(),
    };
    let plain = Host { origin: Origin::new(false, server), trust: Trust::default(), ..secure.clone() };
    Ok(if secure.trust.unchecked { vec![secure, plain] } else { vec![secure] })
}

/// The directories for a host: `HOST:PORT`, or `HOST_PORT_` as containerd also has it.
fn directories<'a>(config: &'a Config, host: &'a str) -> impl Iterator<Item = PathBuf> + 'a {
    let other = host.rsplit_once(':').filter(|(_, port)| !port.contains(']'));
    let other = other.map(|(name, port)| format!("{name}_{port}_"));
    config.directories.iter().flat_map(move |directory| {
        let names = [Some(host.to_owned()), other.clone()].into_iter().flatten();
        names.map(move |name| directory.join(name))
    })
}

fn file_for(config: &Config, name: &str) -> Option<PathBuf> {
    let own = directories(config, name).find(|directory| directory.is_dir());
    if let Some(own) = own {
        return Some(own.join("hosts.toml")).filter(|file| file.is_file());
    }
    let fallback = config.directories.iter().map(|directory| directory.join("_default/hosts.toml"));
    fallback.into_iter().find(|file| file.is_file())
}

/// Docker's layout: `*.crt` are authorities, `*.cert` with `*.key` are ours.
fn certificates(config: &Config, host: &str) -> Result<Trust, Error> {
    let mut trust = Trust::default();
    let Some(directory) = directories(config, host).find(|directory| directory.is_dir()) else {
        return Ok(trust);
    };
    let complain = |e: std::io::Error| Error::config(format!("list {}: {e}", directory.display()));
    let mut files = Vec::new();
    for entry in fs::read_dir(&directory).map_err(complain)? {
        files.push(entry.map_err(complain)?.path());
    }
    files.sort();
    for file in &files {
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => trust.authorities.push(file.clone()),
            Some("cert") => {
                let key = file.with_extension("key");
                if !files.contains(&key) {
                    let (missing, file) = (key.display(), file.display());
                    return Err(Error::config(format!(
                        "missing key {missing} for client certificate {file}. CA certificates must use the extension .crt"
                    )));
                }
                trust.client.get_or_insert((file.clone(), key));
            }
            Some("key") if !files.contains(&file.with_extension("cert")) => {
                let (missing, file) = (file.with_extension("cert"), file.display());
                return Err(Error::config(format!(
                    "missing client certificate {} for key {file}",
                    missing.display()
                )));
            }
            _ => {}
        }
    }
    Ok(trust)
}

/// `hosts.toml` (containerd, docs/hosts.md).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    server: Option<String>,
    /// Ours: token servers elsewhere that may see the registry's credentials.
    realm: Option<OneOrMore>,
    #[serde(default)]
    host: toml::Table,
    // What stands at the top is about the server.
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMore>,
    client: Option<Client>,
    skip_verify: Option<bool>,
    #[serde(default)]
    header: BTreeMap<String, OneOrMore>,
    #[serde(default)]
    override_path: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMore>,
    client: Option<Client>,
    skip_verify: Option<bool>,
    #[serde(default)]
    header: BTreeMap<String, OneOrMore>,
    #[serde(default)]
    override_path: bool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

/// A file with both, or pairs of certificate and key.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Client {
    File(String),
    Files(Vec<String>),
    Pairs(Vec<[String; 2]>),
}

impl OneOrMore {
    fn list(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::More(more) => more,
        }
    }
}

fn by_file(config: &Config, path: &Path, name: &str) -> Result<Vec<Host>, Error> {
    let complain = |e: &dyn std::fmt::Display| Error::config(format!("{}: {e}", path.display()));
    let text = fs::read_to_string(path).map_err(|e| complain(&e))?;
    let file: File = toml::from_str(&text).map_err(|e| complain(&e.message()))?;
    let base = path.parent().unwrap_or(Path::new("/"));
    let realms = file.realm.map(OneOrMore::list).unwrap_or_default();
    let realms: Vec<_> =
        realms.iter().map(|url| Origin::parse(url)).collect::<Result<_, _>>().map_err(|e| complain(&e))?;
    let reader = Reader { config, base, name, realms };
    let mut hosts = Vec::new();
    for (url, entry) in file.host {
        let entry: Entry =
            entry.try_into().map_err(|e: toml::de::Error| complain(&format!("{url}: {}", e.message())))?;
        hosts.extend(reader.host(&url, entry, false).map_err(|e| complain(&e))?);
    }
    let said_nothing = file.server.is_none();
    let top = Entry {
        capabilities: file.capabilities,
        ca: file.ca,
        client: file.client,
        skip_verify: file.skip_verify,
        header: file.header,
        override_path: file.override_path,
    };
    let server = file.server.unwrap_or_else(|| format!("https://{}", server_of(name)));
    let last = reader.host(&server, top, true).map_err(|e| complain(&e))?;
    // The server stands at the end, unless it is one of the hosts already.
    let listed = hosts.iter().any(|host| host.origin == last[0].origin);
    if !listed {
        hosts.extend(last);
        if said_nothing && config.is_insecure(server_of(name)) {
            let plain = registry(config, name)?.pop();
            hosts.extend(plain.map(|host| Host { realms: reader.realms.clone(), ..host }));
        }
    }
    Ok(hosts)
}

struct Reader<'a> {
    config: &'a Config,
    base: &'a Path,
    name: &'a str,
    realms: Vec<Origin>,
}

impl Reader<'_> {
    fn host(&self, url: &str, entry: Entry, is_server: bool) -> Result<Vec<Host>, Error> {
        let url = if url.contains("://") { url.to_owned() } else { format!("https://{url}") };
        let (origin, path) = split(&url)?;
        let of_registry = origin.authority == Origin::new(origin.secure, server_of(self.name)).authority
            || origin.authority == Origin::new(origin.secure, self.name).authority;
        let trust = self.trust(&origin, &entry)?;
        let header =
            |(name, values): (String, OneOrMore)| values.list().into_iter().map(move |v| (name.clone(), v));
        Ok(vec![Host {
            path: if entry.override_path { path } else { versioned(&path) },
            may: entry.capabilities.as_deref().map_or(Ok(ALL), capabilities)?,
            is_registry: is_server || of_registry,
            namespace: (!of_registry).then(|| self.name.to_owned()),
            headers: entry.header.into_iter().flat_map(header).collect(),
            realms: self.realms.clone(),
            origin,
            trust,
        }])
    }

    fn trust(&self, origin: &Origin, entry: &Entry) -> Result<Trust, Error> {
        // Relative names are beside the file.
        let beside = |file: &String| self.base.join(file);
        let authorities = match &entry.ca {
            Some(OneOrMore::One(one)) => vec![beside(one)],
            Some(OneOrMore::More(more)) => more.iter().map(beside).collect(),
            None => Vec::new(),
        };
        let client = match &entry.client {
            None => None,
            Some(Client::File(file)) => Some((beside(file), beside(file))),
            Some(Client::Files(files)) => files.first().map(|file| (beside(file), beside(file))),
            Some(Client::Pairs(pairs)) => pairs.first().map(|[cert, key]| (beside(cert), beside(key))),
        };
        // What the file is silent about is as elsewhere.
        let usual = trust_of(self.config, origin)?;
        Ok(Trust {
            authorities: if authorities.is_empty() { usual.authorities } else { authorities },
            client: client.or(usual.client),
            unchecked: entry.skip_verify.unwrap_or(entry.ca.is_none() && usual.unchecked),
        })
    }
}

fn capabilities(words: &[String]) -> Result<Capabilities, Error> {
    let mut may = Capabilities { pull: false, resolve: false, push: false };
    for word in words {
        match word.as_str() {
            "pull" => may.pull = true,
            "resolve" => may.resolve = true,
            "push" => may.push = true,
            _ => {
                return Err(Error::config(format!(
                    "unknown capability {word:?}: want pull, resolve or push"
                )));
            }
        }
    }
    Ok(may)
}

fn split(url: &str) -> Result<(Origin, String), Error> {
    let origin = Origin::parse(url)?;
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let path = rest.find('/').map_or("", |slash| &rest[slash..]).trim_end_matches('/');
    Ok((origin, path.to_owned()))
}

fn versioned(path: &str) -> String {
    if path.ends_with("/v2") { path.to_owned() } else { format!("{path}/v2") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(hosts: &[Host]) -> Vec<String> {
        hosts.iter().map(|host| format!("{}{}", host.origin.text(), host.path)).collect()
    }

    #[test]
    fn dockers_rules() {
        let config = Config {
            mirrors: vec!["https://m.example/a/".into(), "http://127.0.0.1:5000".into()],
            directories: vec![],
            ..Config::default()
        };
        let pull = of(&config, "docker.io", Action::Pull).unwrap();
        let want = ["https://m.example/a/v2", "http://127.0.0.1:5000/v2", "https://registry-1.docker.io/v2"];
        assert_eq!(shown(&pull), want);
        assert_eq!(pull.iter().map(|host| host.is_registry).collect::<Vec<_>>(), [false, false, true]);
        let push = of(&config, "docker.io", Action::Push).unwrap();
        assert_eq!(shown(&push), ["https://registry-1.docker.io/v2"]);
        assert_eq!(shown(&of(&config, "r.example", Action::Pull).unwrap()), ["https://r.example/v2"]);
        let loopback = of(&config, "localhost:5000", Action::Pull).unwrap();
        assert_eq!(shown(&loopback), ["https://localhost:5000/v2", "http://localhost:5000/v2"]);
    }

    #[test]
    fn containerds_rules() {
        let root = std::env::temp_dir().join(format!("knarr-hosts-{}", std::process::id()));
        let own = root.join("r.example_5000_");
        fs::create_dir_all(&own).unwrap();
        fs::create_dir_all(root.join("_default")).unwrap();
        let text = "server = \"https://r.example:5000\"\n[host.\"https://b.example\"]\ncapabilities = [\"pull\", \"resolve\"]\n\
                    ca = \"b.pem\"\n[host.\"https://b.example\".header]\nx-one = [\"1\", \"2\"]\n\
                    [host.\"http://a.example/deep/v2/x\"]\noverride_path = true\nskip_verify = true\n\
                    client = [[\"/c.cert\", \"/c.key\"]]\n";
        fs::write(own.join("hosts.toml"), text).unwrap();
        fs::write(
            root.join("_default/hosts.toml"),
            "[host.\"https://any.example\"]\ncapabilities = [\"pull\"]\n",
        )
        .unwrap();
        let config = Config { directories: vec![root.clone()], ..Config::default() };
        let pull = of(&config, "r.example:5000", Action::Pull).unwrap();
        let want = ["https://b.example/v2", "http://a.example/deep/v2/x", "https://r.example:5000/v2"];
        assert_eq!(shown(&pull), want);
        assert_eq!(pull[0].trust.authorities, [own.join("b.pem")]);
        assert_eq!(pull[0].headers.len(), 2);
        assert_eq!(pull[0].namespace.as_deref(), Some("r.example:5000"));
        assert!(pull[1].trust.unchecked && pull[1].trust.client.is_some());
        assert!(!pull[0].is_registry && !pull[1].is_registry && pull[2].is_registry);
        assert_eq!(shown(&of(&config, "r.example:5000", Action::Push).unwrap()), &want[1..]);
        let any = of(&config, "q.example", Action::Pull).unwrap();
        assert_eq!(shown(&any), ["https://any.example/v2", "https://q.example/v2"]);
        fs::write(own.join("hosts.toml"), "[host.\"https://b.example\"]\nskip = true\n").unwrap();
        let error = of(&config, "r.example:5000", Action::Pull).unwrap_err().to_string();
        assert!(error.contains("hosts.toml") && error.contains("skip"), "{error}");
        fs::remove_dir_all(&root).unwrap();
    }
}
