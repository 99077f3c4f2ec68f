//! `network …`

pub(super) mod connect;
pub(super) mod create;
pub(super) mod ls;
pub(super) mod rm;
