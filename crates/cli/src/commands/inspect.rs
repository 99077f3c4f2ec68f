//! `inspect`

use std::io::Write;

use bytes::Bytes;
use clap::Args;

use super::{Context, warn};
use crate::client::{encode, flag, with_query};
use crate::error::{Error, Result, message};
use crate::format::one;
use crate::terminal::Plain;

/// Return low-level information on Docker objects
///
/// Everything the daemon knows, as JSON; with --format, what a Go template makes of it.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// Format output using a custom template: 'json' or 'TEMPLATE'
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    /// Display total file sizes if the type is container
    #[arg(short, long)]
    size: bool,
    /// Only inspect objects of the given type
    #[arg(long = "type", value_name = "string")]
    kind: Option<String>,
    /// Names or ids.
    #[arg(required = true, value_names = ["NAME|ID", "[NAME|ID...]"], num_args = 1..)]
    names: Vec<String>,
}

/// Display detailed information on one or more containers
///
/// As `inspect --type container`.
#[derive(Debug, Args)]
pub(crate) struct InspectContainer {
    /// Format output using a custom template: 'json' or 'TEMPLATE'
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
    /// Names or ids.
    #[arg(required = true, value_names = ["CONTAINER", "[CONTAINER...]"], num_args = 1..)]
    containers: Vec<String>,
}

/// Display detailed information on one or more images
///
/// As `inspect --type image`.
#[derive(Debug, Args)]
pub(crate) struct InspectImage {
    /// Format output using a custom template: 'json' or 'TEMPLATE'
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    /// Names or ids.
    #[arg(required = true, value_names = ["IMAGE", "[IMAGE...]"], num_args = 1..)]
    images: Vec<String>,
}

/// Display detailed information on one or more networks
///
/// As `inspect --type network`.
#[derive(Debug, Args)]
pub(crate) struct InspectNetwork {
    /// Format output using a custom template: 'json' or 'TEMPLATE'
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    /// Names or ids.
    #[arg(required = true, value_names = ["NETWORK", "[NETWORK...]"], num_args = 1..)]
    networks: Vec<String>,
}

/// The kinds of things that have a name, in the order in which they are tried, and what comes before and after it.
const KINDS: &[(&str, &str, &str)] = &[
    ("container", "/containers/", "/json"),
    ("image", "/images/", "/json"),
    ("network", "/networks/", ""),
    ("volume", "/volumes/", ""),
];

impl Inspect {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        let kinds: Vec<_> = match self.kind.as_deref().unwrap_or_default() {
            "" => KINDS.to_vec(),
            kind => KINDS.iter().filter(|(name, ..)| *name == kind).copied().collect(),
        };
        if kinds.is_empty() {
            let kind = self.kind.unwrap_or_default();
            let known: Vec<String> = KINDS.iter().map(|(name, ..)| format!("{name:?}")).collect();
            return Err(message(format!("unknown type: {kind:?}: must be one of {}", known.join(", "))));
        }
        all(cx, &self.names, &kinds, self.format.as_deref(), self.size).await
    }
}

impl InspectContainer {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        all(cx, &self.containers, &KINDS[..1], self.format.as_deref(), self.size).await
    }
}

impl InspectImage {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        all(cx, &self.images, &KINDS[1..2], self.format.as_deref(), false).await
    }
}

impl InspectNetwork {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        all(cx, &self.networks, &KINDS[2..3], self.format.as_deref(), false).await
    }
}

type Kind = (&'static str, &'static str, &'static str);

/// Shows what was found, then tells what was not.
async fn all(cx: &Context, names: &[String], kinds: &[Kind], format: Option<&str>, size: bool) -> Result<u8> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for name in names {
        match find(cx, name, kinds, size).await {
            Ok(json) => found.push(json),
            Err(e @ Error::Connect(_)) => return Err(e),
            Err(e) => missing.push(e),
        }
    }
    let mut out = match format {
        None | Some("") => listed(&found),
        Some(template) => {
            let mut out = String::new();
            for json in &found {
                let mut value = serde_json::from_slice(json)
                    .map_err(|e| message(format!("the daemon's answer is not understood: {e}")))?;
                fill(&mut value);
                out.push_str(&one(template, &value)?);
                out.push('\n');
            }
            out
        }
    };
    if out.is_empty() {
        // Docker's scripts get a line even where nothing was found.
        out.push('\n');
    }
    Plain::Out.write_all(out.as_bytes())?;
    for e in &missing {
        warn(e.to_string());
    }
    Ok(u8::from(!missing.is_empty()))
}

/// Members of a container that Docker leaves out or calls null where they are empty, and what templates are to see.
const EMPTY: &[(&str, &[&str], &str)] = &[
    ("/State", &["Health"], "null"),
    ("/Config", &["Healthcheck", "StopSignal", "StopTimeout"], "null"),
    ("/Config", &["ExposedPorts", "Volumes", "Labels"], "{}"),
    ("/Config", &["Env", "Cmd", "Entrypoint", "OnBuild"], "[]"),
    ("/HostConfig", &["Init", "Runtime"], "null"),
    ("/HostConfig", &["Tmpfs", "Annotations", "PortBindings", "Sysctls", "StorageOpt"], "{}"),
    (
        "/HostConfig",
        &["Binds", "Mounts", "CapAdd", "CapDrop", "Devices", "Dns", "ExtraHosts", "GroupAdd"],
        "[]",
    ),
    (
        "/HostConfig",
        &["Links", "SecurityOpt", "Ulimits", "VolumesFrom", "MaskedPaths", "ReadonlyPaths"],
        "[]",
    ),
    ("", &["SizeRw", "SizeRootFs"], "null"),
    ("", &["ExecIDs"], "[]"),
];

fn fill(value: &mut serde_json::Value) {
    if value.get("HostConfig").is_none() {
        return;
    }
    for (place, names, empty) in EMPTY {
        let Some(members) = value.pointer_mut(place).and_then(serde_json::Value::as_object_mut) else {
            continue;
        };
        for name in *names {
            let member = members.entry(*name).or_insert(serde_json::Value::Null);
            if member.is_null() {
                *member = serde_json::from_str(empty).unwrap_or_default();
            }
        }
    }
}

fn listed(found: &[Bytes]) -> String {
    let mut out = String::from("[");
    for (at, json) in found.iter().enumerate() {
        out.push_str(if at == 0 { "\n    " } else { ",\n    " });
        out.push_str(&indent(&String::from_utf8_lossy(json), 1));
    }
    out + if found.is_empty() { "]\n" } else { "\n]\n" }
}

/// JSON with four spaces for each level, members in the daemon's own order and numbers to the letter.
fn indent(json: &str, mut level: usize) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let (mut quoted, mut escaped, mut opened) = (false, false, false);
    for c in json.chars() {
        if quoted {
            out.push(c);
            (quoted, escaped) = (escaped || c != '"', !escaped && c == '\\');
            continue;
        }
        if c.is_ascii_whitespace() {
            continue;
        }
        let closes = matches!(c, '}' | ']');
        if closes {
            level = level.saturating_sub(1);
        }
        // An empty list stays on its line.
        if opened != closes && (opened || closes) {
            line(&mut out, level);
        }
        opened = matches!(c, '{' | '[');
        level += usize::from(opened);
        out.push(c);
        match c {
            '"' => quoted = true,
            ',' => line(&mut out, level),
            ':' => out.push(' '),
            _ => {}
        }
    }
    out
}

fn line(out: &mut String, level: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("    ", level));
}

async fn find(cx: &Context, name: &str, kinds: &[Kind], size: bool) -> Result<Bytes> {
    for (kind, before, after) in kinds {
        let size = flag(size && *kind == "container");
        let path = with_query(&format!("{before}{}{after}", encode(name)), &[("size", size)]);
        match cx.client.get_raw(&path).await {
            Err(e) if e.is_not_found() && kinds.len() > 1 => {}
            other => return other,
        }
    }
    Err(message(format!("Error: No such object: {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_laid_out_as_docker_does() {
        let json = r#"{"b":[],"a":{ },"list":[1, {"x":"q\"}{,:\\"}],"n":1.50}"#;
        let want = r#"{
    "b": [],
    "a": {},
    "list": [
        1,
        {
            "x": "q\"}{,:\\"
        }
    ],
    "n": 1.50
}"#;
        assert_eq!(indent(json, 0), want);
        assert_eq!(listed(&[]), "[]\n");
        assert_eq!(listed(&[Bytes::from("1"), Bytes::from("2")]), "[\n    1,\n    2\n]\n");
    }
}
