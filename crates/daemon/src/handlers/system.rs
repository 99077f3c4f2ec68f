//! The engine itself, and the networks and volumes that are always (or never) there.

use std::{collections::BTreeMap, fs, path::Path};

use api::{
    Version,
    create::Pairs,
    system::{Component, Info, PING_HEADERS, Platform, Plugins, Registries, Runtime, Swarm, Volumes},
};
use engine::State;
use hyper::{
    StatusCode,
    header::{HeaderName, HeaderValue},
};
use jiff::Timestamp;

use crate::{
    body::{self, Reply},
    convert::{self, container::driver},
    failure::{Failure, Result},
    router::Call,
};

const OWN_RUNTIME: &str = "knarr";

pub(super) async fn ping(_: Call) -> Result<Reply> {
    let mut reply = body::reply(StatusCode::OK, "", "OK");
    for (name, value) in PING_HEADERS {
        let value = HeaderValue::from_static(value);
        reply.headers_mut().insert(HeaderName::from_static(name), value);
    }
    Ok(reply)
}

pub(super) async fn version(call: Call) -> Result<Reply> {
    let own = env!("CARGO_PKG_VERSION").to_owned();
    let (api, min) = (Version::MAX.to_string(), Version::MIN.to_string());
    let kernel = kernel();
    let architecture = convert::architecture().to_owned();
    let details: Pairs = [
        ("ApiVersion", &api),
        ("MinAPIVersion", &min),
        ("Arch", &architecture),
        ("Os", &"linux".to_owned()),
        ("KernelVersion", &kernel),
        ("Experimental", &"false".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value.clone()))
    .into();
    let answer = api::system::Version {
        platform: Platform { name: "knarr".to_owned() },
        components: vec![Component {
            name: "Engine".to_owned(),
            version: own.clone(),
            details: Some(details),
        }],
        version: own,
        api_version: api,
        min_api_version: min,
        os: "linux".to_owned(),
        arch: architecture,
        kernel_version: kernel,
        ..api::system::Version::default()
    };
    call.json(StatusCode::OK, &answer)
}

pub(super) async fn info(call: Call) -> Result<Reply> {
    let facts = call.engine().info().await?;
    let containers = call.engine().list();
    let count =
        |fits: fn(&State) -> bool| containers.iter().filter(|container| fits(&container.state)).count();
    let running = count(|state| matches!(state, State::Running { .. }));
    let paused = count(|state| matches!(state, State::Paused { .. }));
    let can = |controller: &str| facts.controllers.iter().any(|known| known == controller);
    let swap =
        facts.cgroup_version == 2 || Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists();
    let host = rustix::system::uname();
    let (name, os_version) = os_release();
    let answer = Info {
        id: facts.engine_id,
        containers: containers.len(),
        containers_running: running,
        containers_paused: paused,
        containers_stopped: containers.len() - running - paused,
        images: facts.images,
        driver: driver(facts.storage_driver).to_owned(),
        driver_status: vec![("Layer driver".to_owned(), facts.storage_driver.to_owned())],
        plugins: plugins(),
        memory_limit: can("memory"),
        swap_limit: can("memory") && swap,
        cpu_cfs_period: can("cpu"),
        cpu_cfs_quota: can("cpu"),
        cpu_shares: can("cpu"),
        cpu_set: can("cpuset"),
        pids_limit: can("pids"),
        ipv4_forwarding: fs::read_to_string("/proc/sys/net/ipv4/ip_forward").is_ok_and(|on| on.trim() == "1"),
        debug: call.door.debug,
        n_fd: fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
        n_events_listener: call.door.listeners(),
        system_time: Timestamp::now().to_string(),
        logging_driver: "json-file".to_owned(),
        cgroup_driver: "cgroupfs".to_owned(),
        cgroup_version: facts.cgroup_version.to_string(),
        kernel_version: kernel(),
        operating_system: name,
        os_version,
        os_type: "linux".to_owned(),
        architecture: std::env::consts::ARCH.to_owned(),
        index_server_address: "https://index.docker.io/v1/".to_owned(),
        registry_config: registries(&facts.options.registries.hosts),
        ncpu: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        mem_total: memory(),
        docker_root_dir: facts.options.data_root.display().to_string(),
        name: host.nodename().to_string_lossy().into_owned(),
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        runtimes: runtimes(&facts.options),
        default_runtime: OWN_RUNTIME.to_owned(),
        swarm: Swarm { local_node_state: "inactive".to_owned(), ..Swarm::default() },
        // Containers always outlive the service.
        live_restore_enabled: true,
        security_options: vec!["name=seccomp,profile=builtin".to_owned(), "name=cgroupns".to_owned()],
        warnings: Some(facts.warnings),
        ..Info::default()
    };
    call.json(StatusCode::OK, &answer)
}

fn plugins() -> Plugins {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    Plugins {
        volume: Vec::new(),
        network: words(&["bridge", "host", "null"]),
        authorization: None,
        log: words(&["json-file", "none"]),
    }
}

/// docker.io and what is listed, as dockerd tells them; loopback is always insecure.
fn registries(hosts: &engine::RegistryHosts) -> Registries {
    let mirrors: Vec<_> = hosts.mirrors.iter().map(|url| format!("{}/", url.trim_end_matches('/'))).collect();
    let entry = |name: &str, mirrors: &[String], secure: bool, official: bool| {
        let value =
            serde_json::json!({ "Name": name, "Mirrors": mirrors, "Secure": secure, "Official": official });
        (name.to_owned(), value)
    };
    let (networks, names): (Vec<_>, Vec<_>) =
        hosts.insecure.iter().cloned().partition(|word| word.contains('/'));
    let official = entry("docker.io", &mirrors, true, true);
    let listed = names.iter().map(|name| entry(name, &[], false, false));
    Registries {
        insecure_registry_cidrs: Some(
            networks.into_iter().chain(["::1/128".into(), "127.0.0.0/8".into()]).collect(),
        ),
        index_configs: std::iter::once(official).chain(listed).collect(),
        mirrors: Some(mirrors),
    }
}

fn runtimes(options: &engine::Options) -> BTreeMap<String, Runtime> {
    let own = (OWN_RUNTIME.to_owned(), &options.runtime);
    let others = options.runtimes.iter().map(|(name, path)| (name.clone(), path));
    std::iter::once(own)
        .chain(others)
        .map(|(name, path)| {
            let path = path.display().to_string();
            (name, Runtime { path, ..Runtime::default() })
        })
        .collect()
}

fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Bytes of the host's memory.
fn memory() -> u64 {
    let facts = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = facts.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// Name and version of the host's distribution (`os-release(5)`).
fn os_release() -> (String, String) {
    let text =
        ["/etc/os-release", "/usr/lib/os-release"].iter().find_map(|path| fs::read_to_string(path).ok());
    let text = text.unwrap_or_default();
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.map(|value| value.trim_matches(['"', '\'']).to_owned())
    };
    let name = value("PRETTY_NAME").unwrap_or_else(|| "Linux".to_owned());
    (name, value("VERSION_ID").unwrap_or_default())
}

pub(super) async fn volumes(call: Call) -> Result<Reply> {
    let none = Volumes { volumes: Some(Vec::new()), warnings: None };
    call.json(StatusCode::OK, &none)
}

/// There are none; `docker inspect NAME` asks everywhere and stops at any other answer.
pub(super) async fn volume(call: Call) -> Result<Reply> {
    Err(Failure::new(StatusCode::NOT_FOUND, format!("get {}: no such volume", call.name)))
}

/// There are none.
pub(super) async fn plugin(call: Call) -> Result<Reply> {
    Err(Failure::new(StatusCode::NOT_FOUND, format!("plugin {:?} not found", call.name)))
}
