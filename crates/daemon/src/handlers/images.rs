//! Images.

use api::{
    image::{Deleted, Prune},
    message::Progress,
};
use engine::{ImageUsage, Import, RemovedImage};
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
    let (used, _) = call.engine().image_usage().await?;
    let shared = call.query.flag("shared-size");
    let lines: Vec<_> = used
        .iter()
        .filter(|used| wanted.matches(&used.image))
        .map(|ImageUsage { image, size, shared: of_others, .. }| {
            let of_it =
                containers.iter().filter(|container| container.config.image_id.as_ref() == Some(&image.id));
            let mut line = convert::image::summary(&wanted.narrowed(image), *size, of_it.count() as i64);
            if shared {
                line.shared_size = i64::try_from(*of_others).unwrap_or(i64::MAX);
            }
            line
        })
        .collect();
    call.json(StatusCode::OK, &lines)
}

pub(super) async fn inspect(call: Call) -> Result<Reply> {
    let used = used(&call).await?;
    call.json(StatusCode::OK, &convert::image::inspect(&used, call.engine().storage_driver()))
}

pub(super) async fn history(call: Call) -> Result<Reply> {
    let used = used(&call).await?;
    call.json(StatusCode::OK, &convert::image::history(&used))
}

/// The image that a request names, with what it takes.
async fn used(call: &Call) -> Result<ImageUsage> {
    let image = call.engine().image(&call.name).await?;
    let (all, _) = call.engine().image_usage().await?;
    let found = all.into_iter().find(|used| used.image.id == image.id);
    found.ok_or_else(|| Failure::new(StatusCode::NOT_FOUND, format!("No such image: {}", call.name)))
}

/// Without `dangling=false`, only what has no name.
pub(super) async fn prune(call: Call) -> Result<Reply> {
    let filters = call.query.filters()?;
    filters.only(&["dangling", "label", "label!", "until"])?;
    let named = match filters.values("dangling") {
        [] => false,
        [value] => !convert::filter::boolean(value)
            .ok_or_else(|| Failure::invalid(format!("invalid filter 'dangling={value}'")))?,
        _ => return Err(Failure::invalid("the filter dangling is true or false, not both")),
    };
    let until = convert::time::until(&filters)?;
    let picked = |image: &engine::Image| {
        let labels = &image.config.config.labels;
        until.is_none_or(|until| convert::image::created(image) < Some(until))
            && filters.labels("label", labels)
            && (filters.values("label!").is_empty() || !filters.labels("label!", labels))
    };
    let (removed, space_reclaimed) = call.engine().prune_images(named, picked).await?;
    let lines = deleted(removed);
    let images_deleted = (!lines.is_empty()).then_some(lines);
    call.json(StatusCode::OK, &Prune { images_deleted, space_reclaimed })
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
    call.json(StatusCode::OK, &deleted(removed))
}

fn deleted(removed: Vec<RemovedImage>) -> Vec<Deleted> {
    let line = |removed| match removed {
        RemovedImage::Untagged(untagged) => Deleted { untagged, ..Deleted::default() },
        RemovedImage::Deleted(deleted) => Deleted { deleted, ..Deleted::default() },
    };
    removed.into_iter().map(line).collect()
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
