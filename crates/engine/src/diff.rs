//! `diff`, `export` and `save`: what a container changed, what it shows, and images, as archives.

use std::io::Write;

use image::{Format, Outgoing};
use oci::Platform;
use snapshot::Change;

use crate::{
    Engine, blocking,
    error::{Error, Kind, Result},
};

/// See [`Engine::export`].
#[derive(Debug)]
pub struct Export {
    engine: Engine,
    id: String,
}

impl Export {
    /// Writes the archive, on a thread that may wait for whoever takes it. On an error it is not whole.
    pub fn write(self, out: &mut dyn Write) -> Result<()> {
        let Self { engine, id } = self;
        engine.0.snapshots.export(&id, true, out)?;
        engine.there(&id)?;
        let container = engine.0.containers.find(&id)?.now();
        engine.0.events.container(&container, "export", &[]);
        Ok(())
    }
}

impl Engine {
    /// What a container has changed.
    pub async fn changes(&self, key: &str) -> Result<Vec<Change>> {
        let id = self.0.containers.find(key)?.id.clone();
        let snapshots = self.0.snapshots.clone();
        Ok(blocking(move || snapshots.changes(&id)).await??)
    }

    /// A container's whole root, ready to be written as an archive.
    pub fn export(&self, key: &str) -> Result<Export> {
        let id = self.0.containers.find(key)?.id.clone();
        Ok(Export { engine: self.clone(), id })
    }

    /// Images for an archive, by Docker's words for them; they are held until they are written or dropped.
    pub async fn save_images(
        &self,
        words: &[String],
        format: Format,
        platform: Option<Platform>,
    ) -> Result<Outgoing> {
        for word in words {
            let image = self.image(word).await;
            if let (Ok(image), Some(wanted)) = (&image, &platform) {
                let have = image.config.platform();
                if !wanted.accepts(&have) {
                    let (word, have) = (word.as_str(), have.to_string());
                    let text = format!(
                        "image {word} was found but does not provide the specified platform ({wanted}); it is for {have}"
                    );
                    return Err(Error::new(Kind::NotFound, text));
                }
            }
        }
        let (engine, words) = (self.clone(), words.to_vec());
        let outgoing = blocking(move || engine.0.images.save(&words, format)).await??;
        for image in outgoing.images() {
            self.0.events.image(image.id.as_str(), image.id.as_str(), "save");
        }
        Ok(outgoing)
    }
}
