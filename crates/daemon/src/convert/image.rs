//! The engine's images in Docker's words.

use std::collections::{BTreeMap, BTreeSet};

use api::{
    container::GraphDriver,
    create::{Config, Empty, Healthcheck, Words},
    image::{History, Inspect, Metadata, RootFs, Summary},
};
use engine::{Image, ImageUsage};
use jiff::Timestamp;

use super::{container::driver, time};

/// When it was made, if it says so.
pub(crate) fn created(image: &Image) -> Option<Timestamp> {
    parse(image.config.created.as_deref())
}

fn parse(text: Option<&str>) -> Option<Timestamp> {
    text?.parse().ok()
}

/// Seconds since 1970; Go's zero time in seconds is what Docker shows for none.
fn seconds(at: Option<Timestamp>) -> i64 {
    at.map_or(0, Timestamp::as_second)
}

/// One line of `images`.
pub(crate) fn summary(image: &Image, size: u64, containers: i64) -> Summary {
    let labels = &image.config.config.labels;
    Summary {
        containers,
        created: seconds(created(image)),
        id: image.id.to_string(),
        labels: (!labels.is_empty()).then(|| labels.clone()),
        parent_id: String::new(),
        repo_digests: Some(digests(image)),
        repo_tags: Some(tags(image)),
        shared_size: -1,
        size: i64::try_from(size).unwrap_or(i64::MAX),
        virtual_size: 0,
    }
}

fn tags(image: &Image) -> Vec<String> {
    image.names.iter().filter(|name| name.tag().is_some()).map(oci::Reference::familiar).collect()
}

fn digests(image: &Image) -> Vec<String> {
    let with_digest = image.names.iter().filter(|name| name.tag().is_none() && name.digest().is_some());
    with_digest.map(oci::Reference::familiar).collect()
}

/// `image inspect`.
pub(crate) fn inspect(used: &ImageUsage, storage_driver: &'static str) -> Inspect {
    let image = &used.image;
    let said = &image.config;
    Inspect {
        id: image.id.to_string(),
        repo_tags: tags(image),
        repo_digests: digests(image),
        comment: said.history.last().map(|step| step.comment.clone()).unwrap_or_default(),
        created: time::go(created(image)),
        author: said.author.clone(),
        config: Some(config(&said.config)),
        architecture: said.architecture.clone(),
        variant: said.variant.clone().unwrap_or_default(),
        os: said.os.clone(),
        size: i64::try_from(used.size).unwrap_or(i64::MAX),
        graph_driver: GraphDriver { data: Some(BTreeMap::new()), name: driver(storage_driver).to_owned() },
        root_fs: RootFs {
            kind: "layers".to_owned(),
            layers: said.rootfs.diff_ids.iter().map(ToString::to_string).collect(),
        },
        metadata: Metadata::default(),
        ..Inspect::default()
    }
}

fn set(names: &BTreeSet<String>) -> Option<BTreeMap<String, Empty>> {
    (!names.is_empty()).then(|| names.iter().map(|name| (name.clone(), Empty {})).collect())
}

fn some(list: &[String]) -> Option<Vec<String>> {
    (!list.is_empty()).then(|| list.to_vec())
}

/// A config that came with a commit.
pub(crate) fn given(said: Config) -> oci::image::Config {
    let keys = |set: Option<api::create::Set>| set.unwrap_or_default().into_keys().collect();
    oci::image::Config {
        user: said.user,
        exposed_ports: keys(said.exposed_ports),
        env: said.env.unwrap_or_default(),
        entrypoint: said.entrypoint.map(|words| words.0),
        cmd: said.cmd.map(|words| words.0),
        healthcheck: said.healthcheck.map(|probe| oci::image::Healthcheck {
            test: probe.test.unwrap_or_default(),
            interval: probe.interval,
            timeout: probe.timeout,
            start_period: probe.start_period,
            start_interval: probe.start_interval,
            retries: probe.retries,
        }),
        args_escaped: said.args_escaped,
        volumes: keys(said.volumes),
        working_dir: said.working_dir,
        on_build: said.on_build.unwrap_or_default(),
        labels: said.labels.unwrap_or_default(),
        stop_signal: Some(said.stop_signal).filter(|signal| !signal.is_empty()),
        shell: said.shell.map(|words| words.0),
    }
}

fn config(said: &oci::image::Config) -> Config {
    Config {
        user: said.user.clone(),
        exposed_ports: set(&said.exposed_ports),
        env: some(&said.env),
        cmd: said.cmd.clone().map(Words),
        healthcheck: said.healthcheck.as_ref().map(|probe| Healthcheck {
            test: some(&probe.test),
            interval: probe.interval,
            timeout: probe.timeout,
            start_period: probe.start_period,
            start_interval: probe.start_interval,
            retries: probe.retries,
        }),
        args_escaped: said.args_escaped,
        volumes: set(&said.volumes),
        working_dir: said.working_dir.clone(),
        entrypoint: said.entrypoint.clone().map(Words),
        on_build: some(&said.on_build),
        labels: (!said.labels.is_empty()).then(|| said.labels.clone()),
        stop_signal: said.stop_signal.clone().unwrap_or_default(),
        shell: said.shell.clone().map(Words),
        ..Config::default()
    }
}

/// `history`, newest first; the steps that made a layer take the sizes of the layers, in order.
pub(crate) fn history(used: &ImageUsage) -> Vec<History> {
    let image = &used.image;
    let mut layers = used.layers.iter();
    let mut lines: Vec<History> = image
        .config
        .history
        .iter()
        .map(|step| {
            let layer = if step.empty_layer { None } else { layers.next() };
            History {
                comment: step.comment.clone(),
                created: seconds(parse(step.created.as_deref())),
                created_by: step.created_by.clone(),
                id: "<missing>".to_owned(),
                size: layer.map_or(0, |size| i64::try_from(*size).unwrap_or(i64::MAX)),
                tags: None,
            }
        })
        .collect();
    if let Some(last) = lines.last_mut() {
        last.id = image.id.to_string();
        last.tags = Some(tags(image)).filter(|tags| !tags.is_empty());
    }
    lines.reverse();
    lines
}
