//! `ps`

use std::fmt::Write;

use api::container::{Port, Summary};
use clap::Args;
use jiff::Timestamp;

use super::Context;
use crate::client::{flag, with_query};
use crate::error::Result;
use crate::filter::{Filter, query};
use crate::format::{Listing, Row, ellipsis, short_id};
use crate::words::{ago, size};

/// List containers
///
/// Running ones, or all with --all; newest first.
#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter")]
    filter: Vec<Filter>,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Show n last created containers (includes all states) (default -1)
    #[arg(short = 'n', long, value_name = "int", default_value_t = -1, hide_default_value = true)]
    last: i64,
    /// Show the latest created container (includes all states)
    #[arg(short, long)]
    latest: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only display container IDs
    #[arg(short, long)]
    quiet: bool,
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
}

pub(super) const HEADINGS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Names", "NAMES"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Ports", "PORTS"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
];

impl Ps {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        let last = if self.latest && self.last == -1 { 1 } else { self.last };
        let sized = self.size || self.format.as_ref().is_some_and(|format| format.contains(".Size"));
        let path = with_query(
            "/containers/json",
            &[
                ("all", flag(self.all)),
                ("limit", (last > 0).then(|| last.to_string())),
                ("size", flag(sized)),
                ("filters", query(&self.filter)),
            ],
        );
        let now = Timestamp::now();
        let containers: Vec<Summary> = cx.client.get(&path).await?;
        let rows: Vec<Row> = containers.iter().map(|it| row(it, !self.no_trunc, now)).collect();
        let usual = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
        let usual = if self.size { format!("{usual}\t{{{{.Size}}}}") } else { usual.into() };
        let listing = Listing {
            headings: HEADINGS,
            usual: &usual,
            quiet: self.quiet.then_some("ID"),
            format: self.format.as_deref(),
        };
        listing.show(&rows)?;
        Ok(0)
    }
}

/// The lines of `system df -v`: of their size, only what is their own.
pub(super) fn rows(containers: &[Summary], now: Timestamp) -> Vec<Row> {
    let own = |it: &Summary| Summary { size_root_fs: 0, ..it.clone() };
    containers.iter().map(|it| row(&own(it), true, now)).collect()
}

fn row(it: &Summary, short: bool, now: Timestamp) -> Row {
    let volumes = it.mounts.iter().filter(|mount| mount.driver == "local").count();
    let labels: Vec<String> = it.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let networks: Vec<&str> = it.network_settings.networks.keys().map(String::as_str).collect();
    let command = if short { ellipsis(&it.command, 20) } else { it.command.clone() };
    [
        ("ID", if short { short_id(&it.id).to_owned() } else { it.id.clone() }),
        ("Names", names(it, short)),
        ("Image", image(it, short)),
        ("Command", quote(&command)),
        ("CreatedAt", ago::go_time(it.created)),
        ("RunningFor", ago::since_unix(it.created, now)),
        ("Ports", ports(&it.ports)),
        ("State", it.state.clone()),
        ("Status", it.status.clone()),
        ("Size", sizes(it)),
        ("Labels", labels.join(",")),
        ("Mounts", mounts(it, short)),
        ("LocalVolumes", volumes.to_string()),
        ("Networks", networks.join(",")),
    ]
    .into_iter()
    .map(|(name, text)| (name.to_owned(), text.into()))
    .chain([("Platform".to_owned(), serde_json::Value::Null)])
    .collect()
}

fn names(it: &Summary, short: bool) -> String {
    let bare = it.names.iter().map(|name| name.trim_start_matches('/'));
    // A name with a slash in it is a link from another container.
    bare.filter(|name| !short || !name.contains('/')).collect::<Vec<_>>().join(",")
}

fn image(it: &Summary, short: bool) -> String {
    match it.image.as_str() {
        "" => "<no image>".into(),
        name if short && short_id(name) == short_id(&it.image_id) => short_id(name).to_owned(),
        name if short => name.split_once('@').map_or(name, |(name, _)| name).to_owned(),
        name => name.to_owned(),
    }
}

fn mounts(it: &Summary, short: bool) -> String {
    let name = |name: &str| {
        if short { ellipsis(name, 15) } else { name.to_owned() }
    };
    let all =
        it.mounts.iter().map(|mount| name(if mount.name.is_empty() { &mount.source } else { &mount.name }));
    all.collect::<Vec<_>>().join(",")
}

fn sizes(it: &Summary) -> String {
    let own = size::human_decimal(it.size_rw as f64);
    match it.size_root_fs {
        1.. => format!("{own} (virtual {})", size::human_decimal(it.size_root_fs as f64)),
        _ => own,
    }
}

/// `90-92/udp, 0.0.0.0:8080->80/tcp`: neighbours are drawn together where the host has the same numbers, and ports that
/// have another number there come last.
fn ports(all: &[Port]) -> String {
    let mut sorted: Vec<&Port> = all.iter().collect();
    sorted.sort_by_key(|port| (port.private_port, &port.ip, port.public_port, &port.kind));
    let at = |port: &Port, numbers: &str| match (port.ip.is_empty(), port.ip.contains(':')) {
        (true, _) => String::new(),
        (_, true) => format!("[{}]:{numbers}->", port.ip),
        (_, false) => format!("{}:{numbers}->", port.ip),
    };
    let drawn = |(first, last): &(&Port, u16)| {
        let numbers = match first.private_port {
            number if number == *last => number.to_string(),
            number => format!("{number}-{last}"),
        };
        format!("{}{numbers}/{}", at(first, &numbers), first.kind)
    };
    let mut shown = Vec::new();
    let (mut groups, mut mapped): (Vec<(&Port, u16)>, Vec<String>) = (Vec::new(), Vec::new());
    for port in sorted {
        if !port.ip.is_empty() && port.public_port != port.private_port {
            let outside = at(port, &port.public_port.to_string());
            mapped.push(format!("{outside}{}/{}", port.private_port, port.kind));
            continue;
        }
        match groups.iter_mut().find(|(first, _)| first.ip == port.ip && first.kind == port.kind) {
            Some((_, last)) if last.checked_add(1) == Some(port.private_port) => *last = port.private_port,
            Some(group) => {
                shown.push(drawn(group));
                *group = (port, port.private_port);
            }
            None => groups.push((port, port.private_port)),
        }
    }
    shown.extend(groups.iter().map(drawn));
    shown.extend(mapped);
    shown.join(", ")
}

/// As Go quotes a string.
fn quote(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_dockerd() {
        let json = include_str!("../../../api/tests/golden/ps.json");
        let all: Vec<Summary> = api::go::decode(json.as_bytes()).unwrap();
        let row = row(&all[0], true, Timestamp::from_second(all[0].created + 300).unwrap());
        assert_eq!(row["RunningFor"], "5 minutes ago");
        assert_eq!(row["ID"].as_str().unwrap().len(), 12);
        assert!(!row["Names"].as_str().unwrap().starts_with('/'));
    }

    #[test]
    fn ports_are_grouped() {
        let port = |ip: &str, public_port, private_port, kind: &str| Port {
            ip: ip.into(),
            private_port,
            public_port,
            kind: kind.into(),
        };
        let mapped = [
            port("", 0, 91, "udp"),
            port("0.0.0.0", 8080, 80, "tcp"),
            port("::", 8080, 80, "tcp"),
            port("", 0, 90, "udp"),
        ];
        assert_eq!(ports(&mapped), "90-91/udp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp");
        let same = [
            port("10.0.0.1", 80, 80, "tcp"),
            port("10.0.0.1", 81, 81, "tcp"),
            port("10.0.0.1", 90, 90, "tcp"),
            port("10.0.0.1", 8082, 82, "tcp"),
        ];
        let shown = "10.0.0.1:80-81->80-81/tcp, 10.0.0.1:90->90/tcp, 10.0.0.1:8082->82/tcp";
        assert_eq!(ports(&same), shown);
        assert_eq!(quote("sh -c \"a\"\n"), r#""sh -c \"a\"\n""#);
    }
}
