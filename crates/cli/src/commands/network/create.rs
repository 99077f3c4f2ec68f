//! `network create`

use api::create::Pairs;
use api::network::{ConfigFrom, Ipam, IpamConfig, NetworkCreate, NetworkCreated};
use clap::Args;
use ipnet::IpNet;

use super::super::{Context, say, warn};
use crate::container::pairs;
use crate::error::{Result, message};

/// Create a network
///
/// What is not said is chosen: a subnet that nobody uses, and in it the first address as the gateway.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Enable manual container attachment
    #[arg(long)]
    attachable: bool,
    /// Auxiliary IPv4 or IPv6 addresses used by Network driver (default map[])
    #[arg(long, value_name = "map")]
    aux_address: Vec<String>,
    /// The network from which to copy the configuration
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    config_from: String,
    /// Create a configuration only network
    #[arg(long)]
    config_only: bool,
    /// Driver to manage the Network (default "bridge")
    #[arg(short, long, value_name = "string", default_value = "bridge", hide_default_value = true)]
    driver: String,
    /// IPv4 or IPv6 Gateway for the master subnet
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    gateway: Vec<String>,
    /// Create swarm routing-mesh network
    #[arg(long)]
    ingress: bool,
    /// Restrict external access to the network
    #[arg(long)]
    internal: bool,
    /// Allocate container ip from a sub-range
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    ip_range: Vec<String>,
    /// IP Address Management Driver (default "default")
    #[arg(long, value_name = "string", default_value = "default", hide_default_value = true)]
    ipam_driver: String,
    /// Set IPAM driver specific options (default map[])
    #[arg(long, value_name = "map")]
    ipam_opt: Vec<String>,
    /// Enable or disable IPv4 address assignment (default true)
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ipv4: Option<bool>,
    /// Enable or disable IPv6 address assignment
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ipv6: Option<bool>,
    /// Set metadata on a network
    #[arg(long, value_name = "list")]
    label: Vec<String>,
    /// Set driver specific options (default map[])
    #[arg(short, long, value_name = "map")]
    opt: Vec<String>,
    /// Control the network's scope
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true)]
    scope: String,
    /// Subnet in CIDR format that represents a network segment
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    subnet: Vec<String>,
    /// Its name.
    #[arg(value_name = "NETWORK")]
    name: String,
}

impl Create {
    pub(crate) async fn run(self, cx: &Context) -> Result<u8> {
        let request = self.request()?;
        let made: NetworkCreated = cx.client.post_json("/networks/create", &request).await?;
        if !made.warning.is_empty() {
            warn(format!("WARNING: {}", made.warning));
        }
        say(made.id)?;
        Ok(0)
    }

    fn request(&self) -> Result<NetworkCreate> {
        let some = |pairs: Pairs| (!pairs.is_empty()).then_some(pairs);
        let none: [&str; 0] = [];
        Ok(NetworkCreate {
            name: self.name.clone(),
            check_duplicate: Some(true),
            driver: self.driver.clone(),
            scope: self.scope.clone(),
            enable_ipv4: self.ipv4,
            enable_ipv6: self.ipv6,
            ipam: Some(Ipam {
                driver: self.ipam_driver.clone(),
                options: some(pairs::map(&self.ipam_opt)),
                config: Some(self.subnets().map_err(message)?),
            }),
            internal: self.internal,
            attachable: self.attachable,
            ingress: self.ingress,
            config_only: self.config_only,
            config_from: (!self.config_from.is_empty())
                .then(|| ConfigFrom { network: self.config_from.clone() }),
            options: some(pairs::map(&self.opt)),
            labels: Some(pairs::labels(&none, &self.label)?),
        })
    }

    /// Each subnet with the range, the gateway and the auxiliary addresses that lie in it.
    fn subnets(&self) -> Result<Vec<IpamConfig>, String> {
        if self.subnet.len() < self.ip_range.len() || self.subnet.len() < self.gateway.len() {
            return Err("every ip-range or gateway must have a corresponding subnet".into());
        }
        let mut all: Vec<(IpNet, IpamConfig)> = Vec::new();
        for text in &self.subnet {
            let net: IpNet =
                text.parse().map_err(|_| format!("invalid subnet: invalid CIDR address: {text}"))?;
            if all.iter().any(|(other, _)| other.contains(&net) || net.contains(other)) {
                return Err("multiple overlapping subnet configuration is not supported".into());
            }
            all.push((net, IpamConfig { subnet: text.clone(), ..IpamConfig::default() }));
        }
        for range in &self.ip_range {
            let config = around(&mut all, range, "range")?;
            let (before, subnet) = (&config.ip_range, &config.subnet);
            if !before.is_empty() {
                return Err(format!(
                    "cannot configure multiple ranges ({range}, {before}) on the same subnet ({subnet})"
                ));
            }
            config.ip_range.clone_from(range);
        }
        for gateway in &self.gateway {
            let config = around(&mut all, gateway, "gateway")?;
            let (before, subnet) = (&config.gateway, &config.subnet);
            if !before.is_empty() {
                return Err(format!(
                    "cannot configure multiple gateways ({gateway}, {before}) for the same subnet ({subnet})"
                ));
            }
            config.gateway.clone_from(gateway);
        }
        for (name, address) in pairs::map(&self.aux_address) {
            let config = around(&mut all, &address, "aux-address")?;
            config.aux_addresses.get_or_insert_default().insert(name, address);
        }
        Ok(all.into_iter().map(|(_, config)| config).collect())
    }
}

/// The subnet in which an address or a range lies.
fn around<'a>(
    all: &'a mut [(IpNet, IpamConfig)],
    text: &str,
    what: &str,
) -> Result<&'a mut IpamConfig, String> {
    let first = match text.parse::<IpNet>() {
        Ok(range) => range.addr(),
        Err(_) => text.parse().map_err(|_| format!("invalid {what}: {text}"))?,
    };
    let found = all.iter_mut().find(|(net, _)| net.contains(&first));
    found.map(|(_, config)| config).ok_or_else(|| format!("no matching subnet for {what} {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        create: Create,
    }

    fn request(line: &str) -> Result<NetworkCreate> {
        let args = ["create"].into_iter().chain(line.split(' '));
        Typed::try_parse_from(args).expect("flags").create.request()
    }

    #[test]
    fn ranges_gateways_and_auxiliary_addresses_find_their_subnets() {
        let made = request(
            "--subnet 10.0.0.0/16,fd00::/64 --ip-range 10.0.8.0/24 --gateway fd00::1 --gateway 10.0.0.9 \
             --aux-address a=10.0.0.7 --ipv6 --internal -o x=y --label l=1 web",
        )
        .unwrap();
        let subnets = made.ipam.unwrap().config.unwrap();
        assert_eq!((subnets[0].ip_range.as_str(), subnets[0].gateway.as_str()), ("10.0.8.0/24", "10.0.0.9"));
        assert_eq!(subnets[0].aux_addresses.as_ref().unwrap()["a"], "10.0.0.7");
        assert_eq!((subnets[1].subnet.as_str(), subnets[1].gateway.as_str()), ("fd00::/64", "fd00::1"));
        assert_eq!((made.enable_ipv6, made.enable_ipv4, made.internal), (Some(true), None, true));
        assert_eq!((made.options.unwrap()["x"].as_str(), made.labels.unwrap()["l"].as_str()), ("y", "1"));
    }

    #[test]
    fn what_does_not_fit_is_said() {
        for (line, want) in [
            ("--gateway 10.0.0.1 web", "every ip-range or gateway must have a corresponding subnet"),
            ("--subnet x web", "invalid subnet: invalid CIDR address: x"),
            (
                "--subnet 10.0.0.0/16 --subnet 10.0.1.0/24 web",
                "multiple overlapping subnet configuration is not supported",
            ),
            ("--subnet 10.0.0.0/16 --gateway 10.1.0.1 web", "no matching subnet for gateway 10.1.0.1"),
            ("--subnet 10.0.0.0/16 --ip-range 10.1.0.0/24 web", "no matching subnet for range 10.1.0.0/24"),
            (
                "--subnet 10.0.0.0/16 --aux-address a=10.1.0.1 web",
                "no matching subnet for aux-address 10.1.0.1",
            ),
            (
                "--subnet 10.0.0.0/16,10.9.0.0/16 --gateway 10.0.0.1,10.0.0.2 web",
                "cannot configure multiple gateways (10.0.0.2, 10.0.0.1) for the same subnet (10.0.0.0/16)",
            ),
        ] {
            assert_eq!(request(line).unwrap_err().to_string(), want, "{line}");
        }
    }
}
