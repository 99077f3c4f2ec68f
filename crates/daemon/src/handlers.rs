//! One handler an operation, one file a group: decode, convert, call the engine, convert back, encode.

// Handlers share one shape, whether or not they have to wait.
#![allow(clippy::unused_async)]

mod archives;
mod containers;
mod disk;
mod events;
mod exec;
mod images;
mod networks;
mod registries;
mod streams;
mod system;
mod top;

use api::Op;
use hyper::StatusCode;

use crate::{
    body::Reply,
    failure::{Failure, Result},
    router::Call,
};

macro_rules! handlers {
    ($($op:ident => $module:ident::$function:ident,)*) => {
        /// Whether there is a handler.
        pub(crate) fn serves(op: Op) -> bool {
            matches!(op, $(Op::$op)|*)
        }

        /// Calls the handler; what has none says so in Docker's form.
        pub(crate) async fn handle(call: Call) -> Result<Reply> {
            match call.op {
                $(Op::$op => Box::pin($module::$function(call)).await,)*
                op => Err(Failure::new(
                    StatusCode::NOT_IMPLEMENTED,
                    format!("knarr does not implement {op:?} yet"),
                )),
            }
        }
    };
}

handlers! {
    ContainerList => containers::list,
    ContainerCreate => containers::create,
    ContainerInspect => containers::inspect,
    ContainerTimeline => containers::timeline,
    ContainerTop => top::top,
    ContainerLogs => streams::logs,
    ContainerAttach => streams::attach,
    ContainerResize => containers::resize,
    ContainerStart => containers::start,
    ContainerStop => containers::stop,
    ContainerRestart => containers::restart,
    ContainerKill => containers::kill,
    ContainerRename => containers::rename,
    ContainerPause => containers::pause,
    ContainerUnpause => containers::unpause,
    ContainerWait => containers::wait,
    ContainerDelete => containers::delete,
    ContainerPrune => containers::prune,
    ContainerChanges => archives::changes,
    ContainerExport => archives::export,
    ContainerExec => exec::create,
    ExecStart => exec::start,
    ExecResize => exec::resize,
    ExecInspect => exec::inspect,
    ImageList => images::list,
    ImageInspect => images::inspect,
    ImageHistory => images::history,
    ImageTag => images::tag,
    ImageDelete => images::delete,
    ImagePrune => images::prune,
    ImageTree => disk::tree,
    ImageCommit => archives::commit,
    ImageGet => archives::save_one,
    ImageGetAll => archives::save_all,
    ImageSquash => archives::squash,
    ImageLoad => images::load,
    ImageCreate => images::create,
    ImagePush => registries::push,
    DistributionInspect => registries::inspect,
    SystemAuth => registries::login,
    SystemPing => system::ping,
    SystemPingHead => system::ping,
    SystemVersion => system::version,
    SystemInfo => system::info,
    SystemEvents => events::events,
    SystemDataUsage => disk::usage,
    BuildPrune => disk::prune_builds,
    VolumePrune => disk::prune_volumes,
    NetworkList => networks::list,
    NetworkInspect => networks::inspect,
    NetworkCreate => networks::create,
    NetworkDelete => networks::delete,
    NetworkConnect => networks::connect,
    NetworkDisconnect => networks::disconnect,
    NetworkPrune => networks::prune,
    VolumeList => system::volumes,
    VolumeInspect => system::volume,
    PluginInspect => system::plugin,
}
