//! The facts as JSON, in one line.

use std::fmt::Write;

use super::facts::Facts;

/// A JSON value, as far as it is needed here.
enum Value {
    Null,
    Bool(bool),
    Number(u64),
    Text(String),
    List(Vec<Value>),
    Object(Vec<(&'static str, Value)>),
}

use Value::{Bool, List, Number, Object, Text};

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Number(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Bool(value)
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Text(value)
    }
}

fn text(value: &(impl ToString + ?Sized)) -> Value {
    Text(value.to_string())
}

fn list<T>(items: &[T], value: impl FnMut(&T) -> Value) -> Value {
    List(items.iter().map(value).collect())
}

/// One line, ended.
pub(crate) fn render(facts: &Facts) -> String {
    let mut out = String::new();
    write(&value(facts), &mut out);
    out.push('\n');
    out
}

fn value(facts: &Facts) -> Value {
    let range = |range: &(u64, u64, u64)| {
        Object(vec![("inside", range.0.into()), ("outside", range.1.into()), ("count", range.2.into())])
    };
    let user = &facts.user;
    let names = |names: &Vec<String>| list(names, text);
    Object(vec![
        ("pid", u64::from(facts.pid).into()),
        ("hostname", text(&facts.hostname)),
        ("kernel", text(&facts.kernel)),
        ("contained", facts.contained().into()),
        ("uid", user.uid.into()),
        ("gid", user.gid.into()),
        ("groups", list(&user.groups, |group| Number(*group))),
        ("uidMap", list(&user.uid_map, range)),
        ("gidMap", list(&user.gid_map, range)),
        (
            "namespaces",
            list(&facts.namespaces, |namespace| {
                Object(vec![
                    ("name", text(namespace.name)),
                    ("inode", namespace.inode.into()),
                    ("own", namespace.own.into()),
                ])
            }),
        ),
        ("root", root(facts)),
        (
            "mounts",
            list(&facts.mounts, |mount| {
                Object(vec![
                    ("at", text(&mount.at)),
                    ("type", text(&mount.kind)),
                    ("options", text(&mount.options)),
                ])
            }),
        ),
        ("limits", limits(facts)),
        (
            "interfaces",
            list(&facts.interfaces, |interface| {
                let addresses =
                    list(&interface.addresses, |(address, prefix)| Text(format!("{address}/{prefix}")));
                Object(vec![("name", text(&interface.name)), ("addresses", addresses)])
            }),
        ),
        ("otherAddresses", list(&facts.other_addresses, text)),
        ("gateway", facts.gateway.map(|address| address.to_string()).into()),
        ("capabilities", Object(facts.capabilities.iter().map(|(set, of)| (*set, names(of))).collect())),
        ("seccomp", text(facts.seccomp)),
        ("noNewPrivileges", facts.no_new_privileges.into()),
    ])
}

fn root(facts: &Facts) -> Value {
    let Some(root) = &facts.root else {
        return Value::Null;
    };
    Object(vec![
        ("type", text(&root.kind)),
        ("readOnly", root.read_only.into()),
        ("lowerLayers", root.layers.map(|(lower, _)| lower as u64).into()),
        ("writableLayer", root.layers.map(|(_, upper)| upper).into()),
    ])
}

fn limits(facts: &Facts) -> Value {
    let limits = &facts.limits;
    Object(vec![
        ("cgroups", text(limits.version)),
        ("memory", limits.memory.into()),
        ("swap", limits.swap.into()),
        ("cpuQuota", limits.cpu.map(|(quota, _)| quota).into()),
        ("cpuPeriod", limits.cpu.map(|(_, period)| period).into()),
        ("cpuWeight", limits.cpu_weight.into()),
        ("cpuset", limits.cpuset.clone().into()),
        ("pids", limits.pids.into()),
    ])
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Number(value) => out.push_str(&value.to_string()),
        Text(value) => quote(value, out),
        List(items) => between('[', ']', items, out, write),
        Object(fields) => between('{', '}', fields, out, |(name, value), out| {
            quote(name, out);
            out.push(':');
            write(value, out);
        }),
    }
}

fn between<T>(open: char, close: char, items: &[T], out: &mut String, one: impl Fn(&T, &mut String)) {
    out.push(open);
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        one(item, out);
    }
    out.push(close);
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            // Writing to a string cannot fail.
            control if control < ' ' => drop(write!(out, "\\u{:04x}", u32::from(control))),
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_value() {
        let mut out = String::new();
        let value = Object(vec![
            ("a", List(vec![Number(1), Value::Null, Bool(true)])),
            ("b", text("q\"\\\n\u{1}é")),
            ("c", List(vec![])),
        ]);
        write(&value, &mut out);
        assert_eq!(out, r#"{"a":[1,null,true],"b":"q\"\\\u000a\u0001é","c":[]}"#);
    }
}
