//! Who is called what in a network, and answers to questions about it (RFC 1035, RFC 6891). Pure: the sockets are
//! somebody else's.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::atomic::{AtomicUsize, Ordering},
};

use simple_dns::{
    CLASS, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, ResourceRecord, TYPE,
    rdata::{A, AAAA, OPT, PTR, RData},
};

/// Seconds: containers come and go.
const TTL: u32 = 0;
/// What fits a datagram that nobody said may be longer.
const PLAIN: usize = 512;
/// What we take ourselves.
const OWN: u16 = 4096;

/// The names of one network.
#[derive(Debug, Default)]
pub struct Names {
    /// In lower case, to every address that has it.
    addresses: BTreeMap<String, BTreeSet<IpAddr>>,
    /// To the first of an address's names.
    owners: BTreeMap<IpAddr, String>,
    turn: AtomicUsize,
}

impl Names {
    /// Enters an address under `names`, the most telling first.
    pub fn add(&mut self, address: IpAddr, names: &[String]) {
        for name in names {
            self.addresses.entry(name.to_ascii_lowercase()).or_default().insert(address);
        }
        if let Some(first) = names.first() {
            self.owners.insert(address, first.clone());
        }
    }

    /// Takes an address away, under all its names.
    pub fn remove(&mut self, address: IpAddr) {
        self.owners.remove(&address);
        self.addresses.retain(|_, all| {
            all.remove(&address);
            !all.is_empty()
        });
    }

    /// The addresses of a name, another first each time.
    fn lookup(&self, name: &str) -> Option<Vec<IpAddr>> {
        let mut all: Vec<IpAddr> = self.addresses.get(name)?.iter().copied().collect();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % all.len().max(1);
        all.rotate_left(turn);
        Some(all)
    }
}

/// What a question comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Send this.
    Answer(Vec<u8>),
    /// Nothing is known here; somebody else may know.
    Unknown,
    /// Not a question; no answer.
    Nothing,
}

/// Answers `query` by what is known in `networks`, `(name, names)` each; the first that knows wins.
/// `datagram`: it came in one, so that a long answer is cut.
pub fn answer(query: &[u8], networks: &[(&str, &Names)], datagram: bool) -> Outcome {
    let Ok(packet) = Packet::parse(query) else { return Outcome::Nothing };
    if packet.has_flags(PacketFlag::RESPONSE) {
        return Outcome::Nothing;
    }
    let [question] = packet.questions.as_slice() else {
        return encode(&packet, Vec::new(), RCODE::FormatError, datagram);
    };
    if packet.opcode() != OPCODE::StandardQuery {
        return encode(&packet, Vec::new(), RCODE::NotImplemented, datagram);
    }
    if !matches!(question.qclass, QCLASS::CLASS(CLASS::IN) | QCLASS::ANY) {
        return Outcome::Unknown;
    }
    let name = question.qname.to_string().to_ascii_lowercase();
    match question.qtype {
        QTYPE::TYPE(TYPE::PTR) => match backwards(&name).and_then(|address| owner(address, networks)) {
            Some(owner) => point(&packet, question, &owner, datagram),
            None => Outcome::Unknown,
        },
        _ => match find(&name, networks) {
            Some(addresses) => encode(&packet, records(question, &addresses), RCODE::NoError, datagram),
            None => Outcome::Unknown,
        },
    }
}

/// A refusal of `query`, for when nobody else could be asked.
pub fn failure(query: &[u8], known_to_be_none: bool) -> Option<Vec<u8>> {
    let packet = Packet::parse(query).ok()?;
    let code = if known_to_be_none { RCODE::NameError } else { RCODE::ServerFailure };
    match encode(&packet, Vec::new(), code, true) {
        Outcome::Answer(answer) => Some(answer),
        _ => None,
    }
}

/// `NAME`, or `NAME.NETWORK`.
fn find(name: &str, networks: &[(&str, &Names)]) -> Option<Vec<IpAddr>> {
    let of_all = networks.iter().find_map(|(_, names)| names.lookup(name));
    of_all.or_else(|| {
        let (name, network) = name.split_once('.')?;
        let of_one = networks.iter().find(|(known, _)| known.eq_ignore_ascii_case(network));
        of_one.and_then(|(_, names)| names.lookup(name))
    })
}

fn owner(address: IpAddr, networks: &[(&str, &Names)]) -> Option<String> {
    networks.iter().find_map(|(network, names)| Some(format!("{}.{network}", names.owners.get(&address)?)))
}

/// The address in `4.3.2.1.in-addr.arpa` or `….ip6.arpa`.
fn backwards(name: &str) -> Option<IpAddr> {
    if let Some(reversed) = name.strip_suffix(".in-addr.arpa") {
        let mut parts: Vec<&str> = reversed.split('.').collect();
        parts.reverse();
        return parts.join(".").parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    }
    let digits: Vec<&str> = name.strip_suffix(".ip6.arpa")?.split('.').collect();
    let is_digit = |digit: &&str| digit.len() == 1 && digit.bytes().all(|byte| byte.is_ascii_hexdigit());
    if digits.len() != 32 || !digits.iter().all(is_digit) {
        return None;
    }
    let number: String = digits.into_iter().rev().collect();
    u128::from_str_radix(&number, 16).ok().map(|bits| IpAddr::V6(Ipv6Addr::from(bits)))
}

fn records<'q>(question: &Question<'q>, addresses: &[IpAddr]) -> Vec<ResourceRecord<'q>> {
    let wants = |kind: TYPE| matches!(question.qtype, QTYPE::ANY) || question.qtype == QTYPE::TYPE(kind);
    let record = |address: &IpAddr| {
        let data = match *address {
            IpAddr::V4(address) if wants(TYPE::A) => RData::A(A { address: address.into() }),
            IpAddr::V6(address) if wants(TYPE::AAAA) => RData::AAAA(AAAA { address: address.into() }),
            _ => return None,
        };
        Some(ResourceRecord::new(question.qname.clone(), CLASS::IN, TTL, data))
    };
    addresses.iter().filter_map(record).collect()
}

fn point(packet: &Packet<'_>, question: &Question<'_>, owner: &str, datagram: bool) -> Outcome {
    let Ok(name) = Name::new(owner) else { return Outcome::Unknown };
    let record = ResourceRecord::new(question.qname.clone(), CLASS::IN, TTL, RData::PTR(PTR(name)));
    encode(packet, vec![record], RCODE::NoError, datagram)
}

fn encode(query: &Packet<'_>, records: Vec<ResourceRecord<'_>>, code: RCODE, datagram: bool) -> Outcome {
    let mut reply = Packet::new_reply(query.id());
    *reply.opcode_mut() = query.opcode();
    reply.set_flags(PacketFlag::RECURSION_AVAILABLE);
    if query.has_flags(PacketFlag::RECURSION_DESIRED) {
        reply.set_flags(PacketFlag::RECURSION_DESIRED);
    }
    *reply.rcode_mut() = code;
    reply.questions.clone_from(&query.questions);
    reply.answers = records;
    let mut most = PLAIN;
    if let Some(opt) = query.opt() {
        most = usize::from(opt.udp_packet_size).max(PLAIN);
        *reply.opt_mut() = Some(OPT { opt_codes: Vec::new(), udp_packet_size: OWN, version: 0 });
    }
    let built = reply.build_bytes_vec_compressed();
    match built {
        Ok(bytes) if !datagram || bytes.len() <= most => Outcome::Answer(bytes),
        Ok(_) => {
            // To be asked again over TCP.
            reply.answers.clear();
            reply.set_flags(PacketFlag::TRUNCATION);
            reply.build_bytes_vec_compressed().map_or(Outcome::Nothing, Outcome::Answer)
        }
        Err(_) => Outcome::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn names() -> Names {
        let mut names = Names::default();
        let called = |list: &[&str]| list.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        names.add(ip("10.0.0.2"), &called(&["Web", "w", "0123456789ab"]));
        names.add(ip("fd00::2"), &called(&["Web", "w"]));
        names.add(ip("10.0.0.3"), &called(&["other", "w"]));
        names
    }

    fn query(name: &str, kind: TYPE) -> Vec<u8> {
        let mut packet = Packet::new_query(7);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        packet.questions.push(Question::new(
            Name::new(name).unwrap(),
            QTYPE::TYPE(kind),
            QCLASS::CLASS(CLASS::IN),
            false,
        ));
        packet.build_bytes_vec().unwrap()
    }

    /// Code and data of the answer.
    fn ask(name: &str, kind: TYPE) -> Option<(RCODE, Vec<String>)> {
        let names = names();
        match answer(&query(name, kind), &[("net", &names)], true) {
            Outcome::Answer(bytes) => {
                let packet = Packet::parse(&bytes).unwrap();
                assert_eq!(packet.id(), 7);
                let shown = |record: &ResourceRecord<'_>| match &record.rdata {
                    RData::A(data) => Ipv4Addr::from(data.address).to_string(),
                    RData::AAAA(data) => Ipv6Addr::from(data.address).to_string(),
                    RData::PTR(data) => data.0.to_string(),
                    other => format!("{other:?}"),
                };
                let mut all: Vec<String> = packet.answers.iter().map(shown).collect();
                all.sort();
                Some((packet.rcode(), all))
            }
            _ => None,
        }
    }

    #[test]
    fn names_are_found_in_every_form() {
        let v4 = |address: &str| Some((RCODE::NoError, vec![address.to_owned()]));
        assert_eq!(ask("web", TYPE::A), v4("10.0.0.2"));
        assert_eq!(ask("WEB", TYPE::A), v4("10.0.0.2"));
        assert_eq!(ask("0123456789ab", TYPE::A), v4("10.0.0.2"));
        assert_eq!(ask("web.net", TYPE::A), v4("10.0.0.2"));
        assert_eq!(ask("web", TYPE::AAAA), v4("fd00::2"));
        assert_eq!(ask("2.0.0.10.in-addr.arpa", TYPE::PTR), v4("Web.net"));
        let v6 = "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
        assert_eq!(ask(v6, TYPE::PTR), v4("Web.net"));
        let both = vec!["10.0.0.2".to_owned(), "10.0.0.3".to_owned()];
        assert_eq!(ask("w", TYPE::A), Some((RCODE::NoError, both)));
    }

    #[test]
    fn a_known_name_without_such_an_address_is_no_question_for_others() {
        assert_eq!(ask("other", TYPE::AAAA), Some((RCODE::NoError, Vec::new())));
        assert_eq!(ask("other", TYPE::MX), Some((RCODE::NoError, Vec::new())));
        for unknown in ["nobody", "web.elsewhere", "net", "example.org"] {
            assert_eq!(ask(unknown, TYPE::A), None, "{unknown}");
        }
        assert_eq!(ask("9.9.9.9.in-addr.arpa", TYPE::PTR), None);
    }

    #[test]
    fn replicas_take_turns() {
        let names = names();
        let first = |_| names.lookup("w").unwrap()[0];
        let firsts: BTreeSet<IpAddr> = (0..3).map(first).collect();
        assert_eq!(firsts.len(), 3);
    }

    #[test]
    fn what_has_gone_is_not_found() {
        let mut names = names();
        names.remove(ip("10.0.0.2"));
        assert_eq!(names.lookup("web").unwrap(), [ip("fd00::2")]);
        names.remove(ip("fd00::2"));
        assert_eq!(names.lookup("web"), None);
        assert_eq!(names.lookup("w").unwrap(), [ip("10.0.0.3")]);
    }

    #[test]
    fn long_answers_are_cut_in_datagrams_only() {
        let mut names = Names::default();
        for last in 1..=200 {
            names.add(IpAddr::from([10, 0, 0, last]), &["many".to_owned()]);
        }
        let query = query("many", TYPE::A);
        let Outcome::Answer(cut) = answer(&query, &[("net", &names)], true) else { panic!() };
        assert!(cut.len() <= 512 && Packet::parse(&cut).unwrap().has_flags(PacketFlag::TRUNCATION));
        let Outcome::Answer(whole) = answer(&query, &[("net", &names)], false) else { panic!() };
        assert_eq!(Packet::parse(&whole).unwrap().answers.len(), 200);
    }

    #[test]
    fn nonsense_gets_no_answer_or_a_refusal() {
        let names = names();
        for bytes in [&b""[..], b"x", &[0xff; 40], &[0; 12]] {
            let outcome = answer(bytes, &[("net", &names)], true);
            if let Outcome::Answer(reply) = outcome {
                assert_eq!(Packet::parse(&reply).unwrap().rcode(), RCODE::FormatError);
            }
        }
        let reply = failure(&query("web", TYPE::A), false).unwrap();
        assert_eq!(Packet::parse(&reply).unwrap().rcode(), RCODE::ServerFailure);
    }
}
