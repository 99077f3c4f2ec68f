//! Who the program will be, and what it may do.

use rustix::{
    fs::{Gid, Uid, fchown, fstat, major, minor},
    io::Errno,
    process::{Rlimit, getrlimit, setrlimit, umask},
    thread::{
        CapabilitySet, CapabilitySets, capabilities as current, clear_ambient_capability_set,
        configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
        set_keep_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
    },
};

use super::{Limit, Step};
use crate::{
    caps::{self, Sets},
    error::{During, Error, Result},
};

/// Raises the hard limits that `steps` will need, while this process has the power for it: the kernel asks for
/// `CAP_SYS_RESOURCE` on the host, which nobody in a user namespace has. Children inherit them.
pub(crate) fn raise_limits(steps: &[Step]) -> Result<()> {
    let limits = steps.iter().filter_map(|step| match step {
        Step::Limit(limit) => Some(limit),
        _ => None,
    });
    for limit in limits {
        let Rlimit { current, maximum } = getrlimit(limit.resource);
        if maximum.is_some_and(|maximum| limit.hard > maximum) {
            raise(limit, current, maximum)?;
        }
    }
    Ok(())
}

fn raise(limit: &Limit, current: Option<u64>, maximum: Option<u64>) -> Result<()> {
    let wanted = Rlimit { current, maximum: (limit.hard != u64::MAX).then_some(limit.hard) };
    setrlimit(limit.resource, wanted).map_err(|error| {
        let now = maximum.map_or_else(|| "unlimited".to_owned(), |value| value.to_string());
        let hint = format!("raising the hard limit from {now} to {} needs CAP_SYS_RESOURCE", limit.hard);
        Error::refused(format!("set {}", limit.name), &error.into()).hint_on(Errno::PERM, hint)
    })
}

/// Sets a resource limit.
pub(super) fn limit(limit: &Limit) -> Result<()> {
    let bound = |value: u64| (value != u64::MAX).then_some(value);
    let wanted = Rlimit { current: bound(limit.soft), maximum: bound(limit.hard) };
    setrlimit(limit.resource, wanted).during(|| format!("set {}", limit.name))
}

/// Lets the program's user open its own standard streams again, as `/dev/stdout` for example.
pub(super) fn own_stdio(uid: u32) -> Result<()> {
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    for stream in streams {
        let Ok(stat) = fstat(stream) else {
            continue; // Closed by who called us.
        };
        let is_null = (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3);
        if stat.st_uid == uid || is_null {
            continue;
        }
        match fchown(stream, Some(Uid::from_raw(uid)), None) {
            // A read-only file system, an id that is not mapped, or a file of somebody else: then it stays theirs.
            Ok(()) | Err(Errno::ROFS | Errno::INVAL | Errno::PERM | Errno::ACCESS) => {}
            Err(error) => return Err(Error::refused("give standard streams to the user", &error.into())),
        }
    }
    Ok(())
}

fn each(bits: u64) -> impl Iterator<Item = CapabilitySet> {
    (0..64).map(|number| 1 << number).filter(move |bit| bits & bit != 0).map(caps::set)
}

/// Takes everything but `keep` out of the bounding set.
pub(super) fn bounding_set(keep: u64) -> Result<()> {
    for capability in each(!keep) {
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            Err(Errno::INVAL) => break, // Past the last one that this kernel knows.
            Err(error) => {
                let name = caps::names(capability.bits());
                return Err(Error::refused(format!("drop {name} from the bounding set"), &error.into()));
            }
        }
    }
    Ok(())
}

/// Changes user and groups, keeping permitted capabilities until [`capabilities`] sets them.
pub(super) fn become_user(uid: u32, gid: u32, groups: &[u32], mask: u32) -> Result<()> {
    set_keep_capabilities(true).during(|| "keep capabilities")?;
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    // Always, also when there are none: the caller's groups must not leak in (CVE-2022-36109).
    match set_thread_groups(&groups) {
        Err(Errno::PERM) if groups.is_empty() => {} // A user namespace that denies setgroups has none to leak.
        other => other.map_err(|error| {
            let denied = "setgroups(2) is denied in a user namespace with a group map of one's own id alone";
            Error::refused("set additional groups", &error.into()).hint_on(Errno::PERM, denied)
        })?,
    }
    let unmapped = "the id is not mapped in the user namespace";
    let refused =
        |what: String, error: Errno| Error::refused(what, &error.into()).hint_on(Errno::INVAL, unmapped);
    let gid = Gid::from_raw(gid);
    set_thread_res_gid(gid, gid, gid).map_err(|error| refused(format!("become gid {gid:?}"), error))?;
    let uid = Uid::from_raw(uid);
    set_thread_res_uid(uid, uid, uid).map_err(|error| refused(format!("become uid {uid:?}"), error))?;
    umask(rustix::fs::Mode::from_raw_mode(mask));
    Ok(())
}

/// Sets all sets but the bounding one; with `keep_admin`, what loading a filter takes stays for now.
pub(super) fn capabilities(sets: Sets, keep_admin: bool) -> Result<()> {
    let held = current(None).during(|| "read capabilities")?.permitted.bits();
    let admin = if keep_admin { CapabilitySet::SYS_ADMIN.bits() & held } else { 0 };
    // What we do not hold we cannot give; a container then has less, as under runc.
    let permitted = (sets.permitted & held) | admin;
    let wanted = CapabilitySets {
        effective: caps::set((sets.effective | admin) & permitted),
        permitted: caps::set(permitted),
        inheritable: caps::set(sets.inheritable & held),
    };
    set_capabilities(None, wanted).during(|| "set capabilities")?;
    clear_ambient_capability_set().during(|| "clear ambient capabilities")?;
    if keep_admin {
        return Ok(());
    }
    for capability in each(sets.ambient & permitted & sets.inheritable) {
        let name = || format!("set ambient capability {}", caps::names(capability.bits()));
        configure_capability_in_ambient_set(capability, true).during(name)?;
    }
    Ok(())
}
