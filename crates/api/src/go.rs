//! Reading JSON as Go's `encoding/json` does, because that is what every Docker client was tried against.
//!
//! Member names match exactly or without regard to case, the last of several wins (objects are merged), null
//! leaves the default, unknown members are ignored. Whoever judges a request sees the value that is used (R20):
//! `{"Privileged":false,"privileged":true}` means true here as it does in Docker.

use std::fmt;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor,
    value::{MapDeserializer, SeqDeserializer, StringDeserializer},
};
use serde::{Deserialize, forward_to_deserialize_any};

/// JSON with the order and the repetitions of its members.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// Any number.
    Number(serde_json::Number),
    /// A string.
    String(String),
    /// `[…]`
    Array(Vec<Value>),
    /// `{…}`, as written.
    Object(Vec<(String, Value)>),
}

/// JSON that cannot be read, or that does not fit; names the member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    path: Vec<String>,
    what: String,
}

/// Reads one JSON document; anything after it is an error, as since Docker 20.10.
pub fn decode<T: DeserializeOwned>(json: &[u8]) -> Result<T, Error> {
    parse(json)?.to()
}

/// Reads one JSON document without asking what it means.
pub fn parse(json: &[u8]) -> Result<Value, Error> {
    if json.iter().all(u8::is_ascii_whitespace) {
        return Err(Error::custom("EOF"));
    }
    serde_json::from_slice(json).map_err(|error| match error.classify() {
        serde_json::error::Category::Eof => Error::custom("unexpected EOF"),
        _ => Error::custom(format!("invalid JSON: {error}")),
    })
}

impl Value {
    /// What it means as a `T`.
    pub fn to<T: DeserializeOwned>(&self) -> Result<T, Error> {
        T::deserialize(self.clone())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, member) in self.path.iter().rev().enumerate() {
            let dot = if depth == 0 { "" } else { "." };
            write!(f, "{dot}{member}")?;
        }
        let colon = if self.path.is_empty() { "" } else { ": " };
        write!(f, "{colon}{}", self.what)
    }
}

impl std::error::Error for Error {}

impl serde::de::Error for Error {
    fn custom<T: fmt::Display>(what: T) -> Self {
        Self { path: Vec::new(), what: what.to_string() }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AsWritten)
    }
}

struct AsWritten;

impl<'de> Visitor<'de> for AsWritten {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Value::Object(members))
    }
}

impl serde::de::IntoDeserializer<'_, Error> for Value {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// Null is the zero value of whatever is asked for.
macro_rules! or_zero {
    ($($ask:ident => $visit:ident($zero:expr)),* $(,)?) => {$(
        fn $ask<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self {
                Value::Null => visitor.$visit($zero),
                value => value.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Value {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(value), _, _) => visitor.visit_i64(value),
                (_, Some(value), _) => visitor.visit_u64(value),
                (_, _, value) => visitor.visit_f64(value.unwrap_or_default()),
            },
            Value::String(value) => visitor.visit_string(value),
            Value::Array(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter())),
            Value::Object(members) => visitor.visit_map(MapDeserializer::new(members.into_iter())),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Value::Null => visitor.visit_none(),
            value => visitor.visit_some(value),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self {
            Value::Object(members) => visitor.visit_map(Members::known(members, fields)),
            Value::Null => visitor.visit_map(Members::known(Vec::new(), fields)),
            value => value.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self {
            Value::String(word) => visitor.visit_enum(StringDeserializer::new(word)),
            value => value.deserialize_any(visitor),
        }
    }

    or_zero! {
        deserialize_bool => visit_bool(false),
        deserialize_i8 => visit_i64(0), deserialize_i16 => visit_i64(0),
        deserialize_i32 => visit_i64(0), deserialize_i64 => visit_i64(0),
        deserialize_u8 => visit_u64(0), deserialize_u16 => visit_u64(0),
        deserialize_u32 => visit_u64(0), deserialize_u64 => visit_u64(0),
        deserialize_f32 => visit_f64(0.0), deserialize_f64 => visit_f64(0.0),
        deserialize_str => visit_str(""), deserialize_string => visit_str(""),
        deserialize_seq => visit_seq(SeqDeserializer::new(std::iter::empty::<Value>())),
        deserialize_map => visit_map(MapDeserializer::new(std::iter::empty::<(String, Value)>())),
    }

    forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

/// The members that a struct knows, each once and under its own name.
struct Members {
    rest: std::vec::IntoIter<(&'static str, Value)>,
    current: Option<(&'static str, Value)>,
}

impl Members {
    fn known(members: Vec<(String, Value)>, fields: &'static [&'static str]) -> Self {
        let mut known: Vec<(&'static str, Value)> = Vec::new();
        for (name, value) in members {
            let exact = fields.iter().find(|field| **field == name);
            let folded = || fields.iter().find(|field| field.eq_ignore_ascii_case(&name));
            let Some(field) = exact.or_else(folded) else {
                continue;
            };
            match known.iter_mut().find(|(earlier, _)| earlier == field) {
                Some((_, earlier)) => merge(earlier, value),
                None => known.push((field, value)),
            }
        }
        Self { rest: known.into_iter(), current: None }
    }
}

/// A later null changes nothing, a later object adds to an earlier one, anything else replaces it.
fn merge(earlier: &mut Value, later: Value) {
    match (earlier, later) {
        (_, Value::Null) => {}
        (Value::Object(members), Value::Object(more)) => members.extend(more),
        (earlier, later) => *earlier = later,
    }
}

impl<'de> MapAccess<'de> for Members {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.current = self.rest.next();
        let Some((name, _)) = &self.current else {
            return Ok(None);
        };
        seed.deserialize(StringDeserializer::new((*name).to_owned())).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (name, value) = self.current.take().ok_or_else(|| Error::custom("a value without its name"))?;
        seed.deserialize(value).map_err(|mut error| {
            error.path.push(name.to_owned());
            error
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Inner {
        memory: i64,
        binds: Option<Vec<String>>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Outer {
        image: String,
        privileged: bool,
        env: Vec<String>,
        host_config: Inner,
    }

    fn outer(json: &str) -> Result<Outer, String> {
        decode(json.as_bytes()).map_err(|error: Error| error.to_string())
    }

    #[test]
    fn case_repetition_and_null_are_taken_as_go_takes_them() {
        let twice = outer(r#"{"Privileged":false,"privileged":true,"IMAGE":"a","x":{}}"#).unwrap();
        assert!(twice.privileged);
        assert_eq!(twice.image, "a");
        let last = outer(r#"{"image":"zz","Image":"bb","env":[null,"A"],"Env":null}"#).unwrap();
        assert_eq!((last.image.as_str(), last.env), ("bb", vec![String::new(), "A".into()]));
        let merged =
            outer(r#"{"HostConfig":{"Memory":1,"Binds":["x"]},"hostconfig":{"memory":2},"Image":null}"#)
                .unwrap();
        assert_eq!(merged.host_config.memory, 2);
        assert_eq!(merged.host_config.binds, Some(vec!["x".to_owned()]));
        assert_eq!(outer("null").unwrap(), Outer::default());
        assert_eq!(outer(r#"{"HostConfig":null,"Env":null}"#).unwrap(), Outer::default());
    }

    #[test]
    fn errors_name_the_member() {
        assert_eq!(outer("").unwrap_err(), "EOF");
        assert_eq!(outer(r#"{"Image":"#).unwrap_err(), "unexpected EOF");
        assert!(
            outer(r#"{"hostconfig":{"memory":"1"}}"#)
                .unwrap_err()
                .starts_with("HostConfig.Memory: invalid type: string")
        );
        assert!(outer("{} {}").unwrap_err().contains("trailing"));
        assert!(outer(&"[".repeat(10_000)).is_err());
    }
}
