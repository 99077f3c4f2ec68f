//! `Binds`, `Mounts` and `Tmpfs`.

use std::path::{Path, PathBuf};

use api::create::{BindOptions, Mount, Pairs, TmpfsOptions};
use engine::config::Bind;

use crate::failure::{Failure, Result};

type Tmpfs = (String, String);

const PROPAGATIONS: &[&str] = &["private", "rprivate", "shared", "rshared", "slave", "rslave"];
const DEFAULT_PROPAGATION: &str = "rprivate";

/// All three, checked for targets that are wanted twice.
pub(crate) fn all(binds: &[String], mounts: Vec<Mount>, tmpfs: Pairs) -> Result<(Vec<Bind>, Vec<Tmpfs>)> {
    let mut binds = binds.iter().map(|text| bind(text)).collect::<Result<Vec<_>>>()?;
    let mut tmpfs: Vec<Tmpfs> = tmpfs.into_iter().collect();
    for (target, _) in &tmpfs {
        check_target(target).map_err(Failure::invalid)?;
    }
    for mount in mounts {
        match mount.kind.as_str() {
            "bind" => binds.push(bind_mount(mount)?),
            "tmpfs" => tmpfs.push(tmpfs_mount(mount)?),
            "volume" => return Err(no_volumes(&mount.source)),
            "image" | "npipe" | "cluster" => {
                return Err(Failure::unsupported(format!("mounts of type {}", mount.kind)));
            }
            other => {
                return Err(Failure::invalid(format!("invalid mount config: unknown mount type {other:?}")));
            }
        }
    }
    let mut targets: Vec<&str> = binds.iter().map(|bind| bind.target.as_str()).collect();
    targets.extend(tmpfs.iter().map(|(target, _)| target.as_str()));
    targets.sort_unstable();
    match targets.windows(2).find(|pair| same(pair[0], pair[1])) {
        Some(pair) => Err(Failure::invalid(format!("Duplicate mount point: {}", pair[0]))),
        None => Ok((binds, tmpfs)),
    }
}

fn no_volumes(name: &str) -> Failure {
    let text = format!(
        "knarr does not support volumes yet ({name:?}): bind a directory of the host instead, by its absolute path"
    );
    Failure::new(hyper::StatusCode::NOT_IMPLEMENTED, text)
}

fn same(one: &str, other: &str) -> bool {
    Path::new(one).components().eq(Path::new(other).components())
}

/// A target stands inside the root, below it.
fn check_target(target: &str) -> std::result::Result<(), String> {
    if !target.starts_with('/') {
        return Err(format!("invalid mount path: '{target}' mount path must be absolute"));
    }
    if same(target, "/") {
        return Err("invalid specification: destination can't be '/'".to_owned());
    }
    Ok(())
}

/// `SRC:DST[:OPTIONS]`
fn bind(text: &str) -> Result<Bind> {
    let invalid = |why: String| Failure::invalid(format!("invalid volume specification: '{text}'{why}"));
    let (source, target, options) = match text.split(':').collect::<Vec<_>>()[..] {
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options),
        [target] => return Err(no_volumes(target)),
        _ => return Err(invalid(String::new())),
    };
    if source.is_empty() || target.is_empty() {
        return Err(invalid(String::new()));
    }
    if !source.starts_with('/') {
        return Err(no_volumes(source));
    }
    check_target(target)
        .map_err(|why| invalid(format!(": invalid mount config for type \"bind\": {why}")))?;
    let (read_only, propagation) = bind_options(options)?;
    Ok(Bind {
        source: PathBuf::from(source),
        target: target.to_owned(),
        read_only,
        propagation,
        create_source: true,
    })
}

fn bind_options(options: &str) -> Result<(bool, String)> {
    let mut read_only = None;
    let mut propagation = None;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let fresh = match option {
            "ro" => read_only.replace(true).is_none(),
            "rw" => read_only.replace(false).is_none(),
            // Labels of SELinux: nothing to do where there is none.
            "z" | "Z" if !Path::new("/sys/fs/selinux/enforce").exists() => true,
            "z" | "Z" => return Err(Failure::unsupported("SELinux labels of binds")),
            // Hints for hosts whose containers run in a virtual machine.
            "consistent" | "cached" | "delegated" => true,
            word if PROPAGATIONS.contains(&word) => propagation.replace(word).is_none(),
            _ => false,
        };
        if !fresh {
            return Err(Failure::invalid(format!("invalid mode: {options}")));
        }
    }
    let propagation = propagation.unwrap_or(DEFAULT_PROPAGATION).to_owned();
    Ok((read_only.unwrap_or(false), propagation))
}

fn field(mount: &Mount, name: &str, why: &str) -> Failure {
    let text = format!("invalid mount config for type \"{}\": field {name} {why}", mount.kind);
    Failure::invalid(text)
}

fn checked_target(mount: &Mount) -> Result<()> {
    if mount.target.is_empty() {
        return Err(field(mount, "Target", "must not be empty"));
    }
    check_target(&mount.target)
        .map_err(|why| Failure::invalid(format!("invalid mount config for type \"{}\": {why}", mount.kind)))
}

fn bind_mount(mount: Mount) -> Result<Bind> {
    checked_target(&mount)?;
    if mount.source.is_empty() {
        return Err(field(&mount, "Source", "must not be empty"));
    }
    if !mount.source.starts_with('/') {
        let path = &mount.source;
        return Err(Failure::invalid(format!(
            "invalid mount config for type \"bind\": invalid mount path: '{path}' mount path must be absolute"
        )));
    }
    let foreign = [
        ("VolumeOptions", mount.volume_options.is_some()),
        ("TmpfsOptions", mount.tmpfs_options.is_some()),
        ("ImageOptions", mount.image_options.is_some()),
    ];
    if let Some((name, _)) = foreign.iter().find(|(_, is_there)| *is_there) {
        return Err(field(&mount, name, "must not be specified"));
    }
    let BindOptions {
        propagation,
        non_recursive,
        create_mountpoint,
        read_only_non_recursive,
        read_only_force_recursive,
    } = mount.bind_options.unwrap_or_default();
    for (name, asked) in [
        ("NonRecursive", non_recursive),
        ("ReadOnlyNonRecursive", read_only_non_recursive),
        ("ReadOnlyForceRecursive", read_only_force_recursive),
    ] {
        if asked {
            return Err(Failure::unsupported(format!("HostConfig.Mounts.BindOptions.{name}")));
        }
    }
    let propagation = match propagation.as_str() {
        "" => DEFAULT_PROPAGATION.to_owned(),
        word if PROPAGATIONS.contains(&word) => propagation,
        _ => {
            return Err(Failure::invalid(format!("invalid propagation mode {propagation:?}")));
        }
    };
    Ok(Bind {
        source: PathBuf::from(mount.source),
        target: mount.target,
        read_only: mount.read_only,
        propagation,
        create_source: create_mountpoint,
    })
}

fn tmpfs_mount(mount: Mount) -> Result<Tmpfs> {
    checked_target(&mount)?;
    if !mount.source.is_empty() {
        return Err(field(&mount, "Source", "must not be specified"));
    }
    let TmpfsOptions { size_bytes, mode, options } = mount.tmpfs_options.unwrap_or_default();
    let mut words = Vec::new();
    if mount.read_only {
        words.push("ro".to_owned());
    }
    if size_bytes != 0 {
        words.push(format!("size={size_bytes}"));
    }
    if mode != 0 {
        words.push(format!("mode={mode:o}"));
    }
    words.extend(options.unwrap_or_default().iter().map(|option| option.join("=")));
    Ok((mount.target, words.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> std::result::Result<Bind, String> {
        bind(text).map_err(|failure| failure.message)
    }

    #[test]
    fn binds_in_docker_s_syntax() {
        let plain = one("/a:/b").unwrap();
        assert_eq!((plain.source.to_str(), plain.target.as_str()), (Some("/a"), "/b"));
        assert_eq!((plain.read_only, plain.propagation.as_str()), (false, "rprivate"));
        let options = one("/a:/b:ro,rshared").unwrap();
        assert_eq!((options.read_only, options.propagation.as_str()), (true, "rshared"));
        for (text, error) in [
            (
                "/x:y",
                "invalid volume specification: '/x:y': invalid mount config for type \"bind\": invalid mount path: 'y' mount path must be absolute",
            ),
            ("/x:/y:ro:z:z", "invalid volume specification: '/x:/y:ro:z:z'"),
            ("/x:/y:zz", "invalid mode: zz"),
            ("/x:/y:ro,rw", "invalid mode: ro,rw"),
            (
                "/x:/",
                "invalid volume specification: '/x:/': invalid mount config for type \"bind\": invalid specification: destination can't be '/'",
            ),
        ] {
            assert_eq!(one(text).unwrap_err(), error);
        }
        assert!(one("data:/b").unwrap_err().contains("volumes yet (\"data\")"));
    }

    #[test]
    fn mounts_by_type() {
        let mounts = |json: &str| {
            let mounts: Vec<Mount> = api::go::decode(json.as_bytes()).unwrap();
            all(&[], mounts, Pairs::new()).map_err(|failure| failure.message)
        };
        let (binds, tmpfs) = mounts(
            r#"[{"Type":"bind","Source":"/a","Target":"/b","ReadOnly":true},
                {"type":"tmpfs","target":"/t","TmpfsOptions":{"SizeBytes":65536,"Mode":1023}}]"#,
        )
        .unwrap();
        assert!(binds[0].read_only && !binds[0].create_source);
        assert_eq!(tmpfs, [("/t".to_owned(), "size=65536,mode=1777".to_owned())]);
        assert!(mounts(r#"[{"Type":"volume","Source":"v","Target":"/b"}]"#).unwrap_err().contains("volumes"));
        assert!(
            mounts(r#"[{"Type":"bind","Source":"/a"}]"#)
                .unwrap_err()
                .contains("field Target must not be empty")
        );
        let twice = all(&["/a:/t".into()], vec![], Pairs::from([("/t/".into(), String::new())])).unwrap_err();
        assert_eq!(twice.message, "Duplicate mount point: /t");
    }
}
