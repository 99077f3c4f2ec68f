//! `knarr-runtime`
fn main() {}
