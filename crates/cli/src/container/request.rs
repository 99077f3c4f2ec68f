//! Flags become one request value.

use api::create::{Config, ConsoleSize, CreateRequest, HostConfig, LogConfig, RestartPolicy, Set, Words};

use super::{Flags, mounts, network, pairs, ports};
use crate::error::{Result, message};

/// What the request takes from where the command was typed, not from its flags.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place {
    /// Nobody stays attached (`run -d`).
    pub(crate) detached: bool,
    /// Rows and columns of the terminal that will show a pseudo-terminal.
    pub(crate) console: ConsoleSize,
}

/// The request that the flags ask for.
pub(crate) fn request(flags: &Flags, place: Place) -> Result<CreateRequest> {
    let (binds, volumes) = mounts::volumes(&flags.volume).map_err(message)?;
    let (mut exposed, published) = ports::published(&flags.publish).map_err(message)?;
    exposed.extend(ports::exposed(&flags.expose).map_err(message)?);
    if let Some(mac) = &flags.mac_address {
        network::mac(mac).map_err(message)?;
    }
    Ok(CreateRequest {
        networking_config: network::networking(flags).map_err(message)?,
        config: Config {
            exposed_ports: (!exposed.is_empty()).then_some(exposed),
            ..config(flags, place, volumes)?
        },
        host_config: HostConfig { port_bindings: Some(published), ..host(flags, place, binds)? },
    })
}

fn config(flags: &Flags, place: Place, volumes: Set) -> Result<Config> {
    let to = |name: &str| flags.attach.iter().any(|stream| stream == name);
    let all = flags.attach.is_empty();
    let attach_stdin = !place.detached && (flags.interactive || to("stdin"));
    let env = pairs::environment(&flags.env_file, &flags.env)?;
    let (image, command) =
        flags.image_and_command.split_first().ok_or_else(|| message("an image is required"))?;
    Ok(Config {
        hostname: flags.hostname.clone(),
        domainname: flags.domainname.clone(),
        user: flags.user.clone(),
        attach_stdin,
        attach_stdout: !place.detached && (all || to("stdout")),
        attach_stderr: !place.detached && (all || to("stderr")),
        tty: flags.tty,
        open_stdin: flags.interactive,
        stdin_once: flags.interactive && attach_stdin,
        env: (!env.is_empty()).then_some(env),
        cmd: (!command.is_empty()).then(|| Words(command.to_vec())),
        image: image.clone(),
        volumes: Some(volumes),
        working_dir: flags.workdir.clone(),
        entrypoint: flags.entrypoint.clone().map(|word| Words(vec![word])),
        labels: Some(pairs::labels(&flags.label_file, &flags.label)?),
        stop_signal: flags.stop_signal.clone(),
        stop_timeout: flags.stop_timeout,
        ..Config::default()
    })
}

fn host(flags: &Flags, place: Place, binds: Vec<String>) -> Result<HostConfig> {
    if let Some(bad) = flags.log_opt.iter().find(|option| !option.contains('=')) {
        return Err(message(format!("invalid logging opts format ({bad}): use KEY=VALUE")));
    }
    if let Some(bad) = flags.storage_opt.iter().find(|option| !option.contains('=')) {
        return Err(message(format!("invalid storage option ({bad}): use KEY=VALUE")));
    }
    Ok(HostConfig {
        binds: (!binds.is_empty()).then_some(binds),
        container_id_file: flags.cidfile.as_ref().map(|p| p.display().to_string()).unwrap_or_default(),
        log_config: LogConfig { kind: flags.log_driver.clone(), config: Some(pairs::map(&flags.log_opt)) },
        network_mode: network::mode(flags),
        restart_policy: RestartPolicy { name: "no".into(), maximum_retry_count: 0 },
        auto_remove: flags.rm,
        mounts: (!flags.mount.is_empty()).then(|| flags.mount.clone()),
        console_size: place.console,
        annotations: (!flags.annotation.is_empty()).then(|| pairs::map(&flags.annotation)),
        readonly_rootfs: flags.read_only,
        storage_opt: (!flags.storage_opt.is_empty()).then(|| pairs::map(&flags.storage_opt)),
        tmpfs: mounts::tmpfs(&flags.tmpfs),
        shm_size: flags.shm_size.unwrap_or_default(),
        runtime: flags.runtime.clone(),
        cpu_shares: flags.cpu_shares,
        memory: flags.memory.unwrap_or_default(),
        nano_cpus: flags.cpus.unwrap_or_default(),
        cgroup_parent: flags.cgroup_parent.clone(),
        cpu_period: flags.cpu_period,
        cpu_quota: flags.cpu_quota,
        cpuset_cpus: flags.cpuset_cpus.clone(),
        cpuset_mems: flags.cpuset_mems.clone(),
        memory_reservation: flags.memory_reservation.unwrap_or_default(),
        memory_swap: flags.memory_swap.unwrap_or_default(),
        memory_swappiness: Some(-1),
        // Empty, not null: as Docker's own client says "none", and as `inspect` then shows it.
        dns: Some(flags.dns.clone()),
        dns_options: Some(flags.dns_option.clone()),
        dns_search: Some(flags.dns_search.clone()),
        extra_hosts: (!flags.add_host.is_empty()).then(|| flags.add_host.clone()),
        links: (!flags.link.is_empty()).then(|| flags.link.clone()),
        publish_all_ports: flags.publish_all,
        blkio_weight_device: Some(Vec::new()),
        blkio_device_read_bps: Some(Vec::new()),
        blkio_device_write_bps: Some(Vec::new()),
        blkio_device_read_iops: Some(Vec::new()),
        blkio_device_write_iops: Some(Vec::new()),
        devices: Some(Vec::new()),
        ulimits: Some(Vec::new()),
        oom_kill_disable: Some(false),
        pids_limit: Some(flags.pids_limit),
        init: flags.init,
        ..HostConfig::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(change: impl FnOnce(&mut Flags), place: Place) -> CreateRequest {
        let mut flags =
            Flags { image_and_command: vec!["img".into(), "cmd".into(), "-x".into()], ..Flags::default() };
        change(&mut flags);
        request(&flags, place).unwrap()
    }

    #[test]
    fn streams_follow_attach_detach_and_interactive() {
        let streams =
            |c: &Config| (c.attach_stdin, c.attach_stdout, c.attach_stderr, c.open_stdin, c.stdin_once);
        let here = Place::default();
        let away = Place { detached: true, ..here };
        assert_eq!(streams(&of(|_| (), here).config), (false, true, true, false, false));
        assert_eq!(streams(&of(|f| f.interactive = true, here).config), (true, true, true, true, true));
        assert_eq!(streams(&of(|f| f.interactive = true, away).config), (false, false, false, true, false));
        assert_eq!(
            streams(&of(|f| f.attach = vec!["stdout".into()], here).config),
            (false, true, false, false, false)
        );
    }

    #[test]
    fn words_and_ports() {
        let request = of(
            |f| {
                f.entrypoint = Some(String::new());
                f.expose = vec!["80".into(), "90-91/udp".into()];
            },
            Place::default(),
        );
        assert_eq!(request.config.entrypoint, Some(Words(vec![String::new()])));
        assert_eq!(request.config.cmd, Some(Words(vec!["cmd".into(), "-x".into()])));
        let ports: Vec<_> = request.config.exposed_ports.unwrap().into_keys().collect();
        assert_eq!(ports, ["80/tcp", "90/udp", "91/udp"]);
    }
}
