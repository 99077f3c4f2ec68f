//! Entering groups.

use std::{
    fs,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use rustix::fs::{Mode, OFlags, open};

use super::Place;
use crate::error::{During, Error, Result};

/// A container's groups, open for entering: through these descriptors also a process that may no longer name them.
#[derive(Debug)]
pub struct Places {
    /// v1 `tasks` files.
    tasks: Vec<(String, OwnedFd)>,
    /// The v2 directory.
    unified: Option<OwnedFd>,
}

impl Places {
    /// Opens them.
    pub fn open(places: &[Place]) -> Result<Self> {
        let mut opened = Self { tasks: Vec::new(), unified: None };
        for place in places {
            if place.unified {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = open(&place.group, flags, Mode::empty());
                opened.unified = Some(fd.during(|| format!("open cgroup {}", place.group.display()))?);
            } else {
                let file = place.group.join("tasks");
                let fd = open(&file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
                opened.tasks.push((place.name.clone(), fd.during(|| format!("open {}", file.display()))?));
            }
        }
        Ok(opened)
    }

    /// Opens the groups for a further process of a container whose first is `init`: its own, or those below that are
    /// asked for.
    pub fn for_exec(places: &[Place], below: &SubGroups, init: i32) -> Result<Self> {
        let mut places = places.to_owned();
        below.apply(&mut places)?;
        if let Some(place) = places.iter_mut().find(|place| place.unified && !below.names(place))
            && passes_down(&place.group)
        {
            place.group = group_of(init, &place.group)?;
        }
        Self::open(&places)
    }

    /// The v2 group, for `CLONE_INTO_CGROUP`.
    pub fn unified(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(AsFd::as_fd)
    }

    /// Moves this process, which has one thread, into every v1 group.
    ///
    /// A thread that writes `0` to `tasks` needs no lock over all forks of the system, and so none of the RCU grace
    /// periods that `cgroup.procs` waits for.
    pub fn enter(&self) -> Result<()> {
        for (name, tasks) in &self.tasks {
            rustix::io::write(tasks, b"0").during(|| format!("enter cgroup {name}"))?;
        }
        Ok(())
    }
}

/// A v2 group that passes controllers down takes no process; a container may have made its own such (systemd does).
fn passes_down(group: &Path) -> bool {
    let passed = fs::read_to_string(group.join("cgroup.subtree_control"));
    passed.is_ok_and(|passed| !passed.trim().is_empty())
}

/// Where `init` is, which must be below the container's group: by that it found itself a place that takes processes.
fn group_of(init: i32, top: &Path) -> Result<PathBuf> {
    let table = format!("/proc/{init}/cgroup");
    let text = fs::read_to_string(&table).during(|| format!("read {table}"))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
    // The path is from the hierarchy's root, which is a part of `top`; find where that part ends.
    let found = top.ancestors().map(|mount| mount.join(path.trim_start_matches('/')));
    let inside = found.filter(|group| group.starts_with(top) && !path.contains(".."));
    inside.filter(|group| group.is_dir()).last().ok_or_else(|| {
        Error::new(format!(
            "cgroup {} passes controllers down and so takes no process, and the container's first process is not \
             below it: name a group below with --cgroup",
            top.display()
        ))
    })
}

/// `exec --cgroup [CONTROLLER[,…]:]PATH`: groups below the container's own, that exist.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct SubGroups(Vec<(Option<String>, PathBuf)>);

impl SubGroups {
    /// Reads the flag's values.
    pub fn read(values: &[String]) -> Result<Self> {
        let bad = |value: &str, why: &str| Error::new(format!("invalid --cgroup argument: {value} ({why})"));
        let mut found: Vec<(Option<String>, PathBuf)> = Vec::new();
        for value in values {
            let (names, path) = match value.split_once(':') {
                Some((names, path)) => (names.split(',').map(|name| Some(name.to_owned())).collect(), path),
                None if values.len() > 1 => return Err(bad(value, "missing <controller>: prefix")),
                None => (vec![None], value.as_str()),
            };
            let path = Path::new(path.trim_start_matches('/'));
            if path.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
                return Err(bad(value, "is not below the container's group"));
            }
            for name in names {
                if name.as_deref() == Some("") {
                    return Err(bad(value, "empty <controller> prefix"));
                }
                if found.iter().any(|(known, _)| *known == name) {
                    return Err(bad(value, "controller specified multiple times"));
                }
                found.push((name, path.to_owned()));
            }
        }
        Ok(Self(found))
    }

    fn names(&self, place: &Place) -> bool {
        self.0.iter().any(|(name, _)| name.as_deref().is_none_or(|name| is_named(place, name)))
    }

    fn apply(&self, places: &mut [Place]) -> Result<()> {
        for (name, path) in &self.0 {
            let mut known = false;
            let named = |place: &&mut Place| name.as_deref().is_none_or(|name| is_named(place, name));
            for place in places.iter_mut().filter(named) {
                known = true;
                let top = place.group.clone();
                place.group.push(path);
                // What the container made there must not be a link, or anything but a group below its own.
                let real = fs::canonicalize(&place.group);
                let real = real.during(|| format!("find cgroup {}", place.group.display()))?;
                let top = fs::canonicalize(&top).during(|| format!("find cgroup {}", top.display()))?;
                if !real.starts_with(&top) {
                    return Err(Error::new(format!(
                        "--cgroup {}: is not below {}",
                        path.display(),
                        top.display()
                    )));
                }
            }
            if !known {
                let name = name.as_deref().unwrap_or_default();
                return Err(Error::new(format!("--cgroup: the container has no group of controller {name}")));
            }
        }
        Ok(())
    }
}

/// By a controller's name, as under runc; the v2 group by `unified` or an empty list of controllers.
fn is_named(place: &Place, name: &str) -> bool {
    if place.unified { name == "unified" } else { place.is_of(name) }
}

#[cfg(test)]
mod tests {
    use super::SubGroups;

    fn read(values: &[&str]) -> Result<SubGroups, String> {
        let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        SubGroups::read(&values).map_err(|error| error.to_string())
    }

    #[test]
    fn groups_below_are_named_as_under_runc() {
        assert_eq!(read(&["second"]).unwrap().0, [(None, "second".into())]);
        let two = read(&["cpu,memory:/a/b", "pids:c"]).unwrap();
        assert_eq!(two.0.len(), 3);
        assert_eq!(two.0[1], (Some("memory".to_owned()), "a/b".into()));
        for (values, why) in [
            (vec!["a", "b"], "missing <controller>: prefix"),
            (vec![":a"], "empty <controller> prefix"),
            (vec!["cpu,cpu:a"], "multiple times"),
            (vec!["../x"], "not below"),
            (vec!["cpu:a/../../x"], "not below"),
        ] {
            assert!(read(&values).unwrap_err().contains(why), "{values:?}");
        }
    }
}
