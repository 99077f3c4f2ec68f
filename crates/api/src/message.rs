//! Messages: errors, ids, events, progress of long requests.

use serde::{Deserialize, Serialize};

use crate::{create::Pairs, omit};

/// Every error body.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failure {
    /// For people.
    pub message: String,
}

wire! {
    /// The answer of exec create.
    Created { id: String }

    /// What an event is about.
    Actor { #[serde(rename = "ID")] id: String, attributes: Pairs }
}

/// One event; `status`, `id` and `from` repeat `Actor` for containers and images.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)] // Named and described in the API description.
pub struct Event {
    #[serde(skip_serializing_if = "omit")]
    pub status: String,
    #[serde(skip_serializing_if = "omit")]
    pub id: String,
    #[serde(skip_serializing_if = "omit")]
    pub from: String,
    #[serde(rename = "Type")]
    pub kind: String,
    #[serde(rename = "Action")]
    pub action: String,
    #[serde(rename = "Actor")]
    pub actor: Actor,
    pub scope: String,
    pub time: i64,
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
}

/// One line of what load, import and pull answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)] // Named and described in the API description.
pub struct Progress {
    #[serde(skip_serializing_if = "omit")]
    pub stream: String,
    #[serde(skip_serializing_if = "omit")]
    pub status: String,
    #[serde(rename = "progressDetail", skip_serializing_if = "omit")]
    pub progress_detail: Option<ProgressDetail>,
    #[serde(skip_serializing_if = "omit")]
    pub progress: String,
    #[serde(skip_serializing_if = "omit")]
    pub id: String,
    #[serde(rename = "errorDetail", skip_serializing_if = "omit")]
    pub error_detail: Option<ErrorDetail>,
    #[serde(skip_serializing_if = "omit")]
    pub error: String,
    #[serde(skip_serializing_if = "omit")]
    pub aux: Option<serde_json::Value>,
}

/// How far it is, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)] // Named and described in the API description.
pub struct ProgressDetail {
    #[serde(skip_serializing_if = "omit")]
    pub current: i64,
    #[serde(skip_serializing_if = "omit")]
    pub total: i64,
}

/// A failure in the middle of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorDetail {
    /// Exit code of a build step.
    #[serde(skip_serializing_if = "omit")]
    pub code: i64,
    /// For people.
    pub message: String,
}

impl Progress {
    /// Text for people.
    pub fn stream(text: impl Into<String>) -> Self {
        Self { stream: text.into(), ..Self::default() }
    }

    /// A state.
    pub fn status(text: impl Into<String>) -> Self {
        Self { status: text.into(), ..Self::default() }
    }

    /// The end of a stream that failed after its headers were sent.
    pub fn failure(message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            error_detail: Some(ErrorDetail { code: 0, message: message.clone() }),
            error: message,
            ..Self::default()
        }
    }
}
