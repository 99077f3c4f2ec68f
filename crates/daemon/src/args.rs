//! `knarr daemon`'s command line, and the engine's options that come from it.

use std::{
    collections::BTreeMap,
    io::IsTerminal,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::ValueEnum;

/// Run the service
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// What must survive a reboot: images, containers, their logs
    #[arg(long, value_name = "DIR", default_value = "/var/lib/knarr")]
    pub data_root: PathBuf,
    /// What must not: sockets and running state
    #[arg(long, value_name = "DIR", default_value = "/run/knarr")]
    pub exec_root: PathBuf,
    /// Where to listen
    #[arg(
        short = 'H',
        long = "host",
        value_name = "ADDRESS",
        help = "Where to listen: unix://PATH, or fd:// for sockets handed over by systemd"
    )]
    pub host: Vec<String>,
    /// Control group that containers are put below
    #[arg(long, value_name = "PATH", default_value = "/knarr")]
    pub cgroup_parent: String,
    /// Link of the network `bridge`; knarr0 if this engine has the usual data root
    #[arg(long, value_name = "LINK")]
    pub bridge: Option<String>,
    /// A further OCI runtime
    #[arg(long, value_name = "NAME=PATH", value_parser = runtime)]
    pub add_runtime: Vec<(String, PathBuf)>,
    /// Storage driver
    #[arg(
        short = 's',
        long,
        value_name = "NAME",
        help = "How layers are kept: overlay, btrfs, fuse-overlayfs or vfs (default: the best that works)"
    )]
    pub storage_driver: Option<String>,
    /// Storage driver's option, as size=10G for containers that ask for no size
    #[arg(long, value_name = "KEY=VALUE", value_parser = storage_option)]
    pub storage_opt: Vec<(String, String)>,
    /// Settings in Docker's words; each key is also a flag, and may be given in one of the two places
    #[arg(long, value_name = "FILE", default_value = "/etc/knarr/daemon.json")]
    pub config_file: PathBuf,
    /// Ask this registry for images of docker.io before docker.io itself
    #[arg(long, value_name = "URL")]
    pub registry_mirror: Vec<String>,
    /// Speak to this registry (HOST, HOST:PORT or CIDR) also without TLS, and without looking at its certificate
    #[arg(long, value_name = "REGISTRY")]
    pub insecure_registry: Vec<String>,
    /// Layers that one pull fetches at once
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub max_concurrent_downloads: u16,
    /// Layers that one push sends at once
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub max_concurrent_uploads: u16,
    /// How often a layer is asked for before a pull fails
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub max_download_attempts: u16,
    /// Log more
    #[arg(short = 'D', long)]
    pub debug: bool,
    /// How much to log
    #[arg(short = 'l', long, value_name = "LEVEL", value_enum, default_value_t = LogLevel::Info)]
    pub log_level: LogLevel,
    /// How to log
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// How to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How much to log; Docker's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What happens.
    Info,
    /// What may be wrong.
    Warn,
    /// What is wrong.
    Error,
    /// As `error`.
    Fatal,
}

/// Taken by knarr's own runtime.
const OWN_RUNTIME: &str = "knarr";

fn runtime(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=PATH"))?;
    if name.is_empty() || name == OWN_RUNTIME {
        return Err(format!("a runtime cannot be called {name:?}"));
    }
    if !Path::new(path).is_absolute() {
        return Err(format!("the path of runtime {name} must be absolute, not {path:?}"));
    }
    Ok((name.to_owned(), PathBuf::from(path)))
}

fn storage_option(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Args {
    /// Where to listen.
    pub(crate) fn hosts(&self) -> Vec<String> {
        if self.host.is_empty() {
            vec![format!("unix://{}", self.exec_root.join("knarr.sock").display())]
        } else {
            self.host.clone()
        }
    }

    /// The engine's options; finds the programs that it needs.
    pub(crate) fn options(&self) -> anyhow::Result<engine::Options> {
        for (word, path) in [("--data-root", &self.data_root), ("--exec-root", &self.exec_root)] {
            if !path.is_absolute() {
                bail!("{word} must be an absolute path, not {}", path.display());
            }
        }
        if !self.cgroup_parent.starts_with('/') {
            bail!(
                "--cgroup-parent must be absolute below each hierarchy's root, not {:?}",
                self.cgroup_parent
            );
        }
        let here = std::env::current_exe().context("find the running program")?;
        Ok(engine::Options {
            data_root: self.data_root.clone(),
            exec_root: self.exec_root.clone(),
            cgroup_parent: self.cgroup_parent.clone(),
            shim: beside(&here, "knarr-shim")?,
            runtime: beside(&here, "knarr-runtime")?,
            storage: engine::Storage {
                driver: self.storage_driver.clone().filter(|name| !name.is_empty()),
                options: self.storage_opt.clone(),
            },
            runtimes: self.add_runtime.iter().cloned().collect::<BTreeMap<_, _>>(),
            registries: self.registries()?,
            bridge: self.bridge.clone(),
        })
    }

    fn registries(&self) -> anyhow::Result<engine::Registries> {
        let hosts = engine::RegistryHosts {
            mirrors: self.registry_mirror.clone(),
            insecure: self.insecure_registry.clone(),
            attempts: self.max_download_attempts.into(),
            ..engine::RegistryHosts::default()
        };
        hosts.check()?;
        Ok(engine::Registries {
            hosts,
            downloads: self.max_concurrent_downloads.into(),
            uploads: self.max_concurrent_uploads.into(),
        })
    }

    /// Starts logging to standard error.
    pub(crate) fn log(&self) {
        let level = match self.log_level {
            _ if self.debug => "debug",
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warn => "warn",
            LogLevel::Error | LogLevel::Fatal => "error",
        };
        let filter = tracing_subscriber::EnvFilter::new(level);
        let lines = tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_env_filter(filter)
            .with_target(false);
        // A second start in one process (tests) keeps the first subscriber.
        let _ = match self.log_format {
            LogFormat::Text => lines.try_init(),
            LogFormat::Json => lines.json().try_init(),
        };
    }
}

/// A program that was installed with this one.
fn beside(here: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let folder = here.parent().unwrap_or(Path::new("/"));
    let places = [
        folder.join(name),
        folder.join("../libexec/knarr").join(name),
        folder.join("../lib/knarr").join(name),
    ];
    match places.iter().find(|place| place.is_file()) {
        Some(place) => place.canonicalize().with_context(|| format!("resolve {}", place.display())),
        None => bail!(
            "{name} is not there: looked for {}. Install it beside {}",
            places.each_ref().map(|place| place.display().to_string()).join(", "),
            here.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_where_they_are_installed() {
        let root = tempfile::tempdir().unwrap();
        let bin = root.path().join("bin");
        let libexec = root.path().join("libexec/knarr");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::create_dir_all(&libexec).unwrap();
        let here = bin.join("knarr");
        let text = beside(&here, "knarr-shim").unwrap_err().to_string();
        assert!(text.contains("libexec/knarr/knarr-shim") && text.contains("lib/knarr"), "{text}");
        std::fs::write(libexec.join("knarr-shim"), "").unwrap();
        assert!(beside(&here, "knarr-shim").unwrap().ends_with("libexec/knarr/knarr-shim"));
        std::fs::write(bin.join("knarr-shim"), "").unwrap();
        assert!(beside(&here, "knarr-shim").unwrap().ends_with("bin/knarr-shim"));
    }

    #[test]
    fn runtimes_have_a_name_and_an_absolute_path() {
        assert_eq!(runtime("runc=/usr/bin/runc").unwrap().0, "runc");
        for bad in ["runc", "=/x", "knarr=/x", "runc=bin/runc"] {
            assert!(runtime(bad).is_err(), "{bad}");
        }
    }
}
