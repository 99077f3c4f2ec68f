//! `login`, `logout`

use std::io::{BufRead, Read};

use api::system::LoggedIn;
use clap::Args;
use rustix::termios::{self, LocalModes, OptionalActions};

use super::{Context, say, warn};
use crate::credentials::{self, Auth, Credentials, HUB, Kept};
use crate::error::{Error, Result, message};
use crate::terminal;

/// Authenticate to a registry
///
/// Defaults to Docker Hub if no server is specified. What is known is kept in Docker's own `config.json`, or by the
/// credential helper that it names.
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// Username
    #[arg(short, long, value_name = "string")]
    username: Option<String>,
    /// Password or Personal Access Token (PAT)
    #[arg(short, long, value_name = "string")]
    password: Option<String>,
    /// Take the Password or Personal Access Token (PAT) from stdin
    #[arg(long)]
    password_stdin: bool,
    /// The registry.
    #[arg(value_name = "[SERVER]")]
    server: Option<String>,
}

impl Login {
    pub(super) async fn run(self, cx: &Context) -> Result<u8> {
        let given = self.given()?;
        let server = self.server.as_deref().map_or_else(|| HUB.to_owned(), credentials::server);
        let mut known = Credentials::open()?;
        let (username, password) = if let Some(both) = given {
            both
        } else {
            let before = known.get(&server)?;
            if let Some(answer) = self.again(cx, &before).await? {
                return finish(&mut known, &server, before, &answer);
            }
            ask(self.username, &before.username)?
        };
        let auth = Auth { username, password, serveraddress: server.clone(), ..Auth::default() };
        let answer: LoggedIn = cx.client.post_json("/auth", &auth).await?;
        finish(&mut known, &server, auth, &answer)
    }

    /// What is known already, if it is still good and no other name was given.
    async fn again(&self, cx: &Context, before: &Auth) -> Result<Option<LoggedIn>> {
        if self.username.is_some() || (before.username.is_empty() && before.identitytoken.is_empty()) {
            return Ok(None);
        }
        let by = match before.username.as_str() {
            "" => String::new(),
            name => format!(" [Username: {name}]"),
        };
        warn(format!("Authenticating with existing credentials...{by}\n"));
        let program = cx.program;
        warn(format!(
            " Info -> To login with a different account, run '{program} logout' followed by '{program} login'\n\n"
        ));
        match cx.client.post_json("/auth", before).await {
            Ok(answer) => Ok(Some(answer)),
            Err(Error::Daemon { message, .. }) => {
                warn(format!("Login did not succeed, error: {message}"));
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    /// Name and password, if both are on the command line or on standard input.
    fn given(&self) -> Result<Option<(String, String)>> {
        if self.password.is_some() && self.password_stdin {
            return Err(message("conflicting options: cannot specify both --password and --password-stdin"));
        }
        if self.password_stdin {
            let Some(username) = self.username.clone() else {
                return Err(message("the --password-stdin option requires --username to be set"));
            };
            let mut password = String::new();
            std::io::stdin().take(64 << 10).read_to_string(&mut password)?;
            let password = password.strip_suffix('\n').unwrap_or(&password);
            return Ok(Some((username, password.strip_suffix('\r').unwrap_or(password).to_owned())));
        }
        if self.password.is_some() {
            warn("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
        }
        match (&self.username, &self.password) {
            (Some(username), Some(password)) => Ok(Some((username.clone(), password.clone()))),
            _ => Ok(None),
        }
    }
}

fn finish(known: &mut Credentials, server: &str, mut auth: Auth, answer: &LoggedIn) -> Result<u8> {
    if !answer.identity_token.is_empty() {
        auth.identitytoken.clone_from(&answer.identity_token);
        auth.password.clear();
    }
    let is_new = known.get(server).is_ok_and(|before| before != auth);
    if is_new && known.put(server, &auth)? == Kept::InFile {
        let path = known.path().display();
        warn(format!(
            "\nWARNING! Your credentials are stored unencrypted in '{path}'.\n\
             Configure a credential helper to remove this warning. See\n\
             https://docs.docker.com/go/credential-store/\n"
        ));
    }
    say(&answer.status)?;
    Ok(0)
}

/// Asks at the terminal; the password is not shown.
fn ask(username: Option<String>, before: &str) -> Result<(String, String)> {
    if !terminal::input_is_terminal() {
        return Err(message("Error: Cannot perform an interactive login from a non TTY device"));
    }
    let username = match username {
        Some(username) => username,
        None if before.is_empty() => line("Username: ")?,
        None => Some(line(&format!("Username ({before}): "))?)
            .filter(|typed| !typed.is_empty())
            .unwrap_or(before.to_owned()),
    };
    if username.is_empty() {
        return Err(message("Error: Non-null Username Required"));
    }
    let password = hidden("Password: ")?;
    if password.is_empty() {
        return Err(message("Error: Password Required"));
    }
    Ok((username, password))
}

fn line(prompt: &str) -> Result<String> {
    use std::io::Write;
    terminal::Plain::Out.write_all(prompt.as_bytes())?;
    let mut typed = String::new();
    std::io::stdin().lock().read_line(&mut typed)?;
    Ok(typed.trim().to_owned())
}

fn hidden(prompt: &str) -> Result<String> {
    let before = termios::tcgetattr(std::io::stdin()).map_err(std::io::Error::from)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    termios::tcsetattr(std::io::stdin(), OptionalActions::Flush, &silent).map_err(std::io::Error::from)?;
    let typed = line(prompt);
    termios::tcsetattr(std::io::stdin(), OptionalActions::Flush, &before).map_err(std::io::Error::from)?;
    say("")?;
    typed
}

/// Log out from a registry
///
/// Defaults to Docker Hub if no server is specified.
#[derive(Debug, Args)]
pub(crate) struct Logout {
    /// The registry.
    #[arg(value_name = "[SERVER]")]
    server: Option<String>,
}

impl Logout {
    #[allow(clippy::unused_async)] // verbs have one shape
    pub(super) async fn run(self, _: &Context) -> Result<u8> {
        let server = self.server.as_deref().map_or_else(|| HUB.to_owned(), credentials::server);
        say(format!("Removing login credentials for {server}"))?;
        Credentials::open()?.erase(&server)?;
        Ok(0)
    }
}
