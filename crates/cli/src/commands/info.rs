//! `info`

use std::fmt::Write;
use std::io::Write as _;

use api::system::Info as Told;
use clap::Args;
use serde_json::json;

use super::{Context, say, warn};
use crate::error::Result;
use crate::format::one;
use crate::terminal::Plain;
use crate::words::size;

/// Display system-wide information
///
/// Containers, images, drivers, limits that the kernel offers, the machine.
#[derive(Debug, Args)]
pub(crate) struct Info {
    /// Format output using a custom template: 'json' or 'TEMPLATE'
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
}

impl Info {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        let client = json!({ "Version": env!("CARGO_PKG_VERSION"), "Context": "default", "Debug": false, "Plugins": [] });
        if let Some(format) = self.format.as_deref().filter(|format| !format.is_empty()) {
            let raw = cx.client.get_raw("/info").await?;
            let mut value: serde_json::Value = serde_json::from_slice(&raw)
                .map_err(|e| crate::error::message(format!("the daemon's answer is not understood: {e}")))?;
            if let Some(members) = value.as_object_mut() {
                members.insert("ClientInfo".into(), client);
            }
            say(one(format, &value)?)?;
            return Ok(0);
        }
        say(format!(
            "Client:\n Version:    {}\n Context:    default\n Debug Mode: false\n\nServer:",
            env!("CARGO_PKG_VERSION")
        ))?;
        let told: Told = cx.client.get("/info").await?;
        Plain::Out.write_all(drawn(&told).as_bytes())?;
        told.warnings.iter().flatten().for_each(warn);
        Ok(0)
    }
}

fn drawn(it: &Told) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(out, " {name}: {value}");
    };
    line("Containers", &it.containers.to_string());
    line(" Running", &it.containers_running.to_string());
    line(" Paused", &it.containers_paused.to_string());
    line(" Stopped", &it.containers_stopped.to_string());
    line("Images", &it.images.to_string());
    line("Server Version", &it.server_version);
    line("Storage Driver", &it.driver);
    for (name, value) in &it.driver_status {
        line(&format!(" {name}"), value);
    }
    line("Logging Driver", &it.logging_driver);
    line("Cgroup Driver", &it.cgroup_driver);
    line("Cgroup Version", &it.cgroup_version);
    let runtimes: Vec<&str> = it.runtimes.keys().map(String::as_str).collect();
    let memory = size::human_binary(it.mem_total as f64);
    let security = it
        .security_options
        .iter()
        .map(|option| option.trim_start_matches("name=").replace(",profile=", " profile "));
    for (name, value) in [
        ("Runtimes", runtimes.join(" ").as_str()),
        ("Default Runtime", &it.default_runtime),
        ("Init Binary", &it.init_binary),
        ("Security Options", &security.collect::<Vec<_>>().join(", ")),
        ("Kernel Version", &it.kernel_version),
        ("Operating System", &it.operating_system),
        ("OSType", &it.os_type),
        ("Architecture", &it.architecture),
        ("CPUs", &it.ncpu.to_string()),
        ("Total Memory", &memory),
        ("Name", &it.name),
        ("ID", &it.id),
        ("Docker Root Dir", &it.docker_root_dir),
        ("Debug Mode", &it.debug.to_string()),
        ("Experimental", &it.experimental_build.to_string()),
        ("Live Restore Enabled", &it.live_restore_enabled.to_string()),
    ] {
        line(name, value);
    }
    out + "\n"
}
