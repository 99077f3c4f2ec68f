//! Exec sessions.

use crate::{create::Words, omit};

wire! {
    /// `POST /containers/{id}/exec`
    ExecCreate {
        #[serde(skip_serializing_if = "omit")] user: String,
        #[serde(skip_serializing_if = "omit")] privileged: bool,
        #[serde(skip_serializing_if = "omit")] tty: bool,
        #[serde(skip_serializing_if = "omit")] console_size: Option<[u16; 2]>,
        attach_stdin: bool,
        attach_stdout: bool,
        attach_stderr: bool,
        #[serde(skip_serializing_if = "omit")] detach_keys: String,
        #[serde(skip_serializing_if = "omit")] env: Option<Vec<String>>,
        #[serde(skip_serializing_if = "omit")] working_dir: String,
        cmd: Option<Words>,
    }

    /// `POST /exec/{id}/start`
    ExecStart {
        detach: bool,
        tty: bool,
        #[serde(skip_serializing_if = "omit")] console_size: Option<[u16; 2]>,
    }

    /// `GET /exec/{id}/json`
    ExecInspect {
        #[serde(rename = "ID")] id: String,
        running: bool,
        exit_code: Option<i32>,
        process_config: ProcessConfig,
        open_stdin: bool,
        open_stderr: bool,
        open_stdout: bool,
        can_remove: bool,
        #[serde(rename = "ContainerID")] container_id: String,
        detach_keys: String,
        pid: i64,
    }

    /// What runs.
    ProcessConfig {
        #[serde(rename = "tty")] tty: bool,
        #[serde(rename = "entrypoint")] entrypoint: String,
        #[serde(rename = "arguments")] arguments: Vec<String>,
        #[serde(rename = "privileged")] privileged: bool,
        #[serde(rename = "user", skip_serializing_if = "omit")] user: String,
    }
}
