//! Query strings, and the filters that Docker puts into them.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::go;

/// The decoded pairs of a query string, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(pub Vec<(String, String)>);

/// A parameter that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid(pub String);

impl std::fmt::Display for Invalid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Invalid {}

impl Query {
    /// Takes a query string apart.
    pub fn parse(text: &str) -> Self {
        let pair = |part: &str| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(&name.replace('+', " ")), decode(&value.replace('+', " ")))
        };
        Self(text.split('&').filter(|part| !part.is_empty()).map(pair).collect())
    }

    /// Whether Go's clients and servers would take a query string apart the same way.
    ///
    /// # Errors
    /// In Go's words: an escape that is none, or a semicolon, which some take for `&` and some do not.
    pub fn check(text: &str) -> Result<(), Invalid> {
        if text.contains(';') {
            return Err(Invalid("invalid semicolon separator in query".into()));
        }
        for (at, _) in text.match_indices('%') {
            let escape: String = text[at..].chars().take(3).collect();
            if escape.len() != 3 || !escape[1..].bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(Invalid(format!("invalid URL escape {escape:?}")));
            }
        }
        Ok(())
    }

    /// The first value of `name`; empty if there is none, as in Go.
    pub fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value.as_str())
    }

    /// All values of `name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Docker's idea of true: anything but nothing, `0`, `no`, `false` and `none`.
    pub fn flag(&self, name: &str) -> bool {
        truth(self.get(name))
    }

    /// Like [`Query::flag`], with another answer where the parameter is missing.
    pub fn flag_or(&self, name: &str, missing: bool) -> bool {
        self.all(name).next().map_or(missing, truth)
    }

    /// A number, if given.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Invalid> {
        match self.get(name) {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| Invalid(format!("invalid value for {name}: {text:?} is not a number in range"))),
        }
    }

    /// The filters.
    pub fn filters(&self) -> Result<Filters, Invalid> {
        Filters::parse(self.get("filters"))
    }
}

fn truth(text: &str) -> bool {
    !matches!(text.trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
}

/// `%XX` undone; anything that is not one stays as it is.
pub fn decode(text: &str) -> String {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let pair = (bytes[at] == b'%')
            .then(|| Some((digit(*bytes.get(at + 1)?)?, digit(*bytes.get(at + 2)?)?)))
            .flatten();
        if let Some((high, low)) = pair {
            out.push(high << 4 | low);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// `text`, safe in a path segment or a query.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte as char);
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// `{"status":{"running":true}}`, or the older `{"status":["running"]}`: any value of one name, all names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(pub BTreeMap<String, Vec<String>>);

impl Filters {
    /// Reads either form.
    pub fn parse(json: &str) -> Result<Self, Invalid> {
        if json.is_empty() {
            return Ok(Self::default());
        }
        let invalid = || Invalid(format!("invalid filter: {json:?}"));
        let go::Value::Object(members) = go::parse(json.as_bytes()).map_err(|_| invalid())? else {
            return Err(invalid());
        };
        let mut filters = Self::default();
        for (name, value) in members {
            let values = match value {
                go::Value::Object(set) => set
                    .into_iter()
                    .filter(|(_, on)| *on == go::Value::Bool(true))
                    .map(|(value, _)| value)
                    .collect(),
                go::Value::Array(list) => list
                    .into_iter()
                    .map(|item| match item {
                        go::Value::String(value) => Ok(value),
                        _ => Err(invalid()),
                    })
                    .collect::<Result<_, _>>()?,
                _ => return Err(invalid()),
            };
            filters.0.entry(name).or_default().extend::<Vec<_>>(values);
        }
        Ok(filters)
    }

    /// Adds one.
    pub fn add(&mut self, name: &str, value: &str) {
        self.0.entry(name.to_owned()).or_default().push(value.to_owned());
    }

    /// As it goes into a query, not yet percent-encoded.
    pub fn to_json(&self) -> String {
        let set = |values: &Vec<String>| values.iter().map(|value| (value.clone(), true)).collect();
        let object: BTreeMap<&str, BTreeMap<String, bool>> =
            self.0.iter().map(|(name, values)| (name.as_str(), set(values))).collect();
        serde_json::to_string(&object).unwrap_or_default()
    }

    /// The values of one name.
    pub fn values(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether nothing is asked of `name`, or `matches` one of its values.
    pub fn any(&self, name: &str, matches: impl Fn(&str) -> bool) -> bool {
        let values = self.values(name);
        values.is_empty() || values.iter().any(|value| matches(value))
    }

    /// Whether every `key` or `key=value` under `name` is in `labels`.
    pub fn labels(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        self.values(name).iter().all(|wanted| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|have| have == value),
            None => labels.contains_key(wanted),
        })
    }

    /// A name that is not among `known` is an error, in Docker's words.
    pub fn only(&self, known: &[&str]) -> Result<(), Invalid> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(Invalid(format!("invalid filter '{name}'"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_that_are_none_are_refused() {
        for good in ["", "a=%2f&b=%C3%A9", "a=1&b"] {
            assert_eq!(Query::check(good), Ok(()), "{good}");
        }
        for (bad, want) in [
            ("a=%zz", "invalid URL escape \"%zz\""),
            ("a=%", "invalid URL escape \"%\""),
            ("a=%4é", "invalid URL escape \"%4é\""),
            ("a=1;b=2", "invalid semicolon separator in query"),
        ] {
            assert_eq!(Query::check(bad), Err(Invalid(want.into())));
        }
    }

    #[test]
    fn queries_read_as_go_reads_them() {
        let query = Query::parse("all=1&name=a%2Fb+c&size=False&t=-1&t=2&x&bad=%zz");
        assert!(query.flag("all") && !query.flag("size") && !query.flag("none"));
        assert!(query.flag_or("none", true) && !query.flag_or("x", true));
        assert_eq!(query.get("name"), "a/b c");
        assert_eq!(query.get("bad"), "%zz");
        assert_eq!(query.number::<i64>("t").unwrap(), Some(-1));
        assert!(query.number::<u16>("t").is_err());
        assert_eq!(query.number::<u16>("none").unwrap(), None);
        assert_eq!(decode(&encode("a/b c%ü")), "a/b c%ü");
    }

    #[test]
    fn filters_come_in_two_forms() {
        let new = Filters::parse(r#"{"label":{"a=b":true,"c":true,"no":false}}"#).unwrap();
        let old = Filters::parse(r#"{"label":["a=b","c"]}"#).unwrap();
        assert_eq!(new, old);
        assert_eq!(Filters::parse(&new.to_json()).unwrap(), new);
        let labels = BTreeMap::from([("a".into(), "b".into()), ("c".into(), String::new())]);
        assert!(new.labels("label", &labels));
        assert!(new.any("status", |_| false));
        assert!(!new.any("label", |value| value == "z"));
        assert_eq!(new.only(&["status"]).unwrap_err().0, "invalid filter 'label'");
        assert!(Filters::parse("{x").is_err() && Filters::parse("[]").is_err());
    }
}
