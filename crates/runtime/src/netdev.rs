//! `linux.netDevices`: the host's interfaces move into the container's network namespace, and come back if the
//! container is not made after all. When it ends, the kernel gives hardware back and removes what is virtual.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, OwnedFd},
};

use oci::spec::NetDevice;
use rustix::{
    fs::{Mode, OFlags, open},
    io::Errno,
};
use sys::links::{Address, LONGEST_NAME, Link, Routes};

use crate::{
    error::{During, Error, Result},
    plan::namespace_bit,
};

/// What has been moved, to be moved back.
#[derive(Debug, Default)]
pub struct Moved {
    container: Option<OwnedFd>,
    links: Vec<Device>,
}

#[derive(Debug)]
struct Device {
    /// On the host, and in the container.
    names: (String, String),
    up: bool,
    addresses: Vec<Address>,
}

/// Checks the names.
pub fn check(devices: &BTreeMap<String, NetDevice>) -> Result<()> {
    let mut inside = Vec::new();
    for (name, device) in devices {
        let new = name_inside(name, device);
        for name in [name, new] {
            check_name(name).map_err(|error| error.during("linux.netDevices"))?;
        }
        if inside.contains(&new) {
            return Err(Error::new(format!("linux.netDevices: two are to be called {new:?}")));
        }
        inside.push(new);
    }
    Ok(())
}

fn name_inside<'d>(name: &'d String, device: &'d NetDevice) -> &'d String {
    device.name.as_ref().filter(|name| !name.is_empty()).unwrap_or(name)
}

/// As the kernel's `dev_valid_name`, and no pattern: `eth%d` would be any name.
fn check_name(name: &str) -> Result<()> {
    let bad = |letter: char| letter.is_whitespace() || letter.is_control() || "/:%".contains(letter);
    if name.is_empty() || name.len() > LONGEST_NAME || name == "." || name == ".." || name.contains(bad) {
        return Err(Error::new(format!(
            "{name:?} is no name of an interface (1 to {LONGEST_NAME} bytes without blanks, `/`, `:`, `%`)"
        )));
    }
    Ok(())
}

impl Moved {
    /// Moves all of `devices` into the network namespace of the process `pid`.
    pub fn take(&mut self, devices: &BTreeMap<String, NetDevice>, pid: i32) -> Result<()> {
        let container = network_of(&pid.to_string())?;
        let here = Routes::open().during(|| "open rtnetlink")?;
        let there = routes_in(&container)?;
        let container = self.container.insert(container);
        for (name, device) in devices {
            let new = name_inside(name, device);
            let what = || format!("move interface {name} into the container as {new}");
            let link = here.link(name).map_err(|error| {
                Error::refused(what(), &error).hint_on(Errno::NODEV, "there is no such interface")
            })?;
            let addresses = here.addresses(link.index).during(what)?;
            here.move_link(link.index, container.as_fd(), new).map_err(|error| {
                Error::refused(what(), &error)
                    .hint_on(Errno::EXIST, "the container has one of that name")
                    .hint_on(Errno::INVAL, "this kind of interface cannot leave its network namespace")
            })?;
            self.links.push(Device { names: (name.clone(), new.clone()), up: link.up, addresses });
            if let Some(device) = self.links.last() {
                dress(&there, new, device, true).map_err(|error| error.during(what()))?;
            }
        }
        Ok(())
    }

    /// Moves everything back, as it was.
    pub fn give_back(&mut self) {
        let Some(container) = self.container.take() else {
            return;
        };
        let (Ok(there), Ok(here), Ok(host)) = (routes_in(&container), Routes::open(), network_of("self"))
        else {
            return;
        };
        for device in self.links.drain(..).rev() {
            let (name, inside) = &device.names;
            let moved = there.link(inside).and_then(|link| there.move_link(link.index, host.as_fd(), name));
            if moved.is_ok() {
                let _ = dress(&here, name, &device, device.up);
            }
        }
    }
}

/// Gives a link its addresses again, and brings it up.
fn dress(routes: &Routes, name: &str, device: &Device, up: bool) -> Result<()> {
    let Link { index, .. } = routes.link(name).during(|| "find it")?;
    for address in &device.addresses {
        routes.add_address(index, address).during(|| "keep an address")?;
    }
    if up { routes.bring_up(index).during(|| "bring it up") } else { Ok(()) }
}

fn network_of(process: &str) -> Result<OwnedFd> {
    let path = format!("/proc/{process}/ns/net");
    open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).during(|| format!("open {path}"))
}

/// A socket stays in the namespace in which it was made.
fn routes_in(namespace: &OwnedFd) -> Result<Routes> {
    let own = network_of("self")?;
    let net = namespace_bit("net");
    sys::process::setns(namespace.as_fd(), net).during(|| "enter the container's network namespace")?;
    let routes = Routes::open();
    sys::process::setns(own.as_fd(), net).during(|| "return to the host's network namespace")?;
    routes.during(|| "open rtnetlink")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_different() {
        let named = |name: &str| NetDevice { name: Some(name.to_owned()) };
        let devices =
            |list: &[(&str, &str)]| list.iter().map(|(name, new)| ((*name).to_owned(), named(new))).collect();
        check(&devices(&[("eth0", "net0"), ("eth1", "")])).unwrap();
        let long = "x".repeat(16);
        for bad in ["eth%d", "a/b", "a b", "..", long.as_str()] {
            assert!(check(&devices(&[("eth0", bad)])).is_err(), "{bad}");
        }
        assert!(check(&devices(&[("eth0", "eth1"), ("eth1", "")])).is_err());
    }
}
