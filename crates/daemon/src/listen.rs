//! Sockets: where clients knock.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt, chown},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

/// A listening socket, and the file to remove when the service ends.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: UnixListener,
    file: Option<(PathBuf, (u64, u64))>,
}

/// Listens on every address, or on none.
pub(crate) fn all(hosts: &[String]) -> anyhow::Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    for host in hosts {
        match host.split_once("://") {
            Some(("unix", path)) => listeners.push(unix(Path::new(path))?),
            Some(("fd", _)) => listeners.extend(handed()?),
            Some(("tcp", _)) => bail!(
                "-H {host}: knarr does not listen on TCP yet, because that needs TLS (whoever reaches the API is root \
                 here). Use unix://PATH, and ssh to reach it from elsewhere"
            ),
            _ => bail!("-H {host}: want unix://PATH or fd://"),
        }
    }
    Ok(listeners)
}

fn handed() -> anyhow::Result<Vec<Listener>> {
    let sockets =
        sys::service::take_handed_descriptors().context("take the sockets that systemd hands over")?;
    if sockets.is_empty() {
        bail!("-H fd://: no sockets were handed over. Start knarr.socket, or use -H unix://PATH");
    }
    let listener = |socket| Listener { socket: UnixListener::from(socket), file: None };
    Ok(sockets.into_iter().map(listener).collect())
}

fn unix(path: &Path) -> anyhow::Result<Listener> {
    if !path.is_absolute() {
        bail!("-H unix://{}: the path must be absolute", path.display());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    remove_stale(path)?;
    let socket = UnixListener::bind(path).with_context(|| format!("listen on {}", path.display()))?;
    // Nobody but root can connect before the mode is set: the umask of a service is at least 022, and connecting
    // needs the right to write.
    if let Some(group) = group_of_clients() {
        chown(path, None, Some(group)).with_context(|| format!("give {} its group", path.display()))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))
        .with_context(|| format!("set the mode of {}", path.display()))?;
    let file = fs::symlink_metadata(path).with_context(|| format!("look at {}", path.display()))?;
    Ok(Listener { socket, file: Some((path.to_owned(), (file.dev(), file.ino()))) })
}

/// Removes a socket that a service left behind; one that answers stays.
fn remove_stale(path: &Path) -> anyhow::Result<()> {
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("look at {}", path.display())),
    };
    if !file.file_type().is_socket() {
        bail!("{} is there and is not a socket: remove it, or choose another -H", path.display());
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).with_context(|| format!("remove the stale {}", path.display()))
        }
        Err(error) => {
            Err(error).with_context(|| format!("ask whether somebody answers on {}", path.display()))
        }
        Ok(_) => bail!("another service answers on {}: stop it, or choose another -H", path.display()),
    }
}

/// Members of `docker`, else of `knarr`, may use the socket. The file is read as it is: a static program has no
/// name service.
fn group_of_clients() -> Option<u32> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    ["docker", "knarr"].iter().find_map(|name| group_id(&groups, name))
}

fn group_id(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

impl Drop for Listener {
    /// Leaves no socket behind, and takes nobody else's.
    fn drop(&mut self) {
        let Some((path, identity)) = &self.file else {
            return;
        };
        let ours = fs::symlink_metadata(path).is_ok_and(|file| (file.dev(), file.ino()) == *identity);
        if ours && let Err(error) = fs::remove_file(path) {
            tracing::warn!("remove {}: {error}", path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/knarr.sock");
        let host = format!("unix://{}", path.display());
        let first = all(std::slice::from_ref(&host)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o660);
        let busy = all(std::slice::from_ref(&host)).unwrap_err().to_string();
        assert!(busy.contains("another service answers"), "{busy}");
        drop(first);
        assert!(!path.exists());

        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(all(std::slice::from_ref(&host)).unwrap());

        fs::write(&path, "precious").unwrap();
        assert!(all(std::slice::from_ref(&host)).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn addresses_that_are_not_served_say_why() {
        let error = |host: &str| all(&[host.to_owned()]).unwrap_err().to_string();
        assert!(error("tcp://0.0.0.0:2375").contains("TLS"));
        assert!(error("unix://run/x.sock").contains("absolute"));
        assert!(error("fd://").contains("handed over"));
        assert!(error("npipe").contains("want unix://PATH"));
    }

    #[test]
    fn groups_are_read_from_the_file() {
        assert_eq!(group_id("root:x:0:\ndocker:x:103:a,b\n", "docker"), Some(103));
        assert_eq!(group_id("dockers:x:103:\nknarr:x", "docker"), None);
    }
}
