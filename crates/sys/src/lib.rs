//! The kernel's door: the only `unsafe` of the engine, kernel-version fallbacks, descriptors over sockets, and
//! the path door: nothing inside a container's root is opened but through [`rooted`].

pub mod bpf;
pub mod btrfs;
pub mod descriptors;
pub mod errno;
pub mod fdpass;
pub mod fsmount;
pub mod links;
pub mod memory;
pub mod mounts;
pub mod netlink;
pub mod process;
pub mod queue;
pub mod quota;
pub mod rooted;
pub mod scheduling;
pub mod service;
pub mod signals;

pub use rooted::Root;
