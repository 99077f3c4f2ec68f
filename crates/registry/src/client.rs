//! One repository of one registry: requests, with who asks, where to, and what a failure means.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use oci::Reference;
use ureq::{
    Agent, AsSendBody, Body, Proxy, SendBody,
    http::{HeaderMap, Method, Request, Response, StatusCode, header, request::Builder},
    unversioned::transport::{ConnectProxyConnector, Connector, TcpConnector},
};

use crate::{
    Action, Cancel, Config, Credentials, Error,
    auth::{Bearer, Challenges, Token, is_trusted_realm},
    dns,
    error::{of_answer, plain},
    hosts::{self, Host, Trust},
    tls,
    url::{self, Origin},
};

/// Redirects of one request.
const MAX_HOPS: usize = 5;
/// Headers of one answer.
const MAX_HEADERS: usize = 64 << 10;
/// Error documents and tokens.
const MAX_ANSWER: u64 = 1 << 20;
/// Longest that a registry may have us wait; beyond it, its refusal is the answer.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// For a connection; several addresses share it.
const CONNECT: Duration = Duration::from_secs(30);

/// The client's side of one repository. Calls wait; several threads may make them at once.
#[derive(Debug)]
pub struct Client {
    pub(crate) config: Config,
    pub(crate) repository: String,
    registry: String,
    hosts: Vec<Host>,
    /// Of `hosts`, the one that answered last.
    good: AtomicUsize,
    credentials: Credentials,
    scopes: Vec<String>,
    agents: Mutex<BTreeMap<Origin, Agent>>,
    /// What a host wanted to see as `Authorization`.
    proofs: Mutex<BTreeMap<Origin, String>>,
    pub(crate) cancel: Cancel,
}

/// One request.
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) url: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Content<'a>,
    /// How long the answer may take to begin, if that is longer than usual.
    pub(crate) patience: Option<Duration>,
}

/// What is sent. It may have to be sent again.
pub(crate) enum Content<'a> {
    None,
    Bytes(&'a [u8]),
    /// So many bytes.
    Stream(u64, &'a mut dyn FnMut() -> io::Result<Box<dyn Read + 'a>>),
}

impl<'a> Ask<'a> {
    pub(crate) fn new(method: Method, url: String) -> Self {
        Self { method, url, headers: Vec::new(), body: Content::None, patience: None }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn body(mut self, body: Content<'a>) -> Self {
        self.body = body;
        self
    }
}

impl Client {
    /// For `action` on the repository of `name`. `credentials` are those for its registry, or empty. With
    /// [`Action::Push`], `sources` are other repositories there whose blobs may be mounted.
    pub fn new(
        config: &Config,
        name: &Reference,
        action: Action,
        sources: &[String],
        credentials: Credentials,
        cancel: Cancel,
    ) -> Result<Self, Error> {
        let scope = |path: &str, what: &str| format!("repository:{path}:{what}");
        let what = if action == Action::Push { "pull,push" } else { "pull" };
        let others = sources.iter().filter(|source| *source != name.path());
        let mut scopes: Vec<_> = others.map(|source| scope(source, "pull")).collect();
        scopes.insert(0, scope(name.path(), what));
        Ok(Self {
            config: config.clone(),
            repository: name.path().to_owned(),
            registry: name.host().to_owned(),
            hosts: hosts::of(config, name.host(), action)?,
            good: AtomicUsize::new(0),
            credentials,
            scopes,
            agents: Mutex::default(),
            proofs: Mutex::default(),
            cancel,
        })
    }

    /// For a look whether `credentials` are those of the registry `host`.
    pub(crate) fn for_login(
        config: &Config,
        host: &str,
        credentials: Credentials,
        cancel: Cancel,
    ) -> Result<Self, Error> {
        let mut hosts =
            hosts::of(config, host, Action::Push).or_else(|_| hosts::of(config, host, Action::Pull))?;
        hosts.retain(|host| host.is_registry);
        Ok(Self {
            config: config.clone(),
            repository: String::new(),
            registry: host.to_owned(),
            hosts,
            good: AtomicUsize::new(0),
            credentials,
            scopes: Vec::new(),
            agents: Mutex::default(),
            proofs: Mutex::default(),
            cancel,
        })
    }

    /// `docker.io`, `localhost:5000`, …
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Ends what is under way, as [`Cancel::cancel`] does.
    pub fn stop(&self) {
        self.cancel.cancel();
    }

    /// Whether it was ended.
    pub fn check(&self) -> Result<(), Error> {
        self.cancel.check()
    }

    /// The address of `what` (`manifests/latest`) in the repository on `host`.
    pub(crate) fn url(&self, host: &Host, what: &str) -> String {
        let url = format!("{}{}/{}/{what}", host.origin.text(), host.path, self.repository);
        match &host.namespace {
            Some(namespace) => url::with_query(&url, &format!("ns={}", url::encode(namespace))),
            None => url,
        }
    }

    /// Asks the hosts in their order, the one that answered last first, until one has an answer. What the registry
    /// itself says, once it is reached, stands.
    pub(crate) fn on_hosts<T>(&self, mut ask: impl FnMut(&Host) -> Result<T, Error>) -> Result<T, Error> {
        let good = self.good.load(Ordering::Relaxed);
        let order = std::iter::once(good).chain((0..self.hosts.len()).filter(|at| *at != good));
        let mut told: Option<(bool, Error)> = None;
        for at in order {
            let host = &self.hosts[at];
            match ask(host) {
                Ok(answer) => {
                    self.good.store(at, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) if !error.is_of_this_host_only() => return Err(error),
                Err(error) => {
                    let reached = !matches!(error, Error::Unreachable(_) | Error::Tls { .. });
                    if reached && host.is_registry {
                        return Err(error);
                    }
                    tracing::debug!("{}: {error}", host.origin.text());
                    if told.as_ref().is_none_or(|(by_registry, _)| host.is_registry || !by_registry) {
                        told = Some((host.is_registry, error));
                    }
                }
            }
        }
        Err(told.map_or_else(|| Error::config("no host to ask"), |(_, error)| error))
    }

    /// One request to `host` and its answer, whatever it is, after challenges and redirects.
    pub(crate) fn ask(&self, host: &Host, ask: &mut Ask<'_>) -> Result<Response<Body>, Error> {
        let mut url = ask.url.clone();
        let mut proven = false;
        for _ in 0..=MAX_HOPS + 1 {
            let origin = Origin::parse(&url)?;
            let own = origin == host.origin;
            let proof = if own { self.proof(host) } else { None };
            let headers = if own { host.headers.as_slice() } else { &[] };
            let answer = self.send(host, &origin, &url, ask, proof.as_deref(), headers)?;
            match answer.status().as_u16() {
                401 if own && !proven => {
                    proven = true;
                    self.prove(host, &answer, proof.as_ref(), &ask.method, &url)?;
                }
                301 | 302 | 303 | 307 | 308 => url = self.redirect(&url, &answer, &ask.method)?,
                _ => return Ok(answer),
            }
        }
        Err(Error::invalid(format!("{} {}: too many redirects", title(&ask.method), shown(&ask.url))))
    }

    /// Like [`Client::ask`], but an answer that is no success is an error.
    pub(crate) fn get(&self, host: &Host, ask: &mut Ask<'_>) -> Result<Response<Body>, Error> {
        let mut wait = Duration::from_secs(1);
        for attempt in 1.. {
            let answer = self.ask(host, ask)?;
            if answer.status().is_success() {
                return Ok(answer);
            }
            let error = failure(answer);
            let pause = match &error {
                Error::TooManyRequests { retry_after: Some(after), .. } if *after <= MAX_WAIT => *after,
                Error::TooManyRequests { retry_after: None, .. } | Error::Server(_) => wait,
                _ => return Err(error),
            };
            if attempt >= self.config.attempts {
                return Err(error);
            }
            tracing::debug!("{}: {error}; asking again in {pause:?}", shown(&ask.url));
            self.cancel.sleep(pause)?;
            wait = (wait * 2).min(MAX_WAIT);
        }
        Err(Error::Cancelled)
    }

    fn redirect(&self, url: &str, answer: &Response<Body>, method: &Method) -> Result<String, Error> {
        let to = location(url, answer)?;
        let (from, to_origin) = (Origin::parse(url)?, Origin::parse(&to)?);
        let reads = matches!(*method, Method::GET | Method::HEAD);
        if !reads && (from != to_origin || !matches!(answer.status().as_u16(), 307 | 308)) {
            return Err(Error::invalid(format!(
                "{} {}: redirected, which is not followed",
                title(method),
                shown(url)
            )));
        }
        self.no_way_down(&from, &to_origin)?;
        Ok(to)
    }

    /// From TLS to none leads no way, unless the target is listed as insecure.
    pub(crate) fn no_way_down(&self, from: &Origin, to: &Origin) -> Result<(), Error> {
        if from.secure && !to.secure && !self.config.is_insecure(&to.authority) {
            let (from, to) = (from.text(), to.text());
            return Err(Error::invalid(format!(
                "{from} leads to {to}, which is without TLS: not followed (a proxy before the registry may have to \
                 set X-Forwarded-Proto)"
            )));
        }
        Ok(())
    }

    fn proofs(&self) -> MutexGuard<'_, BTreeMap<Origin, String>> {
        self.proofs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn proof(&self, host: &Host) -> Option<String> {
        self.proofs().get(&host.origin).cloned()
    }

    /// Answers a challenge of `host`. `shown_before` is what was refused.
    fn prove(
        &self,
        host: &Host,
        answer: &Response<Body>,
        shown_before: Option<&String>,
        method: &Method,
        url: &str,
    ) -> Result<(), Error> {
        let mut proofs = self.proofs();
        let now = proofs.get(&host.origin);
        if now.is_some() && now != shown_before {
            // Another thread was faster.
            return Ok(());
        }
        let values = answer.headers().get_all(header::WWW_AUTHENTICATE).into_iter();
        let challenges = Challenges::parse(values.filter_map(|value| value.to_str().ok()));
        let nobody = Credentials::default();
        let credentials = if host.is_registry { &self.credentials } else { &nobody };
        let proof = match challenges {
            Challenges { bearer: Some(_), .. } if !credentials.registry_token.is_empty() => {
                format!("Bearer {}", credentials.registry_token)
            }
            Challenges { bearer: Some(bearer), .. } => {
                format!("Bearer {}", self.token(host, &bearer, credentials)?.text())
            }
            Challenges { basic: true, .. } => credentials.basic().ok_or_else(|| {
                Error::NoCredentials(format!("{} {}: no basic auth credentials", title(method), shown(url)))
            })?,
            Challenges { .. } => {
                return Err(Error::Unauthorized(format!(
                    "{} {}: unauthorized: authentication required",
                    title(method),
                    shown(url)
                )));
            }
        };
        proofs.insert(host.origin.clone(), proof);
        Ok(())
    }

    /// A token of the registry's token server (distribution, "Token Authentication"): by its refresh token (POST),
    /// by name and password, or for anybody (GET).
    pub(crate) fn token(
        &self,
        host: &Host,
        bearer: &Bearer,
        credentials: &Credentials,
    ) -> Result<Token, Error> {
        let realm = Origin::parse(&bearer.realm)?;
        self.no_way_down(&host.origin, &realm)?;
        if !credentials.is_empty() && !is_trusted_realm(&host.origin, &realm, &host.realms) {
            let (registry, realm) = (host.origin.text(), realm.text());
            return Err(Error::Denied(format!(
                "{registry} asks to send its credentials to {realm}, which is elsewhere: not sent (allow it by \
                 realm = [\"{realm}\"] in the registry's hosts.toml, or log out)"
            )));
        }
        let mut scopes = self.scopes.clone();
        scopes.extend(bearer.scope.split(' ').map(str::to_owned));
        scopes.retain(|scope| !scope.is_empty());
        let mut distinct = Vec::new();
        for scope in scopes {
            if !distinct.contains(&scope) {
                distinct.push(scope);
            }
        }
        let mut ask = if credentials.identity_token.is_empty() {
            get_token(bearer, &distinct, credentials)
        } else {
            Ask::new(Method::POST, bearer.realm.clone())
                .header("content-type", "application/x-www-form-urlencoded")
        };
        let form = post_form(bearer, &distinct, credentials);
        if !credentials.identity_token.is_empty() {
            ask.body = Content::Bytes(form.as_bytes());
        }
        let url = ask.url.clone();
        let answer = self.send(host, &realm, &url, &mut ask, None, &[])?;
        if !answer.status().is_success() {
            return Err(failure(answer));
        }
        Token::parse(&whole(answer, MAX_ANSWER)?)
    }

    /// One exchange with `host` itself.
    pub(crate) fn exchange(
        &self,
        host: &Host,
        ask: &mut Ask<'_>,
        proof: Option<&str>,
    ) -> Result<Response<Body>, Error> {
        let url = ask.url.clone();
        self.send(host, &host.origin, &url, ask, proof, &host.headers)
    }

    pub(crate) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// One exchange, without any meaning yet.
    fn send(
        &self,
        host: &Host,
        origin: &Origin,
        url: &str,
        ask: &mut Ask<'_>,
        proof: Option<&str>,
        headers: &[(String, String)],
    ) -> Result<Response<Body>, Error> {
        self.cancel.check()?;
        let agent = self.agent(host, origin)?;
        let mut request = Request::builder().method(ask.method.clone()).uri(url);
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(proof) = proof {
            request = request.header(header::AUTHORIZATION, proof);
        }
        let mut source: Box<dyn Read + '_> = match &mut ask.body {
            Content::None => return self.run(&agent, request, (), ask.patience, origin),
            Content::Bytes(bytes) => {
                request = request.header(header::CONTENT_LENGTH, bytes.len());
                Box::new(*bytes)
            }
            Content::Stream(length, open) => {
                request = request.header(header::CONTENT_LENGTH, *length);
                open()?
            }
        };
        self.run(&agent, request, SendBody::from_reader(&mut source), ask.patience, origin)
    }

    fn run(
        &self,
        agent: &Agent,
        request: Builder,
        body: impl AsSendBody,
        patience: Option<Duration>,
        origin: &Origin,
    ) -> Result<Response<Body>, Error> {
        let request =
            request.body(body).map_err(|e| Error::invalid(format!("request to {}: {e}", origin.text())))?;
        let (method, url) = (request.method().clone(), request.uri().to_string());
        let patience = patience.unwrap_or(self.config.patience);
        let request = agent.configure_request(request).timeout_per_read(Some(patience)).build();
        agent.run(request).map_err(|e| self.trouble(e, origin, &method, &url))
    }

    /// Why there is no answer.
    pub(crate) fn trouble(&self, error: ureq::Error, origin: &Origin, method: &Method, url: &str) -> Error {
        if self.cancel.is_cancelled() {
            return Error::Cancelled;
        }
        let error = error.into_io();
        if let Some(fault) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            let fault = tls::fault(fault, origin);
            return match fault {
                Error::Tls { what, remedy } => {
                    Error::Tls { what: format!("{} {}: {what}", title(method), shown(url)), remedy }
                }
                other => other,
            };
        }
        let why = match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                format!("dial tcp {}: connect: connection refused", origin.authority)
            }
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
                format!("dial tcp {}: i/o timeout", origin.authority)
            }
            io::ErrorKind::NotFound => format!("dial tcp: {error}"),
            io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
            _ => plain(&error.to_string()),
        };
        Error::Unreachable(format!("{} {}: {why}", title(method), shown(url)))
    }

    /// The connections to `origin`, which `host` is or led to.
    fn agent(&self, host: &Host, origin: &Origin) -> Result<Agent, Error> {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(origin) {
            return Ok(agent.clone());
        }
        let trust =
            if host.origin == *origin { host.trust.clone() } else { hosts::trust_of(&self.config, origin)? };
        let agent = self.make_agent(origin, &trust)?;
        self.cancel.hold(&agent)?;
        agents.insert(origin.clone(), agent.clone());
        Ok(agent)
    }

    fn make_agent(&self, origin: &Origin, trust: &Trust) -> Result<Agent, Error> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(self.config.user_agent.as_str())
            .accept_encoding("identity")
            .max_response_header_size(MAX_HEADERS)
            .timeout_connect(Some(CONNECT))
            .timeout_resolve(Some(CONNECT))
            .timeout_per_read(Some(self.config.patience))
            .timeout_per_write(Some(self.config.patience))
            .input_buffer_size(128 << 10)
            .output_buffer_size(128 << 10)
            .proxy(proxy(origin))
            .build();
        let connector = ().chain(ConnectProxyConnector::default()).chain(TcpConnector::default());
        let names = dns::Names;
        Ok(if origin.secure {
            let tls = tls::Tls(Arc::new(tls::client_config(trust)?));
            Agent::with_parts(config, connector.chain(tls), names)
        } else {
            Agent::with_parts(config, connector, names)
        })
    }
}

/// `HTTPS_PROXY` and its kin; never for this host itself, as in Docker.
fn proxy(origin: &Origin) -> Option<Proxy> {
    let is_here = Config { insecure: Vec::new(), ..Config::default() }.is_insecure(&origin.authority);
    if is_here { None } else { Proxy::try_from_env() }
}

fn get_token<'a>(bearer: &Bearer, scopes: &[String], credentials: &Credentials) -> Ask<'a> {
    let mut url = bearer.realm.clone();
    let mut add = |key: &str, value: &str| {
        if !value.is_empty() {
            url = url::with_query(&url, &format!("{key}={}", url::encode(value)));
        }
    };
    if !credentials.username.is_empty() {
        add("account", &credentials.username);
    }
    for scope in scopes {
        add("scope", scope);
    }
    add("service", &bearer.service);
    if scopes.is_empty() && !credentials.is_empty() {
        // A login: what is kept is a token rather than the password.
        add("client_id", CLIENT_ID);
        add("offline_token", "true");
    }
    let ask = Ask::new(Method::GET, url);
    match credentials.basic() {
        Some(basic) => ask.header("authorization", basic),
        None => ask,
    }
}

const CLIENT_ID: &str = "knarr";

fn post_form(bearer: &Bearer, scopes: &[String], credentials: &Credentials) -> String {
    let scopes = scopes.join(" ");
    let parts = [
        ("grant_type", "refresh_token"),
        ("service", bearer.service.as_str()),
        ("client_id", CLIENT_ID),
        ("scope", scopes.as_str()),
        ("refresh_token", credentials.identity_token.as_str()),
    ];
    let encoded: Vec<_> = parts.iter().map(|(key, value)| format!("{key}={}", url::encode(value))).collect();
    encoded.join("&")
}

/// Where an answer to `url` leads.
pub(crate) fn location(url: &str, answer: &Response<Body>) -> Result<String, Error> {
    let value = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
    let value =
        value.ok_or_else(|| Error::invalid(format!("the answer to {} lacks a Location", shown(url))))?;
    url::join(url, value)
}

/// The error that an answer tells.
pub(crate) fn failure(answer: Response<Body>) -> Error {
    let status = answer.status();
    let retry_after = retry_after(answer.headers());
    // What cannot be read adds nothing.
    let body = whole(answer, MAX_ANSWER).unwrap_or_default();
    of_answer(status, &body, retry_after)
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// A body that must not be longer than `limit`.
pub(crate) fn whole(answer: Response<Body>, limit: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut reader = answer.into_body().into_reader().take(limit + 1);
    reader.read_to_end(&mut bytes).map_err(|e| Error::Unreachable(format!("reading an answer: {e}")))?;
    if bytes.len() as u64 > limit {
        return Err(Error::invalid(format!("an answer is longer than {limit} bytes")));
    }
    Ok(bytes)
}

/// A header of text.
pub(crate) fn text<'a>(answer: &'a Response<Body>, name: &str) -> Option<&'a str> {
    answer.headers().get(name).and_then(|value| value.to_str().ok())
}

/// As Go's client names a request.
fn title(method: &Method) -> String {
    let word = method.as_str();
    let (first, rest) = word.split_at(1);
    format!("{first}{}", rest.to_lowercase())
}

/// A URL without its query, which may be a signature.
pub(crate) fn shown(url: &str) -> String {
    format!("{:?}", plain(url.split('?').next().unwrap_or(url)))
}

/// Whether an answer says that there is no such thing.
pub(crate) fn is_absent(status: StatusCode) -> bool {
    status == StatusCode::NOT_FOUND
}
