//! Images.

use api::{image::Deleted, message::Progress};
use engine::{Import, RemovedImage};
use hyper::StatusCode;

use super::registries;
use crate::{
    body::{self, Reader, Reply},
    convert,
    failure::{Failure, Result},
    router::Call,
};

pub(super) async fn list(call: Call) -> Result<Reply> {
    let mut filters = call.query.filters()?;
    // The name of an image, in the days of 1.24.
    let old = call.query.get("filter");
    if !old.is_empty() {
        filters.add("reference", old);
    }
    let wanted = convert::filter::Images::new(call.engine(), &filters).await?;
    let containers = call.engine().list();
    let lines: Vec<_> = call
        .engine()
        .images()
        .await?
        .iter()
        .filter(|image| wanted.matches(image))
        .map(|image| {
            let of_it =
                containers.iter().filter(|container| container.config.image_id.as_ref() == Some(&image.id));
            convert::image::summary(&wanted.narrowed(image), of_it.count() as i64)
        })
        .collect();
    call.json(StatusCode::OK, &lines)
}

pub(super) async fn inspect(call: Call) -> Result<Reply> {
    let image = call.engine().image(&call.name).await?;
    call.json(StatusCode::OK, &convert::image::inspect(&image))
}

pub(super) async fn history(call: Call) -> Result<Reply> {
    let image = call.engine().image(&call.name).await?;
    call.json(StatusCode::OK, &convert::image::history(&image))
}

pub(super) async fn tag(call: Call) -> Result<Reply> {
    let name = with_tag(call.query.get("repo"), call.query.get("tag"));
    call.engine().tag(&call.name, &name).await?;
    Ok(body::empty(StatusCode::CREATED))
}

fn with_tag(name: &str, tag: &str) -> String {
    if tag.is_empty() { name.to_owned() } else { format!("{name}:{tag}") }
}

pub(super) async fn delete(call: Call) -> Result<Reply> {
    let removed = call.engine().remove_image(&call.name, call.query.flag("force")).await?;
    let lines: Vec<_> = removed
        .into_iter()
        .map(|removed| match removed {
            RemovedImage::Untagged(untagged) => Deleted { untagged, ..Deleted::default() },
            RemovedImage::Deleted(deleted) => Deleted { deleted, ..Deleted::default() },
        })
        .collect();
    call.json(StatusCode::OK, &lines)
}

/// Answers when everything is unpacked; the lines are those of `docker load`.
pub(super) async fn load(call: Call) -> Result<Reply> {
    convert::check_platform(call.query.get("platform"))?;
    let images = call.door.engine.load(Reader::new(call.body)).await?;
    let mut lines = Vec::new();
    for image in images {
        let names: Vec<_> = image.names.iter().map(oci::Reference::familiar).collect();
        let texts = if names.is_empty() {
            vec![format!("Loaded image ID: {}\n", image.id)]
        } else {
            names.into_iter().map(|name| format!("Loaded image: {name}\n")).collect()
        };
        for text in texts {
            lines.extend_from_slice(&body::line(&Progress::stream(text)));
        }
    }
    Ok(body::reply(StatusCode::OK, api::JSON, lines))
}

/// Import or pull.
pub(super) async fn create(call: Call) -> Result<Reply> {
    let query = &call.query;
    if !query.get("fromImage").is_empty() {
        return registries::pull(call).await;
    }
    match query.get("fromSrc") {
        "-" => {}
        "" => return Err(Failure::invalid("either fromImage or fromSrc is needed")),
        _ => {
            return Err(Failure::unsupported("importing from a URL (send the archive instead: fromSrc=-)"));
        }
    }
    convert::check_platform(query.get("platform"))?;
    let name = with_tag(query.get("repo"), query.get("tag"));
    let name = if name.is_empty() {
        None
    } else {
        let parsed: std::result::Result<oci::Reference, _> = name.parse();
        Some(parsed.map_err(|error| Failure::invalid(error.to_string()))?.with_default_tag())
    };
    let how = Import {
        name,
        changes: query.all("changes").map(str::to_owned).collect(),
        message: query.get("message").to_owned(),
        platform: None,
    };
    let image = call.door.engine.import(Reader::new(call.body), how).await?;
    Ok(body::reply(StatusCode::OK, api::JSON, body::line(&Progress::status(image.id.to_string()))))
}
