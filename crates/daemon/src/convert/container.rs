//! The engine's containers in Docker's words.

use std::collections::BTreeMap;

use api::{
    container::{
        EndpointSettings, GraphDriver, Inspect, MountPoint, NetworkSettings, State as Shown, Summary,
        SummaryHost, SummaryNetworks,
    },
    create::{BindOptions, Config, Empty, HostConfig, LogConfig, Mount, Pairs, RestartPolicy, Words},
};
use engine::{
    Container, State,
    config::{Bind, Log, Network},
};
use jiff::Timestamp;

use super::{network, ports, time};

/// One line of `ps`.
pub(crate) fn summary(container: &Container) -> Summary {
    let config = &container.config;
    Summary {
        id: container.id.clone(),
        names: vec![format!("/{}", container.name)],
        image: config.image.clone(),
        image_id: image_id(container),
        command: command(&container.words()),
        created: container.created.as_second(),
        ports: ports::lines(container),
        labels: config.labels.clone(),
        state: container.state.word().to_owned(),
        status: status(container, Timestamp::now()),
        host_config: SummaryHost {
            network_mode: network_mode(&config.host.network),
            annotations: some(config.host.annotations.clone()),
        },
        network_settings: SummaryNetworks { networks: networks(container) },
        mounts: mount_points(&config.host.binds),
        ..Summary::default()
    }
}

/// `inspect`.
pub(crate) fn inspect(container: &Container) -> Inspect {
    let mut words = container.words().into_iter();
    let text = |path: &std::path::Path| path.display().to_string();
    Inspect {
        id: container.id.clone(),
        created: container.created.to_string(),
        path: words.next().unwrap_or_default(),
        args: words.collect(),
        state: state(container),
        image: image_id(container),
        resolv_conf_path: text(&container.files.resolv_conf),
        hostname_path: text(&container.files.hostname),
        hosts_path: text(&container.files.hosts),
        log_path: container.log_path.as_deref().map(text).unwrap_or_default(),
        name: format!("/{}", container.name),
        driver: driver(container.storage_driver).to_owned(),
        platform: "linux".to_owned(),
        exec_ids: (!container.execs.is_empty()).then(|| container.execs.clone()),
        host_config: host_config(container),
        graph_driver: GraphDriver {
            data: Some(container.storage.clone()),
            name: driver(container.storage_driver).to_owned(),
        },
        mounts: mount_points(&container.config.host.binds),
        config: config(container),
        network_settings: network_settings(container),
        ..Inspect::default()
    }
}

/// Docker's name for a storage driver.
pub(crate) fn driver(name: &'static str) -> &'static str {
    // Its first driver for overlayfs, without the 2, has been gone for years.
    if name == "overlay" { "overlay2" } else { name }
}

fn image_id(container: &Container) -> String {
    container.config.image_id.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// The words, those with spaces in quotes, as Docker shows them.
fn command(words: &[String]) -> String {
    let quoted = |word: &String| {
        if word.contains(' ') { format!("'{word}'") } else { word.clone() }
    };
    let Some((program, arguments)) = words.split_first() else {
        return String::new();
    };
    std::iter::once(program.clone()).chain(arguments.iter().map(quoted)).collect::<Vec<_>>().join(" ")
}

fn status(container: &Container, now: Timestamp) -> String {
    let last = &container.last;
    let since = |at: Option<Timestamp>| {
        at.map_or_else(|| "unknown time".to_owned(), |at| time::span(now.as_second() - at.as_second()))
    };
    match container.state {
        State::Created => "Created".to_owned(),
        State::Running { .. } => format!("Up {}", since(last.started_at)),
        State::Paused { .. } => format!("Up {} (Paused)", since(last.started_at)),
        State::Exited => format!("Exited ({}) {} ago", last.exit_code, since(last.finished_at)),
        State::Removing => "Removal In Progress".to_owned(),
        State::Dead => "Dead".to_owned(),
    }
}

fn state(container: &Container) -> Shown {
    let last = &container.last;
    Shown {
        status: container.state.word().to_owned(),
        // Docker counts a paused container as running.
        running: container.state.pid().is_some(),
        paused: matches!(container.state, State::Paused { .. }),
        restarting: false,
        oom_killed: last.oom_killed,
        dead: container.state == State::Dead,
        pid: container.state.pid().unwrap_or(0).into(),
        exit_code: last.exit_code.into(),
        error: last.error.clone(),
        started_at: time::go(last.started_at),
        finished_at: time::go(last.finished_at),
        health: None,
    }
}

fn network_mode(network: &Network) -> String {
    match network {
        Network::Default => "default".to_owned(),
        Network::None => "none".to_owned(),
        Network::Host => "host".to_owned(),
        Network::Container(key) => format!("container:{key}"),
        Network::Named(name) => name.clone(),
    }
}

/// Its places, or while it does not run what it wishes for.
pub(crate) fn networks(container: &Container) -> BTreeMap<String, EndpointSettings> {
    let host = &container.config.host;
    let mut all: BTreeMap<String, EndpointSettings> =
        host.networks.iter().map(|(name, wish)| (name.clone(), network::wished(wish))).collect();
    if let Some(default) = all.remove("default") {
        all.entry("bridge".to_owned()).or_insert(default);
    }
    let main = match &host.network {
        Network::Default => "bridge",
        Network::None => "none",
        Network::Host => "host",
        Network::Named(name) => name,
        Network::Container(_) => return BTreeMap::new(),
    };
    all.entry(main.to_owned()).or_default();
    for place in &container.attachments {
        // It may have been wished for by its id.
        all.retain(|key, _| !place.network.starts_with(key.as_str()));
        all.insert(place.name.clone(), network::place(container, place));
    }
    all
}

/// The members beside `Networks` are those of the default bridge.
fn network_settings(container: &Container) -> NetworkSettings {
    let networks = networks(container);
    let bridge = networks.get("bridge").cloned().unwrap_or_default();
    let pid = container.state.pid();
    NetworkSettings {
        sandbox_id: if pid.is_some() { container.id.clone() } else { String::new() },
        sandbox_key: pid.map(|pid| format!("/proc/{pid}/ns/net")).unwrap_or_default(),
        ports: ports::settings(container),
        endpoint_id: bridge.endpoint_id,
        gateway: bridge.gateway,
        global_ipv6_address: bridge.global_ipv6_address,
        global_ipv6_prefix_len: bridge.global_ipv6_prefix_len,
        ip_address: bridge.ip_address,
        ip_prefix_len: bridge.ip_prefix_len,
        ipv6_gateway: bridge.ipv6_gateway,
        mac_address: bridge.mac_address,
        networks,
        ..NetworkSettings::default()
    }
}

fn mount_points(binds: &[Bind]) -> Vec<MountPoint> {
    let point = |bind: &Bind| MountPoint {
        kind: "bind".to_owned(),
        source: bind.source.display().to_string(),
        destination: bind.target.clone(),
        mode: if bind.read_only { "ro".to_owned() } else { String::new() },
        writable: !bind.read_only,
        propagation: bind.propagation.clone(),
        ..MountPoint::default()
    };
    binds.iter().map(point).collect()
}

fn some(pairs: Pairs) -> Option<Pairs> {
    (!pairs.is_empty()).then_some(pairs)
}

fn set(names: &[String]) -> Option<BTreeMap<String, Empty>> {
    (!names.is_empty()).then(|| names.iter().map(|name| (name.clone(), Empty {})).collect())
}

/// The name that it sees itself under.
fn hostname(container: &Container) -> String {
    match (&container.config.hostname, &container.config.host.network) {
        (own, _) if !own.is_empty() => own.clone(),
        (_, Network::Host) => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        _ => container.id.chars().take(12).collect(),
    }
}

fn config(container: &Container) -> Config {
    let config = &container.config;
    Config {
        hostname: hostname(container),
        domainname: config.domainname.clone(),
        user: config.user.clone(),
        attach_stdin: config.attach.stdin,
        attach_stdout: config.attach.stdout,
        attach_stderr: config.attach.stderr,
        exposed_ports: set(&config.exposed_ports),
        tty: config.tty,
        open_stdin: config.open_stdin,
        stdin_once: config.stdin_once,
        env: Some(config.env.clone()),
        cmd: config.command.clone().map(Words),
        image: config.image.clone(),
        volumes: set(&config.volumes),
        working_dir: config.working_dir.clone(),
        entrypoint: config.entrypoint.clone().map(Words),
        labels: Some(config.labels.clone()),
        stop_signal: config.stop_signal.clone(),
        stop_timeout: config.stop_timeout,
        ..Config::default()
    }
}

fn host_config(container: &Container) -> HostConfig {
    let host = &container.config.host;
    let resources = &host.resources;
    let (short, long): (Vec<&Bind>, Vec<&Bind>) = host.binds.iter().partition(|bind| bind.create_source);
    let size = container.config.console_size.unwrap_or((0, 0));
    HostConfig {
        binds: (!short.is_empty()).then(|| short.into_iter().map(bind_text).collect()),
        log_config: log_config(&host.log),
        network_mode: network_mode(&host.network),
        port_bindings: Some(ports::bindings(&host.ports)),
        publish_all_ports: host.publish_all,
        restart_policy: RestartPolicy { name: "no".to_owned(), maximum_retry_count: 0 },
        auto_remove: host.auto_remove,
        mounts: (!long.is_empty()).then(|| long.into_iter().map(mount).collect()),
        console_size: size.into(),
        annotations: some(host.annotations.clone()),
        cgroupns_mode: "private".to_owned(),
        dns: Some(host.dns.clone()),
        dns_options: Some(host.dns_options.clone()),
        dns_search: Some(host.dns_search.clone()),
        extra_hosts: (!host.extra_hosts.is_empty()).then(|| host.extra_hosts.clone()),
        ipc_mode: "private".to_owned(),
        readonly_rootfs: host.read_only_root,
        storage_opt: host.size.map(|size| [("size".to_owned(), size.to_string())].into()),
        tmpfs: some(host.tmpfs.iter().cloned().collect()),
        shm_size: if host.shm_size == 0 { 64 << 20 } else { host.shm_size as i64 },
        runtime: if host.runtime.is_empty() { "knarr".to_owned() } else { host.runtime.clone() },
        cpu_shares: resources.cpu_shares,
        memory: resources.memory,
        nano_cpus: resources.nano_cpus,
        cgroup_parent: host.cgroup_parent.clone(),
        cpu_period: resources.cpu_period,
        cpu_quota: resources.cpu_quota,
        cpuset_cpus: resources.cpuset_cpus.clone(),
        cpuset_mems: resources.cpuset_mems.clone(),
        memory_reservation: resources.memory_reservation,
        memory_swap: resources.memory_swap,
        oom_kill_disable: Some(false),
        init: host.init.then_some(true),
        pids_limit: resources.pids_limit,
        ..HostConfig::default()
    }
}

/// Back to `SRC:DST[:OPTIONS]`.
fn bind_text(bind: &Bind) -> String {
    let mut options = Vec::new();
    if bind.read_only {
        options.push("ro");
    }
    if bind.propagation != "rprivate" {
        options.push(&bind.propagation);
    }
    let colon = if options.is_empty() { "" } else { ":" };
    format!("{}:{}{colon}{}", bind.source.display(), bind.target, options.join(","))
}

fn mount(bind: &Bind) -> Mount {
    Mount {
        kind: "bind".to_owned(),
        source: bind.source.display().to_string(),
        target: bind.target.clone(),
        read_only: bind.read_only,
        bind_options: (bind.propagation != "rprivate")
            .then(|| BindOptions { propagation: bind.propagation.clone(), ..BindOptions::default() }),
        ..Mount::default()
    }
}

fn log_config(log: &Log) -> LogConfig {
    let (kind, config) = match log {
        Log::None => ("none", Pairs::new()),
        Log::JsonFile { max_size, max_files } => {
            let mut config = Pairs::new();
            if *max_size > 0 {
                config.insert("max-size".to_owned(), max_size.to_string());
            }
            if *max_files > 1 {
                config.insert("max-file".to_owned(), max_files.to_string());
            }
            ("json-file", config)
        }
    };
    LogConfig { kind: kind.to_owned(), config: Some(config) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::create::CreateRequest;
    use engine::{Files, LastRun};
    use serde_json::Value;

    /// A container made of what docker sent for the golden inspect.
    fn golden() -> Container {
        let request =
            CreateRequest::decode(include_bytes!("../../../api/tests/golden/create-docker-20.json")).unwrap();
        let mut config = crate::convert::create::config(request).unwrap();
        config.env = vec!["A=b".to_owned()];
        Container {
            attachments: Vec::new(),
            ports: Vec::new(),
            id: "d3".repeat(32),
            name: "c20".to_owned(),
            created: "2026-11-23T23:52:48.919043928Z".parse().unwrap(),
            config,
            state: State::Running { pid: 7 },
            last: LastRun { started_at: "2026-11-23T23:52:49.076249486Z".parse().ok(), ..LastRun::default() },
            execs: vec![],
            log_path: None,
            storage_driver: "overlay",
            storage: BTreeMap::new(),
            files: Files::default(),
        }
    }

    #[test]
    fn an_inspect_says_what_docker_s_says() {
        let mut ours = serde_json::to_value(inspect(&golden())).unwrap();
        api::version::adapt(api::Op::ContainerInspect, api::Version(1, 41), &mut ours);
        let theirs: Value =
            serde_json::from_str(include_str!("../../../api/tests/golden/inspect.json")).unwrap();
        for same in ["Created", "Path", "Args", "Name", "RestartCount", "Driver", "Platform", "ExecIDs"] {
            assert_eq!(ours[same], theirs[same], "{same}");
        }
        for (part, differ) in [
            // Ids, times, and where the engines differ on purpose.
            ("State", &["Pid"][..]),
            ("Config", &["Hostname"]),
            (
                "HostConfig",
                &[
                    "Runtime",
                    "CgroupnsMode",
                    "BlkioWeightDevice",
                    "Devices",
                    "MaskedPaths",
                    "ReadonlyPaths",
                    "PidsLimit",
                    "MemorySwappiness",
                    "MemorySwap",
                ],
            ),
        ] {
            let (ours, theirs) = (ours[part].as_object().unwrap(), theirs[part].as_object().unwrap());
            assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "{part}");
            for (name, value) in theirs.iter().filter(|(name, _)| !differ.contains(&name.as_str())) {
                assert_eq!(&ours[name], value, "{part}.{name}");
            }
        }
    }

    #[test]
    fn statuses_are_docker_s() {
        let now: Timestamp = "2026-11-23T23:54:49Z".parse().unwrap();
        let mut container = golden();
        assert_eq!(status(&container, now), "Up 2 minutes");
        container.state = State::Paused { pid: 7 };
        assert_eq!(status(&container, now), "Up 2 minutes (Paused)");
        container.state = State::Exited;
        container.last.exit_code = 137;
        container.last.finished_at = "2026-11-23T23:54:48Z".parse().ok();
        assert_eq!(status(&container, now), "Exited (137) 1 second ago");
        assert_eq!(command(&["sh".into(), "-c".into(), "a b".into()]), "sh -c 'a b'");
    }
}
