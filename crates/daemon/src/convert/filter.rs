//! Filters of `ps` and `images`.

use api::{Filters, query::Invalid};
use engine::{Container, Engine, Image, State};
use jiff::Timestamp;

use super::{container::networks, image, time};
use crate::failure::{Failure, Result};

/// What `ps` asks for, with every name resolved.
pub(crate) struct Containers {
    filters: Filters,
    ancestors: Vec<String>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
}

const STATES: &[&str] = &["created", "running", "paused", "restarting", "removing", "exited", "dead"];

impl Containers {
    /// Checks the filters and resolves the names in them.
    pub(crate) async fn new(engine: &Engine, filters: &Filters) -> Result<Self> {
        filters.only(&[
            "ancestor", "before", "exited", "health", "id", "label", "name", "network", "since", "status",
            "volume",
        ])?;
        let bad =
            |name: &str, value: &str| Failure::from(Invalid(format!("invalid filter '{name}={value}'")));
        if let Some(value) = filters.values("status").iter().find(|value| !STATES.contains(&value.as_str())) {
            return Err(bad("status", value));
        }
        if let Some(value) = filters.values("exited").iter().find(|value| value.parse::<i32>().is_err()) {
            return Err(bad("exited", value));
        }
        let healths = ["none", "starting", "healthy", "unhealthy"];
        if let Some(value) = filters.values("health").iter().find(|value| !healths.contains(&value.as_str()))
        {
            return Err(bad("health", value));
        }
        if let Some(pattern) = filters.values("name").iter().find(|pattern| pattern.contains(EXPRESSION)) {
            return Err(Failure::unsupported(format!(
                "regular expressions in the filter name ({pattern:?}; ^ and $ at its ends work)"
            )));
        }
        let mut ancestors = Vec::new();
        for name in filters.values("ancestor") {
            // An image that is not there has no descendants.
            if let Ok(image) = engine.image(name).await {
                ancestors.push(image.id.to_string());
            }
        }
        let created = |name| -> Result<Option<Timestamp>> {
            let key = filters.values(name).first();
            Ok(key.map(|key| engine.inspect(key)).transpose()?.map(|container| container.created))
        };
        Ok(Self { ancestors, before: created("before")?, since: created("since")?, filters: filters.clone() })
    }

    /// Whether the filters ask for a state, so that ended containers count too.
    pub(crate) fn any_state(&self) -> bool {
        ["status", "exited"].iter().any(|name| !self.filters.values(name).is_empty())
            || self.before.is_some()
            || self.since.is_some()
    }

    pub(crate) fn matches(&self, container: &Container) -> bool {
        let filters = &self.filters;
        let config = &container.config;
        let image = config.image_id.as_ref().map(ToString::to_string).unwrap_or_default();
        let ended = matches!(container.state, State::Exited | State::Dead);
        let networks = networks(container);
        filters.any("id", |id| container.id.starts_with(id))
            && filters.any("name", |pattern| name_matches(pattern, &container.name))
            && filters.any("status", |status| status == container.state.word())
            && filters.any("exited", |code| ended && code.parse() == Ok(container.last.exit_code))
            && filters.any("health", |health| health == "none")
            && filters.any("network", |key| {
                networks.contains_key(key)
                    || networks.values().any(|place| !key.is_empty() && place.network_id.starts_with(key))
            })
            && filters.any("volume", |path| {
                config.host.binds.iter().any(|bind| bind.target == path || bind.source.as_os_str() == path)
            })
            && filters.labels("label", &config.labels)
            && (filters.values("ancestor").is_empty() || self.ancestors.contains(&image))
            && self.before.is_none_or(|before| container.created < before)
            && self.since.is_none_or(|since| container.created > since)
    }
}

/// Signs that mean something in an expression and cannot be part of a name.
const EXPRESSION: &[char] = &['*', '+', '?', '(', ')', '[', ']', '{', '}', '|', '\\'];

/// Anywhere in the name, unless tied to its ends; with or without Docker's slash.
fn name_matches(pattern: &str, name: &str) -> bool {
    let (start, pattern) = pattern.strip_prefix('^').map_or((false, pattern), |rest| (true, rest));
    let (end, pattern) = pattern.strip_suffix('$').map_or((false, pattern), |rest| (true, rest));
    let fits = |name: &str| match (start, end) {
        (true, true) => name == pattern,
        (true, false) => name.starts_with(pattern),
        (false, true) => name.ends_with(pattern),
        (false, false) => name.contains(pattern),
    };
    fits(name) || fits(&format!("/{name}"))
}

/// What `images` asks for.
pub(crate) struct Images {
    filters: Filters,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Images {
    pub(crate) async fn new(engine: &Engine, filters: &Filters) -> Result<Self> {
        filters.only(&["before", "dangling", "label", "reference", "since", "until"])?;
        if let Some(value) = filters.values("dangling").iter().find(|value| boolean(value).is_none()) {
            return Err(Failure::invalid(format!("invalid filter 'dangling={value}'")));
        }
        let mut bounds = [None, None];
        for (bound, name) in bounds.iter_mut().zip(["before", "since"]) {
            if let Some(name) = filters.values(name).first() {
                *bound = image::created(&engine.image(name).await?);
            }
        }
        Ok(Self {
            before: bounds[0],
            since: bounds[1],
            until: time::until(filters)?,
            filters: filters.clone(),
        })
    }

    /// The image with those of its names that were asked for.
    pub(crate) fn narrowed(&self, image: &Image) -> Image {
        let asked = |name: &oci::Reference| self.filters.any("reference", |pattern| is_called(name, pattern));
        Image { names: image.names.iter().filter(|name| asked(name)).cloned().collect(), ..image.clone() }
    }

    pub(crate) fn matches(&self, image: &Image) -> bool {
        let created = image::created(image);
        let named = |pattern: &str| image.names.iter().any(|name| is_called(name, pattern));
        self.filters.any("reference", named)
            && self.filters.any("dangling", |value| boolean(value) == Some(image.names.is_empty()))
            && self.filters.labels("label", &image.config.config.labels)
            && self.before.is_none_or(|before| created < Some(before))
            && self.since.is_none_or(|since| created > Some(since))
            && self.until.is_none_or(|until| created < Some(until))
    }
}

/// `busybox`, `busybox:1`, `*/busybox*`, as people write names.
fn is_called(name: &oci::Reference, pattern: &str) -> bool {
    glob(pattern, &name.familiar_name()) || glob(pattern, &name.familiar())
}

pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

/// `*` and `?` stand for what is no slash, as in Go's `path.Match`.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut star) = ((0, 0), None);
    while at.1 < text.len() {
        let next = pattern.get(at.0);
        if next == Some(&'*') {
            star = Some(at);
            at.0 += 1;
        } else if next == Some(&text[at.1]) || (next == Some(&'?') && text[at.1] != '/') {
            at = (at.0 + 1, at.1 + 1);
        } else if let Some((star_at, taken)) = star.filter(|(_, taken)| text[*taken] != '/') {
            star = Some((star_at, taken + 1));
            at = (star_at + 1, taken + 1);
        } else {
            return false;
        }
    }
    pattern[at.0..].iter().all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_with_and_without_ties() {
        for (pattern, fits) in
            [("web", true), ("^web1$", true), ("^/web1$", true), ("^eb", false), ("eb1$", true)]
        {
            assert_eq!(name_matches(pattern, "web1"), fits, "{pattern}");
        }
    }

    #[test]
    fn globs_stop_at_slashes() {
        for (pattern, text, fits) in [
            ("busy*", "busybox", true),
            ("busybox:*", "busybox:latest", true),
            ("*", "a/b", false),
            ("*/*", "a/b", true),
            ("a*c*e", "abcde", true),
            ("b?x", "box", true),
            ("box", "boxes", false),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern} {text}");
        }
    }
}
