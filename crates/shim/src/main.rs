//! `knarr-shim DIR`
fn main() {}
