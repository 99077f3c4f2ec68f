//! `--filter name=value`

use std::fmt;
use std::str::FromStr;

/// One condition.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    name: String,
    value: String,
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Filter, String> {
        match text.split_once('=') {
            Some((name, value)) => {
                Ok(Filter { name: name.trim().to_ascii_lowercase(), value: value.trim().to_owned() })
            }
            None => Err("bad format of filter (expected name=value)".into()),
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

impl Filter {
    /// Whether it is a condition on `name`.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.name == name
    }
}

/// All conditions as the API takes them; nothing without any.
pub(crate) fn query<'a>(filters: impl IntoIterator<Item = &'a Filter>) -> Option<String> {
    let mut all = api::Filters::default();
    filters.into_iter().for_each(|filter| all.add(&filter.name, &filter.value));
    (!all.0.is_empty()).then(|| all.to_json())
}

/// The condition that a name matches.
pub(crate) fn reference(pattern: &str) -> Filter {
    Filter { name: "reference".into(), value: pattern.to_owned() }
}

/// Only what has no name, or what has one too.
pub(crate) fn dangling(only: bool) -> Filter {
    Filter { name: "dangling".into(), value: only.to_string() }
}
