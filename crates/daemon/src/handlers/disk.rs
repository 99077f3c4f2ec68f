//! `system df`, `image tree`, and prunes of what there is none of.

use api::{
    image::{Tree, TreeImage, TreeLayer},
    system::{BuildPrune, DiskUsage, VolumePrune},
};
use engine::{Container, ImageUsage};
use hyper::StatusCode;

use crate::{
    body::Reply,
    convert,
    failure::{Failure, Result},
    router::Call,
};

/// Bytes as the API writes them.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn of_image(container: &Container, used: &ImageUsage) -> bool {
    container.config.image_id.as_ref() == Some(&used.image.id)
}

pub(super) async fn usage(call: Call) -> Result<Reply> {
    const KINDS: [&str; 4] = ["container", "image", "volume", "build-cache"];
    let asked: Vec<&str> = call.query.all("type").collect();
    if let Some(other) = asked.iter().find(|kind| !KINDS.contains(kind)) {
        return Err(Failure::invalid(format!("unknown object type: {other}")));
    }
    let wants = |kind: &str| asked.is_empty() || asked.contains(&kind);
    let used = call.engine().disk_usage().await?;
    let containers = call.engine().list();
    let images = used.images.iter().map(|image| {
        let count = containers.iter().filter(|container| of_image(container, image)).count();
        let mut line = convert::image::summary(&image.image, image.size, count as i64);
        line.shared_size = signed(image.shared);
        line
    });
    let lines = containers.iter().map(|container| {
        let mut line = convert::container::summary(container);
        line.size_rw = signed(used.containers.get(&container.id).copied().unwrap_or_default());
        let image = used.images.iter().find(|image| of_image(container, image));
        line.size_root_fs = line.size_rw + image.map_or(0, |image| signed(image.size));
        line
    });
    let answer = DiskUsage {
        layers_size: if wants("image") { signed(used.images_total) } else { 0 },
        images: wants("image").then(|| images.collect()),
        containers: wants("container").then(|| lines.collect()),
        volumes: wants("volume").then(Vec::new),
        build_cache: wants("build-cache").then(Vec::new),
        builder_size: 0,
    };
    call.json(StatusCode::OK, &answer)
}

pub(super) async fn tree(call: Call) -> Result<Reply> {
    let (used, total) = call.engine().image_usage().await?;
    let containers = call.engine().list();
    let images = used.iter().map(|one| TreeImage {
        id: one.image.id.to_string(),
        repo_tags: one.image.names.iter().map(oci::Reference::familiar).collect(),
        size: one.size,
        shared: one.shared,
        containers: containers.iter().filter(|container| of_image(container, one)).count() as u64,
        layers: one
            .image
            .layers
            .iter()
            .zip(&one.layers)
            .map(|(layer, size)| TreeLayer { diff_id: layer.diff_id.to_string(), size: *size })
            .collect(),
    });
    call.json(StatusCode::OK, &Tree { total, images: images.collect() })
}

/// There is no build cache.
pub(super) async fn prune_builds(call: Call) -> Result<Reply> {
    call.json(StatusCode::OK, &BuildPrune::default())
}

/// There are no volumes.
pub(super) async fn prune_volumes(call: Call) -> Result<Reply> {
    let none = VolumePrune { volumes_deleted: Some(Vec::new()), space_reclaimed: 0 };
    call.json(StatusCode::OK, &none)
}
