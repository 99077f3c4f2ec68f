//! `knarr`: what a person types; `knarr daemon` is the service; called as `docker` it behaves the same.
fn main() {}
