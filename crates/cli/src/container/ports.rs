//! `-p` and `--expose`.

use api::create::{Empty, PortBinding, PortMap, Set};

/// First and last.
type Range = (u16, u16);

/// What `-p` asks for: the container's ports, and where the host is to lead to them.
pub(super) fn published(specs: &[String]) -> Result<(Set, PortMap), String> {
    let (mut exposed, mut bindings) = (Set::new(), PortMap::new());
    for spec in specs {
        for (port, binding) in publish(&short(spec)?)? {
            exposed.insert(port.clone(), Empty {});
            bindings.entry(port).or_default().get_or_insert_default().push(binding);
        }
    }
    Ok((exposed, bindings))
}

/// `published=8080,target=80,protocol=tcp` as `8080:80/tcp`; everything else as it is.
fn short(spec: &str) -> Result<String, String> {
    if !spec.contains('=') {
        return Ok(spec.to_owned());
    }
    let (mut host, mut target, mut protocol) = ("", "", "tcp");
    for part in spec.split(',') {
        let pair = part.split_once('=').filter(|(key, _)| !key.is_empty());
        let Some((key, value)) = pair else {
            return Err(format!("invalid publish opts format (should be name=value but got '{part}')"));
        };
        match key {
            "published" => host = value,
            "target" => target = value,
            "protocol" => protocol = value,
            _ => return Err(format!("invalid publish opts key {key:?}: use published, target or protocol")),
        }
    }
    Ok(format!("{host}:{target}/{protocol}"))
}

/// `[[IP:]HOST:]CONTAINER[/PROTOCOL]`, where both ports may be ranges.
fn publish(spec: &str) -> Result<Vec<(String, PortBinding)>, String> {
    let mut parts = spec.rsplitn(3, ':');
    let (container, host, ip) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let (container, protocol) = with_protocol(container);
    let ip = address(ip)?;
    if container.is_empty() {
        return Err(format!("no port specified: {spec}<empty>"));
    }
    let inside = range(container).map_err(|_| format!("invalid containerPort: {container}"))?;
    let outside = match host {
        "" => None,
        text => Some(range(text).map_err(|_| format!("invalid hostPort: {text}"))?),
    };
    let ports = inside.1 - inside.0;
    if outside.is_some_and(|(first, last)| last - first != ports) && ports > 0 {
        return Err(format!("invalid ranges specified for container and host Ports: {container} and {host}"));
    }
    let protocol = known(protocol)?;
    let one = |number: u16| {
        let host_port = match outside {
            None => String::new(),
            Some((first, last)) if ports == 0 && first != last => format!("{first}-{last}"),
            Some((first, _)) => (first + number).to_string(),
        };
        (format!("{}/{protocol}", inside.0 + number), PortBinding { host_ip: ip.clone(), host_port })
    };
    Ok((0..=ports).map(one).collect())
}

fn address(text: &str) -> Result<String, String> {
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .ok_or_else(|| format!("invalid IP address {text}: missing ']' in address"))?,
        None => text,
    };
    let fine = bare.is_empty() || bare.parse::<std::net::IpAddr>().is_ok();
    if fine { Ok(bare.to_owned()) } else { Err(format!("invalid IP address: {bare}")) }
}

/// What `--expose` asks for: `80`, `80/udp`, `90-92/tcp`.
pub(super) fn exposed(specs: &[String]) -> Result<Set, String> {
    let mut set = Set::new();
    for spec in specs {
        if spec.contains(':') {
            return Err(format!("invalid port format for --expose: {spec}"));
        }
        let (ports, protocol) = with_protocol(spec);
        let (first, last) = range(ports)
            .map_err(|error| format!("invalid range format for --expose: {spec}, error: {error}"))?;
        let protocol = known(protocol)?;
        set.extend((first..=last).map(|port| (format!("{port}/{protocol}"), Empty {})));
    }
    Ok(set)
}

fn with_protocol(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some((ports, "")) => (ports, "tcp"),
        Some(both) => both,
        None => (text, "tcp"),
    }
}

fn known(protocol: &str) -> Result<String, String> {
    let lower = protocol.to_ascii_lowercase();
    match lower.as_str() {
        "tcp" | "udp" | "sctp" => Ok(lower),
        _ => Err(format!("invalid proto: {protocol}")),
    }
}

/// With the words that Go has for what is no number.
fn range(text: &str) -> Result<Range, String> {
    if text.is_empty() {
        return Err("empty string specified for ports".into());
    }
    let number = |text: &str| {
        text.parse::<u16>().map_err(|error| {
            let why = match error.kind() {
                std::num::IntErrorKind::PosOverflow => "value out of range",
                _ => "invalid syntax",
            };
            format!("strconv.ParseUint: parsing {text:?}: {why}")
        })
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    if last < first { Err(format!("invalid range specified for port: {text}")) } else { Ok((first, last)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(spec: &str) -> Result<Vec<String>, String> {
        let (_, bindings) = published(&[spec.to_owned()])?;
        let lines = bindings.into_iter().flat_map(|(port, list)| {
            let show = move |one: PortBinding| format!("{} {} {port}", one.host_ip, one.host_port);
            list.unwrap_or_default().into_iter().map(show)
        });
        Ok(lines.collect())
    }

    #[test]
    fn every_form_of_publish() {
        for (spec, want) in [
            ("80", &["  80/tcp"][..]),
            ("53/UDP", &["  53/udp"]),
            ("8080:80", &[" 8080 80/tcp"]),
            (":80", &["  80/tcp"]),
            ("127.0.0.1::80/sctp", &["127.0.0.1  80/sctp"]),
            ("127.0.0.1:8080:80", &["127.0.0.1 8080 80/tcp"]),
            ("[::1]:8080:80", &["::1 8080 80/tcp"]),
            ("::1:8080:80", &["::1 8080 80/tcp"]),
            ("8000-8001:90-91", &[" 8000 90/tcp", " 8001 91/tcp"]),
            ("90-91/udp", &["  90/udp", "  91/udp"]),
            ("8000-8010:80", &[" 8000-8010 80/tcp"]),
            ("published=8080,target=80", &[" 8080 80/tcp"]),
            ("target=80,protocol=udp", &["  80/udp"]),
        ] {
            assert_eq!(read(spec).unwrap(), want, "{spec}");
        }
    }

    #[test]
    fn what_is_wrong_with_it() {
        for (spec, want) in [
            ("", "no port specified: <empty>"),
            ("80:", "no port specified: 80:<empty>"),
            ("x", "invalid containerPort: x"),
            ("x:80", "invalid hostPort: x"),
            ("70000:80", "invalid hostPort: 70000"),
            ("91-90", "invalid containerPort: 91-90"),
            ("80/quic", "invalid proto: quic"),
            ("here:1:80", "invalid IP address: here"),
            ("1-3:80-81", "invalid ranges specified for container and host Ports: 80-81 and 1-3"),
            ("a,b=1", "invalid publish opts format (should be name=value but got 'a')"),
            ("from=10.0.0.0/8", "invalid publish opts key \"from\": use published, target or protocol"),
        ] {
            assert_eq!(read(spec).unwrap_err(), want, "{spec}");
        }
        let exposed = |spec: &str| exposed(&[spec.to_owned()]).map(|set| set.into_keys().collect::<Vec<_>>());
        assert_eq!(exposed("90-91/udp").unwrap(), ["90/udp", "91/udp"]);
        for (spec, want) in [
            ("80:80", "invalid port format for --expose: 80:80"),
            ("9-1", "invalid range format for --expose: 9-1, error: invalid range specified for port: 9-1"),
            (
                "x",
                "invalid range format for --expose: x, error: strconv.ParseUint: parsing \"x\": invalid syntax",
            ),
            ("1/x", "invalid proto: x"),
        ] {
            assert_eq!(exposed(spec).unwrap_err(), want, "{spec}");
        }
    }
}
