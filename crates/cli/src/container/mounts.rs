//! `-v`, `--tmpfs` and `--mount`.

use std::collections::BTreeMap;

use api::create::{BindOptions, Empty, Mount, Pairs, Set, TmpfsOptions};
use serde_json::json;

use crate::words::size;

/// What `-v` asks for: mounts with a source, and places for anonymous volumes.
pub(super) fn volumes(specs: &[String]) -> Result<(Vec<String>, Set), String> {
    let (mut binds, mut anonymous) = (Vec::new(), BTreeMap::new());
    for spec in specs {
        match spec.split_once(':') {
            None if spec.is_empty() => return Err("invalid empty volume spec".into()),
            None => {
                anonymous.insert(spec.clone(), Empty {});
            }
            Some(("", _)) => return Err(format!("invalid spec: {spec}: empty section between colons")),
            Some((source, rest)) if source.starts_with('.') => {
                let here = std::env::current_dir().map_err(|e| format!("cannot resolve {source:?}: {e}"))?;
                binds.push(format!("{}:{rest}", clean(&here.join(source))));
            }
            Some(_) => binds.push(spec.clone()),
        }
    }
    Ok((binds, anonymous))
}

/// `..` and `.` taken out by their words alone, as Go's `filepath.Abs` does.
fn clean(path: &std::path::Path) -> String {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            std::path::Component::Normal(name) => parts.push(name.to_string_lossy()),
            std::path::Component::ParentDir => drop(parts.pop()),
            _ => {}
        }
    }
    format!("/{}", parts.join("/"))
}

/// What `--tmpfs` asks for: `PATH[:OPTIONS]`.
pub(super) fn tmpfs(specs: &[String]) -> Option<Pairs> {
    let split = |spec: &String| match spec.split_once(':') {
        Some((path, options)) => (path.to_owned(), options.to_owned()),
        None => (spec.clone(), String::new()),
    };
    (!specs.is_empty()).then(|| specs.iter().map(split).collect())
}

/// Reads one `--mount type=bind,src=/a,dst=/b,readonly`.
pub(super) fn parse(text: &str) -> Result<Mount, String> {
    let mut mount = Mount { kind: "volume".into(), ..Mount::default() };
    for field in text.split(',') {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
            None => (field.to_ascii_lowercase(), None),
        };
        set(&mut mount, field, &key, value)?;
    }
    let kind = mount.kind.as_str();
    if mount.target.is_empty() {
        return Err("target is required".into());
    }
    for (options, owner) in [
        (mount.bind_options.is_some(), "bind"),
        (mount.tmpfs_options.is_some(), "tmpfs"),
        (mount.volume_options.is_some(), "volume"),
    ] {
        if options && kind != owner {
            return Err(format!("cannot mix '{owner}-*' options with mount type '{kind}'"));
        }
    }
    match kind {
        "bind" | "tmpfs" | "volume" => Ok(mount),
        other => Err(format!("unsupported mount type {other:?}: use bind, volume or tmpfs")),
    }
}

fn set(mount: &mut Mount, field: &str, key: &str, value: Option<&str>) -> Result<(), String> {
    let needed = || value.ok_or_else(|| format!("invalid field '{field}' must be a key=value pair"));
    let on = || match value {
        None | Some("1" | "true") => Ok(true),
        Some("0" | "false") => Ok(false),
        Some(other) => Err(format!("invalid value for {key}: {other}")),
    };
    match key {
        "type" => mount.kind = needed()?.to_ascii_lowercase(),
        "source" | "src" => {
            let source = needed()?;
            let relative = source.starts_with('.');
            mount.source = match std::env::current_dir() {
                Ok(here) if relative => clean(&here.join(source)),
                _ => source.to_owned(),
            };
        }
        "target" | "dst" | "destination" => needed()?.clone_into(&mut mount.target),
        "readonly" | "ro" => mount.read_only = on()?,
        "consistency" => mount.consistency = needed()?.to_ascii_lowercase(),
        "bind-propagation" => bind(mount).propagation = needed()?.to_ascii_lowercase(),
        "bind-recursive" => recursive(needed()?, bind(mount))?,
        "bind-create-src" => bind(mount).create_mountpoint = on()?,
        "tmpfs-size" => {
            let size = needed()?;
            let bytes = size::parse_positive(size).map_err(|_| format!("invalid value for {key}: {size}"))?;
            tmpfs_of(mount).size_bytes = bytes;
        }
        "tmpfs-mode" => {
            let mode = needed()?;
            let bits =
                u32::from_str_radix(mode, 8).map_err(|_| format!("invalid value for {key}: {mode}"))?;
            tmpfs_of(mount).mode = bits;
        }
        "volume-nocopy" => mount.volume_options = Some(json!({ "NoCopy": on()? })),
        "volume-subpath" => mount.volume_options = Some(json!({ "Subpath": needed()? })),
        _ => return Err(format!("unexpected key '{key}' in '{field}'")),
    }
    Ok(())
}

fn bind(mount: &mut Mount) -> &mut BindOptions {
    mount.bind_options.get_or_insert_default()
}

fn tmpfs_of(mount: &mut Mount) -> &mut TmpfsOptions {
    mount.tmpfs_options.get_or_insert_default()
}

fn recursive(value: &str, options: &mut BindOptions) -> Result<(), String> {
    match value {
        "enabled" => {}
        "disabled" => options.non_recursive = true,
        "writable" => options.read_only_non_recursive = true,
        "readonly" => options.read_only_force_recursive = true,
        _ => {
            return Err(format!(
                "invalid value for bind-recursive: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volume_specs() {
        let (binds, anonymous) =
            volumes(&["/a:/b:ro".into(), "/data".into(), "name:/x".into(), "./r/../s:/y".into()]).unwrap();
        let here = std::env::current_dir().unwrap();
        assert_eq!(binds, ["/a:/b:ro", "name:/x", &format!("{}/s:/y", here.display())]);
        assert!(anonymous.contains_key("/data"));
        assert!(volumes(&[":/x".into()]).is_err());
        assert!(volumes(&[String::new()]).is_err());
    }

    #[test]
    fn mounts() {
        let bind = parse("type=bind,src=/s,dst=/d,ro,bind-propagation=rslave").unwrap();
        assert_eq!((bind.kind.as_str(), bind.source.as_str(), bind.target.as_str()), ("bind", "/s", "/d"));
        assert!(bind.read_only);
        assert_eq!(bind.bind_options.unwrap().propagation, "rslave");
        let tmpfs =
            parse("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770").unwrap().tmpfs_options.unwrap();
        assert_eq!((tmpfs.size_bytes, tmpfs.mode), (1_048_576, 0o1770));
        assert_eq!(parse("dst=/v").unwrap().kind, "volume");
        for (bad, why) in [
            ("type=bind,src=/s", "target is required"),
            ("type=bind,src=/s,dst=/d,tmpfs-size=1", "cannot mix 'tmpfs-*' options with mount type 'bind'"),
            ("type=bind,src=/s,dst=/d,colour=red", "unexpected key 'colour' in 'colour=red'"),
            ("type=bind,src", "invalid field 'src' must be a key=value pair"),
            ("type=tmpfs,dst=/t,tmpfs-mode=9", "invalid value for tmpfs-mode: 9"),
            ("type=npipe,src=/s,dst=/d", "unsupported mount type \"npipe\": use bind, volume or tmpfs"),
        ] {
            assert_eq!(parse(bad).unwrap_err(), why);
        }
    }
}
