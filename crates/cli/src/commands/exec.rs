//! `exec`

use api::create::Words;
use api::exec::{ExecCreate, ExecInspect, ExecStart};
use clap::Args;

use super::Context;
use crate::client::{encode, json};
use crate::container::environment;
use crate::container::flags::variable;
use crate::error::{Result, message};
use crate::session::{Ended, Session, Wiring};
use crate::{signals, terminal};

/// Execute a command in a running container
///
/// The command joins the container's namespaces and limits; its exit code becomes this program's.
#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// Detached mode: run command in the background
    #[arg(short, long)]
    detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Set environment variables
    #[arg(short, long, value_name = "list", value_parser = variable)]
    env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "list")]
    env_file: Vec<std::path::PathBuf>,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    interactive: bool,
    /// Give extended privileges to the command
    #[arg(long)]
    privileged: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    tty: bool,
    /// Username or UID (format: "<name|uid>[:<group|gid>]")
    #[arg(short, long, value_name = "string", default_value = "", hide_default_value = true)]
    user: String,
    /// Working directory inside the container
    #[arg(short, long, value_name = "string", default_value = "", hide_default_value = true)]
    workdir: String,
    /// The container, and the command to run in it.
    #[arg(required = true, num_args = 2.., trailing_var_arg = true, value_names = ["CONTAINER", "COMMAND", "[ARG...]"])]
    container_and_command: Vec<String>,
}

impl Exec {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        let (container, _) =
            self.container_and_command.split_first().ok_or_else(|| message("a container is required"))?;
        let wiring = Wiring {
            input: self.interactive && !self.detach,
            output: !self.detach,
            error: !self.detach,
            tty: self.tty,
            detach: Wiring::detach_keys(self.detach_keys.as_deref()).map_err(message)?,
        };
        let wanted = self.request(&wiring)?;
        // Asked first, so that an unknown container is named before a missing terminal.
        let _: api::go::Value = cx.client.get(&format!("/containers/{}/json", encode(container))).await?;
        if wiring.input && wiring.tty && !terminal::input_is_terminal() {
            return Err(message("the input device is not a TTY"));
        }
        let created: api::message::Created =
            cx.client.post_json(&format!("/containers/{}/exec", encode(container)), &wanted).await?;
        let start = format!("/exec/{}/start", created.id);
        let how = ExecStart { detach: self.detach, tty: self.tty, console_size: wanted.console_size };
        if self.detach {
            cx.client.post_value(&start, &how).await?;
            return Ok(0);
        }
        let connection = cx.client.hijack(&start, json(&how)?).await?;
        let mut session = Session::start(connection, &wiring)?;
        if wiring.tty && terminal::output_is_terminal() {
            signals::follow_size(&cx.client, format!("/exec/{}/resize", created.id));
        }
        if let Ended::Detached = session.ended().await? {
            return Ok(0);
        }
        let ended: ExecInspect = cx.client.get(&format!("/exec/{}/json", created.id)).await?;
        Ok(ended.exit_code.unwrap_or_default() as u8)
    }

    fn request(&self, wiring: &Wiring) -> Result<ExecCreate> {
        let env = environment(&self.env_file, &self.env)?;
        let console = terminal::size().filter(|_| self.tty).map(|(rows, columns)| [rows, columns]);
        Ok(ExecCreate {
            user: self.user.clone(),
            privileged: self.privileged,
            tty: self.tty,
            console_size: console,
            attach_stdin: wiring.input,
            attach_stdout: wiring.output,
            attach_stderr: wiring.error,
            detach_keys: self.detach_keys.clone().unwrap_or_default(),
            env: (!env.is_empty()).then_some(env),
            working_dir: self.workdir.clone(),
            cmd: Some(Words(self.container_and_command[1..].to_vec())),
        })
    }
}
