//! `create`: an image and a request become a container that can be started.

use std::fs;

use jiff::Timestamp;
use oci::image::Config as ImageDefaults;
use snapshot::{InitEntry, InitKind, Prepare};
use trace::Room;

use crate::{
    Created, Engine, Image, LastRun, State, blocking,
    config::Config,
    disk::make_directory,
    error::{Error, Kind, Result},
    handle::{Handle, Record},
    locked, names,
    recorder::Recorder,
    start::check_sources,
    undo::Undo,
    validate,
};

/// What stands in every container's init layer, where its image has no such thing.
const INIT: [InitEntry; 12] = [
    entry("/.dockerenv", InitKind::File),
    entry("/dev", InitKind::Directory),
    entry("/dev/pts", InitKind::Directory),
    entry("/dev/shm", InitKind::Directory),
    entry("/dev/console", InitKind::File),
    entry("/etc", InitKind::Directory),
    entry("/etc/hosts", InitKind::File),
    entry("/etc/hostname", InitKind::File),
    entry("/etc/resolv.conf", InitKind::File),
    entry("/etc/mtab", InitKind::Link("/proc/mounts")),
    entry("/proc", InitKind::Directory),
    entry("/sys", InitKind::Directory),
];

const fn entry(path: &'static str, kind: InitKind) -> InitEntry {
    InitEntry { path, kind }
}

impl Engine {
    /// Makes a container of `config` under `name`, or under one made up. Nothing is left of it on failure.
    pub async fn create(&self, name: Option<&str>, mut config: Config) -> Result<Created> {
        let mut steps = Recorder::start();
        validate::check(&config, self.0.host.cpus)?;
        self.runtime(&config.host.runtime)?;
        match self.check_networks(&config) {
            // Said by the start, as Docker does: clients take "not found" here for the image.
            Err(error) if error.kind == Kind::NotFound => {}
            other => other?,
        }
        let image = self.image(&config.image).await?;
        let warnings = notices(&image);
        merge(&mut config, &image)?;
        steps.step(Room::Engine, format!("resolve image {}", config.image), image_details(&image));

        let id = names::id()?;
        let mut undo = Undo::default();
        let name = self.0.containers.take_name(name, &id)?;
        undo.push({
            let (engine, name) = (self.clone(), name.clone());
            move || engine.0.containers.free_name(&name)
        });
        let chain = image.layers.iter().map(|layer| layer.diff_id.clone()).collect();
        let (created, last) = (Timestamp::now(), LastRun::default());
        let (attachments, ports) = (Vec::new(), Vec::new());
        let record = Record { name, created, config, state: State::Created, last, chain, attachments, ports };
        self.prepare(&id, &record, &mut undo).await?;
        let details =
            vec![("driver", self.0.snapshots.name().to_owned()), ("layers", record.chain.len().to_string())];
        steps.step(Room::Snapshot, "prepare init layer and writable layer", details);

        let container = self.fresh(&id, &record);
        check_sources(&container)?;
        self.write_record(&id, &record)?;
        steps.step(Room::Engine, "write record", vec![("id", id.clone()), ("name", record.name.clone())]);
        undo.defuse();
        self.0.events.container(&container, "create", &[]);
        let handle = Handle::new(container, record.chain);
        *locked(&handle.creation) = steps.timeline;
        self.0.containers.insert(handle.into());
        Ok(Created { id, warnings })
    }

    async fn prepare(&self, id: &str, record: &Record, undo: &mut Undo) -> Result<()> {
        undo.push({
            let (engine, id) = (self.clone(), id.to_owned());
            move || {
                let _ = engine.0.snapshots.remove(&id);
                let _ = fs::remove_dir_all(engine.home(&id));
            }
        });
        make_directory(&self.home(id), 0o700)?;
        let (engine, id, record) = (self.clone(), id.to_owned(), record.clone());
        let prepared = blocking(move || {
            let host = &record.config.host;
            let (volatile, size) = (host.auto_remove, host.size);
            let request =
                Prepare { chain: &record.chain, init: &INIT, ids: &record.config.ids, volatile, size };
            Ok(engine.0.snapshots.prepare(&id, &request)?)
        });
        prepared.await?
    }
}

fn image_details(image: &Image) -> Vec<(&'static str, String)> {
    let layers = image.layers.iter().map(|layer| ("layer", layer.diff_id.to_string()));
    std::iter::once(("id", image.id.to_string())).chain(layers).collect()
}

/// What the user should know of this request, whether or not it succeeds later.
fn notices(image: &Image) -> Vec<String> {
    let mut notices = Vec::new();
    let volumes: Vec<&str> = image.config.config.volumes.iter().map(String::as_str).collect();
    if !volumes.is_empty() {
        let paths = volumes.join(", ");
        notices.push(format!(
            "The image declares volumes ({paths}); their data is kept in the container's writable layer."
        ));
    }
    notices
}

/// Fills what the request leaves open with what the image says, as Docker does.
fn merge(config: &mut Config, image: &Image) -> Result<()> {
    let defaults: &ImageDefaults = &image.config.config;
    config.image_id = Some(image.id.clone());
    // A new entrypoint leaves the image's command behind; one empty word is how Docker's clients say "none".
    if config.entrypoint.as_ref().is_none_or(Vec::is_empty)
        && config.command.as_ref().is_none_or(Vec::is_empty)
    {
        config.command.clone_from(&defaults.cmd);
    }
    match config.entrypoint.as_deref() {
        None => config.entrypoint.clone_from(&defaults.entrypoint),
        Some([word]) if word.is_empty() => config.entrypoint = None,
        Some(_) => {}
    }
    let words = config.entrypoint.iter().flatten().chain(config.command.iter().flatten());
    if words.count() == 0 {
        return Err(Error::new(Kind::Invalid, "no command specified"));
    }
    let key = |entry: &String| entry.split('=').next().unwrap_or_default().to_owned();
    let given: Vec<String> = config.env.iter().map(key).collect();
    config.env.extend(defaults.env.iter().filter(|entry| !given.contains(&key(entry))).cloned());
    for (key, value) in &defaults.labels {
        config.labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    for (own, image) in [(&mut config.working_dir, &defaults.working_dir), (&mut config.user, &defaults.user)]
    {
        if own.is_empty() {
            own.clone_from(image);
        }
    }
    if config.stop_signal.is_empty() {
        config.stop_signal = defaults.stop_signal.clone().unwrap_or_default();
    }
    add_missing(&mut config.exposed_ports, defaults.exposed_ports.iter());
    add_missing(&mut config.volumes, defaults.volumes.iter());
    Ok(())
}

fn add_missing<'a>(own: &mut Vec<String>, image: impl Iterator<Item = &'a String>) {
    for value in image {
        if !own.contains(value) {
            own.push(value.clone());
        }
    }
}
