//! The engines, each private: own roots, own control groups, the same image.

use std::{fs, os::unix::fs::symlink, path::PathBuf, process::Command};

use anyhow::{Context, Result};

use crate::shell::{Groups, Knarr, Running, Scratch, output};

/// The image that every engine runs.
pub(super) const IMAGE: &str = "localhost/bench";

/// An engine, ready to run containers.
pub(super) trait Engine {
    fn name(&self) -> &'static str;
    /// A command of its client.
    fn client(&self, words: &[&str]) -> Command;
    /// Its standing service, if it has one.
    fn service(&self) -> Option<u32>;
    /// A word in the command line of every process of it, and of no other's.
    fn mark(&self) -> &str;
    /// The processes that it needs while nothing runs, by name; then those for each container.
    fn programs(&self) -> (&'static [&'static str], &'static [&'static str]);
}

/// A root file system of Debian's static busybox, as the tar file that every engine imports.
pub(super) fn rootfs(scratch: &Scratch) -> Result<String> {
    let root = scratch.path().join("rootfs");
    fs::create_dir_all(root.join("bin"))?;
    fs::copy("/bin/busybox", root.join("bin/busybox")).context("/bin/busybox, of busybox-static")?;
    for applet in ["sh", "sleep", "true"] {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    let tar = scratch.join("rootfs.tar");
    output(Command::new("tar").arg("-C").arg(&root).args(["--owner=0", "--group=0", "-cf", &tar, "."]))?;
    Ok(tar)
}

struct Ours {
    knarr: Knarr,
    mark: String,
}

pub(super) fn knarr(programs: PathBuf, scratch: &Scratch, rootfs: &str) -> Result<impl Engine + use<>> {
    let knarr = Knarr::start(programs, scratch, "bench")?;
    output(&mut knarr.client(&["import", rootfs, IMAGE]))?;
    Ok(Ours { knarr, mark: scratch.join("run") })
}

impl Engine for Ours {
    fn name(&self) -> &'static str {
        "knarr"
    }

    fn client(&self, words: &[&str]) -> Command {
        self.knarr.client(words)
    }

    fn service(&self) -> Option<u32> {
        Some(self.knarr.pid())
    }

    fn mark(&self) -> &str {
        &self.mark
    }

    fn programs(&self) -> (&'static [&'static str], &'static [&'static str]) {
        (&["knarr"], &["knarr-shim"])
    }
}

struct Podman {
    root: String,
    groups: Groups,
}

pub(super) fn podman(scratch: &Scratch, rootfs: &str) -> Result<impl Engine + use<>> {
    let podman = Podman { root: scratch.join("podman"), groups: Groups::new("bench-podman") };
    output(&mut podman.client(&["import", rootfs, IMAGE]))?;
    Ok(podman)
}

impl Engine for Podman {
    fn name(&self) -> &'static str {
        "podman"
    }

    fn client(&self, words: &[&str]) -> Command {
        let mut command = Command::new("podman");
        command.args(["--root", &format!("{}/root", self.root), "--runroot", &format!("{}/run", self.root)]);
        command.args(["--tmpdir", &format!("{}/tmp", self.root), "--cgroup-manager", "cgroupfs"]);
        // crun refuses machines with control groups of both versions.
        command.args(["--runtime", "runc", "--events-backend", "file"]);
        command.args(&words[..1]);
        if words[0] == "run" {
            // Its default raises limits, which root in a virtual machine may not be allowed to.
            command.args(["--cgroup-parent", self.groups.path()]);
            command.args(["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]);
        }
        command.args(&words[1..]);
        command
    }

    fn service(&self) -> Option<u32> {
        None
    }

    fn mark(&self) -> &str {
        &self.root
    }

    fn programs(&self) -> (&'static [&'static str], &'static [&'static str]) {
        (&[], &["conmon"])
    }
}

struct Docker {
    daemon: Running,
    socket: String,
    root: String,
    config: String,
    _groups: Groups,
}

pub(super) fn docker(scratch: &Scratch, rootfs: &str) -> Result<impl Engine + use<>> {
    let root = scratch.join("docker");
    fs::create_dir(&root)?;
    let groups = Groups::new("bench-docker");
    let socket = format!("{root}/docker.sock");
    // A network namespace of its own keeps it from the machine's firewall, a mount namespace from its mounts.
    let mut command = Command::new("unshare");
    command.args([
        "--net",
        "--mount",
        "--propagation",
        "private",
        "dockerd",
        "--bridge=none",
        "--iptables=false",
    ]);
    command.args([
        "--ip6tables=false",
        "--data-root",
        &format!("{root}/data"),
        "--exec-root",
        &format!("{root}/run"),
    ]);
    command.args(["--pidfile", &format!("{root}/pid"), "--host", &format!("unix://{socket}")]);
    command.args(["--cgroup-parent", groups.path()]);
    let daemon = Running::daemon(command, &socket, &scratch.join("docker.log"))?;
    let docker = Docker { daemon, socket, config: scratch.join("docker/config"), root, _groups: groups };
    output(&mut docker.client(&["import", rootfs, IMAGE]))?;
    Ok(docker)
}

impl Engine for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn client(&self, words: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command
            .env("DOCKER_CONFIG", &self.config)
            .arg("--host")
            .arg(format!("unix://{}", self.socket))
            .args(words);
        command
    }

    fn service(&self) -> Option<u32> {
        Some(self.daemon.pid())
    }

    fn mark(&self) -> &str {
        &self.root
    }

    fn programs(&self) -> (&'static [&'static str], &'static [&'static str]) {
        (&["dockerd", "containerd"], &["containerd-shim"])
    }
}
