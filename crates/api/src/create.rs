//! What `POST /containers/create` takes: `Config`, `HostConfig`, `NetworkingConfig`.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{SeqAccess, Visitor},
};

use crate::{container::EndpointSettings, go, omit};

/// `{}`, where Docker uses a map as a set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// Docker's set: names with nothing behind them.
pub type Set = BTreeMap<String, Empty>;

/// String pairs.
pub type Pairs = BTreeMap<String, String>;

/// Words; one string is read as one word.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Words(pub Vec<String>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Words;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E>(self, word: &str) -> Result<Words, E> {
                Ok(Words(vec![word.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Words, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = seq.next_element()? {
                    words.push(word);
                }
                Ok(Words(words))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

wire! {
    /// What runs in the container, wherever it runs; also the `Config` of an image.
    Config {
        hostname: String,
        domainname: String,
        user: String,
        attach_stdin: bool,
        attach_stdout: bool,
        attach_stderr: bool,
        #[serde(skip_serializing_if = "omit")] exposed_ports: Option<Set>,
        tty: bool,
        open_stdin: bool,
        stdin_once: bool,
        env: Option<Vec<String>>,
        cmd: Option<Words>,
        #[serde(skip_serializing_if = "omit")] healthcheck: Option<Healthcheck>,
        #[serde(skip_serializing_if = "omit")] args_escaped: bool,
        image: String,
        volumes: Option<Set>,
        working_dir: String,
        entrypoint: Option<Words>,
        #[serde(skip_serializing_if = "omit")] network_disabled: bool,
        #[serde(skip_serializing_if = "omit")] mac_address: String,
        on_build: Option<Vec<String>>,
        labels: Option<Pairs>,
        #[serde(skip_serializing_if = "omit")] stop_signal: String,
        #[serde(skip_serializing_if = "omit")] stop_timeout: Option<i64>,
        #[serde(skip_serializing_if = "omit")] shell: Option<Words>,
    }

    /// A probe; times in nanoseconds.
    Healthcheck {
        #[serde(skip_serializing_if = "omit")] test: Option<Vec<String>>,
        #[serde(skip_serializing_if = "omit")] interval: i64,
        #[serde(skip_serializing_if = "omit")] timeout: i64,
        #[serde(skip_serializing_if = "omit")] start_period: i64,
        #[serde(skip_serializing_if = "omit")] start_interval: i64,
        #[serde(skip_serializing_if = "omit")] retries: i64,
    }

    /// How the container sits on this host.
    HostConfig {
        binds: Option<Vec<String>>,
        #[serde(rename = "ContainerIDFile")] container_id_file: String,
        log_config: LogConfig,
        network_mode: String,
        port_bindings: Option<PortMap>,
        restart_policy: RestartPolicy,
        auto_remove: bool,
        volume_driver: String,
        volumes_from: Option<Vec<String>>,
        #[serde(skip_serializing_if = "omit")] mounts: Option<Vec<Mount>>,
        console_size: ConsoleSize,
        #[serde(skip_serializing_if = "omit")] annotations: Option<Pairs>,
        cap_add: Option<Words>,
        cap_drop: Option<Words>,
        cgroupns_mode: String,
        dns: Option<Vec<String>>,
        dns_options: Option<Vec<String>>,
        dns_search: Option<Vec<String>>,
        extra_hosts: Option<Vec<String>>,
        group_add: Option<Vec<String>>,
        ipc_mode: String,
        cgroup: String,
        links: Option<Vec<String>>,
        oom_score_adj: i64,
        pid_mode: String,
        privileged: bool,
        publish_all_ports: bool,
        readonly_rootfs: bool,
        security_opt: Option<Vec<String>>,
        #[serde(skip_serializing_if = "omit")] storage_opt: Option<Pairs>,
        #[serde(skip_serializing_if = "omit")] tmpfs: Option<Pairs>,
        #[serde(rename = "UTSMode")] uts_mode: String,
        userns_mode: String,
        shm_size: i64,
        #[serde(skip_serializing_if = "omit")] sysctls: Option<Pairs>,
        #[serde(skip_serializing_if = "omit")] runtime: String,
        isolation: String,
        cpu_shares: i64,
        memory: i64,
        nano_cpus: i64,
        cgroup_parent: String,
        blkio_weight: u16,
        blkio_weight_device: Option<Vec<serde_json::Value>>,
        blkio_device_read_bps: Option<Vec<serde_json::Value>>,
        blkio_device_write_bps: Option<Vec<serde_json::Value>>,
        #[serde(rename = "BlkioDeviceReadIOps")] blkio_device_read_iops: Option<Vec<serde_json::Value>>,
        #[serde(rename = "BlkioDeviceWriteIOps")] blkio_device_write_iops: Option<Vec<serde_json::Value>>,
        cpu_period: i64,
        cpu_quota: i64,
        cpu_realtime_period: i64,
        cpu_realtime_runtime: i64,
        cpuset_cpus: String,
        cpuset_mems: String,
        devices: Option<Vec<DeviceMapping>>,
        device_cgroup_rules: Option<Vec<String>>,
        device_requests: Option<Vec<serde_json::Value>>,
        #[serde(skip_serializing_if = "omit")] kernel_memory: i64,
        #[serde(rename = "KernelMemoryTCP", skip_serializing_if = "omit")] kernel_memory_tcp: i64,
        memory_reservation: i64,
        memory_swap: i64,
        memory_swappiness: Option<i64>,
        oom_kill_disable: Option<bool>,
        #[serde(skip_serializing_if = "omit")] init: Option<bool>,
        pids_limit: Option<i64>,
        ulimits: Option<Vec<Ulimit>>,
        cpu_count: i64,
        cpu_percent: i64,
        #[serde(rename = "IOMaximumIOps")] io_maximum_iops: u64,
        #[serde(rename = "IOMaximumBandwidth")] io_maximum_bandwidth: u64,
        masked_paths: Option<Vec<String>>,
        readonly_paths: Option<Vec<String>>,
    }

    /// Where output is kept.
    LogConfig {
        #[serde(rename = "Type")] kind: String,
        config: Option<Pairs>,
    }

    /// What to do when it ends.
    RestartPolicy { name: String, maximum_retry_count: i64 }

    /// A port of the host.
    PortBinding { #[serde(rename = "HostIp")] host_ip: String, host_port: String }

    /// A device of the host.
    DeviceMapping { path_on_host: String, path_in_container: String, cgroup_permissions: String }

    /// `setrlimit(2)`.
    Ulimit { name: String, hard: i64, soft: i64 }

    /// `--mount`.
    Mount {
        #[serde(rename = "Type", skip_serializing_if = "omit")] kind: String,
        #[serde(skip_serializing_if = "omit")] source: String,
        #[serde(skip_serializing_if = "omit")] target: String,
        #[serde(skip_serializing_if = "omit")] read_only: bool,
        #[serde(skip_serializing_if = "omit")] consistency: String,
        #[serde(skip_serializing_if = "omit")] bind_options: Option<BindOptions>,
        #[serde(skip_serializing_if = "omit")] volume_options: Option<serde_json::Value>,
        #[serde(skip_serializing_if = "omit")] image_options: Option<serde_json::Value>,
        #[serde(skip_serializing_if = "omit")] tmpfs_options: Option<TmpfsOptions>,
        #[serde(skip_serializing_if = "omit")] cluster_options: Option<serde_json::Value>,
    }

    /// Of a bind mount.
    BindOptions {
        #[serde(skip_serializing_if = "omit")] propagation: String,
        #[serde(skip_serializing_if = "omit")] non_recursive: bool,
        #[serde(skip_serializing_if = "omit")] create_mountpoint: bool,
        #[serde(skip_serializing_if = "omit")] read_only_non_recursive: bool,
        #[serde(skip_serializing_if = "omit")] read_only_force_recursive: bool,
    }

    /// Of a tmpfs.
    TmpfsOptions {
        #[serde(skip_serializing_if = "omit")] size_bytes: i64,
        #[serde(skip_serializing_if = "omit")] mode: u32,
        #[serde(skip_serializing_if = "omit")] options: Option<Vec<Vec<String>>>,
    }

    /// Which networks to join.
    NetworkingConfig { endpoints_config: Option<BTreeMap<String, Option<EndpointSettings>>> }

    /// The answer.
    CreateResponse { id: String, warnings: Vec<String> }
}

/// `80/tcp` to ports of the host.
pub type PortMap = BTreeMap<String, Option<Vec<PortBinding>>>;

/// Rows and columns.
pub type ConsoleSize = [u16; 2];

/// The whole request.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateRequest {
    /// What runs.
    #[serde(flatten)]
    pub config: Config,
    /// Where it runs.
    pub host_config: HostConfig,
    /// What it joins.
    pub networking_config: NetworkingConfig,
}

wire! { Rest { host_config: HostConfig, networking_config: NetworkingConfig } }

impl CreateRequest {
    /// Reads a request body.
    pub fn decode(json: &[u8]) -> Result<Self, go::Error> {
        let value = go::parse(json)?;
        let rest: Rest = value.to()?;
        Ok(Self {
            config: value.to()?,
            host_config: rest.host_config,
            networking_config: rest.networking_config,
        })
    }
}
