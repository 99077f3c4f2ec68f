//! `push`, and what else is asked of registries.

use image::{Image, PushStep, Pushed};
use oci::{
    Digest, Platform, Reference,
    image::{Document as Content, ImageConfig, media},
};
use registry::{Action, Cancel, Client, Credentials};

use crate::{
    Engine, blocking,
    error::{Error, Kind, Result},
    pull,
};

/// What to send.
#[derive(Debug, Clone)]
pub struct Push {
    /// With its tag; without one, every tag of the repository.
    pub name: Reference,
    /// For the name's registry; may be empty.
    pub credentials: Credentials,
}

/// How a push goes on.
#[derive(Debug, Clone)]
pub enum PushProgress {
    /// It begins, for this repository.
    Begun(Reference),
    /// A layer, by the first digits of its diff id.
    Layer(String, PushStep),
    /// A tag is there.
    Done(Reference, Pushed),
}

/// What a registry has under a name.
#[derive(Debug, Clone)]
pub struct Remote {
    /// Of the manifest or index.
    pub digest: Digest,
    /// Of the manifest or index.
    pub media_type: String,
    /// Of the manifest or index, in bytes.
    pub size: u64,
    /// What there is an image for.
    pub platforms: Vec<Platform>,
}

impl Engine {
    /// Sends one tag, or every tag of a repository. `tell` is called by several threads.
    pub async fn push(
        &self,
        what: Push,
        cancel: Cancel,
        tell: impl Fn(PushProgress) + Send + Sync + 'static,
    ) -> Result<()> {
        let engine = self.clone();
        blocking(move || engine.push_now(&what, &cancel, &tell)).await?
    }

    fn push_now(&self, what: &Push, cancel: &Cancel, tell: &(dyn Fn(PushProgress) + Sync)) -> Result<()> {
        if what.name.digest().is_some() {
            return Err(Error::new(Kind::Invalid, "cannot push a digest reference"));
        }
        let mut tags = Vec::new();
        for image in self.0.images.list()? {
            let is_asked = |name: &&Reference| {
                name.name() == what.name.name()
                    && name.digest().is_none()
                    && (what.name.tag().is_none() || name.tag() == what.name.tag())
            };
            tags.extend(image.names.iter().filter(is_asked).map(|name| (name.clone(), image.clone())));
        }
        tags.sort_by(|(a, _), (b, _)| a.cmp(b));
        tell(PushProgress::Begun(what.name.clone()));
        if tags.is_empty() {
            return Err(self.nothing_to_push(&what.name)?);
        }
        for (name, image) in tags {
            let pushed = self.push_one(what, &name, &image, cancel, tell)?;
            self.0.events.image(&name.familiar(), &name.familiar_name(), "push");
            tell(PushProgress::Done(name, pushed));
        }
        Ok(())
    }

    fn nothing_to_push(&self, name: &Reference) -> Result<Error> {
        let images = self.0.images.list()?;
        let known = images.iter().flat_map(|image| &image.names).any(|other| other.name() == name.name());
        let text = if known {
            format!("tag does not exist: {}", name.familiar())
        } else {
            format!("An image does not exist locally with the tag: {}", name.familiar_name())
        };
        Ok(Error::new(Kind::NotFound, text))
    }

    fn push_one(
        &self,
        what: &Push,
        name: &Reference,
        image: &Image,
        cancel: &Cancel,
        tell: &(dyn Fn(PushProgress) + Sync),
    ) -> Result<Pushed> {
        let registries = &self.0.options.registries;
        let sources = self.0.images.sources(image, name);
        let client = Client::new(
            &registries.hosts,
            name,
            Action::Push,
            &sources,
            what.credentials.clone(),
            cancel.clone(),
        )?;
        let how = image::Push { name: name.clone(), at_once: registries.uploads };
        let watch = |layer: &image::Layer, step: PushStep| {
            tell(PushProgress::Layer(layer.diff_id.hex()[..12].to_owned(), step));
        };
        Ok(self.0.images.push(&client, image, &how, &watch)?)
    }

    /// What a registry has under a name, and for which platforms.
    pub async fn remote(&self, name: Reference, credentials: Credentials) -> Result<Remote> {
        let hosts = self.0.options.registries.hosts.clone();
        blocking(move || {
            let name = name.with_default_tag();
            let client = Client::new(&hosts, &name, Action::Pull, &[], credentials, Cancel::default())?;
            let which = name.digest().map(ToString::to_string).or_else(|| name.tag().map(str::to_owned));
            let told = |error| pull::told(error, &name);
            let document = client.manifest(&which.unwrap_or_default()).map_err(told)?;
            let platforms = match &document.content {
                Content::Index(index) => {
                    index.manifests.iter().filter_map(|one| one.platform.clone()).collect()
                }
                Content::Manifest(manifest) if media::is_config(&manifest.config.media_type) => {
                    let config = client.document(&manifest.config).map_err(told)?;
                    let config = ImageConfig::parse(&config);
                    vec![config.map_err(|error| Error::new(Kind::Invalid, error.to_string()))?.platform()]
                }
                Content::Manifest(_) => Vec::new(),
            };
            let size = document.bytes.len() as u64;
            Ok(Remote { digest: document.digest, media_type: document.media_type, size, platforms })
        })
        .await?
    }

    /// Whether credentials are those of the registry `host`; gives a token to keep in place of the password, if the
    /// registry has one.
    pub async fn login(&self, host: String, credentials: Credentials) -> Result<String> {
        let hosts = self.0.options.registries.hosts.clone();
        blocking(move || Ok(Client::login(&hosts, &host, credentials, Cancel::default())?)).await?
    }
}
