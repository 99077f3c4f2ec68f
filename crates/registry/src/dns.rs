//! Names to addresses: `/etc/hosts`, then the servers of `/etc/resolv.conf` (hosts(5), resolv.conf(5), RFC 1035).
//!
//! The programs are static files. The C library's `getaddrinfo` loads name-service modules of the host at run time,
//! which a static program cannot do reliably, so names are looked up here.

use std::{
    fs, io,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    path::Path,
    time::{Duration, Instant},
};

use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE, rdata::RData};
use ureq::{
    config::Config,
    http::Uri,
    unversioned::{
        resolver::{ResolvedSocketAddrs, Resolver},
        transport::NextTimeout,
    },
};

const PORT: u16 = 53;
/// Of one question to one server, unless `options timeout:` says otherwise.
const PATIENCE: Duration = Duration::from_secs(5);
const ATTEMPTS: u32 = 2;
/// Files and answers that are larger are not read.
const MAX_FILE: u64 = 1 << 20;
const MAX_SERVERS: usize = 3;
const MAX_SEARCH: usize = 6;
const MAX_ADDRESSES: usize = 16;
/// Of a name as text.
const MAX_NAME: usize = 253;

/// For ureq.
#[derive(Debug)]
pub(crate) struct Names;

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &Uri,
        _: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let authority = uri.authority().ok_or(ureq::Error::HostNotFound)?;
        let own = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let port = authority.port_u16().unwrap_or(own);
        let host = authority.host().trim_matches(['[', ']']);
        let found = lookup(host, *timeout.after).map_err(ureq::Error::Io)?;
        let mut addresses = self.empty();
        for address in found.into_iter().take(MAX_ADDRESSES) {
            addresses.push(SocketAddr::new(address, port));
        }
        Ok(addresses)
    }
}

/// The addresses of `host`, IPv4 first as a host without IPv6 wants it.
pub(crate) fn lookup(host: &str, patience: Duration) -> io::Result<Vec<IpAddr>> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])]);
    }
    let written_down = in_hosts(&read(Path::new("/etc/hosts")), host);
    if !written_down.is_empty() {
        return Ok(written_down);
    }
    let settings = Settings::parse(&read(Path::new("/etc/resolv.conf")));
    settings.ask(host, Instant::now() + patience.min(Duration::from_mins(1)))
}

fn read(path: &Path) -> String {
    let mut text = String::new();
    // What cannot be read says nothing.
    let _ = fs::File::open(path).and_then(|file| file.take(MAX_FILE).read_to_string(&mut text));
    text
}

fn in_hosts(text: &str, host: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let address = words.next().and_then(|word| word.parse().ok());
        if let Some(address) = address
            && words.any(|name| name.eq_ignore_ascii_case(host))
        {
            found.push(address);
        }
    }
    found
}

/// What `resolv.conf` says.
#[derive(Debug, PartialEq, Eq)]
struct Settings {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
    timeout: Duration,
    attempts: u32,
}

impl Settings {
    fn parse(text: &str) -> Self {
        let mut settings =
            Self { servers: Vec::new(), search: Vec::new(), ndots: 1, timeout: PATIENCE, attempts: ATTEMPTS };
        for line in text.lines() {
            let mut words = line.split(['#', ';']).next().unwrap_or_default().split_whitespace();
            match words.next() {
                Some("nameserver") if settings.servers.len() < MAX_SERVERS => {
                    let server = words.next().and_then(|word| word.split('%').next()?.parse::<IpAddr>().ok());
                    settings.servers.extend(server.map(|address| SocketAddr::new(address, PORT)));
                }
                Some("search" | "domain") => {
                    settings.search = words.take(MAX_SEARCH).map(str::to_owned).collect();
                }
                Some("options") => words.for_each(|word| settings.option(word)),
                _ => {}
            }
        }
        if settings.servers.is_empty() {
            settings.servers.push(SocketAddr::new(IpAddr::from([127, 0, 0, 1]), PORT));
        }
        settings
    }

    fn option(&mut self, word: &str) {
        let Some((key, number)) = word.split_once(':').and_then(|(k, v)| Some((k, v.parse::<u32>().ok()?)))
        else {
            return;
        };
        match key {
            "ndots" => self.ndots = number.min(15) as usize,
            "timeout" => self.timeout = Duration::from_secs(number.clamp(1, 30).into()),
            "attempts" => self.attempts = number.clamp(1, 5),
            _ => {}
        }
    }

    /// The names to ask for, in order: as it is first if it has enough dots.
    fn candidates(&self, host: &str) -> Vec<String> {
        if let Some(absolute) = host.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let searched = self.search.iter().map(|domain| format!("{host}.{}", domain.trim_matches('.')));
        let mut names: Vec<_> = searched.collect();
        let place = if host.matches('.').count() >= self.ndots { 0 } else { names.len() };
        names.insert(place, host.to_owned());
        names
    }

    fn ask(&self, host: &str, deadline: Instant) -> io::Result<Vec<IpAddr>> {
        let mut trouble = None;
        for name in self.candidates(host).iter().filter(|name| name.len() <= MAX_NAME) {
            match self.addresses(name, deadline) {
                Ok(found) if !found.is_empty() => return Ok(found),
                Ok(_) => {}
                Err(error) => trouble = Some(error),
            }
        }
        let message = match trouble {
            None => format!("lookup {host}: no such host"),
            Some(error) => format!("lookup {host}: {error}"),
        };
        Err(io::Error::new(io::ErrorKind::NotFound, message))
    }

    fn addresses(&self, name: &str, deadline: Instant) -> io::Result<Vec<IpAddr>> {
        let mut found = self.question(name, TYPE::A, deadline)?;
        // A server that fails at AAAA does not take the other addresses away.
        found.extend(self.question(name, TYPE::AAAA, deadline).unwrap_or_default());
        Ok(found)
    }

    /// One question, to each server in turn.
    fn question(&self, name: &str, kind: TYPE, deadline: Instant) -> io::Result<Vec<IpAddr>> {
        let mut last = io::Error::other("no server");
        for attempt in 0..self.attempts {
            for server in &self.servers {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() && attempt > 0 {
                    return Err(last);
                }
                let timeout = self.timeout.min(left.max(Duration::from_millis(10)));
                match exchange(*server, name, kind, timeout) {
                    Ok(found) => return Ok(found),
                    Err(error) => last = io::Error::new(error.kind(), format!("on {server}: {error}")),
                }
            }
        }
        Err(last)
    }
}

fn exchange(server: SocketAddr, name: &str, kind: TYPE, timeout: Duration) -> io::Result<Vec<IpAddr>> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    let mut query = Packet::new_query(u16::from_be_bytes(id));
    query.set_flags(PacketFlag::RECURSION_DESIRED);
    let asked = Name::new(name).map_err(io::Error::other)?;
    query.questions.push(Question::new(asked, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false));
    let bytes = query.build_bytes_vec().map_err(io::Error::other)?;
    if let Some(found) = read_answer(&by_udp(server, &bytes, timeout)?, query.id(), name, kind)? {
        return Ok(found);
    }
    let answer = by_tcp(server, &bytes, timeout)?;
    let found = read_answer(&answer, query.id(), name, kind)?;
    found.ok_or_else(|| io::Error::other("the answer is cut off"))
}

fn by_udp(server: SocketAddr, query: &[u8], timeout: Duration) -> io::Result<Vec<u8>> {
    let here: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(here)?;
    // Connected: only this server's packets arrive.
    socket.connect(server)?;
    let deadline = Instant::now() + timeout;
    socket.send(query)?;
    let mut answer = vec![0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "i/o timeout"));
        }
        socket.set_read_timeout(Some(left))?;
        match socket.recv(&mut answer) {
            // A forged or late answer does not end the wait for the true one.
            Ok(length) if length >= 2 && answer[..2] == query[..2] => {
                answer.truncate(length);
                return Ok(answer);
            }
            Ok(_) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
}

fn by_tcp(server: SocketAddr, query: &[u8], timeout: Duration) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), query].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// The addresses in an answer; `None` if it was cut off. No such name is no address.
fn read_answer(bytes: &[u8], id: u16, name: &str, kind: TYPE) -> io::Result<Option<Vec<IpAddr>>> {
    let packet = Packet::parse(bytes).map_err(io::Error::other)?;
    let asked = packet.questions.first().map(|question| question.qname.to_string());
    if packet.id() != id || asked.is_none_or(|asked| !asked.eq_ignore_ascii_case(name)) {
        return Err(io::Error::other("the answer is to another question"));
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Ok(None);
    }
    match packet.rcode() {
        RCODE::NoError => {}
        RCODE::NameError => return Ok(Some(Vec::new())),
        _ => return Err(io::Error::other("server misbehaving")),
    }
    let addresses = packet.answers.iter().filter_map(|record| match (&record.rdata, kind) {
        (RData::A(a), TYPE::A) => Some(IpAddr::from(a.address.to_be_bytes())),
        (RData::AAAA(a), TYPE::AAAA) => Some(IpAddr::from(a.address.to_be_bytes())),
        _ => None,
    });
    Ok(Some(addresses.take(MAX_ADDRESSES).collect()))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use simple_dns::{ResourceRecord, rdata::A};

    use super::*;

    #[test]
    fn files_are_read_as_the_c_library_does() {
        let hosts = "127.0.0.1 localhost\n10.0.0.1\tA.example a # b\nfd00::1 a.example\nbad a.example\n";
        let a: Vec<IpAddr> = vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        assert_eq!(in_hosts(hosts, "a.example"), a);
        assert!(in_hosts(hosts, "b").is_empty());
        let text = "# x\nnameserver 10.0.0.2\nnameserver fe80::1%eth0\nsearch a.b c.\noptions ndots:2 timeout:1 rotate\n";
        let settings = Settings::parse(text);
        assert_eq!(settings.servers.len(), 2);
        assert_eq!((settings.ndots, settings.timeout), (2, Duration::from_secs(1)));
        assert_eq!(settings.candidates("x.y"), ["x.y.a.b", "x.y.c", "x.y"]);
        assert_eq!(settings.candidates("x.y.z"), ["x.y.z", "x.y.z.a.b", "x.y.z.c"]);
        assert_eq!(settings.candidates("x."), ["x"]);
    }

    /// Answers one question with one address.
    fn server(socket: &UdpSocket, address: [u8; 4]) {
        let mut buffer = [0; 512];
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        let query = Packet::parse(&buffer[..length]).unwrap();
        let mut reply = Packet::new_reply(query.id());
        let asked = query.questions[0].clone();
        let data = RData::A(A { address: u32::from_be_bytes(address) });
        reply.answers.push(ResourceRecord::new(asked.qname.clone(), CLASS::IN, 60, data));
        reply.questions.push(asked);
        socket.send_to(&[0; 3], from).unwrap();
        socket.send_to(&reply.build_bytes_vec().unwrap(), from).unwrap();
    }

    #[test]
    fn a_server_is_asked() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let answering = thread::spawn(move || server(&socket, [10, 9, 8, 7]));
        let found = exchange(address, "r.example", TYPE::A, Duration::from_secs(5)).unwrap();
        assert_eq!(found, [IpAddr::from([10, 9, 8, 7])]);
        answering.join().unwrap();
    }

    #[test]
    fn answers_of_strangers_are_no_panic() {
        for bytes in [&b""[..], b"\0", &[0xff; 40], &[0; 12]] {
            assert!(read_answer(bytes, 0, "a", TYPE::A).is_err());
        }
    }
}
