//! Floors and arrows: which room may lean on which, and who may be asynchronous.

/// A room: its folder in `crates/`, and the rooms that it may lean on.
pub(super) struct Room {
    pub(super) name: &'static str,
    pub(super) leans_on: &'static [&'static str],
    /// Whether tokio and hyper may be used in it.
    pub(super) asynchronous: bool,
}

const fn room(name: &'static str, leans_on: &'static [&'static str]) -> Room {
    Room { name, leans_on, asynchronous: false }
}

/// The same table as in `ARCHITECTURE.md`, from the ground up. A room may lean on what stands before it only.
pub(super) const ROOMS: [Room; 18] = [
    room("api", &[]),
    room("oci", &[]),
    room("trace", &[]),
    room("hello", &[]),
    room("archive", &[]),
    room("store", &[]),
    room("registry", &["oci"]),
    room("sys", &[]),
    room("netlink", &["sys"]),
    room("runtime", &["oci", "sys", "trace"]),
    room("shim", &["oci", "sys", "trace"]),
    room("snapshot", &["oci", "sys", "archive"]),
    room("image", &["oci", "archive", "registry", "store"]),
    room("network", &["netlink"]),
    Room {
        name: "engine",
        leans_on: &[
            "oci", "trace", "hello", "archive", "registry", "store", "sys", "shim", "snapshot", "image",
            "netlink", "network",
        ],
        asynchronous: true,
    },
    Room { name: "daemon", leans_on: &["api", "engine", "oci", "sys", "trace"], asynchronous: true },
    Room { name: "cli", leans_on: &["api", "trace"], asynchronous: true },
    Room { name: "knarr", leans_on: &["cli", "daemon"], asynchronous: true },
];

/// Libraries that only an asynchronous room may use.
const ASYNCHRONOUS: [&str; 6] =
    ["tokio", "tokio-util", "hyper", "hyper-util", "http-body-util", "futures-util"];

/// What a manifest's `[dependencies]` and `[build-dependencies]` say that the room may not.
///
/// Development dependencies are free: a test may hold a room against any other.
pub(super) fn complaints(room: &Room, manifest: &str) -> Vec<String> {
    let mut found = Vec::new();
    for name in dependencies(manifest) {
        if ROOMS.iter().any(|other| other.name == name) {
            if !room.leans_on.contains(&name.as_str()) {
                found.push(format!("{} may not lean on {name}", room.name));
            }
        } else if ASYNCHRONOUS.contains(&name.as_str()) && !room.asynchronous {
            found.push(format!("{} is synchronous and may not use {name}", room.name));
        }
    }
    found
}

/// How a row of the table in `ARCHITECTURE.md` differs from the one here.
pub(super) fn differs(name: &str, leans_on: &[&str]) -> Option<String> {
    let Some(room) = ROOMS.iter().find(|room| room.name == name) else {
        return Some(format!("its table lists {name}, which has no floor in xtask/src/tidy/arrows.rs"));
    };
    let all_below = leans_on == ["floors 0–2"] && name == "engine";
    let mut told = leans_on.to_vec();
    let mut true_ones = room.leans_on.to_vec();
    told.sort_unstable();
    true_ones.sort_unstable();
    (told != true_ones && !all_below)
        .then(|| format!("{name} leans on {}, its table says {}", true_ones.join(", "), told.join(", ")))
}

/// The names of a manifest's normal and build dependencies.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            let (table, name) = section(header);
            inside = table && name.is_none();
            names.extend(name.filter(|_| table));
        } else if inside && let Some((name, _)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            names.push(bare(name.split('.').next().unwrap_or_default()));
        }
    }
    // `knarr-oci` and `oci` are the same room.
    names.into_iter().map(|name| name.strip_prefix("knarr-").map(str::to_owned).unwrap_or(name)).collect()
}

/// Whether a table holds dependencies that count, and the one that it is about if it is about one.
fn section(header: &str) -> (bool, Option<String>) {
    let header = header.rsplit_once(").").map_or(header, |(_, table)| table);
    let header = header.rsplit_once("'.").map_or(header, |(_, table)| table);
    let (table, name) =
        header.split_once('.').map_or((header, None), |(table, name)| (table, Some(bare(name))));
    (matches!(table, "dependencies" | "build-dependencies"), name)
}

fn bare(name: &str) -> String {
    name.trim().trim_matches(['"', '\'']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_notation_of_a_dependency() {
        let manifest = "[package]\nname = \"x\"\n[dependencies]\na.workspace = true\nb = { version = \"1\" }\n# c = 1\n\
                        \"d\" = \"1\"\n[dependencies.e]\nversion = \"1\"\n[dev-dependencies]\nf = \"1\"\n\
                        [target.'cfg(unix)'.dependencies]\ng = \"1\"\n[build-dependencies]\nknarr-oci = \"1\"\n";
        assert_eq!(dependencies(manifest), ["a", "b", "d", "e", "g", "oci"]);
    }

    #[test]
    fn arrows_point_down() {
        for (at, room) in ROOMS.iter().enumerate() {
            for below in room.leans_on {
                assert!(ROOMS[..at].iter().any(|other| other.name == *below), "{} → {below}", room.name);
            }
        }
        let cli = ROOMS.iter().find(|room| room.name == "cli").unwrap();
        assert_eq!(
            complaints(cli, "[dependencies]\nengine.workspace = true\n"),
            ["cli may not lean on engine"]
        );
        let image = ROOMS.iter().find(|room| room.name == "image").unwrap();
        assert_eq!(complaints(image, "[dependencies]\ntokio.workspace = true\n").len(), 1);
        assert!(complaints(image, "[dev-dependencies]\nsnapshot.workspace = true\n").is_empty());
    }
}
