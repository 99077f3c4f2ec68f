//! Versions of the API, their negotiation, and everything in which they differ.
//!
//! Types speak [`Version::MAX`]; [`adapt`] turns an answer into what an older client expects, at the very edge.

use std::{fmt, str::FromStr};

use serde_json::{Map, Value, json};

use crate::Op;

/// `MAJOR.MINOR`
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u16, pub u16);

impl Version {
    /// The oldest that is served: Docker 1.12's, which is the floor of every Docker since 25, so that no client
    /// that works with any Docker is turned away.
    pub const MIN: Self = Self(1, 24);
    /// The newest that is served: Docker 28.3's. 1.52 took members away that tools read (`NetworkSettings`'
    /// addresses, `status` and `id` of events); newer clients negotiate down to this one.
    pub const MAX: Self = Self(1, 51);
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl FromStr for Version {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (major, minor) = text.split_once('.').ok_or(())?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(major) || !digits(minor) {
            return Err(());
        }
        Ok(Self(major.parse().map_err(|_| ())?, minor.parse().map_err(|_| ())?))
    }
}

/// A version that is not served; the text is Docker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotServed(pub Version);

impl fmt::Display for NotServed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 > Version::MAX {
            let max = Version::MAX;
            write!(f, "client version {} is too new. Maximum supported API version is {max}", self.0)
        } else {
            let min = Version::MIN;
            write!(
                f,
                "client version {} is too old. Minimum supported API version is {min}, please upgrade your \
                 client to a newer version",
                self.0
            )
        }
    }
}

impl std::error::Error for NotServed {}

/// Takes the optional `/vX.Y` off a path; without one it is the newest version.
pub fn split(path: &str) -> Result<(Version, &str), NotServed> {
    let prefixed = path.strip_prefix("/v").and_then(|rest| {
        let end = rest.find('/').unwrap_or(rest.len());
        Some((rest[..end].parse::<Version>().ok()?, &rest[end..]))
    });
    match prefixed {
        None => Ok((Version::MAX, path)),
        Some((version, rest)) if (Version::MIN..=Version::MAX).contains(&version) => Ok((version, rest)),
        Some((version, _)) => Err(NotServed(version)),
    }
}

/// The content type of a stream that is (`tty`) or is not one raw stream.
pub fn stream_type(version: Version, tty: bool) -> &'static str {
    if tty || version < Version(1, 42) { crate::RAW_STREAM } else { crate::MULTIPLEXED_STREAM }
}

/// Turns an answer of [`Version::MAX`] into one of `version`.
pub fn adapt(op: Op, version: Version, answer: &mut Value) {
    let each = |answer: &mut Value, change: &dyn Fn(&mut Map<String, Value>)| match answer {
        Value::Array(items) => items.iter_mut().filter_map(Value::as_object_mut).for_each(change),
        Value::Object(object) => change(object),
        _ => {}
    };
    match op {
        Op::ContainerInspect => each(answer, &|container| inspect(version, container)),
        Op::ContainerList => each(answer, &|container| summary(version, container)),
        Op::ContainerWait => each(answer, &|wait| waited(version, wait)),
        Op::ImageList => each(answer, &|image| virtual_size(version, image)),
        Op::ImageInspect => each(answer, &|image| image_inspect(version, image)),
        Op::SystemInfo => each(answer, &|facts| info(version, facts)),
        Op::NetworkList | Op::NetworkInspect => each(answer, &|network| {
            // 1.48 tells whether a network has IPv4.
            if version < Version(1, 48) {
                network.remove("EnableIPv4");
            }
        }),
        _ => {}
    }
}

fn member<'a>(object: &'a mut Map<String, Value>, name: &str) -> Option<&'a mut Map<String, Value>> {
    object.get_mut(name).and_then(Value::as_object_mut)
}

fn inspect(version: Version, container: &mut Map<String, Value>) {
    if let Some(host) = member(container, "HostConfig") {
        // Limits of kernel memory went with 1.42.
        if version < Version(1, 42) {
            host.insert("KernelMemory".into(), json!(0));
            host.insert("KernelMemoryTCP".into(), json!(0));
        }
        // 1.43 brought annotations.
        if version < Version(1, 43) {
            host.remove("Annotations");
        }
    }
    if let Some(settings) = member(container, "NetworkSettings") {
        endpoints(version, settings);
    }
}

fn endpoints(version: Version, settings: &mut Map<String, Value>) {
    let networks = member(settings, "Networks").into_iter().flat_map(|all| all.values_mut());
    for endpoint in networks.filter_map(Value::as_object_mut) {
        // 1.44 brought the names that a network's DNS knows; 1.48 the order of gateways.
        if version < Version(1, 44) {
            endpoint.remove("DNSNames");
        }
        if version < Version(1, 48) {
            endpoint.remove("GwPriority");
        }
    }
}

fn summary(version: Version, container: &mut Map<String, Value>) {
    if let Some(settings) = member(container, "NetworkSettings") {
        endpoints(version, settings);
    }
    // 1.46 shows annotations.
    if let Some(host) = member(container, "HostConfig")
        && version < Version(1, 46)
    {
        host.remove("Annotations");
    }
}

/// `Error` is null in 1.41 and missing since.
fn waited(version: Version, wait: &mut Map<String, Value>) {
    if version >= Version(1, 42) && wait.get("Error").is_some_and(Value::is_null) {
        wait.remove("Error");
    }
}

/// The twin of `Size` went with 1.44.
fn virtual_size(version: Version, image: &mut Map<String, Value>) {
    if version < Version(1, 44)
        && let Some(size) = image.get("Size").cloned()
    {
        image.insert("VirtualSize".into(), size);
    }
}

fn image_inspect(version: Version, image: &mut Map<String, Value>) {
    virtual_size(version, image);
    // The container of the builder of old went with 1.45.
    if version < Version(1, 45) {
        image.insert("Container".into(), json!(""));
        let empty = serde_json::to_value(crate::create::Config::default()).unwrap_or_default();
        image.insert("ContainerConfig".into(), empty);
    }
    // Since 1.50 an image's config has only what an image can have.
    if let Some(config) = member(image, "Config")
        && version >= Version(1, 50)
    {
        for name in CONTAINER_ONLY {
            config.remove(*name);
        }
    }
}

const CONTAINER_ONLY: &[&str] = &[
    "Hostname",
    "Domainname",
    "AttachStdin",
    "AttachStdout",
    "AttachStderr",
    "Tty",
    "OpenStdin",
    "StdinOnce",
    "Image",
    "NetworkDisabled",
    "MacAddress",
    "StopTimeout",
];

fn info(version: Version, facts: &mut Map<String, Value>) {
    if version < Version(1, 42) {
        facts.insert("KernelMemory".into(), json!(false));
        facts.insert("KernelMemoryTCP".into(), json!(false));
        facts.remove("CDISpecDirs");
    }
    if version < Version(1, 49)
        && let Some(registries) = member(facts, "RegistryConfig")
    {
        registries.insert("AllowNondistributableArtifactsCIDRs".into(), json!([]));
        registries.insert("AllowNondistributableArtifactsHostnames".into(), json!([]));
    }
    // Netfilter on bridges: told until 1.49.
    if version < Version(1, 50) {
        facts.insert("BridgeNfIptables".into(), json!(false));
        facts.insert("BridgeNfIp6tables".into(), json!(false));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_optional_and_bounded() {
        assert_eq!(split("/info"), Ok((Version::MAX, "/info")));
        assert_eq!(split("/v1.41/info"), Ok((Version(1, 41), "/info")));
        assert_eq!(split("/v1.24/_ping"), Ok((Version::MIN, "/_ping")));
        assert_eq!(split("/volumes"), Ok((Version::MAX, "/volumes")));
        assert_eq!(split("/v1/info"), Ok((Version::MAX, "/v1/info")));
        assert_eq!(
            split("/v1.99/info").unwrap_err().to_string(),
            "client version 1.99 is too new. Maximum supported API version is 1.51"
        );
        assert_eq!(
            split("/v1.0/info").unwrap_err().to_string(),
            "client version 1.0 is too old. Minimum supported API version is 1.24, please upgrade your client to \
             a newer version"
        );
    }

    #[test]
    fn older_clients_get_older_shapes() {
        let mut wait = json!({"Error": null, "StatusCode": 0});
        adapt(Op::ContainerWait, Version(1, 41), &mut wait);
        assert_eq!(wait, json!({"Error": null, "StatusCode": 0}));
        adapt(Op::ContainerWait, Version(1, 42), &mut wait);
        assert_eq!(wait, json!({"StatusCode": 0}));

        let mut images = json!([{"Size": 3}]);
        adapt(Op::ImageList, Version(1, 44), &mut images);
        assert_eq!(images, json!([{"Size": 3}]));
        adapt(Op::ImageList, Version(1, 43), &mut images);
        assert_eq!(images, json!([{"Size": 3, "VirtualSize": 3}]));
    }
}
