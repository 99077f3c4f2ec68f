//! One verb, one file; its doc comment is its manual.

mod attach;
mod commit;
mod create;
mod df;
mod diff;
mod events;
mod exec;
mod export;
mod history;
mod images;
mod import;
mod info;
mod inspect;
mod lifecycle;
mod load;
mod login;
mod logs;
mod network;
mod port;
mod prune;
mod ps;
mod pull;
mod push;
mod rename;
mod rm;
mod rmi;
mod run;
mod save;
mod start;
mod tag;
mod top;
mod tree;
mod version;
mod wait;

use std::io::Write;
use std::rc::Rc;

use clap::Subcommand;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::terminal::Plain;

/// What every verb is given.
#[derive(Debug)]
pub(crate) struct Context {
    /// The daemon.
    pub(crate) client: Rc<Client>,
    /// What this program was called as: `knarr` or `docker`.
    pub(crate) program: &'static str,
}

macro_rules! verbs {
    ($(#[$doc:meta])* $name:ident { $($(#[$meta:meta])* $verb:ident($($file:ident)::+)),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Subcommand)]
        pub(crate) enum $name { $($(#[$meta])* $verb(Box<$($file)::+>)),* }

        impl $name {
            /// Does what was asked for; the value is the exit code.
            pub(crate) async fn run(self, cx: &Context) -> Result<u8> {
                match self { $(Self::$verb(args) => args.run(cx).await),* }
            }
        }
    };
}

verbs! {
    /// Verbs of containers that stand both at the top and under `container`.
    ContainerVerb {
        Attach(attach::Attach),
        Commit(commit::Commit),
        Create(create::Create),
        Diff(diff::Diff),
        Exec(exec::Exec),
        Export(export::Export),
        Kill(lifecycle::Kill),
        Logs(logs::Logs),
        Pause(lifecycle::Pause),
        Port(port::Port),
        Rename(rename::Rename),
        Restart(lifecycle::Restart),
        #[command(alias = "remove")] Rm(rm::Rm),
        Run(run::Run),
        Start(start::Start),
        Stop(lifecycle::Stop),
        Top(top::Top),
        Unpause(lifecycle::Unpause),
        Wait(wait::Wait),
    }
}

verbs! {
    /// Verbs of containers that have another name at the top.
    ContainerOnly {
        Inspect(inspect::InspectContainer),
        #[command(aliases = ["list", "ps"])] Ls(ps::Ps),
        Prune(prune::PruneContainers),
    }
}

verbs! {
    /// Verbs of images that stand both at the top and under `image`.
    ImageVerb {
        History(history::History),
        Import(import::Import),
        Load(load::Load),
        Pull(pull::Pull),
        Push(push::Push),
        Save(save::Save),
        Tag(tag::Tag),
    }
}

verbs! {
    /// Verbs of images that have another name at the top.
    ImageOnly {
        Inspect(inspect::InspectImage),
        #[command(alias = "list")] Ls(images::Images),
        #[command(alias = "remove")] Rm(rmi::Rmi),
        Prune(prune::PruneImages),
        Squash(commit::Squash),
        Tree(tree::Tree),
    }
}

verbs! {
    /// Verbs of networks, which stand under `network` only.
    NetworkOnly {
        Connect(network::connect::Connect),
        Create(network::create::Create),
        Disconnect(network::connect::Disconnect),
        Inspect(inspect::InspectNetwork),
        #[command(alias = "list")] Ls(network::ls::Ls),
        Prune(prune::PruneNetworks),
        #[command(alias = "remove")] Rm(network::rm::Rm),
    }
}

verbs! {
    /// Verbs of the engine that stand both at the top and under `system`.
    SystemVerb { Events(events::Events), Info(info::Info) }
}

verbs! {
    /// Verbs of the engine that stand under `system` only.
    SystemOnly { Df(df::Df), Prune(prune::PruneSystem) }
}

verbs! {
    /// Verbs that stand at the top only.
    TopVerb {
        Images(images::Images),
        Inspect(inspect::Inspect),
        Login(login::Login),
        Logout(login::Logout),
        Ps(ps::Ps),
        Rmi(rmi::Rmi),
        Version(version::Version),
    }
}

/// `knarr container …`
#[derive(Debug, Subcommand)]
pub(crate) enum ContainerGroup {
    #[command(flatten)]
    Verb(ContainerVerb),
    #[command(flatten)]
    Only(ContainerOnly),
}

/// `knarr image …`
#[derive(Debug, Subcommand)]
pub(crate) enum ImageGroup {
    #[command(flatten)]
    Verb(ImageVerb),
    #[command(flatten)]
    Only(ImageOnly),
}

/// `knarr system …`
#[derive(Debug, Subcommand)]
pub(crate) enum SystemGroup {
    #[command(flatten)]
    Verb(SystemVerb),
    #[command(flatten)]
    Only(SystemOnly),
}

/// Everything that talks to a daemon.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    #[command(flatten)]
    ContainerVerb(ContainerVerb),
    #[command(flatten)]
    ImageVerb(ImageVerb),
    #[command(flatten)]
    SystemVerb(SystemVerb),
    #[command(flatten)]
    TopVerb(TopVerb),
    /// Manage containers
    #[command(subcommand)]
    Container(ContainerGroup),
    /// Manage images
    #[command(subcommand)]
    Image(ImageGroup),
    /// Manage networks
    #[command(subcommand)]
    Network(NetworkOnly),
    /// Manage the engine
    #[command(subcommand)]
    System(SystemGroup),
}

impl Verb {
    /// Does what was asked for; the value is the exit code.
    pub(crate) async fn run(self, cx: &Context) -> Result<u8> {
        match self {
            Verb::ContainerVerb(verb) | Verb::Container(ContainerGroup::Verb(verb)) => verb.run(cx).await,
            Verb::ImageVerb(verb) | Verb::Image(ImageGroup::Verb(verb)) => verb.run(cx).await,
            Verb::SystemVerb(verb) | Verb::System(SystemGroup::Verb(verb)) => verb.run(cx).await,
            Verb::TopVerb(verb) => verb.run(cx).await,
            Verb::Network(verb) => verb.run(cx).await,
            Verb::Container(ContainerGroup::Only(verb)) => verb.run(cx).await,
            Verb::Image(ImageGroup::Only(verb)) => verb.run(cx).await,
            Verb::System(SystemGroup::Only(verb)) => verb.run(cx).await,
        }
    }
}

/// A line on standard output.
fn say(line: impl AsRef<str>) -> Result<()> {
    Ok(Plain::Out.write_all(format!("{}\n", line.as_ref()).as_bytes())?)
}

/// A line on standard error; where even that fails there is nobody left to tell.
fn warn(line: impl AsRef<str>) {
    let _ = Plain::Err.write_all(format!("{}\n", line.as_ref()).as_bytes());
}

/// Does one thing to many containers at once and names each that it was done to, in the order in which they were
/// given; then tells what failed.
async fn for_each<F>(names: &[String], act: impl Fn(String) -> F) -> Result<u8>
where
    F: Future<Output = Result<()>>,
{
    let done = futures_util::future::join_all(names.iter().cloned().map(act)).await;
    let mut code = 0;
    for (name, done) in names.iter().zip(done) {
        match done {
            Ok(()) => say(name)?,
            Err(e @ Error::Connect(_)) => return Err(e),
            Err(e) => {
                warn(e.to_string());
                code = code.max(if let Error::Status { code, .. } = e { code } else { 1 });
            }
        }
    }
    Ok(code)
}
