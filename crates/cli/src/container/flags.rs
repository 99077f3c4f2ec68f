//! The flags of a new container.

use clap::Args;

use crate::words::size;

/// What `run` and `create` have in common; each flag as Docker has it.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Flags {
    /// Add a custom host-to-IP mapping (host:ip)
    #[arg(long, value_name = "list", value_parser = super::network::extra_host)]
    pub(crate) add_host: Vec<String>,
    /// Add an annotation to the container (passed through to the OCI runtime)
    #[arg(long, value_name = "map")]
    pub(crate) annotation: Vec<String>,
    /// Attach to STDIN, STDOUT or STDERR
    #[arg(short, long, value_name = "list", value_parser = stream)]
    pub(crate) attach: Vec<String>,
    /// Optional parent cgroup for the container
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    pub(crate) cgroup_parent: String,
    /// Write the container ID to the file
    #[arg(long, value_name = "string")]
    pub(crate) cidfile: Option<std::path::PathBuf>,
    /// Limit CPU CFS (Completely Fair Scheduler) period
    #[arg(long, value_name = "int", default_value_t = 0, hide_default_value = true)]
    pub(crate) cpu_period: i64,
    /// Limit CPU CFS (Completely Fair Scheduler) quota
    #[arg(long, value_name = "int", default_value_t = 0, hide_default_value = true)]
    pub(crate) cpu_quota: i64,
    /// CPU shares (relative weight)
    #[arg(short, long, value_name = "int", default_value_t = 0, hide_default_value = true)]
    pub(crate) cpu_shares: i64,
    /// Number of CPUs
    #[arg(long, value_name = "decimal", value_parser = nano_cpus)]
    pub(crate) cpus: Option<i64>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    pub(crate) cpuset_cpus: String,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    pub(crate) cpuset_mems: String,
    /// Set custom DNS servers
    #[arg(long, value_name = "list", value_parser = super::network::server)]
    pub(crate) dns: Vec<String>,
    /// Set DNS options
    #[arg(long, alias = "dns-opt", value_name = "list")]
    pub(crate) dns_option: Vec<String>,
    /// Set custom DNS search domains
    #[arg(long, value_name = "list", value_parser = super::network::search_domain)]
    pub(crate) dns_search: Vec<String>,
    /// Container NIS domain name
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    pub(crate) domainname: String,
    /// Overwrite the default ENTRYPOINT of the image
    #[arg(long, value_name = "string")]
    pub(crate) entrypoint: Option<String>,
    /// Set environment variables
    #[arg(short, long, value_name = "list", value_parser = variable)]
    pub(crate) env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "list")]
    pub(crate) env_file: Vec<std::path::PathBuf>,
    /// Expose a port or a range of ports
    #[arg(long, value_name = "list")]
    pub(crate) expose: Vec<String>,
    /// Container host name
    #[arg(short = 'h', long, value_name = "string", default_value = "", hide_default_value = true)]
    pub(crate) hostname: String,
    /// Run an init inside the container that forwards signals and reaps processes
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) init: Option<bool>,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// IPv4 address (e.g., 172.30.100.104)
    #[arg(long, value_name = "string")]
    pub(crate) ip: Option<String>,
    #[arg(long, value_name = "string", help = "IPv6 address (e.g., 2001:db8::33)")]
    pub(crate) ip6: Option<String>,
    /// Set meta data on a container
    #[arg(short, long, value_name = "list")]
    pub(crate) label: Vec<String>,
    /// Read in a line delimited file of labels
    #[arg(long, value_name = "list")]
    pub(crate) label_file: Vec<std::path::PathBuf>,
    /// Add link to another container
    #[arg(long, value_name = "list", value_parser = link)]
    pub(crate) link: Vec<String>,
    /// Container IPv4/IPv6 link-local addresses
    #[arg(long, value_name = "list", value_parser = super::network::server)]
    pub(crate) link_local_ip: Vec<String>,
    /// Logging driver for the container
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    pub(crate) log_driver: String,
    /// Log driver options
    #[arg(long, value_name = "list")]
    pub(crate) log_opt: Vec<String>,
    /// Container MAC address (e.g., 92:d0:c6:0a:29:33)
    #[arg(long, value_name = "string")]
    pub(crate) mac_address: Option<String>,
    /// Memory limit
    #[arg(short, long, value_name = "bytes", value_parser = size::parse_positive)]
    pub(crate) memory: Option<i64>,
    /// Memory soft limit
    #[arg(long, value_name = "bytes", value_parser = size::parse_positive)]
    pub(crate) memory_reservation: Option<i64>,
    /// Swap limit equal to memory plus swap: '-1' to enable unlimited swap
    #[arg(long, value_name = "bytes", value_parser = size::parse_binary)]
    pub(crate) memory_swap: Option<i64>,
    /// Attach a filesystem mount to the container
    #[arg(long, value_name = "mount", value_parser = super::mounts::parse)]
    pub(crate) mount: Vec<api::create::Mount>,
    /// Assign a name to the container
    #[arg(long, value_name = "string")]
    pub(crate) name: Option<String>,
    /// Connect a container to a network
    #[arg(long, alias = "net", value_name = "network", value_parser = super::network::parse)]
    pub(crate) network: Vec<super::network::Place>,
    /// Add network-scoped alias for the container
    #[arg(long, alias = "net-alias", value_name = "list")]
    pub(crate) network_alias: Vec<String>,
    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, value_name = "int", default_value_t = 0, hide_default_value = true)]
    pub(crate) pids_limit: i64,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string", value_parser = no_platform)]
    pub(crate) platform: Option<String>,
    /// Publish a container's port(s) to the host
    #[arg(short, long, value_name = "list")]
    pub(crate) publish: Vec<String>,
    /// Publish all exposed ports to random ports
    #[arg(short = 'P', long)]
    pub(crate) publish_all: bool,
    /// Pull image before running ("always", "missing", "never") (default "missing")
    #[arg(long, value_name = "string", default_value = "missing", hide_default_value = true)]
    pub(crate) pull: String,
    /// Suppress the pull output
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Mount the container's root filesystem as read only
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Automatically remove the container and its associated anonymous volumes when it exits
    #[arg(long)]
    pub(crate) rm: bool,
    /// Runtime to use for this container
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    pub(crate) runtime: String,
    /// Size of /dev/shm
    #[arg(long, value_name = "bytes", value_parser = size::parse_positive)]
    pub(crate) shm_size: Option<i64>,
    /// Signal to stop the container
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    pub(crate) stop_signal: String,
    /// Timeout (in seconds) to stop a container
    #[arg(long, value_name = "int")]
    pub(crate) stop_timeout: Option<i64>,
    /// Storage driver options for the container
    #[arg(long, value_name = "list")]
    pub(crate) storage_opt: Vec<String>,
    /// Mount a tmpfs directory
    #[arg(long, value_name = "list")]
    pub(crate) tmpfs: Vec<String>,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Username or UID (format: <name|uid>[:<group|gid>])
    #[arg(short, long, value_name = "string", default_value = "", hide_default_value = true)]
    pub(crate) user: String,
    /// Bind mount a volume
    #[arg(short, long, value_name = "list")]
    pub(crate) volume: Vec<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "string", default_value = "", hide_default_value = true)]
    pub(crate) workdir: String,
    /// The image, and the command to run in place of the image's own.
    #[arg(required = true, num_args = 1.., trailing_var_arg = true, value_names = ["IMAGE", "[COMMAND]", "[ARG...]"])]
    pub(crate) image_and_command: Vec<String>,
}

fn stream(text: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    match lower.as_str() {
        "stdin" | "stdout" | "stderr" => Ok(lower),
        _ => Err("valid streams are STDIN, STDOUT and STDERR".into()),
    }
}

/// `CONTAINER`, or `CONTAINER:ALIAS`.
fn link(text: &str) -> Result<String, String> {
    let (name, alias) = text.split_once(':').unwrap_or((text, text));
    if name.is_empty() || alias.is_empty() || alias.contains(':') {
        return Err(format!("bad format for links: {text}"));
    }
    Ok(text.to_owned())
}

/// An environment variable; one without a value is taken from this program's own environment.
pub(crate) fn variable(text: &str) -> Result<String, String> {
    if text.is_empty() || text.starts_with('=') {
        return Err(format!("invalid environment variable: {text}"));
    }
    if text.contains('=') {
        return Ok(text.to_owned());
    }
    Ok(std::env::var(text).map_or_else(|_| text.to_owned(), |value| format!("{text}={value}")))
}

/// Billionths of a CPU.
fn nano_cpus(text: &str) -> Result<i64, String> {
    let invalid = || format!("failed to parse {text} as a rational number");
    if let Some(rest) = text.strip_prefix('-').filter(|rest| !rest.starts_with('-')) {
        return nano_cpus(rest).map(|nanos| -nanos);
    }
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 9 && part[9..].bytes().any(|b| b != b'0') {
        return Err("value is too precise".into());
    }
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !(digits(whole) && digits(part)) || whole.len() + part.len() == 0 {
        return Err(invalid());
    }
    let part: String = part.chars().chain("000000000".chars()).take(9).collect();
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
    let part: i64 = part.parse().map_err(|_| invalid())?;
    whole.checked_mul(1_000_000_000).and_then(|nanos| nanos.checked_add(part)).ok_or_else(invalid)
}

fn no_platform(text: &str) -> Result<String, String> {
    Err(format!("{text:?} is not supported: images run on the platform of this machine only"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_counted_in_billionths() {
        for (text, nanos) in
            [("1.5", 1_500_000_000), ("2", 2_000_000_000), (".5", 500_000_000), ("0.000000001", 1)]
        {
            assert_eq!(nano_cpus(text), Ok(nanos), "{text}");
        }
        for bad in ["", ".", "x", "--1", "0.0000000001", "99999999999"] {
            assert!(nano_cpus(bad).is_err(), "{bad}");
        }
    }
}
