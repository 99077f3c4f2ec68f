//! A create request to the engine's config. What knarr cannot honour is refused by name, never dropped.

use std::collections::BTreeMap;

use api::create::{
    Config, CreateRequest, Healthcheck, HostConfig, LogConfig, NetworkingConfig, Pairs, Words,
};
use engine::config::{Attach, Host, Log, Network, Resources, Wish};

use super::{check_env, console_size, mounts, ports, size};
use crate::failure::{Failure, Result};

/// Checks and converts the whole request.
pub(crate) fn config(request: CreateRequest) -> Result<engine::Config> {
    let CreateRequest { config, host_config: host, networking_config } = request;
    if config == Config::default() {
        return Err(Failure::invalid("Config cannot be empty in order to create a container"));
    }
    refuse(unsupported_config(&config))?;
    refuse(unsupported_host(&host))?;
    refuse(unsupported_resources(&host))?;
    let env = config.env.unwrap_or_default();
    check_env(&env)?;
    Ok(engine::Config {
        image: config.image,
        image_id: None,
        command: config.cmd.map(|Words(words)| words),
        entrypoint: config.entrypoint.map(|Words(words)| words),
        env,
        working_dir: config.working_dir,
        user: config.user,
        hostname: config.hostname,
        domainname: config.domainname,
        labels: config.labels.unwrap_or_default(),
        exposed_ports: exposed(config.exposed_ports.unwrap_or_default().into_keys())?,
        volumes: Vec::new(),
        tty: config.tty,
        console_size: console_size(host.console_size),
        open_stdin: config.open_stdin,
        stdin_once: config.stdin_once,
        attach: Attach {
            stdin: config.attach_stdin,
            stdout: config.attach_stdout,
            stderr: config.attach_stderr,
        },
        stop_signal: config.stop_signal,
        stop_timeout: config.stop_timeout,
        host: on_host(host, networking_config, &config.mac_address)?,
        ids: oci::IdMap::IDENTITY,
    })
}

fn on_host(mut host: HostConfig, networking: NetworkingConfig, mac: &str) -> Result<Host> {
    let resources = resources(&host);
    let network = network(&host.network_mode);
    let ports = ports::wishes(host.port_bindings.take().unwrap_or_default())?;
    let log = log(host.log_config)?;
    let shm_size =
        u64::try_from(host.shm_size).map_err(|_| Failure::invalid("SHM size can not be less than 0"))?;
    let size = storage_size(host.storage_opt.unwrap_or_default())?;
    let (binds, tmpfs) = mounts::all(
        &host.binds.unwrap_or_default(),
        host.mounts.unwrap_or_default(),
        host.tmpfs.unwrap_or_default(),
    )?;
    Ok(Host {
        binds,
        tmpfs,
        network,
        networks: wishes(networking, &host.network_mode, mac)?,
        ports,
        publish_all: host.publish_all_ports,
        dns: host.dns.unwrap_or_default(),
        dns_search: host.dns_search.unwrap_or_default(),
        dns_options: host.dns_options.unwrap_or_default(),
        extra_hosts: host.extra_hosts.unwrap_or_default(),
        resources,
        read_only_root: host.readonly_rootfs,
        auto_remove: host.auto_remove,
        init: host.init.unwrap_or(false),
        runtime: host.runtime,
        cgroup_parent: host.cgroup_parent,
        log,
        annotations: host.annotations.unwrap_or_default(),
        shm_size,
        size,
    })
}

/// `size` is the only one that any of Docker's drivers for Linux takes.
fn storage_size(options: Pairs) -> Result<Option<u64>> {
    let mut size = None;
    for (key, value) in options {
        if !key.eq_ignore_ascii_case("size") {
            return Err(Failure::invalid(format!("unknown storage option {key}: there is only size")));
        }
        let bytes = engine::parse_size(&value).filter(|bytes| *bytes > 0);
        size = Some(bytes.ok_or_else(|| Failure::invalid(format!("invalid size: '{value}'")))?);
    }
    Ok(size)
}

fn resources(host: &HostConfig) -> Resources {
    Resources {
        memory: host.memory,
        memory_swap: host.memory_swap,
        memory_reservation: host.memory_reservation,
        nano_cpus: host.nano_cpus,
        cpu_period: host.cpu_period,
        cpu_quota: host.cpu_quota,
        cpu_shares: host.cpu_shares,
        cpuset_cpus: host.cpuset_cpus.clone(),
        cpuset_mems: host.cpuset_mems.clone(),
        pids_limit: host.pids_limit,
    }
}

/// `(name of the member, whether it asks for something)`
type Asks = Vec<(&'static str, bool)>;

fn refuse(asks: Asks) -> Result<()> {
    match asks.into_iter().find(|(_, asks)| *asks) {
        Some((name, _)) => Err(Failure::unsupported(name)),
        None => Ok(()),
    }
}

fn some<T>(list: Option<&Vec<T>>) -> bool {
    list.is_some_and(|list| !list.is_empty())
}

fn unsupported_config(config: &Config) -> Asks {
    let has_probe = |probe: &Healthcheck| {
        let none = probe.test.as_ref().is_some_and(|test| test.first().is_some_and(|word| word == "NONE"));
        !none && *probe != Healthcheck::default()
    };
    vec![
        ("Config.Healthcheck", config.healthcheck.as_ref().is_some_and(has_probe)),
        ("Config.Volumes (anonymous volumes)", config.volumes.as_ref().is_some_and(|set| !set.is_empty())),
        ("Config.NetworkDisabled (use the network \"none\")", config.network_disabled),
        ("Config.OnBuild", some(config.on_build.as_ref())),
        ("Config.Shell", config.shell.as_ref().is_some_and(|words| !words.0.is_empty())),
        ("Config.ArgsEscaped", config.args_escaped),
    ]
}

fn unsupported_host(host: &HostConfig) -> Asks {
    let words = |words: &Option<Words>| words.as_ref().is_some_and(|words| !words.0.is_empty());
    let not = |word: &str, fine: &[&str]| !fine.contains(&word);
    vec![
        ("HostConfig.RestartPolicy", not(&host.restart_policy.name, &["", "no"])),
        ("HostConfig.RestartPolicy.MaximumRetryCount", host.restart_policy.maximum_retry_count != 0),
        ("HostConfig.VolumeDriver", !host.volume_driver.is_empty()),
        ("HostConfig.VolumesFrom", some(host.volumes_from.as_ref())),
        ("HostConfig.CapAdd", words(&host.cap_add)),
        ("HostConfig.CapDrop", words(&host.cap_drop)),
        ("HostConfig.CgroupnsMode", not(&host.cgroupns_mode, &["", "private"])),
        ("HostConfig.GroupAdd", some(host.group_add.as_ref())),
        ("HostConfig.IpcMode", not(&host.ipc_mode, &["", "private"])),
        ("HostConfig.Cgroup", !host.cgroup.is_empty()),
        ("HostConfig.Links", some(host.links.as_ref())),
        ("HostConfig.OomScoreAdj", host.oom_score_adj != 0),
        ("HostConfig.PidMode", not(&host.pid_mode, &["", "private"])),
        ("HostConfig.Privileged", host.privileged),
        ("HostConfig.SecurityOpt", some(host.security_opt.as_ref())),
        ("HostConfig.UTSMode", not(&host.uts_mode, &["", "private"])),
        ("HostConfig.UsernsMode", not(&host.userns_mode, &["", "private"])),
        ("HostConfig.Sysctls", host.sysctls.as_ref().is_some_and(|map| !map.is_empty())),
        ("HostConfig.Isolation", not(&host.isolation, &["", "default"])),
        // Null means the engine's own; an empty list would unmask everything.
        ("HostConfig.MaskedPaths", host.masked_paths.is_some()),
        ("HostConfig.ReadonlyPaths", host.readonly_paths.is_some()),
    ]
}

fn unsupported_resources(host: &HostConfig) -> Asks {
    vec![
        ("HostConfig.BlkioWeight", host.blkio_weight != 0),
        ("HostConfig.BlkioWeightDevice", some(host.blkio_weight_device.as_ref())),
        ("HostConfig.BlkioDeviceReadBps", some(host.blkio_device_read_bps.as_ref())),
        ("HostConfig.BlkioDeviceWriteBps", some(host.blkio_device_write_bps.as_ref())),
        ("HostConfig.BlkioDeviceReadIOps", some(host.blkio_device_read_iops.as_ref())),
        ("HostConfig.BlkioDeviceWriteIOps", some(host.blkio_device_write_iops.as_ref())),
        ("HostConfig.CpuRealtimePeriod", host.cpu_realtime_period != 0),
        ("HostConfig.CpuRealtimeRuntime", host.cpu_realtime_runtime != 0),
        ("HostConfig.Devices", some(host.devices.as_ref())),
        ("HostConfig.DeviceCgroupRules", some(host.device_cgroup_rules.as_ref())),
        ("HostConfig.DeviceRequests", some(host.device_requests.as_ref())),
        ("HostConfig.KernelMemory", host.kernel_memory != 0),
        ("HostConfig.KernelMemoryTCP", host.kernel_memory_tcp != 0),
        ("HostConfig.MemorySwappiness", host.memory_swappiness.is_some_and(|value| value != -1)),
        ("HostConfig.OomKillDisable", host.oom_kill_disable == Some(true)),
        ("HostConfig.Ulimits", some(host.ulimits.as_ref())),
        ("HostConfig.CpuCount", host.cpu_count != 0),
        ("HostConfig.CpuPercent", host.cpu_percent != 0),
        ("HostConfig.IOMaximumIOps", host.io_maximum_iops != 0),
        ("HostConfig.IOMaximumBandwidth", host.io_maximum_bandwidth != 0),
    ]
}

fn network(mode: &str) -> Network {
    match mode {
        "" | "default" | "bridge" => Network::Default,
        "none" => Network::None,
        "host" => Network::Host,
        other => match other.strip_prefix("container:") {
            Some(key) => Network::Container(key.to_owned()),
            None => Network::Named(other.to_owned()),
        },
    }
}

/// What is wished of each network; clients name that of `NetworkMode` here again.
fn wishes(networking: NetworkingConfig, mode: &str, mac: &str) -> Result<BTreeMap<String, Wish>> {
    let all = networking.endpoints_config.into_iter().flatten();
    // Of these three nothing can be wished, but clients name them.
    let real = all.filter(|(name, _)| !matches!(name.as_str(), "none" | "host"));
    let mut wishes = real
        .map(|(name, settings)| Ok((name, super::network::wish(settings.unwrap_or_default())?)))
        .collect::<Result<BTreeMap<String, Wish>>>()?;
    // Clients before API 1.44 say it of the container, not of its place in a network.
    if let Some(mac) = super::network::mac(mac)? {
        let main = if mode.is_empty() { "default" } else { mode };
        wishes.entry(main.to_owned()).or_default().mac.get_or_insert(mac);
    }
    Ok(wishes)
}

fn log(config: LogConfig) -> Result<Log> {
    match config.kind.as_str() {
        "" | "json-file" => {}
        "none" => return Ok(Log::None),
        other => {
            return Err(Failure::unsupported(format!("the log driver {other:?} (json-file and none work)")));
        }
    }
    let (mut size, mut files) = (0, 1);
    for (name, value) in config.config.unwrap_or_default() {
        let invalid = || Failure::invalid(format!("invalid value for {name}: {value:?}"));
        match name.as_str() {
            "max-size" if value == "-1" => size = 0,
            "max-size" => size = size::parse(&value).ok_or_else(invalid)?,
            "max-file" => files = value.parse().map_err(|_| invalid())?,
            "compress" if value == "false" => {}
            "compress" | "labels" | "labels-regex" | "env" | "env-regex" | "tag" | "mode"
            | "max-buffer-size" => {
                return Err(Failure::unsupported(format!("the log option {name}")));
            }
            _ => {
                return Err(Failure::invalid(format!("unknown log opt '{name}' for json-file log driver")));
            }
        }
    }
    if files < 1 {
        return Err(Failure::invalid("max-file cannot be less than 1"));
    }
    Ok(Log::JsonFile { max_size: size, max_files: files })
}

/// `80` is `80/tcp`.
fn exposed(ports: impl Iterator<Item = String>) -> Result<Vec<String>> {
    let port = |text: String| {
        let (number, protocol) = text.split_once('/').unwrap_or((&text, "tcp"));
        let protocol = protocol.to_ascii_lowercase();
        let known = matches!(protocol.as_str(), "tcp" | "udp" | "sctp");
        match number.parse::<u16>() {
            Ok(number) if known && number > 0 => Ok(format!("{number}/{protocol}")),
            _ => Err(Failure::invalid(format!("invalid port {text:?} in Config.ExposedPorts"))),
        }
    };
    ports.map(port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::StatusCode;

    fn convert(json: &str) -> Result<engine::Config> {
        config(CreateRequest::decode(json.as_bytes()).unwrap())
    }

    fn refused(json: &str) -> (StatusCode, String) {
        let failure = convert(json).unwrap_err();
        (failure.status, failure.message)
    }

    #[test]
    fn what_docker_clients_send_is_accepted() {
        for golden in [
            include_str!("../../../api/tests/golden/create-docker-20.json"),
            include_str!("../../../api/tests/golden/create-docker-28.json"),
            // docker-py's create_container.
            r#"{"Image":"bb","Cmd":["true"],"Tty":false,"OpenStdin":false,"StdinOnce":false,"AttachStdin":false,
                "AttachStdout":true,"AttachStderr":true,"Env":null,"Labels":null,"Volumes":null,"NetworkDisabled":false,
                "Entrypoint":null,"ExposedPorts":null,"Hostname":null,"Domainname":null,"User":null,"WorkingDir":null,
                "HostConfig":{"NetworkMode":"default"},"NetworkingConfig":null,"MacAddress":null,"StopSignal":null}"#,
        ] {
            convert(golden).unwrap();
        }
        let config = convert(include_str!("../../../api/tests/golden/create-docker-28.json")).unwrap();
        assert_eq!(config.host.network, Network::None);
        assert_eq!(config.host.resources.memory, 64 << 20);
        assert_eq!(config.host.tmpfs, [("/y".to_owned(), String::new())]);
        assert!(config.host.binds[0].read_only && config.host.binds[0].create_source);
        let with_default_network = r#"{"Image":"bb","HostConfig":{"NetworkMode":"default","MemorySwappiness":-1},
            "NetworkingConfig":{"EndpointsConfig":{"default":{"IPAMConfig":null,"MacAddress":"","DNSNames":null}}}}"#;
        assert_eq!(convert(with_default_network).unwrap().host.network, Network::Default);
    }

    #[test]
    fn what_cannot_be_honoured_is_named() {
        for (member, value) in [
            ("Privileged", "true"),
            ("privileged", "true"),
            ("CapAdd", r#""ALL""#),
            ("SecurityOpt", r#"["seccomp=unconfined"]"#),
            ("RestartPolicy", r#"{"Name":"always"}"#),
            ("MaskedPaths", "[]"),
            ("Ulimits", r#"[{"Name":"nofile","Soft":1,"Hard":1}]"#),
            ("PidMode", r#""host""#),
            ("BlkioWeight", "10"),
            ("MemorySwappiness", "0"),
        ] {
            let (status, text) = refused(&format!(r#"{{"Image":"bb","HostConfig":{{"{member}":{value}}}}}"#));
            assert_eq!(status, StatusCode::NOT_IMPLEMENTED, "{member}");
            let named =
                text.to_ascii_lowercase().contains(&format!("hostconfig.{}", member.to_ascii_lowercase()));
            assert!(named, "{text}");
        }
        assert!(refused(r#"{"Image":"bb","Volumes":{"/data":{}}}"#).1.contains("Config.Volumes"));
        for settings in [
            r#"{"IPAMConfig":{"LinkLocalIPs":["169.254.1.1"]}}"#,
            r#"{"Links":["db"]}"#,
            r#"{"DriverOpts":{"a":"b"}}"#,
        ] {
            let request =
                format!(r#"{{"Image":"bb","NetworkingConfig":{{"EndpointsConfig":{{"web":{settings}}}}}}}"#);
            assert_eq!(refused(&request).0, StatusCode::NOT_IMPLEMENTED, "{settings}");
        }
    }

    #[test]
    fn networks_are_read() {
        let config = convert(
            r#"{"Image":"bb","HostConfig":{"NetworkMode":"web"},"NetworkingConfig":{"EndpointsConfig":{
                "web":{"IPAMConfig":{"IPv4Address":"10.0.0.9"},"Aliases":["w"],"MacAddress":"02:00:00:00:00:01"},
                "db":null}}}"#,
        )
        .unwrap();
        assert_eq!(config.host.network, Network::Named("web".to_owned()));
        let wish = &config.host.networks["web"];
        assert_eq!((wish.v4, wish.mac), (Some([10, 0, 0, 9].into()), Some([2, 0, 0, 0, 0, 1])));
        assert_eq!((wish.aliases.as_slice(), config.host.networks.len()), (&["w".to_owned()][..], 2));
        let old = convert(r#"{"Image":"bb","MacAddress":"02:00:00:00:00:01"}"#).unwrap();
        assert_eq!(old.host.networks["default"].mac, Some([2, 0, 0, 0, 0, 1]));
        let other = convert(r#"{"Image":"bb","HostConfig":{"NetworkMode":"container:db"}}"#).unwrap();
        assert_eq!(other.host.network, Network::Container("db".to_owned()));
        let bad = r#"{"Image":"bb","NetworkingConfig":{"EndpointsConfig":{"web":{"IPAMConfig":{"IPv4Address":"::1"}}}}}"#;
        assert_eq!(refused(bad), (StatusCode::BAD_REQUEST, "invalid IPv4 address: ::1".to_owned()));
    }

    #[test]
    fn docker_s_own_errors() {
        for (json, text) in [
            ("{}", "Config cannot be empty in order to create a container"),
            (r#"{"Image":"b","Env":["=x"]}"#, "invalid environment variable: =x"),
            (
                r#"{"Image":"b","HostConfig":{"LogConfig":{"Type":"json-file","Config":{"foo":"1"}}}}"#,
                "unknown log opt 'foo' for json-file log driver",
            ),
            (r#"{"Image":"b","HostConfig":{"ShmSize":-1}}"#, "SHM size can not be less than 0"),
        ] {
            assert_eq!(refused(json), (StatusCode::BAD_REQUEST, text.to_owned()));
        }
    }

    #[test]
    fn logs_and_ports() {
        let log = |json: &str| {
            convert(&format!(r#"{{"Image":"b","HostConfig":{{"LogConfig":{json}}}}}"#))
                .map(|config| config.host.log)
        };
        let both = log(r#"{"Config":{"max-size":"10m","max-file":"3"}}"#).unwrap();
        assert_eq!(both, Log::JsonFile { max_size: 10 << 20, max_files: 3 });
        assert_eq!(log(r#"{"Type":"none"}"#).unwrap(), Log::None);
        assert!(log(r#"{"Type":"syslog"}"#).is_err() && log(r#"{"Config":{"max-file":"0"}}"#).is_err());
        let config = convert(r#"{"Image":"b","ExposedPorts":{"80":{},"53/UDP":{}}}"#).unwrap();
        assert_eq!(config.exposed_ports, ["53/udp", "80/tcp"]);
        assert!(convert(r#"{"Image":"b","ExposedPorts":{"x":{}}}"#).is_err());
    }
}
