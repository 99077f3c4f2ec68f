//! Stopping and continuing all processes of a container at once.

use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use super::{Place, act::write, place_of};
use crate::error::{Error, Result};

/// Stops or continues every process of a container, and waits until it is so.
pub fn freeze(places: &[Place], frozen: bool) -> Result<()> {
    let place = place_of(places, "freezer")
        .ok_or_else(|| Error::new("pause: the container has no freezer cgroup"))?;
    let (file, value, seen, wanted) = match (place.unified, frozen) {
        (false, true) => ("freezer.state", "FROZEN", "freezer.state", "FROZEN"),
        (false, false) => ("freezer.state", "THAWED", "freezer.state", "THAWED"),
        (true, true) => ("cgroup.freeze", "1", "cgroup.events", "frozen 1"),
        (true, false) => ("cgroup.freeze", "0", "cgroup.events", "frozen 0"),
    };
    let (file, seen) = (place.group.join(file), place.group.join(seen));
    let deadline = Instant::now() + Duration::from_secs(10);
    write(&file, value)?;
    while !fs::read_to_string(&seen).unwrap_or_default().contains(wanted) {
        if Instant::now() > deadline {
            let _ = write(&file, if place.unified { "0" } else { "THAWED" });
            return Err(Error::new(format!("{}: did not become {wanted} in 10 s", seen.display())));
        }
        sleep(Duration::from_millis(1));
        // A v1 freezer may need asking again while processes fork.
        write(&file, value)?;
    }
    Ok(())
}

/// Whether a container is frozen.
pub fn is_frozen(places: &[Place]) -> bool {
    let Some(place) = place_of(places, "freezer") else {
        return false;
    };
    if place.unified {
        let events = fs::read_to_string(place.group.join("cgroup.events"));
        events.is_ok_and(|events| events.contains("frozen 1"))
    } else {
        let state = fs::read_to_string(place.group.join("freezer.state"));
        state.is_ok_and(|state| !state.starts_with("THAWED"))
    }
}
