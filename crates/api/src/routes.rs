//! Every route of the API description (1.56), and ours, as data.

use crate::Version;

/// HTTP methods that the API uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
}

impl Method {
    /// Reads the method of a request.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "GET" => Some(Self::Get),
            "HEAD" => Some(Self::Head),
            "POST" => Some(Self::Post),
            "PUT" => Some(Self::Put),
            "DELETE" => Some(Self::Delete),
            _ => None,
        }
    }
}

/// One route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// How.
    pub method: Method,
    /// Where, below the version; at most one `{placeholder}`, which takes slashes if it ends in `*`.
    pub path: &'static str,
    /// What.
    pub op: Op,
    /// The version that brought it (1.24 also for what is older).
    pub since: Version,
}

macro_rules! routes {
    ($($method:ident $path:literal => $op:ident, $since:literal;)*) => {
        /// Operations by the description's ids.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs)]
        pub enum Op { $($op),* }

        /// All routes, in the description's order.
        pub const ROUTES: &[Route] = &[$(Route {
            method: Method::$method,
            path: $path,
            op: Op::$op,
            since: Version(1, $since),
        }),*];
    };
}

routes! {
    Get "/containers/json" => ContainerList, 24;
    Post "/containers/create" => ContainerCreate, 24;
    Get "/containers/{id}/json" => ContainerInspect, 24;
    Get "/containers/{id}/timeline" => ContainerTimeline, 24;
    Get "/containers/{id}/top" => ContainerTop, 24;
    Get "/containers/{id}/logs" => ContainerLogs, 24;
    Get "/containers/{id}/changes" => ContainerChanges, 24;
    Get "/containers/{id}/export" => ContainerExport, 24;
    Get "/containers/{id}/stats" => ContainerStats, 24;
    Post "/containers/{id}/resize" => ContainerResize, 24;
    Post "/containers/{id}/start" => ContainerStart, 24;
    Post "/containers/{id}/stop" => ContainerStop, 24;
    Post "/containers/{id}/restart" => ContainerRestart, 24;
    Post "/containers/{id}/kill" => ContainerKill, 24;
    Post "/containers/{id}/update" => ContainerUpdate, 24;
    Post "/containers/{id}/rename" => ContainerRename, 24;
    Post "/containers/{id}/pause" => ContainerPause, 24;
    Post "/containers/{id}/unpause" => ContainerUnpause, 24;
    Post "/containers/{id}/attach" => ContainerAttach, 24;
    Get "/containers/{id}/attach/ws" => ContainerAttachWebsocket, 24;
    Post "/containers/{id}/wait" => ContainerWait, 24;
    Delete "/containers/{id}" => ContainerDelete, 24;
    Head "/containers/{id}/archive" => ContainerArchiveInfo, 24;
    Get "/containers/{id}/archive" => ContainerArchive, 24;
    Put "/containers/{id}/archive" => PutContainerArchive, 24;
    Post "/containers/prune" => ContainerPrune, 25;
    Get "/images/json" => ImageList, 24;
    Post "/build" => ImageBuild, 24;
    Post "/build/prune" => BuildPrune, 31;
    Post "/images/create" => ImageCreate, 24;
    Get "/images/{name*}/json" => ImageInspect, 24;
    Get "/images/{name*}/attestations" => ImageAttestations, 56;
    Get "/images/{name*}/history" => ImageHistory, 24;
    Post "/images/{name*}/push" => ImagePush, 24;
    Post "/images/{name*}/tag" => ImageTag, 24;
    Post "/images/{name*}/squash" => ImageSquash, 24;
    Get "/images/tree" => ImageTree, 24;
    Delete "/images/{name*}" => ImageDelete, 24;
    Get "/images/search" => ImageSearch, 24;
    Post "/images/prune" => ImagePrune, 25;
    Post "/auth" => SystemAuth, 24;
    Get "/info" => SystemInfo, 24;
    Get "/version" => SystemVersion, 24;
    Get "/_ping" => SystemPing, 24;
    Head "/_ping" => SystemPingHead, 40;
    Post "/commit" => ImageCommit, 24;
    Get "/events" => SystemEvents, 24;
    Get "/system/df" => SystemDataUsage, 25;
    Get "/images/{name*}/get" => ImageGet, 24;
    Get "/images/get" => ImageGetAll, 24;
    Post "/images/load" => ImageLoad, 24;
    Post "/containers/{id}/exec" => ContainerExec, 24;
    Post "/exec/{id}/start" => ExecStart, 24;
    Post "/exec/{id}/resize" => ExecResize, 24;
    Get "/exec/{id}/json" => ExecInspect, 24;
    Get "/volumes" => VolumeList, 24;
    Post "/volumes/create" => VolumeCreate, 24;
    Get "/volumes/{name}" => VolumeInspect, 24;
    Put "/volumes/{name}" => VolumeUpdate, 42;
    Delete "/volumes/{name}" => VolumeDelete, 24;
    Post "/volumes/prune" => VolumePrune, 25;
    Get "/networks" => NetworkList, 24;
    Get "/networks/{id}" => NetworkInspect, 24;
    Delete "/networks/{id}" => NetworkDelete, 24;
    Post "/networks/create" => NetworkCreate, 24;
    Post "/networks/{id}/connect" => NetworkConnect, 24;
    Post "/networks/{id}/disconnect" => NetworkDisconnect, 24;
    Post "/networks/prune" => NetworkPrune, 25;
    Get "/plugins" => PluginList, 25;
    Get "/plugins/privileges" => GetPluginPrivileges, 25;
    Post "/plugins/pull" => PluginPull, 25;
    Get "/plugins/{name*}/json" => PluginInspect, 25;
    Delete "/plugins/{name*}" => PluginDelete, 25;
    Post "/plugins/{name*}/enable" => PluginEnable, 25;
    Post "/plugins/{name*}/disable" => PluginDisable, 25;
    Post "/plugins/{name*}/upgrade" => PluginUpgrade, 25;
    Post "/plugins/create" => PluginCreate, 25;
    Post "/plugins/{name*}/push" => PluginPush, 25;
    Post "/plugins/{name*}/set" => PluginSet, 25;
    Get "/nodes" => NodeList, 24;
    Get "/nodes/{id}" => NodeInspect, 24;
    Delete "/nodes/{id}" => NodeDelete, 24;
    Post "/nodes/{id}/update" => NodeUpdate, 24;
    Get "/swarm" => SwarmInspect, 24;
    Post "/swarm/init" => SwarmInit, 24;
    Post "/swarm/join" => SwarmJoin, 24;
    Post "/swarm/leave" => SwarmLeave, 24;
    Post "/swarm/update" => SwarmUpdate, 24;
    Get "/swarm/unlockkey" => SwarmUnlockkey, 24;
    Post "/swarm/unlock" => SwarmUnlock, 24;
    Get "/services" => ServiceList, 24;
    Post "/services/create" => ServiceCreate, 24;
    Get "/services/{id}" => ServiceInspect, 24;
    Delete "/services/{id}" => ServiceDelete, 24;
    Post "/services/{id}/update" => ServiceUpdate, 24;
    Get "/services/{id}/logs" => ServiceLogs, 29;
    Get "/tasks" => TaskList, 24;
    Get "/tasks/{id}" => TaskInspect, 24;
    Get "/tasks/{id}/logs" => TaskLogs, 29;
    Get "/secrets" => SecretList, 25;
    Post "/secrets/create" => SecretCreate, 25;
    Get "/secrets/{id}" => SecretInspect, 25;
    Delete "/secrets/{id}" => SecretDelete, 25;
    Post "/secrets/{id}/update" => SecretUpdate, 25;
    Get "/configs" => ConfigList, 30;
    Post "/configs/create" => ConfigCreate, 30;
    Get "/configs/{id}" => ConfigInspect, 30;
    Delete "/configs/{id}" => ConfigDelete, 30;
    Post "/configs/{id}/update" => ConfigUpdate, 30;
    Get "/distribution/{name*}/json" => DistributionInspect, 30;
    Post "/session" => Session, 31;
}

impl Route {
    /// What stands at the placeholder if `path` (decoded, without the version) is this route's.
    pub fn matches<'a>(&self, path: &'a str) -> Option<&'a str> {
        let Some((before, rest)) = self.path.split_once('{') else {
            return (self.path == path).then_some("");
        };
        let (name, after) = rest.split_once('}')?;
        let middle = path.strip_prefix(before)?.strip_suffix(after)?;
        let fits = !middle.is_empty() && (name.ends_with('*') || !middle.contains('/'));
        fits.then_some(middle)
    }
}

/// The route of a request, and what stands at its placeholder.
pub fn find(method: Method, path: &str, version: Version) -> Option<(&'static Route, &str)> {
    ROUTES
        .iter()
        .filter(|route| route.method == method && route.since <= version)
        .find_map(|route| Some((route, route.matches(path)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_find_their_route() {
        let op =
            |method, path| find(method, path, Version::MAX).map(|(route, name)| (route.op, name.to_owned()));
        let is = |op, name: &str| Some((op, name.to_owned()));
        assert_eq!(op(Method::Get, "/containers/json"), is(Op::ContainerList, ""));
        assert_eq!(op(Method::Get, "/containers/c1/json"), is(Op::ContainerInspect, "c1"));
        assert_eq!(op(Method::Get, "/images/json"), is(Op::ImageList, ""));
        assert_eq!(op(Method::Get, "/images/h:5000/a/b:c/json"), is(Op::ImageInspect, "h:5000/a/b:c"));
        assert_eq!(op(Method::Delete, "/images/a/b"), is(Op::ImageDelete, "a/b"));
        assert_eq!(op(Method::Get, "/images/get"), is(Op::ImageGetAll, ""));
        assert_eq!(op(Method::Post, "/containers/prune"), is(Op::ContainerPrune, ""));
        assert_eq!(op(Method::Get, "/containers/a/b/json"), None);
        assert_eq!(op(Method::Get, "/containers//json"), None);
        assert_eq!(op(Method::Put, "/info"), None);
        assert_eq!(op(Method::Get, "/images/x/attestations"), None);
    }

    #[test]
    fn no_route_hides_another() {
        for route in ROUTES.iter().filter(|route| route.since <= Version::MAX) {
            let path = match route.path.split_once('{') {
                Some((before, rest)) => {
                    format!("{before}zz{}", rest.split_once('}').map_or("", |(_, after)| after))
                }
                None => route.path.to_owned(),
            };
            let (found, _) = find(route.method, &path, Version::MAX).unwrap();
            assert_eq!(found.op, route.op, "{path}");
        }
    }
}
