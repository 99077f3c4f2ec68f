//! A connection to systemd: over the message bus, or straight to its private socket where there is no bus.

use std::{
    fmt::{self, Write as _},
    io::{self, Read, Write as _},
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStringExt,
            net::{SocketAddr, UnixStream},
        },
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

pub use super::wire::Value;
use super::{
    Manager, host_uid,
    wire::{self, Call, FIXED, Message, Writer},
};
use crate::error::{Error, Result};

/// How long systemd may take for a job.
const PATIENCE: Duration = Duration::from_secs(30);

const SYSTEMD: &str = "org.freedesktop.systemd1";
const BUS: &str = "org.freedesktop.DBus";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";

/// What went wrong: the D-Bus name of the error (none if it is our own), and its message.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) name: String,
    message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.name, self.message)
        }
    }
}

impl Refusal {
    fn new(message: impl fmt::Display) -> Self {
        Self { name: String::new(), message: message.to_string() }
    }

    pub(super) fn during(&self, what: impl fmt::Display) -> Error {
        Error::new(format!("{what}: {self}"))
    }
}

/// A connection.
pub(super) struct Bus {
    stream: UnixStream,
    serial: u32,
    deadline: Instant,
    /// Signals that came while an answer was awaited.
    signals: Vec<Message>,
}

impl Bus {
    /// Connects, says who we are, and asks to be told of jobs.
    pub(super) fn connect(manager: Manager) -> Result<Self> {
        let mut tried = Vec::new();
        for (address, is_bus) in addresses(manager) {
            let connected = Self::open(&address, is_bus);
            match connected {
                Ok(bus) => return Ok(bus),
                Err(error) => tried.push(format!("{}: {error}", address.display())),
            }
        }
        Err(Error::new(format!(
            "connect to systemd: {}: --systemd-cgroup needs a running systemd; without it cgroups are made directly",
            tried.join("; ")
        )))
    }

    fn open(address: &Path, is_bus: bool) -> std::result::Result<Self, Refusal> {
        let stream = match address.to_string_lossy().strip_prefix('@') {
            Some(name) => {
                SocketAddr::from_abstract_name(name).and_then(|name| UnixStream::connect_addr(&name))
            }
            None => UnixStream::connect(address),
        };
        let stream = stream.map_err(|error| Refusal::new(sys::errno::name(&error)))?;
        let mut bus = Self { stream, serial: 0, deadline: Instant::now() + PATIENCE, signals: Vec::new() };
        bus.authenticate().map_err(Refusal::new)?;
        if is_bus {
            bus.call(BUS, "/org/freedesktop/DBus", BUS, "Hello", "", Writer::default())?;
            let mut rule = Writer::default();
            rule.text(
                "type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.systemd1.Manager',\
                 member='JobRemoved'",
            );
            bus.call(BUS, "/org/freedesktop/DBus", BUS, "AddMatch", "s", rule)?;
        }
        bus.ask("Subscribe", "", Writer::default())?;
        Ok(bus)
    }

    /// SASL's EXTERNAL: the kernel tells the other side who we are; we only repeat it.
    ///
    /// BEGIN goes with it, as from sd-bus: what arrives right behind a BEGIN of its own stays unread in systemd 252's
    /// buffer until something else comes, for the private socket knows no such haste.
    fn authenticate(&mut self) -> io::Result<()> {
        let mut uid = String::new();
        for digit in host_uid().to_string().bytes() {
            let _ = write!(uid, "{digit:02x}");
        }
        self.send(format!("\0AUTH EXTERNAL {uid}\r\nBEGIN\r\n").as_bytes())?;
        // The other side says one line, and nothing more until it is called.
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut part = [0; 512];
            self.stream.set_read_timeout(self.left()?)?;
            let length = self.stream.read(&mut part)?;
            line.extend_from_slice(&part[..length]);
            if length == 0 || line.len() > 512 {
                return Err(io::Error::other("no end of the answer to AUTH"));
            }
        }
        if !line.starts_with(b"OK ") {
            let said = String::from_utf8_lossy(&line).trim().to_owned();
            return Err(io::Error::other(format!("AUTH EXTERNAL is answered {said:?}")));
        }
        Ok(())
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write_all(bytes)
    }

    fn receive(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read_exact(bytes)
    }

    fn next(&mut self) -> std::result::Result<Message, Refusal> {
        let error = |error: io::Error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Refusal::new("no answer in 30 s"),
            _ => Refusal::new(error),
        };
        let mut head = [0; FIXED];
        self.receive(&mut head).map_err(error)?;
        let garbled = || Refusal::new("an answer that is no D-Bus message");
        let (length, _) = wire::lengths(&head).ok_or_else(garbled)?;
        let mut bytes = head.to_vec();
        bytes.resize(length, 0);
        self.receive(&mut bytes[FIXED..]).map_err(error)?;
        Message::read(&bytes).ok_or_else(garbled)
    }

    fn call(
        &mut self,
        destination: &str,
        path: &str,
        interface: &str,
        member: &str,
        signature: &str,
        body: Writer,
    ) -> std::result::Result<Vec<String>, Refusal> {
        self.deadline = Instant::now() + PATIENCE;
        self.serial += 1;
        let call = Call { destination, path, interface, member, signature };
        self.send(&call.message(self.serial, body)).map_err(Refusal::new)?;
        loop {
            let message = self.next()?;
            match message.kind {
                wire::SIGNAL => self.signals.push(message),
                wire::METHOD_RETURN if message.reply_to == self.serial => {
                    return Ok(message.texts().unwrap_or_default());
                }
                wire::ERROR if message.reply_to == self.serial => {
                    let text = message.texts().and_then(|texts| texts.into_iter().next());
                    return Err(Refusal { name: message.error, message: text.unwrap_or_default() });
                }
                _ => {}
            }
        }
    }

    fn ask(
        &mut self,
        member: &str,
        signature: &str,
        body: Writer,
    ) -> std::result::Result<Vec<String>, Refusal> {
        self.call(SYSTEMD, MANAGER_PATH, MANAGER, member, signature, body)
    }

    /// Calls a method that answers with a job, and waits for that job.
    fn job(&mut self, member: &str, signature: &str, body: Writer) -> std::result::Result<(), Refusal> {
        let answer = self.ask(member, signature, body)?;
        let job = answer.first().ok_or_else(|| Refusal::new(format!("{member} answers without a job")))?;
        loop {
            let signal = match self.signals.pop() {
                Some(signal) => signal,
                None => self.next()?,
            };
            if signal.kind != wire::SIGNAL || signal.member != "JobRemoved" {
                continue;
            }
            // Number, job, unit, result.
            let Some([removed, unit, result]) =
                signal.texts().and_then(|texts| <[String; 3]>::try_from(texts).ok())
            else {
                continue;
            };
            if removed == *job {
                return match result.as_str() {
                    "done" => Ok(()),
                    other => Err(Refusal::new(format!("the job for {unit} ended with {other:?}"))),
                };
            }
        }
    }

    pub(super) fn start_unit(
        &mut self,
        name: &str,
        properties: &[(String, Value)],
    ) -> std::result::Result<(), Refusal> {
        let mut body = Writer::default();
        body.text(name);
        body.text("replace");
        body.properties(properties);
        body.nothing();
        self.job("StartTransientUnit", "ssa(sv)a(sa(sv))", body)
    }

    pub(super) fn stop_unit(&mut self, name: &str) -> std::result::Result<(), Refusal> {
        let mut body = Writer::default();
        body.text(name);
        body.text("replace");
        self.job("StopUnit", "ss", body)
    }

    pub(super) fn set_properties(
        &mut self,
        name: &str,
        properties: &[(String, Value)],
    ) -> std::result::Result<(), Refusal> {
        let mut body = Writer::default();
        body.text(name);
        // For this boot only.
        body.u32(1);
        body.properties(properties);
        self.ask("SetUnitProperties", "sba(sv)", body).map(drop)
    }

    pub(super) fn reset_failed(&mut self, name: &str) -> std::result::Result<(), Refusal> {
        let mut body = Writer::default();
        body.text(name);
        self.ask("ResetFailedUnit", "s", body).map(drop)
    }

    /// The path of a scope's group, from the hierarchy's root.
    pub(super) fn control_group(&mut self, name: &str) -> std::result::Result<String, Refusal> {
        let mut body = Writer::default();
        body.text("org.freedesktop.systemd1.Scope");
        body.text("ControlGroup");
        let path = unit_path(name);
        let answer = self.call(SYSTEMD, &path, "org.freedesktop.DBus.Properties", "Get", "ss", body)?;
        answer.into_iter().next().ok_or_else(|| Refusal::new("ControlGroup is no text"))
    }
}

/// A unit's object: what is no letter or digit becomes `_` and two hexadecimal digits.
pub(super) fn unit_path(name: &str) -> String {
    let mut path = format!("{MANAGER_PATH}/unit/");
    for (index, byte) in name.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (byte.is_ascii_digit() && index > 0) {
            path.push(byte.into());
        } else {
            let _ = write!(path, "_{byte:02x}");
        }
    }
    path
}

/// Where to look, and whether it is a bus.
fn addresses(manager: Manager) -> Vec<(PathBuf, bool)> {
    let named = |variable: &str| {
        let value = std::env::var_os(variable).map(OsStringExt::into_vec).unwrap_or_default();
        socket(&String::from_utf8_lossy(&value))
    };
    match manager {
        Manager::System => {
            let bus =
                named("DBUS_SYSTEM_BUS_ADDRESS").unwrap_or_else(|| "/run/dbus/system_bus_socket".into());
            vec![(bus, true), ("/run/systemd/private".into(), false)]
        }
        Manager::User(uid) => {
            let run = std::env::var_os("XDG_RUNTIME_DIR").filter(|run| !run.is_empty());
            let run = run.map_or_else(|| PathBuf::from(format!("/run/user/{uid}")), PathBuf::from);
            let bus = named("DBUS_SESSION_BUS_ADDRESS").unwrap_or_else(|| run.join("bus"));
            vec![(bus, true), (run.join("systemd/private"), false)]
        }
    }
}

/// The first Unix socket of a list of D-Bus addresses; `@` begins an abstract one.
pub(super) fn socket(addresses: &str) -> Option<PathBuf> {
    let mut unix = addresses.split(';').filter_map(|address| address.strip_prefix("unix:"));
    unix.find_map(|address| {
        address.split(',').find_map(|pair| match pair.split_once('=')? {
            ("path", path) => unescape(path).map(PathBuf::from),
            ("abstract", name) => unescape(name).map(|name| PathBuf::from(format!("@{name}"))),
            _ => None,
        })
    })
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}
