//! `commit`: what a container has changed becomes a layer, and with its image's an image; and `squash`: what an image
//! shows becomes one layer.

use image::{Derive, NewLayer};
use oci::{IdMap, Reference, image::Config as Defaults};
use snapshot::Prepare;

use crate::{
    Container, Engine, Image, State, blocking,
    error::{Error, Kind, Result},
    handle::Handle,
    names,
};

/// How a container becomes an image.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// The image's name.
    pub name: Option<Reference>,
    /// Instead of the container's own, which then only fills what this one leaves open.
    pub config: Option<Defaults>,
    /// `Dockerfile` instructions.
    pub changes: Vec<String>,
    /// Who made it.
    pub author: String,
    /// For the history.
    pub message: String,
    /// Freeze the container meanwhile, if it runs.
    pub pause: bool,
    /// One layer of everything, not one more.
    pub squash: bool,
}

impl Engine {
    /// Makes an image of a container.
    pub async fn commit(&self, key: &str, how: Commit) -> Result<Image> {
        let handle = self.0.containers.find(key)?;
        let running = matches!(handle.now().state, State::Running { .. });
        // One that ends in this moment needs no freezing any more.
        let frozen = how.pause && running && self.pause(&handle.id).await.is_ok();
        let made = self.commit_held(&handle, &how).await;
        if frozen {
            // Somebody else may have thawed it, or ended it.
            let _ = self.unpause(&handle.id).await;
        }
        let image = made?;
        let container = handle.now();
        let name = how.name.as_ref().map(Reference::familiar).unwrap_or_default();
        let more = [("comment", how.message), ("imageID", image.id.to_string()), ("imageRef", name)];
        self.0.events.container(&container, "commit", &more);
        Ok(image)
    }

    async fn commit_held(&self, handle: &Handle, how: &Commit) -> Result<Image> {
        let container = handle.now();
        let base = self.base_of(&container, how).await?;
        let own = defaults(&container, base.as_ref());
        let (config, below) = match &how.config {
            Some(given) => (given.clone(), Some(own)),
            None => (own, None),
        };
        let mut derive = Derive {
            config,
            below,
            changes: how.changes.clone(),
            author: how.author.clone(),
            message: how.message.clone(),
            created_by: container.config.command.iter().flatten().cloned().collect::<Vec<_>>().join(" "),
            name: how.name.clone(),
            ..Derive::default()
        };
        if how.squash {
            derive.history = base.map(|base| without_layers(&base)).unwrap_or_default();
        } else {
            derive.base = base;
        }
        let (engine, id, squash) = (self.clone(), handle.id.clone(), how.squash);
        let made = blocking(move || {
            let mut layer = engine.0.images.new_layer()?;
            let packed = if squash {
                engine.0.snapshots.export(&id, false, &mut layer)?
            } else {
                engine.0.snapshots.diff(&id, &mut layer)?
            };
            engine.there(&id)?;
            engine.make((packed.entries > 0).then_some(layer), &derive, "commit")
        });
        made.await?
    }

    /// What was packed is whole only if nobody removed it meanwhile.
    pub(crate) fn there(&self, id: &str) -> Result<()> {
        let gone = || Error::new(Kind::Conflict, format!("container {id} was removed while it was read"));
        let found = self.0.containers.find(id).map_err(|_| gone())?;
        if found.now().state == State::Removing { Err(gone()) } else { Ok(()) }
    }

    fn make(&self, layer: Option<NewLayer>, how: &Derive, action: &str) -> Result<Image> {
        let staged = self.0.images.derive(layer, how)?;
        let made = self.bring_in(vec![staged], action)?;
        made.into_iter().next().ok_or_else(|| Error::internal("no image was made"))
    }

    async fn base_of(&self, container: &Container, how: &Commit) -> Result<Option<Image>> {
        let Some(id) = &container.config.image_id else { return Ok(None) };
        match self.image(id.as_str()).await {
            Ok(image) => Ok(Some(image)),
            Err(error) if error.kind == Kind::NotFound && how.squash => Ok(None),
            Err(error) if error.kind == Kind::NotFound => {
                let short = &id.hex()[..12];
                let remedy = "commit it with --squash, which needs no image";
                Err(Error::new(Kind::Conflict, format!("its image {short} has been removed: {remedy}")))
            }
            Err(error) => Err(error),
        }
    }

    /// Makes an image of one layer that shows what `name` shows, under `new`, or under no name.
    pub async fn squash(&self, name: &str, new: Option<Reference>, message: &str) -> Result<Image> {
        let image = self.image(name).await?;
        let derive = Derive {
            config: image.config.config.clone(),
            author: image.config.author.clone(),
            message: if message.is_empty() {
                format!("squashed from {}", image.id)
            } else {
                message.to_owned()
            },
            history: without_layers(&image),
            name: new,
            ..Derive::default()
        };
        let engine = self.clone();
        let made = blocking(move || {
            let key = format!("squash-{}", names::id()?);
            let chain: Vec<_> = image.layers.iter().map(|layer| layer.diff_id.clone()).collect();
            let request =
                Prepare { chain: &chain, init: &[], ids: &IdMap::IDENTITY, volatile: true, size: None };
            engine.0.snapshots.prepare(&key, &request)?;
            let layer = engine.0.images.new_layer().map_err(Error::from).and_then(|mut layer| {
                engine.0.snapshots.export(&key, false, &mut layer)?;
                Ok(layer)
            });
            engine.0.snapshots.remove(&key)?;
            engine.make(Some(layer?), &derive, "create")
        });
        made.await?
    }
}

/// How an image's containers run if they are to run as this one does. The triggers of the image below are spent.
fn defaults(container: &Container, base: Option<&Image>) -> Defaults {
    let config = &container.config;
    let below = base.map(|base| base.config.config.clone()).unwrap_or_default();
    Defaults {
        user: config.user.clone(),
        exposed_ports: config.exposed_ports.iter().cloned().collect(),
        env: config.env.clone(),
        entrypoint: config.entrypoint.clone(),
        cmd: config.command.clone(),
        volumes: config.volumes.iter().cloned().collect(),
        working_dir: config.working_dir.clone(),
        labels: config.labels.clone(),
        stop_signal: Some(config.stop_signal.clone()).filter(|signal| !signal.is_empty()),
        on_build: Vec::new(),
        ..below
    }
}

/// The steps of an image whose layers are one now.
fn without_layers(image: &Image) -> Vec<oci::image::History> {
    let steps = image.config.history.iter().cloned();
    steps.map(|step| oci::image::History { empty_layer: true, ..step }).collect()
}
