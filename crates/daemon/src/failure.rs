//! A failure of a request: the one place where kinds of failure become HTTP statuses.

use engine::Kind;
use hyper::StatusCode;

/// What an error body says.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status, message }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn unsupported(what: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, format!("knarr does not support {what} yet"))
    }

    pub(crate) fn internal(what: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, what.to_string())
    }
}

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Self {
        let status = match error.kind {
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::Conflict => StatusCode::CONFLICT,
            Kind::NotModified => StatusCode::NOT_MODIFIED,
            Kind::Invalid => StatusCode::BAD_REQUEST,
            Kind::Unauthorized => StatusCode::UNAUTHORIZED,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Unsupported => StatusCode::NOT_IMPLEMENTED,
            Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.message)
    }
}

impl From<api::go::Error> for Failure {
    fn from(error: api::go::Error) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<api::query::Invalid> for Failure {
    fn from(error: api::query::Invalid) -> Self {
        Self::invalid(error.0)
    }
}

impl From<api::version::NotServed> for Failure {
    fn from(error: api::version::NotServed) -> Self {
        Self::invalid(error.to_string())
    }
}
