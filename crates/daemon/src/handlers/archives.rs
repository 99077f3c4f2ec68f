//! What goes out as an archive, or comes of a container: `diff`, `export`, `commit`, `save`, `squash`.

use std::io::Write;

use api::{container::Change, create::Config};
use engine::{ChangeKind, Commit, Format};
use hyper::StatusCode;

use crate::{
    body::{self, Reply},
    convert,
    failure::{Failure, Result},
    router::Call,
};

const TAR: &str = "application/x-tar";

/// `null` where nothing has changed, as Docker has it.
pub(super) async fn changes(call: Call) -> Result<Reply> {
    let changes = call.engine().changes(&call.name).await?;
    let lines: Vec<_> = changes
        .into_iter()
        .map(|change| Change {
            kind: match change.kind {
                ChangeKind::Modified => 0,
                ChangeKind::Added => 1,
                ChangeKind::Deleted => 2,
            },
            path: String::from_utf8_lossy(&change.path).into_owned(),
        })
        .collect();
    call.json(StatusCode::OK, &(!lines.is_empty()).then_some(lines))
}

pub(super) async fn export(call: Call) -> Result<Reply> {
    let export = call.engine().export(&call.name)?;
    let what = format!("export {}", call.name);
    Ok(stream("application/octet-stream", what, move |out| export.write(out)))
}

/// An answer that a blocking thread writes; a failure on the way breaks it off.
fn stream<E: std::fmt::Display>(
    kind: &'static str,
    what: String,
    write: impl FnOnce(&mut dyn Write) -> std::result::Result<(), E> + Send + 'static,
) -> Reply {
    let (mut writer, body) = body::writer();
    tokio::task::spawn_blocking(move || match write(&mut writer) {
        // A client that is gone needs no end.
        Ok(()) => drop(writer.finish()),
        Err(error) => tracing::warn!("{what}: {error}"),
    });
    body::with_type(StatusCode::OK, kind, body)
}

pub(super) async fn commit(call: Call) -> Result<Reply> {
    let Call { door, query, headers, body, .. } = call;
    let given = body::json::<Option<Config>>(&headers, body, true).await?;
    let how = Commit {
        name: name(&query)?,
        config: given.filter(|config| *config != Config::default()).map(convert::image::given),
        changes: query.all("changes").map(str::to_owned).collect(),
        author: query.get("author").to_owned(),
        message: query.get("comment").to_owned(),
        pause: query.flag_or("pause", true),
        squash: query.flag("squash"),
    };
    let image = door.engine.commit(query.get("container"), how).await?;
    let answer = api::message::Created { id: image.id.to_string() };
    Ok(body::reply(StatusCode::CREATED, api::JSON, body::line(&answer)))
}

/// Ours: `POST /images/{name}/squash?repo=&tag=&message=`.
pub(super) async fn squash(call: Call) -> Result<Reply> {
    let new = name(&call.query)?;
    let image = call.engine().squash(&call.name, new, call.query.get("message")).await?;
    let answer = api::message::Created { id: image.id.to_string() };
    Ok(body::reply(StatusCode::CREATED, api::JSON, body::line(&answer)))
}

fn name(query: &api::Query) -> Result<Option<oci::Reference>> {
    let (repo, tag) = (query.get("repo"), query.get("tag"));
    if repo.is_empty() {
        return Ok(None);
    }
    let text = if tag.is_empty() { repo.to_owned() } else { format!("{repo}:{tag}") };
    let parsed: std::result::Result<oci::Reference, _> = text.parse();
    let name = parsed.map_err(|error| Failure::invalid(error.to_string()))?;
    if name.digest().is_some() {
        return Err(Failure::invalid("refusing to create a tag with a digest reference"));
    }
    Ok(Some(name.with_default_tag()))
}

pub(super) async fn save_one(call: Call) -> Result<Reply> {
    let words = vec![call.name.clone()];
    save(call, words).await
}

pub(super) async fn save_all(call: Call) -> Result<Reply> {
    // Older clients send one list with commas.
    let words = call.query.all("names").flat_map(|list| list.split(',')).filter(|word| !word.is_empty());
    let words: Vec<_> = words.map(str::to_owned).collect();
    if words.is_empty() {
        return Err(Failure::invalid("no image was named"));
    }
    save(call, words).await
}

async fn save(call: Call, words: Vec<String>) -> Result<Reply> {
    let format = match call.query.get("format") {
        "" | "docker" | "docker-archive" => Format::Docker,
        "oci" | "oci-archive" => Format::Oci,
        other => return Err(Failure::invalid(format!("unknown format {other:?}: want docker or oci"))),
    };
    let platform = convert::platform(call.query.get("platform"))?;
    let outgoing = call.engine().save_images(&words, format, platform).await?;
    Ok(stream(TAR, format!("save {}", words.join(" ")), move |out| outgoing.write(out)))
}
