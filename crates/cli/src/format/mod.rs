//! What listings look like: tables in Docker's columns, and templates.

mod natural;
mod table;
mod template;

use std::io::Write;

use gotmpl::Value;
use serde_json::Map;

pub(crate) use natural::natural;
pub(crate) use table::Table;
pub(crate) use template::{Template, value_of};

use crate::error::{Result, message};
use crate::terminal::Plain;

/// One row: what a template may name, in text.
pub(crate) type Row = Map<String, serde_json::Value>;

/// A listing's columns: the template's name for each and its heading.
pub(crate) type Columns = &'static [(&'static str, &'static str)];

/// How a listing is shown.
#[derive(Debug)]
pub(crate) struct Listing<'a> {
    /// All names a template may use, with their headings.
    pub(crate) headings: Columns,
    /// The template of the plain table, without `table `.
    pub(crate) usual: &'a str,
    /// The name shown with `--quiet`.
    pub(crate) quiet: Option<&'a str>,
    /// What `--format` says.
    pub(crate) format: Option<&'a str>,
}

impl Listing<'_> {
    /// Writes the rows.
    pub(crate) fn show(&self, rows: &[Row]) -> Result<()> {
        let mut out = Vec::new();
        self.draw(rows, &mut out)?;
        Ok(Plain::Out.write_all(&out)?)
    }

    fn draw(&self, rows: &[Row], out: &mut Vec<u8>) -> Result<()> {
        let quiet = self.quiet.map(|name| format!("{{{{.{name}}}}}"));
        let (text, tabled) = match self.format.unwrap_or("table") {
            "table" => match quiet {
                Some(quiet) => (quiet, false),
                None => (self.usual.to_owned(), true),
            },
            "json" => return json_lines(rows, out),
            "raw" => {
                return Err(message("the format \"raw\" is not supported: use json or a template"));
            }
            format => match format.strip_prefix("table ") {
                Some(rest) => (unescape(rest.trim()), true),
                None => (unescape(format), false),
            },
        };
        let template = Template::parse(&text)?;
        let headings = self.headings.iter().map(|(name, heading)| ((*name).to_owned(), (*heading).into()));
        // Filled in also where it is not shown: a name that no listing has is an error without any row, too.
        let heading = template.row(&headings.collect())?;
        let mut lines = if tabled { vec![heading] } else { Vec::new() };
        for row in rows {
            lines.push(template.row(row)?);
        }
        if tabled {
            let mut table = Table::default();
            for line in &lines {
                table.line(line);
            }
            out.extend(table.draw().into_bytes());
        } else {
            out.extend(lines.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()));
        }
        Ok(())
    }
}

/// An object a line, with what is special in HTML escaped, as Go's encoder does by itself.
fn json_lines(rows: &[Row], out: &mut Vec<u8>) -> Result<()> {
    for row in rows {
        let line = serde_json::to_string(row).map_err(|e| message(e.to_string()))?;
        let line = line.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
        out.extend([line.as_bytes(), b"\n"].concat());
    }
    Ok(())
}

/// `\t` and `\n` as people write them on a command line.
fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

/// One value, shown with a template or as JSON.
pub(crate) fn one(format: &str, value: &serde_json::Value) -> Result<String> {
    if format == "json" {
        return serde_json::to_string(value).map_err(|e| message(e.to_string()));
    }
    Template::parse(&unescape(format))?.execute(&value_of(value))
}

/// Text that a listing shows shortened unless asked not to.
pub(crate) fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// The first twelve digits of an id, without its algorithm.
pub(crate) fn short_id(id: &str) -> &str {
    let bare = id.split_once(':').map_or(id, |(_, digits)| digits);
    bare.get(..12).unwrap_or(bare)
}

/// A value for templates that takes one argument.
pub(crate) fn function(of: impl Fn(&str) -> String + Send + Sync + 'static) -> Value {
    Value::Function(std::sync::Arc::new(move |args: &[Value]| {
        let key = args.first().and_then(Value::as_str).unwrap_or_default();
        Ok(Value::String(of(key).into()))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        [("a", "one"), ("b", "a long name, longer than ten")]
            .map(|(id, name)| {
                let mut row = Row::new();
                row.insert("ID".into(), id.into());
                row.insert("Name".into(), name.into());
                row.insert("Labels".into(), "x=1,y=2".into());
                row
            })
            .into()
    }

    fn draw(format: Option<&str>, quiet: bool) -> String {
        let listing = Listing {
            headings: &[("ID", "CONTAINER ID"), ("Name", "NAME"), ("Labels", "LABELS")],
            usual: "{{.ID}}\t{{.Name}}",
            quiet: quiet.then_some("ID"),
            format,
        };
        let mut out = Vec::new();
        listing.draw(&rows(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn listings() {
        assert_eq!(
            draw(None, false),
            "CONTAINER ID   NAME\na              one\nb              a long name, longer than ten\n"
        );
        assert_eq!(draw(None, true), "a\nb\n");
        assert_eq!(draw(Some("{{.ID}}:{{upper .Name}}"), false), "a:ONE\nb:A LONG NAME, LONGER THAN TEN\n");
        assert_eq!(
            draw(Some("table {{.ID}}\\t{{.Label \"y\"}}"), false),
            "CONTAINER ID   y\na              2\nb              2\n"
        );
        assert_eq!(
            draw(Some("json"), false).lines().next(),
            Some(r#"{"ID":"a","Labels":"x=1,y=2","Name":"one"}"#)
        );
    }

    #[test]
    fn ids_and_long_text() {
        assert_eq!(short_id("sha256:7f87fb10cc9997af"), "7f87fb10cc99");
        assert_eq!(short_id("7f87"), "7f87");
        assert_eq!(ellipsis("abcdef", 4), "abc…");
        assert_eq!(ellipsis("abcd", 4), "abcd");
    }
}
