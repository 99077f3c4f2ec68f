//! `pull`: `image` fetches, `snapshot` unpacks, at the same time.

use std::{error, io, sync::Arc};

use image::{Fetched, Image, Layer, Step, Unpack};
use oci::{Digest, Platform, Reference};
use registry::{Action, Cancel, Client, Credentials};
use snapshot::Driver;

use crate::{
    Engine, blocking,
    error::{Error, Kind, Result},
};

/// What to fetch.
#[derive(Debug, Clone)]
pub struct Pull {
    /// Without a tag or digest, it is `latest`.
    pub name: Reference,
    /// Every tag of the repository instead of one.
    pub all_tags: bool,
    /// This host's if none.
    pub platform: Option<Platform>,
    /// For the name's registry; may be empty.
    pub credentials: Credentials,
}

/// How a pull or a push goes on.
#[derive(Debug, Clone)]
pub enum Progress {
    /// The registry knows what is asked for: this tag or digest.
    Found(String),
    /// A layer, by the first digits of its digest.
    Layer(String, Step),
    /// A name has been dealt with.
    Done(Box<Pulled>),
}

/// One name that was pulled.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// With its tag or digest.
    pub name: Reference,
    /// What it points to at the registry.
    pub digest: Digest,
    /// The image.
    pub image: Image,
    /// It was not here, or not under this name.
    pub is_new: bool,
}

/// Hands layers to the driver.
struct Layers<'a> {
    driver: &'a dyn Driver,
    tell: &'a (dyn Fn(Progress) + Sync),
}

impl Unpack for Layers<'_> {
    fn found(&self, which: &str) {
        (self.tell)(Progress::Found(which.to_owned()));
    }

    fn has(&self, chain: &[Digest]) -> bool {
        self.driver.has(chain)
    }

    fn apply(
        &self,
        chain: &[Digest],
        tar: &mut dyn io::Read,
    ) -> std::result::Result<(), Box<dyn error::Error + Send + Sync>> {
        self.driver.apply(chain, tar)?;
        Ok(())
    }

    fn step(&self, layer: &Layer, step: Step) {
        (self.tell)(Progress::Layer(layer.blob.hex()[..12].to_owned(), step));
    }
}

impl Engine {
    /// Fetches an image, or every tagged image of a repository. `tell` is called by several threads.
    pub async fn pull(
        &self,
        what: Pull,
        cancel: Cancel,
        tell: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Result<()> {
        let engine = self.clone();
        blocking(move || engine.pull_now(&what, &cancel, &tell)).await?
    }

    fn pull_now(&self, what: &Pull, cancel: &Cancel, tell: &(dyn Fn(Progress) + Sync)) -> Result<()> {
        if !what.all_tags {
            return self.pull_one(what, &what.name.clone().with_default_tag(), cancel, tell);
        }
        if what.name.tag().is_some() || what.name.digest().is_some() {
            return Err(Error::new(Kind::Invalid, "tag can't be used with --all-tags/-a"));
        }
        let client = self.client(what, &what.name, cancel)?;
        let tags = client.tags().map_err(|error| told(error, &what.name))?;
        for tag in tags {
            let invalid = |error| {
                Error::new(Kind::Invalid, format!("tag {tag:?} of {}: {error}", what.name.familiar()))
            };
            let name = what.name.with_tag(&tag).map_err(invalid)?;
            self.pull_one(what, &name, cancel, tell)?;
        }
        Ok(())
    }

    fn client(&self, what: &Pull, name: &Reference, cancel: &Cancel) -> Result<Client> {
        let hosts = &self.0.options.registries.hosts;
        Ok(Client::new(hosts, name, Action::Pull, &[], what.credentials.clone(), cancel.clone())?)
    }

    fn pull_one(
        &self,
        what: &Pull,
        name: &Reference,
        cancel: &Cancel,
        tell: &(dyn Fn(Progress) + Sync),
    ) -> Result<()> {
        let client = self.client(what, name, cancel)?;
        let how = image::Pull {
            name: name.clone(),
            platform: what.platform.clone(),
            at_once: self.0.options.registries.downloads,
        };
        let snapshots: &Arc<dyn Driver> = &self.0.snapshots;
        let layers = Layers { driver: &**snapshots, tell };
        let arriving = self.arriving();
        let pulled = self.0.images.pull(&client, &how, &layers);
        let (digest, image, is_new) = match pulled {
            Ok(image::Pulled { digest, image: Fetched::UpToDate(image) }) => (digest, image, false),
            Ok(image::Pulled { digest, image: Fetched::New(staged) }) => {
                (digest, self.0.images.publish(staged)?, true)
            }
            Err(error) => {
                drop(arriving);
                // Layers that were unpacked for it are nobody's now.
                self.forget_layers();
                return Err(match error {
                    image::Error::Registry(error) => told(error, name),
                    other => other.into(),
                });
            }
        };
        self.0.events.image(&name.familiar(), &name.familiar_name(), "pull");
        let pulled = Pulled { name: name.clone(), digest, image, is_new };
        tell(Progress::Done(Box::new(pulled)));
        Ok(())
    }
}

/// A registry's refusal in Docker's words.
pub(crate) fn told(error: registry::Error, name: &Reference) -> Error {
    use registry::Error as E;
    let (familiar, repository) = (name.familiar(), name.familiar_name());
    let missing = |message: String| Error::new(Kind::NotFound, message);
    match error {
        E::Denied(why) => missing(format!(
            "pull access denied for {repository}, repository does not exist or may require 'docker login': {why}"
        )),
        E::NotFound(why) if why.starts_with("name unknown") => {
            missing(format!("repository {repository} not found: {why}"))
        }
        E::NotFound(why) => missing(format!("manifest for {familiar} not found: {why}")),
        other => other.into(),
    }
}
