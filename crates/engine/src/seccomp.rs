//! Docker's default seccomp profile, made concrete for one set of capabilities on this machine.
//!
//! The profile is data (`data/seccomp-default.json`, from moby/profiles, Apache-2.0): rules with conditions on
//! architecture, capabilities and kernel version; a runtime wants them decided.

use std::sync::LazyLock;

use oci::spec;
use serde::Deserialize;

use crate::error::{Error, Result};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    arch_map: Vec<Architecture>,
    syscalls: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Architecture {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct Rule {
    #[serde(flatten)]
    decided: spec::SeccompRule,
    #[serde(default)]
    includes: Conditions,
    #[serde(default)]
    excludes: Conditions,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conditions {
    caps: Vec<String>,
    arches: Vec<String>,
    min_kernel: Option<String>,
}

static PROFILE: LazyLock<std::result::Result<Profile, String>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../data/seccomp-default.json")).map_err(|error| error.to_string())
});

#[cfg(target_arch = "x86_64")]
const HERE: (&str, &str) = ("SCMP_ARCH_X86_64", "amd64");
#[cfg(target_arch = "aarch64")]
const HERE: (&str, &str) = ("SCMP_ARCH_AARCH64", "arm64");

/// The filter for a process with `capabilities` (`CAP_…`) on this kernel.
pub(crate) fn default_filter(capabilities: &[String]) -> Result<spec::Seccomp> {
    // Never without a filter: a profile that cannot be read starts nothing.
    let unreadable = |error: &String| Error::internal(format!("the default seccomp profile: {error}"));
    let profile = PROFILE.as_ref().map_err(unreadable)?;
    let kernel = kernel_version(rustix::system::uname().release().to_bytes());
    let mut architectures = vec![HERE.0.to_owned()];
    if let Some(here) = profile.arch_map.iter().find(|map| map.architecture == HERE.0) {
        architectures.extend(here.sub_architectures.iter().flatten().cloned());
    }
    let applies = |rule: &&Rule| {
        let Rule { includes, excludes, .. } = rule;
        let has = |names: &[String]| names.iter().any(|name| capabilities.contains(name));
        let here = |arches: &[String]| arches.iter().any(|arch| arch == HERE.1);
        (includes.caps.is_empty() || has(&includes.caps))
            && (includes.arches.is_empty() || here(&includes.arches))
            && includes.min_kernel.as_ref().is_none_or(|least| kernel >= kernel_version(least.as_bytes()))
            && !has(&excludes.caps)
            && !here(&excludes.arches)
    };
    Ok(spec::Seccomp {
        default_action: profile.default_action.clone(),
        default_errno_ret: profile.default_errno_ret,
        architectures,
        syscalls: profile.syscalls.iter().filter(applies).map(|rule| rule.decided.clone()).collect(),
        ..spec::Seccomp::default()
    })
}

/// Major and minor of `6.18.44-cloud`.
fn kernel_version(release: &[u8]) -> (u32, u32) {
    let text = String::from_utf8_lossy(release);
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_open_and_close_rules() {
        let names = |caps: &[String]| {
            let filter = default_filter(caps).unwrap();
            filter
                .syscalls
                .into_iter()
                .flat_map(|rule| rule.names.into_iter().map(move |name| (name, rule.action.clone())))
                .collect::<Vec<_>>()
        };
        let plain = names(&[]);
        let admin = names(&["CAP_SYS_ADMIN".to_owned()]);
        let allow = |name: &str| (name.to_owned(), "SCMP_ACT_ALLOW".to_owned());
        assert!(!plain.contains(&allow("mount")) && admin.contains(&allow("mount")));
        assert!(plain.contains(&("clone3".to_owned(), "SCMP_ACT_ERRNO".to_owned())));
        assert!(!admin.contains(&("clone3".to_owned(), "SCMP_ACT_ERRNO".to_owned())));
        assert!(plain.contains(&allow("ptrace")), "this kernel is newer than 4.8");
        assert_eq!(kernel_version(b"6.18.44-cloud"), (6, 18));
    }
}
