//! The engine itself: info, version, ping; volumes as far as they are listed.

use std::collections::BTreeMap;

use crate::{create::Pairs, omit};

/// Headers of `GET /_ping`, beside those of every answer.
pub const PING_HEADERS: &[(&str, &str)] = &[
    ("cache-control", "no-cache, no-store, must-revalidate"),
    ("pragma", "no-cache"),
    ("content-type", "text/plain; charset=utf-8"),
];

wire! {
    /// `info`
    Info {
        #[serde(rename = "ID")] id: String,
        containers: usize,
        containers_running: usize,
        containers_paused: usize,
        containers_stopped: usize,
        images: usize,
        driver: String,
        driver_status: Vec<(String, String)>,
        plugins: Plugins,
        memory_limit: bool,
        swap_limit: bool,
        cpu_cfs_period: bool,
        cpu_cfs_quota: bool,
        #[serde(rename = "CPUShares")] cpu_shares: bool,
        #[serde(rename = "CPUSet")] cpu_set: bool,
        pids_limit: bool,
        #[serde(rename = "IPv4Forwarding")] ipv4_forwarding: bool,
        debug: bool,
        n_fd: usize,
        oom_kill_disable: bool,
        n_goroutines: usize,
        system_time: String,
        logging_driver: String,
        cgroup_driver: String,
        #[serde(skip_serializing_if = "omit")] cgroup_version: String,
        n_events_listener: usize,
        kernel_version: String,
        operating_system: String,
        #[serde(rename = "OSVersion")] os_version: String,
        #[serde(rename = "OSType")] os_type: String,
        architecture: String,
        index_server_address: String,
        registry_config: Registries,
        #[serde(rename = "NCPU")] ncpu: usize,
        mem_total: u64,
        generic_resources: Option<Vec<serde_json::Value>>,
        docker_root_dir: String,
        http_proxy: String,
        https_proxy: String,
        no_proxy: String,
        name: String,
        labels: Vec<String>,
        experimental_build: bool,
        server_version: String,
        runtimes: BTreeMap<String, Runtime>,
        default_runtime: String,
        swarm: Swarm,
        live_restore_enabled: bool,
        isolation: String,
        init_binary: String,
        containerd_commit: Commit,
        runc_commit: Commit,
        init_commit: Commit,
        security_options: Vec<String>,
        #[serde(rename = "CDISpecDirs", skip_serializing_if = "omit")] cdi_spec_dirs: Option<Vec<String>>,
        warnings: Option<Vec<String>>,
    }

    /// What is built in.
    Plugins {
        volume: Vec<String>,
        network: Vec<String>,
        authorization: Option<Vec<String>>,
        log: Vec<String>,
    }

    /// Registries known to the daemon.
    Registries {
        #[serde(rename = "InsecureRegistryCIDRs")] insecure_registry_cidrs: Option<Vec<String>>,
        index_configs: BTreeMap<String, serde_json::Value>,
        mirrors: Option<Vec<String>>,
    }

    /// An OCI runtime.
    Runtime {
        #[serde(rename = "path", skip_serializing_if = "omit")] path: String,
        #[serde(rename = "runtimeArgs", skip_serializing_if = "omit")] args: Vec<String>,
        #[serde(rename = "status", skip_serializing_if = "omit")] status: Option<Pairs>,
    }

    /// A part's commit.
    Commit {
        #[serde(rename = "ID")] id: String,
        #[serde(skip_serializing_if = "omit")] expected: Option<String>,
    }

    /// `LocalNodeState` is `inactive` in an engine without Swarm.
    Swarm {
        #[serde(rename = "NodeID")] node_id: String,
        node_addr: String,
        local_node_state: String,
        control_available: bool,
        error: String,
        remote_managers: Option<Vec<serde_json::Value>>,
    }

    /// `version`
    Version {
        platform: Platform,
        components: Vec<Component>,
        version: String,
        api_version: String,
        #[serde(rename = "MinAPIVersion")] min_api_version: String,
        git_commit: String,
        go_version: String,
        os: String,
        arch: String,
        kernel_version: String,
        #[serde(skip_serializing_if = "omit")] experimental: bool,
        #[serde(skip_serializing_if = "omit")] build_time: String,
    }

    /// Who made it.
    Platform { name: String }

    /// A part.
    Component { name: String, version: String, details: Option<Pairs> }

    /// `system df`
    DiskUsage {
        layers_size: i64,
        images: Option<Vec<crate::image::Summary>>,
        containers: Option<Vec<crate::container::Summary>>,
        volumes: Option<Vec<serde_json::Value>>,
        build_cache: Option<Vec<serde_json::Value>>,
        #[serde(skip_serializing_if = "omit")] builder_size: i64,
    }

    /// `volume prune`
    VolumePrune { volumes_deleted: Option<Vec<String>>, space_reclaimed: u64 }

    /// `builder prune`
    BuildPrune { caches_deleted: Option<Vec<String>>, space_reclaimed: u64 }

    /// `login`
    LoggedIn { status: String, identity_token: String }

    /// `volume ls`
    Volumes { volumes: Option<Vec<serde_json::Value>>, warnings: Option<Vec<String>> }
}
