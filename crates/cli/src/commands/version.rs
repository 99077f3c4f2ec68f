//! `version`

use std::fmt::Write;

use clap::Args;
use serde_json::json;

use super::{Context, say};
use crate::client::API_VERSION;
use crate::error::Result;
use crate::format::one;

/// Show the version information
///
/// This program's, and the daemon's with its parts.
#[derive(Debug, Args)]
pub(crate) struct Version {
    /// Format output using a custom template: 'json' or 'TEMPLATE'
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
}

impl Version {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        let server = cx.client.get::<api::system::Version>("/version").await;
        let spoken = if server.is_ok() { cx.client.version().await? } else { API_VERSION };
        let client = json!({
            "Version": env!("CARGO_PKG_VERSION"),
            "ApiVersion": spoken,
            "DefaultAPIVersion": API_VERSION,
            "GitCommit": "",
            "Os": std::env::consts::OS,
            "Arch": arch(),
            "Context": "default",
        });
        if let Some(format) = self.format.as_deref().filter(|format| !format.is_empty()) {
            let known = server.as_ref().ok().and_then(|server| serde_json::to_value(server).ok());
            say(one(format, &json!({ "Client": client, "Server": known }))?)?;
            return server.map(|_| 0);
        }
        say(ours(spoken))?;
        say(theirs(&server?))?;
        Ok(0)
    }
}

fn ours(spoken: &str) -> String {
    let lowered =
        if spoken == API_VERSION { String::new() } else { format!(" (downgraded from {API_VERSION})") };
    let lines = [
        ("Version", env!("CARGO_PKG_VERSION").to_owned()),
        ("API version", format!("{spoken}{lowered}")),
        ("OS/Arch", format!("{}/{}", std::env::consts::OS, arch())),
        ("Context", "default".to_owned()),
    ];
    let mut out = String::from("Client:");
    for (name, value) in lines {
        let _ = write!(out, "\n {:<19}{value}", format!("{name}:"));
    }
    out + "\n"
}

/// The names of a part's details, and what they are called in the listing.
const DETAILS: &[(&str, &str)] = &[
    ("ApiVersion", "API version"),
    ("GoVersion", "Go version"),
    ("GitCommit", "Git commit"),
    ("BuildTime", "Built"),
];

fn theirs(server: &api::system::Version) -> String {
    let mut out = String::from("Server:");
    if !server.platform.name.is_empty() {
        out = format!("{out} {}", server.platform.name);
    }
    for part in &server.components {
        let details = part.details.clone().unwrap_or_default();
        let of = |key: &str| details.get(key).map(String::as_str).unwrap_or_default();
        let mut lines = vec![("Version", part.version.clone())];
        if part.name == "Engine" {
            for (key, name) in DETAILS.iter().filter(|(key, _)| details.contains_key(*key)) {
                let least = if *key == "ApiVersion" {
                    format!(" (minimum version {})", of("MinAPIVersion"))
                } else {
                    String::new()
                };
                lines.push((name, format!("{}{least}", of(key))));
            }
            lines.push(("OS/Arch", format!("{}/{}", of("Os"), of("Arch"))));
            lines.push(("Experimental", of("Experimental").to_owned()));
        } else if details.contains_key("GitCommit") {
            lines.push(("GitCommit", of("GitCommit").to_owned()));
        }
        let _ = write!(out, "\n {}:", part.name);
        for (name, value) in lines {
            let _ = write!(out, "\n  {:<18}{value}", format!("{name}:"));
        }
    }
    out
}

/// The machine in Go's words, which all clients use.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
