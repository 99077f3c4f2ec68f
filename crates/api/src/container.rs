//! Containers as the API shows them: list, inspect, wait, top, prune.

use std::collections::BTreeMap;

use crate::{
    create::{Config, HostConfig, Pairs, PortMap},
    network::EndpointIpam,
    omit,
};

wire! {
    /// One line of `ps`.
    Summary {
        id: String,
        names: Vec<String>,
        image: String,
        #[serde(rename = "ImageID")] image_id: String,
        command: String,
        created: i64,
        ports: Vec<Port>,
        #[serde(skip_serializing_if = "omit")] size_rw: i64,
        #[serde(skip_serializing_if = "omit")] size_root_fs: i64,
        labels: Pairs,
        state: String,
        status: String,
        host_config: SummaryHost,
        network_settings: SummaryNetworks,
        mounts: Vec<MountPoint>,
    }

    /// Of a line of `ps`.
    SummaryHost {
        #[serde(skip_serializing_if = "omit")] network_mode: String,
        #[serde(skip_serializing_if = "omit")] annotations: Option<Pairs>,
    }

    /// Of a line of `ps`.
    SummaryNetworks { networks: BTreeMap<String, EndpointSettings> }

    /// A published or exposed port.
    Port {
        #[serde(rename = "IP", skip_serializing_if = "omit")] ip: String,
        private_port: u16,
        #[serde(skip_serializing_if = "omit")] public_port: u16,
        #[serde(rename = "Type")] kind: String,
    }

    /// `inspect`.
    Inspect {
        id: String,
        created: String,
        path: String,
        args: Vec<String>,
        state: State,
        image: String,
        resolv_conf_path: String,
        hostname_path: String,
        hosts_path: String,
        log_path: String,
        name: String,
        restart_count: i64,
        driver: String,
        platform: String,
        mount_label: String,
        process_label: String,
        app_armor_profile: String,
        #[serde(rename = "ExecIDs")] exec_ids: Option<Vec<String>>,
        host_config: HostConfig,
        graph_driver: GraphDriver,
        #[serde(skip_serializing_if = "omit")] size_rw: Option<i64>,
        #[serde(skip_serializing_if = "omit")] size_root_fs: Option<i64>,
        mounts: Vec<MountPoint>,
        config: Config,
        network_settings: NetworkSettings,
    }

    /// How it is.
    State {
        status: String,
        running: bool,
        paused: bool,
        restarting: bool,
        #[serde(rename = "OOMKilled")] oom_killed: bool,
        dead: bool,
        pid: i64,
        exit_code: i64,
        error: String,
        started_at: String,
        finished_at: String,
        #[serde(skip_serializing_if = "omit")] health: Option<Health>,
    }

    /// What the probe says.
    Health { status: String, failing_streak: i64, log: Option<Vec<serde_json::Value>> }

    /// Directories of the layer driver.
    GraphDriver { data: Option<Pairs>, name: String }

    /// A mount that somebody asked for.
    MountPoint {
        #[serde(rename = "Type", skip_serializing_if = "omit")] kind: String,
        #[serde(skip_serializing_if = "omit")] name: String,
        source: String,
        destination: String,
        #[serde(skip_serializing_if = "omit")] driver: String,
        mode: String,
        #[serde(rename = "RW")] writable: bool,
        propagation: String,
    }

    /// Networks of a container; the members beside `Networks` are those of the default bridge.
    NetworkSettings {
        bridge: String,
        #[serde(rename = "SandboxID")] sandbox_id: String,
        hairpin_mode: bool,
        #[serde(rename = "LinkLocalIPv6Address")] link_local_ipv6_address: String,
        #[serde(rename = "LinkLocalIPv6PrefixLen")] link_local_ipv6_prefix_len: i64,
        ports: PortMap,
        sandbox_key: String,
        #[serde(rename = "SecondaryIPAddresses")] secondary_ip_addresses: Option<Vec<serde_json::Value>>,
        #[serde(rename = "SecondaryIPv6Addresses")] secondary_ipv6_addresses: Option<Vec<serde_json::Value>>,
        #[serde(rename = "EndpointID")] endpoint_id: String,
        gateway: String,
        #[serde(rename = "GlobalIPv6Address")] global_ipv6_address: String,
        #[serde(rename = "GlobalIPv6PrefixLen")] global_ipv6_prefix_len: i64,
        #[serde(rename = "IPAddress")] ip_address: String,
        #[serde(rename = "IPPrefixLen")] ip_prefix_len: i64,
        #[serde(rename = "IPv6Gateway")] ipv6_gateway: String,
        mac_address: String,
        networks: BTreeMap<String, EndpointSettings>,
    }

    /// A container's end of one network.
    EndpointSettings {
        #[serde(rename = "IPAMConfig")] ipam_config: Option<EndpointIpam>,
        links: Option<Vec<String>>,
        aliases: Option<Vec<String>>,
        #[serde(rename = "NetworkID")] network_id: String,
        #[serde(rename = "EndpointID")] endpoint_id: String,
        gateway: String,
        #[serde(rename = "IPAddress")] ip_address: String,
        #[serde(rename = "IPPrefixLen")] ip_prefix_len: i64,
        #[serde(rename = "IPv6Gateway")] ipv6_gateway: String,
        #[serde(rename = "GlobalIPv6Address")] global_ipv6_address: String,
        #[serde(rename = "GlobalIPv6PrefixLen")] global_ipv6_prefix_len: i64,
        mac_address: String,
        driver_opts: Option<Pairs>,
        #[serde(rename = "DNSNames", skip_serializing_if = "omit")] dns_names: Option<Vec<String>>,
        #[serde(skip_serializing_if = "omit")] gw_priority: i64,
    }

    /// `wait`.
    Wait {
        error: Option<WaitError>,
        status_code: i64,
    }

    /// Why the exit code could not be told.
    WaitError { #[serde(skip_serializing_if = "omit")] message: String }

    /// `top`.
    Top { processes: Vec<Vec<String>>, titles: Vec<String> }

    /// One line of `diff`: 0 modified, 1 added, 2 deleted.
    Change { path: String, kind: u8 }

    /// `container prune`.
    Prune { containers_deleted: Option<Vec<String>>, space_reclaimed: u64 }
}
