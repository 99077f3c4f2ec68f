//! The packet rules of one daemon: one table of a fixed shape, in which networks and published ports are elements of
//! sets and maps. What a packet or a change costs does not grow with how many there are.
//!
//! An `accept` here ends this table only: the host's own rules keep their say.

use std::{collections::BTreeMap, net::IpAddr, ops::RangeInclusive};

use ipnet::IpNet;
use netlink::nft::{
    Batch, Chain, Compare, Element, Expression, Family, Field, Hook, Key, Mapped, Nat, Policy, Set, Type,
    Verdict, field, matches,
};

use crate::{Bridge, Protocol, Publish};

/// `RTN_LOCAL`: an address of this host.
const LOCAL: u32 = 2;
/// `NF_CT_STATE_BIT`s of established and related.
const GOES_ON: u32 = 6;
/// `IPS_DST_NAT`
const REDIRECTED: u32 = 1 << 5;
/// `NFPROTO_IPV4`, `NFPROTO_IPV6`
const FAMILIES: [(bool, u8); 2] = [(true, 2), (false, 10)];

/// Everything that the table is made of.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    /// By link.
    pub(crate) bridges: BTreeMap<String, Bridge>,
    /// In no order.
    pub(crate) published: Vec<Publish>,
    /// Forwarding was off before this engine needed it: nothing else may profit from that.
    pub(crate) closed: bool,
}

/// A set's name in one family: `published4`.
fn of(name: &str, v4: bool) -> String {
    format!("{name}{}", if v4 { 4 } else { 6 })
}

fn address(v4: bool) -> (Key, Field, Field) {
    if v4 {
        (Key::Ipv4Address, field::IP_SOURCE, field::IP_DESTINATION)
    } else {
        (Key::Ipv6Address, field::IP6_SOURCE, field::IP6_DESTINATION)
    }
}

/// The whole table, in place of whatever is there.
pub(crate) fn table(name: &str, state: &State) -> Batch {
    let mut batch = Batch::new(Family::Inet, name);
    batch.replace_table();
    for set in sets() {
        batch.add_set(&set);
    }
    for (chain, rules) in chains(state.closed) {
        batch.add_chain(&chain);
        for (comment, rule) in rules {
            batch.add_rule(&chain.name, comment, &rule);
        }
    }
    for (set, elements) in state.elements() {
        batch.add_elements(&set, &elements);
    }
    batch
}

/// Elements, by the set that they belong to.
pub(crate) type Elements = BTreeMap<String, Vec<Element>>;

impl State {
    fn elements(&self) -> Elements {
        let mut all = Elements::new();
        let each = self.bridges.values().map(of_bridge).chain(self.published.iter().map(of_publish));
        for (set, mut elements) in each.flatten() {
            all.entry(set).or_default().append(&mut elements);
        }
        all
    }
}

/// A link's name as registers hold it.
fn link(name: &str) -> [u8; 16] {
    let mut padded = [0; 16];
    let length = name.len().min(15);
    padded[..length].copy_from_slice(&name.as_bytes()[..length]);
    padded
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// What a bridge adds.
pub(crate) fn of_bridge(bridge: &Bridge) -> Elements {
    let name = link(&bridge.link);
    let mut all = Elements::new();
    let mut add = |set: &str, element| all.entry(set.to_owned()).or_default().push(element);
    add("bridges", Element::key(&[&name]));
    add("pairs", Element::key(&[&name, &name]));
    if bridge.internal {
        add("internal", Element::key(&[&name]));
    }
    for subnet in &bridge.subnets {
        let v4 = matches!(subnet.net, IpNet::V4(_));
        let (first, last) = bounds(subnet.net);
        add(&of("own", v4), Element::range(&[&first, &name], &[&last, &name]));
        if bridge.masquerade && !bridge.internal {
            for edge in Element::interval(&first, &last) {
                add(&of("masked", v4), edge);
            }
        }
    }
    all
}

fn bounds(net: IpNet) -> (Vec<u8>, Vec<u8>) {
    (octets(net.network()), octets(net.broadcast()))
}

/// What a published port, or a range of them, adds. A range that keeps its numbers is one element.
pub(crate) fn of_publish(publish: &Publish) -> Elements {
    let v4 = publish.target.is_ipv4();
    let target = octets(publish.target);
    let (low, high) = match publish.host {
        Some(host) => (octets(host), octets(host)),
        None => (vec![0; target.len()], vec![255; target.len()]),
    };
    let sources: Vec<(Vec<u8>, Vec<u8>)> = publish.from.iter().map(|net| bounds(*net)).collect();
    let protocol = [publish.protocol as u8];
    let mut all = Elements::new();
    let mut add = |name: &str, ports: RangeInclusive<u16>, value: &[&[u8]]| {
        let (first, last) = (ports.start().to_be_bytes(), ports.end().to_be_bytes());
        let name = of(&format!("{}{name}", if sources.is_empty() { "" } else { "restricted_" }), v4);
        let list = all.entry(name).or_default();
        if sources.is_empty() {
            list.push(Element::range(&[&low, &protocol, &first], &[&high, &protocol, &last]).to(value));
        }
        list.extend(sources.iter().map(|(from, to)| {
            Element::range(&[&low, &protocol, &first, from], &[&high, &protocol, &last, to]).to(value)
        }));
    };
    if publish.target_port == *publish.ports.start() && publish.ports.len() > 1 {
        add("ranges", publish.ports.clone(), &[&target]);
        return all;
    }
    for port in publish.ports.clone() {
        let inside = publish.target_port.saturating_add(port - publish.ports.start());
        add("ports", port..=port, &[&target, &inside.to_be_bytes()]);
    }
    all
}

fn sets() -> Vec<Set> {
    let set = |name: &str, key: &[Key], interval| Set {
        name: name.to_owned(),
        key: key.to_vec(),
        gives: None,
        interval,
    };
    let mut all = vec![
        set("bridges", &[Key::InterfaceName], false),
        set("internal", &[Key::InterfaceName], false),
        set("pairs", &[Key::InterfaceName, Key::InterfaceName], false),
    ];
    for (v4, _) in FAMILIES {
        let (key, ..) = address(v4);
        all.push(set(&of("own", v4), &[key, Key::InterfaceName], true));
        all.push(set(&of("masked", v4), &[key], true));
        for (name, gives) in [("ranges", vec![key]), ("ports", vec![key, Key::Port])] {
            let map = |name: &str, keys: &[Key]| Set {
                gives: Some(Mapped::Values(gives.clone())),
                ..set(name, keys, true)
            };
            all.push(map(&of(name, v4), &[key, Key::Protocol, Key::Port]));
            all.push(map(&of(&format!("restricted_{name}"), v4), &[key, Key::Protocol, Key::Port, key]));
        }
    }
    all
}

type Rule = (&'static str, Vec<Expression>);

fn base(name: &str, kind: Type, hook: Hook, priority: i32, policy: Policy) -> Chain {
    Chain { name: name.to_owned(), base: Some((kind, hook, priority, policy)) }
}

fn chains(closed: bool) -> Vec<(Chain, Vec<Rule>)> {
    let forwarding = if closed { Policy::Drop } else { Policy::Accept };
    vec![
        // Before connections are tracked (`NF_IP_PRI_RAW`): replies that end at loopback still bear the bridge's address.
        (base("early", Type::Filter, Hook::Prerouting, -300, Policy::Accept), early()),
        (base("arrive", Type::Nat, Hook::Prerouting, -100, Policy::Accept), publish()),
        (base("from_host", Type::Nat, Hook::Output, -100, Policy::Accept), from_host()),
        // After those that end in it: a jump needs its chain.
        (Chain::plain("to_container"), to_container()),
        (base("forward", Type::Filter, Hook::Forward, 0, forwarding), forward()),
        (base("leave", Type::Nat, Hook::Postrouting, 100, Policy::Accept), leave()),
    ]
}

fn in_family(family: u8) -> Vec<Expression> {
    matches(field::FAMILY, &[family]).to_vec()
}

fn in_set(field: Field, set: &str, inside: bool) -> [Expression; 2] {
    [Expression::Load(field, 0), Expression::InSet(0, set.to_owned(), inside)]
}

/// Goes on if one of `bits` is set.
fn any_of(field: Field, bits: u32) -> [Expression; 3] {
    [
        Expression::Load(field, 0),
        Expression::Mask(0, bits.to_ne_bytes().to_vec()),
        Expression::Compare(0, Compare::Unequal, vec![0; 4]),
    ]
}

fn end(verdict: Verdict) -> Expression {
    Expression::Verdict(verdict)
}

/// The bridges route to the host's loopback so that published ports answer there. That is for the host alone.
fn early() -> Vec<Rule> {
    let mut rule = in_set(field::IN_INTERFACE, "bridges", true).to_vec();
    rule.extend(in_family(2));
    rule.extend([
        Expression::Load(field::IP_DESTINATION, 0),
        Expression::Mask(0, vec![255, 0, 0, 0]),
        Expression::Compare(0, Compare::Equal, vec![127, 0, 0, 0]),
        end(Verdict::Drop),
    ]);
    vec![("containers do not reach the host's loopback", rule)]
}

/// Nothing leads out of the IPv6 loopback, whatever is asked for: a port there is refused at once, so that whoever tried
/// `localhost` goes on to 127.0.0.1.
fn from_host() -> Vec<Rule> {
    let mut loopback = in_family(FAMILIES[1].1);
    let (_, _, destination) = address(false);
    loopback.extend([
        Expression::Load(destination, 0),
        Expression::Compare(0, Compare::Equal, std::net::Ipv6Addr::LOCALHOST.octets().to_vec()),
        end(Verdict::Accept),
    ]);
    let mut rules = vec![("the IPv6 loopback leads nowhere", loopback)];
    rules.extend(publish());
    rules
}

fn publish() -> Vec<Rule> {
    let mut rules = Vec::new();
    for (v4, family) in FAMILIES {
        let (_, source, destination) = address(v4);
        let width = destination.registers();
        for (map, with_source, with_port, comment) in [
            ("ports", false, true, "published ports"),
            ("ranges", false, false, "published ranges"),
            ("restricted_ports", true, true, "published ports, for some"),
            ("restricted_ranges", true, false, "published ranges, for some"),
        ] {
            let mut rule = in_family(family);
            rule.extend([
                Expression::Load(Field::FibDestinationType, 0),
                Expression::Compare(0, Compare::Equal, LOCAL.to_ne_bytes().to_vec()),
                Expression::Load(destination, 0),
                Expression::Load(field::PROTOCOL, width),
                Expression::Load(field::DESTINATION_PORT, width + 1),
            ]);
            if with_source {
                rule.push(Expression::Load(source, width + 2));
            }
            // The answer overwrites the question.
            rule.push(Expression::Map(0, of(map, v4), Some(0)));
            rule.push(Expression::Translate(Nat::Destination, v4, 0, with_port.then_some(width)));
            rules.push((comment, rule));
        }
    }
    rules
}

fn to_container() -> Vec<Rule> {
    let mut published = any_of(field::CT_STATUS, REDIRECTED).to_vec();
    published.push(end(Verdict::Accept));
    let same = vec![
        Expression::Load(field::IN_INTERFACE, 0),
        Expression::Load(field::OUT_INTERFACE, 4),
        Expression::InSet(0, "pairs".to_owned(), true),
        end(Verdict::Accept),
    ];
    vec![
        ("published", published),
        ("within one network", same),
        ("networks are apart", vec![Expression::Counter, end(Verdict::Drop)]),
    ]
}

fn forward() -> Vec<Rule> {
    let mut goes_on = any_of(field::CT_STATE, GOES_ON).to_vec();
    goes_on.push(end(Verdict::Accept));
    let then = |set: [Expression; 2], verdict| [set.to_vec(), vec![end(verdict)]].concat();
    let to = then(in_set(field::OUT_INTERFACE, "bridges", true), Verdict::Jump("to_container".to_owned()));
    let internal = then(in_set(field::IN_INTERFACE, "internal", true), Verdict::Drop);
    let out = then(in_set(field::IN_INTERFACE, "bridges", true), Verdict::Accept);
    vec![("", goes_on), ("", to), ("internal networks stay inside", internal), ("containers may leave", out)]
}

fn leave() -> Vec<Rule> {
    let mut rules = Vec::new();
    for (v4, family) in FAMILIES {
        let (_, source, _) = address(v4);
        let width = source.registers();
        // The set's second part is the bridge that the address belongs to; by whatever else it leaves, it is masked.
        let of_own = |set: &str, inside| {
            [
                Expression::Load(source, 0),
                Expression::Load(field::OUT_INTERFACE, width),
                Expression::InSet(0, of(set, v4), inside),
            ]
        };
        let mut hairpin = in_family(family);
        hairpin.extend(any_of(field::CT_STATUS, REDIRECTED));
        hairpin.extend(of_own("own", true));
        hairpin.push(Expression::Masquerade);
        rules.push(("by a published port back into the same network", hairpin));
        if v4 {
            let mut loopback = in_family(family);
            loopback.extend(in_set(field::OUT_INTERFACE, "bridges", true));
            loopback.extend([
                Expression::Load(source, 0),
                Expression::Mask(0, vec![255, 0, 0, 0]),
                Expression::Compare(0, Compare::Equal, vec![127, 0, 0, 0]),
                Expression::Masquerade,
            ]);
            rules.push(("from the host's loopback", loopback));
        }
        let mut outside = in_family(family);
        outside.extend(in_set(field::OUT_INTERFACE, "bridges", false));
        outside.extend([Expression::Load(source, 0), Expression::InSet(0, of("masked", v4), true)]);
        outside.push(Expression::Masquerade);
        rules.push(("containers leave as the host", outside));
    }
    rules
}

impl Protocol {
    /// As the API and errors write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}
