//! Go templates with Docker's functions, and methods that take arguments (`{{.Label "x"}}`).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use gotmpl::parse::{CommandNode, Expr, ListNode, Node, Parser, PipeNode};
use gotmpl::{FuncMap, MissingKey, TemplateError, Value};

use super::{Row, function};
use crate::error::{Result, message};

const MAIN: &str = "main";

/// A parsed template.
pub(crate) struct Template(gotmpl::Template);

impl Template {
    /// Reads a template.
    pub(crate) fn parse(text: &str) -> Result<Template> {
        let failed = |e: TemplateError| {
            let e = e.to_string();
            let what = e.rsplit(": ").next().unwrap_or_default().to_owned();
            message(format!("failed to parse template: template: :1: {what}"))
        };
        let parser = Parser::with_name(None, text, "{{", "}}").map_err(failed)?;
        let (mut tree, defines) = parser.parse().map_err(failed)?;
        call_methods(&mut tree);
        let template = gotmpl::Template::new("").missing_key(MissingKey::Error).funcs(functions());
        let mut template = template.add_parse_tree(MAIN, tree);
        for mut define in defines {
            call_methods(&mut define.body);
            template = template.add_parse_tree(&define.name, define.body);
        }
        Ok(Template(template))
    }

    /// Fills in a value.
    pub(crate) fn execute(&self, value: &Value) -> Result<String> {
        self.0
            .execute_template_to_string(MAIN, value)
            .map_err(|e| message(format!("failed to execute template: template: {e}")))
    }

    /// Fills in a row of a listing; `.Label` looks into its `Labels`.
    pub(crate) fn row(&self, row: &Row) -> Result<String> {
        let mut members: BTreeMap<Arc<str>, Value> =
            row.iter().map(|(name, value)| (name.as_str().into(), value_of(value))).collect();
        if let Some(labels) = row.get("Labels").and_then(|labels| labels.as_str()) {
            let labels = labels.to_owned();
            members.insert("Label".into(), function(move |key| label(&labels, key)));
        }
        self.execute(&Value::Map(Arc::new(members)))
    }
}

/// The value of one of `a=1,b=2`; in the line of headings, the label's own name.
fn label(labels: &str, key: &str) -> String {
    if labels == "LABELS" {
        return key.to_owned();
    }
    let mut pairs = labels.split(',').filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| *name == key).map(|(_, value)| value.to_owned()).unwrap_or_default()
}

/// JSON as a template's value.
pub(crate) fn value_of(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::Nil,
        Json::Bool(on) => Value::Bool(*on),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::Int(whole),
            (None, real) => Value::Float(real.unwrap_or_default()),
        },
        Json::String(text) => Value::String(text.as_str().into()),
        Json::Array(items) => Value::List(items.iter().map(value_of).collect()),
        Json::Object(members) => {
            Value::Map(Arc::new(members.iter().map(|(k, v)| (k.as_str().into(), value_of(v))).collect()))
        }
    }
}

fn json_of(value: &Value) -> serde_json::Value {
    use serde_json::Value as Json;
    match value {
        Value::Nil | Value::Function(_) => Json::Null,
        Value::Bool(on) => (*on).into(),
        Value::Int(number) => (*number).into(),
        Value::Uint(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::String(text) => (**text).into(),
        Value::List(items) => items.iter().map(json_of).collect(),
        Value::Map(members) => {
            let plain = members.iter().filter(|(_, v)| !v.is_function());
            Json::Object(plain.map(|(k, v)| (k.to_string(), json_of(v))).collect())
        }
    }
}

/// Go calls a method that is given arguments; this language calls only what `call` is told to.
fn call_methods(list: &mut ListNode) {
    for node in &mut list.nodes {
        match node {
            Node::List(inner) => call_methods(inner),
            Node::Action(action) => call_in_pipe(&mut action.pipe),
            Node::If(branch) | Node::Range(branch) | Node::With(branch) => {
                call_in_pipe(&mut branch.pipe);
                call_methods(&mut branch.body);
                if let Some(other) = &mut branch.else_body {
                    call_methods(other);
                }
            }
            Node::Template(inner) => {
                if let Some(pipe) = &mut inner.pipe {
                    call_in_pipe(pipe);
                }
            }
            Node::Define(define) => call_methods(&mut define.body),
            Node::Text(_) | Node::Break(_) | Node::Continue(_) => {}
        }
    }
}

fn call_in_pipe(pipe: &mut PipeNode) {
    for (at, CommandNode { pos, args }) in pipe.commands.iter_mut().enumerate() {
        for arg in args.iter_mut() {
            if let Expr::Pipe(_, inner) = arg {
                call_in_pipe(inner);
            }
        }
        let method =
            matches!(args.first(), Some(Expr::Field(..) | Expr::Chain(..) | Expr::Variable(_, _, _)));
        if method && (args.len() > 1 || at > 0) {
            args.insert(0, Expr::Identifier(*pos, "call".into()));
        }
    }
}

/// The functions that Docker adds to Go's.
fn functions() -> FuncMap {
    type Body = fn(&[Value]) -> Result<Value, TemplateError>;
    let all: [(&str, Body); 9] = [
        ("json", |args| {
            let value = args.first().map_or(serde_json::Value::Null, json_of);
            Ok(Value::String(go_json(&value).into()))
        }),
        ("upper", |args| Ok(text(args, 0).to_uppercase().as_str().into_value())),
        ("lower", |args| Ok(text(args, 0).to_lowercase().as_str().into_value())),
        ("title", |args| Ok(title(&text(args, 0)).as_str().into_value())),
        ("split", |args| {
            let (text, by) = (text(args, 0), text(args, 1));
            Ok(Value::List(text.split(by.as_str()).map(IntoValue::into_value).collect()))
        }),
        ("join", |args| {
            let Some(Value::List(items)) = args.first() else {
                return Err(TemplateError::Exec("join wants a list".into()));
            };
            let words: Vec<String> = items.iter().map(ToString::to_string).collect();
            Ok(words.join(&text(args, 1)).as_str().into_value())
        }),
        ("pad", |args| {
            let spaces = |at: usize| {
                " ".repeat(args.get(at).and_then(Value::as_int).unwrap_or(0).clamp(0, 999) as usize)
            };
            Ok(match text(args, 0) {
                empty if empty.is_empty() => empty.as_str().into_value(),
                text => format!("{}{text}{}", spaces(1), spaces(2)).as_str().into_value(),
            })
        }),
        ("truncate", |args| {
            let most = args.get(1).and_then(Value::as_int).unwrap_or(0).max(0) as usize;
            Ok(text(args, 0).chars().take(most).collect::<String>().as_str().into_value())
        }),
        ("println", |args| {
            let words: Vec<String> = args.iter().map(ToString::to_string).collect();
            Ok((words.join(" ") + "\n").as_str().into_value())
        }),
    ];
    all.into_iter().map(|(name, body)| (name.to_owned(), Arc::new(body) as gotmpl::ValueFunc)).collect()
}

trait IntoValue {
    fn into_value(self) -> Value;
}

impl IntoValue for &str {
    fn into_value(self) -> Value {
        Value::String(self.into())
    }
}

fn text(args: &[Value], at: usize) -> String {
    args.get(at).map(ToString::to_string).unwrap_or_default()
}

fn title(text: &str) -> String {
    let mut start = true;
    text.chars()
        .map(|c| {
            let shown = if start { c.to_ascii_uppercase() } else { c };
            start = c.is_whitespace();
            shown
        })
        .collect()
}

/// JSON as Go writes it: without escaping what is special in HTML.
fn go_json(value: &serde_json::Value) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write!(out, "{value}");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(template: &str, value: &serde_json::Value) -> String {
        match Template::parse(template).and_then(|t| t.execute(&value_of(value))) {
            Ok(text) => text,
            Err(e) => format!("! {e}"),
        }
    }

    #[test]
    fn docker_s_everyday_templates() {
        let value = json!({"Name": "/web", "State": {"Running": true, "Pid": 7}, "Config": {"Env": ["A=1", "B=2"]},
            "Labels": {"a": "x"}, "None": null});
        for (template, want) in [
            ("{{.Name}}", "/web"),
            ("{{.State.Pid}} {{.State.Running}}", "7 true"),
            ("{{json .Config.Env}}", r#"["A=1","B=2"]"#),
            ("{{json .State}}", r#"{"Pid":7,"Running":true}"#),
            ("{{range .Config.Env}}{{println .}}{{end}}", "A=1\nB=2\n"),
            (r#"{{join .Config.Env ", "}}"#, "A=1, B=2"),
            (r#"{{index (split .Name "/") 1}}"#, "web"),
            (r#"{{index .Labels "a"}}"#, "x"),
            ("{{upper .Name}}{{lower \"ABC\"}}{{title \"ab cd\"}}", "/WEBabcAb Cd"),
            ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
            ("{{truncate .Name 3}}|{{pad \"x\" 1 2}}|", "/we| x  |"),
            ("{{len .Config.Env}} {{.None}}", "2 <no value>"),
        ] {
            assert_eq!(run(template, &value), want, "{template}");
        }
        assert!(run("{{.Nope}}", &value).contains("Nope"), "{}", run("{{.Nope}}", &value));
        assert_eq!(run("{{", &value), "! failed to parse template: template: :1: unclosed action");
    }
}
