//! OCI's words: digests, references, platforms, image documents, the runtime's `config.json`, and [`Mount`].
//!
//! Pure data: nothing here opens a file. Anything with a digest is kept as the raw bytes it came in; these types
//! are what was read from those bytes, never what is written back.

pub mod digest;
pub mod idmap;
pub mod image;
pub mod mount;
pub mod platform;
pub mod reference;
pub mod spec;
mod strict;

pub use digest::Digest;
pub use idmap::{IdMap, IdMapping};
pub use mount::Mount;
pub use platform::Platform;
pub use reference::Reference;
