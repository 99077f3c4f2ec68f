//! `wait`

use clap::Args;

use super::{Context, say, warn};
use crate::client::{encode, json};
use crate::error::{Error, Result};

/// Block until one or more containers stop, then print their exit codes
///
/// A container that does not run answers at once with the code of its last end.
#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// Names or ids.
    #[arg(required = true, value_names = ["CONTAINER", "[CONTAINER...]"], num_args = 1..)]
    containers: Vec<String>,
}

impl Wait {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        let mut code = 0;
        for name in &self.containers {
            match cx
                .client
                .post_json::<api::container::Wait>(&format!("/containers/{}/wait", encode(name)), &())
                .await
            {
                Ok(ended) => say(ended.status_code.to_string())?,
                Err(e @ Error::Connect(_)) => return Err(e),
                Err(e) => {
                    warn(e.to_string());
                    code = 1;
                }
            }
        }
        Ok(code)
    }
}

/// An exit code that is on its way.
pub(super) struct Ending(hyper::Response<hyper::body::Incoming>);

impl Ending {
    /// Begins to wait; from here on the daemon will not miss the end.
    pub(super) async fn of(cx: &Context, container: &str, condition: &str) -> Result<Ending> {
        let path = format!("/containers/{}/wait?condition={condition}", encode(container));
        Ok(Ending(cx.client.open(hyper::Method::POST, &path, json(&())?).await?))
    }

    /// The exit code.
    pub(super) async fn code(self) -> Result<u8> {
        let ended: api::container::Wait = crate::client::decode(self.0).await?;
        if let Some(error) = ended.error.filter(|error| !error.message.is_empty()) {
            return Err(Error::Status {
                message: format!("Error waiting for container: {}", error.message),
                code: 125,
            });
        }
        Ok(ended.status_code as u8)
    }
}
