//! Intel RDT (and AMD QoS): a container's share of cache and memory bandwidth, by the `resctrl` file system
//! (config-linux.md, "Intel RDT"; the kernel's Documentation/filesystems/resctrl.rst).

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use oci::spec::IntelRdt;
use rustix::fs::{Mode, OFlags, open};
use serde::{Deserialize, Serialize};

use crate::{
    error::{During, Error, Result},
    record::{Describe, Description},
};

/// Something to be done before the container's first process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make a group; one that is there already is somebody else's, and stays.
    Make(PathBuf),
    /// Fail unless a group is there, and its `schemata` have these lines.
    Expect(PathBuf, Vec<String>),
    /// Set a group's `schemata`.
    Write(PathBuf, String),
}

/// A container's groups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// Every process of the container enters these.
    pub groups: Vec<PathBuf>,
    /// Removed with the container.
    pub own: Vec<PathBuf>,
}

/// What will be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In order.
    pub actions: Vec<Action>,
    /// Where the container will be.
    pub places: Places,
}

impl Describe for Action {
    fn describe(&self) -> Description {
        match self {
            Action::Make(group) => Description::new(format!("make resctrl group {}", group.display())),
            Action::Expect(group, lines) => {
                Description::new(format!("look at resctrl group {}", group.display()))
                    .with("schemata", lines.join("; "))
            }
            Action::Write(group, value) => {
                Description::new(format!("write {}/schemata", group.display())).with("value", value.trim())
            }
        }
    }
}

/// Where `resctrl` is mounted.
pub fn mounted() -> Result<Option<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo").during(|| "read /proc/self/mountinfo")?;
    Ok(table.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        file_system
            .starts_with("resctrl ")
            .then(|| PathBuf::from(mount.split(' ').nth(4).unwrap_or_default()))
    }))
}

/// Plans the groups of container `id`; `exists` says whether a group is there.
pub fn plan(
    wanted: &IntelRdt,
    root: Option<&Path>,
    id: &str,
    exists: impl Fn(&Path) -> bool,
) -> Result<Plan> {
    let bad = |what: &str| Err(Error::new(format!("linux.intelRdt{what}")));
    let Some(root) = root else {
        return bad(
            ": resctrl is not mounted: mount -t resctrl resctrl /sys/fs/resctrl, where the CPU has it",
        );
    };
    let group = match wanted.clos_id.as_deref() {
        None => root.join(id),
        Some("/") => root.to_owned(),
        Some(name) if name.is_empty() || matches!(name, "." | ".." | "info" | "mon_groups" | "mon_data") => {
            return bad(&format!(".closID: {name:?} is no name of a group"));
        }
        Some(name) if name.contains(['/', '\n', '\0']) => {
            return bad(&format!(".closID: {name:?} is no plain name"));
        }
        Some(name) => root.join(name),
    };
    let older = older_lines(wanted);
    let lines: Vec<String> = older.iter().chain(&wanted.schemata).cloned().collect();
    if let Some(line) = lines.iter().find(|line| line.contains(['\n', '\0']) || !line.contains(':')) {
        return bad(&format!(": {line:?} is no line of a schema such as L3:0=ff"));
    }
    let mut plan = Plan::default();
    let named = wanted.clos_id.is_some();
    if exists(&group) && named {
        // What others share is not changed by these two; the newer member says what is to be.
        plan.actions.push(Action::Expect(group.clone(), older));
        plan.actions.extend(text(&wanted.schemata).map(|text| Action::Write(group.clone(), text)));
    } else if named && lines.is_empty() {
        return bad(&format!(".closID: there is no group {}", group.display()));
    } else {
        plan.actions.push(Action::Make(group.clone()));
        plan.actions.extend(text(&lines).map(|text| Action::Write(group.clone(), text)));
        // As with runc, a group that has a name of its own stays for others.
        plan.places.own.extend((!named).then(|| group.clone()));
    }
    plan.places.groups.push(group.clone());
    if wanted.enable_monitoring {
        let monitored = group.join("mon_groups").join(id);
        plan.actions.push(Action::Make(monitored.clone()));
        plan.places.groups.push(monitored.clone());
        plan.places.own.insert(0, monitored);
    }
    Ok(plan)
}

/// The lines of the two older members; the first of them has no say in memory bandwidth (the spec).
fn older_lines(wanted: &IntelRdt) -> Vec<String> {
    let of = |text: &Option<String>| -> Vec<String> {
        let lines = text.iter().flat_map(|text| text.lines());
        lines.map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
    };
    let cache = of(&wanted.l3_cache_schema).into_iter().filter(|line| !line.starts_with("MB:"));
    cache.chain(of(&wanted.mem_bw_schema)).collect()
}

fn text(lines: &[String]) -> Option<String> {
    (!lines.is_empty()).then(|| lines.join("\n") + "\n")
}

impl Action {
    /// Does it.
    pub fn run(&self) -> Result<()> {
        match self {
            Action::Make(group) => match fs::create_dir(group) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    let full = "the CPU has no class of service or monitoring id left";
                    let error = Error::refused(self.describe(), &error);
                    Err(error.hint_on(rustix::io::Errno::NOSPC, full))
                }
                _ => Ok(()),
            },
            Action::Expect(group, lines) => {
                let file = group.join("schemata");
                let found = fs::read_to_string(&file).during(|| format!("read {}", file.display()))?;
                match lines.iter().find(|line| !found.lines().any(|other| other.trim() == *line)) {
                    None => Ok(()),
                    Some(line) => Err(Error::new(format!(
                        "linux.intelRdt: {} is there with other schemata than {line:?}",
                        group.display()
                    ))),
                }
            }
            Action::Write(group, value) => {
                write(&group.join("schemata"), value).map_err(|error| {
                    // The kernel's own words for what is wrong with it.
                    let mut status = group.ancestors().map(|above| above.join("info/last_cmd_status"));
                    let said = status.find_map(|file| fs::read_to_string(file).ok());
                    error.hint(said.unwrap_or_default().trim())
                })
            }
        }
    }
}

/// Lets this process enter `groups`: 0 stands for who writes.
pub fn enter(groups: &[PathBuf]) -> Result<()> {
    groups.iter().try_for_each(|group| write(&group.join("tasks"), "0"))
}

/// Removes a container's own groups; what is gone is gone.
pub fn remove(places: &Places) {
    for group in &places.own {
        let _ = fs::remove_dir(group);
    }
}

fn write(file: &Path, value: &str) -> Result<()> {
    let what = || format!("write {:?} to {}", value.trim(), file.display());
    let fd = open(file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).during(what)?;
    rustix::io::write(&fd, value.as_bytes()).during(what).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(wanted: &IntelRdt, there: bool) -> Result<Plan> {
        plan(wanted, Some(Path::new("/r")), "c1", |_| there)
    }

    fn shown(plan: &Plan) -> Vec<String> {
        plan.actions.iter().map(|action| action.describe().to_string()).collect()
    }

    #[test]
    fn a_group_of_its_own() {
        let wanted = IntelRdt {
            l3_cache_schema: Some("L3:0=ff\nMB:0=10".to_owned()),
            mem_bw_schema: Some("MB:0=20".to_owned()),
            schemata: vec!["L2:0=f".to_owned()],
            enable_monitoring: true,
            ..IntelRdt::default()
        };
        let plan = planned(&wanted, false).unwrap();
        assert_eq!(
            shown(&plan),
            [
                "make resctrl group /r/c1",
                "write /r/c1/schemata value=L3:0=ff\nMB:0=20\nL2:0=f",
                "make resctrl group /r/c1/mon_groups/c1"
            ]
        );
        assert_eq!(plan.places.own, [Path::new("/r/c1/mon_groups/c1"), Path::new("/r/c1")]);
        assert_eq!(plan.places.groups, [Path::new("/r/c1"), Path::new("/r/c1/mon_groups/c1")]);
    }

    #[test]
    fn a_group_that_others_share() {
        let named = |schemata: &[&str]| IntelRdt {
            clos_id: Some("gold".to_owned()),
            schemata: schemata.iter().map(|line| (*line).to_owned()).collect(),
            ..IntelRdt::default()
        };
        assert_eq!(shown(&planned(&named(&[]), true).unwrap()), ["look at resctrl group /r/gold"]);
        assert!(planned(&named(&[]), false).unwrap_err().to_string().contains("no group /r/gold"));
        let made = planned(&named(&["L3:0=f"]), false).unwrap();
        assert_eq!(shown(&made), ["make resctrl group /r/gold", "write /r/gold/schemata value=L3:0=f"]);
        assert_eq!(made.places.own, Vec::<PathBuf>::new());
        let root = IntelRdt { clos_id: Some("/".to_owned()), ..IntelRdt::default() };
        assert_eq!(planned(&root, true).unwrap().places.groups, [Path::new("/r")]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for name in ["", ".", "..", "a/b", "info", "a\nb", "/a"] {
            let wanted = IntelRdt { clos_id: Some(name.to_owned()), ..IntelRdt::default() };
            let error = planned(&wanted, true).unwrap_err().to_string();
            assert!(error.starts_with("linux.intelRdt.closID"), "{name:?}: {error}");
        }
        let line = IntelRdt { schemata: vec!["nonsense".to_owned()], ..IntelRdt::default() };
        assert!(planned(&line, false).is_err());
        let error = plan(&IntelRdt::default(), None, "c1", |_| false).unwrap_err().to_string();
        assert!(error.contains("mount -t resctrl"), "{error}");
    }

    #[test]
    fn schemata_of_a_shared_group_must_agree() {
        let group = tempfile::tempdir().unwrap();
        fs::write(group.path().join("schemata"), "    L3:0=ff;1=ff\n    MB:0=100\n").unwrap();
        let expect = |line: &str| Action::Expect(group.path().to_owned(), vec![line.to_owned()]).run();
        expect("MB:0=100").unwrap();
        assert!(expect("MB:0=50").unwrap_err().to_string().contains("other schemata"));
        fs::write(group.path().join("tasks"), "").unwrap();
        enter(&[group.path().to_owned()]).unwrap();
        assert_eq!(fs::read_to_string(group.path().join("tasks")).unwrap(), "0");
    }
}
