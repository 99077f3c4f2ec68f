//! Words of a `Dockerfile` line: quotes, backslashes, `$NAME` and `${NAME}`, as Docker's parser has them.

use std::{iter::Peekable, str::Chars};

use crate::Error;

/// What becomes of quotes and variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quotes {
    /// The words as they are written, to be split further.
    Kept,
    /// Expanded.
    Removed,
}

/// Nanoseconds of Go's `1h30m`, `1.5s`, `100ms`; `0` needs no unit.
pub(super) fn duration(text: &str) -> Option<i64> {
    const UNITS: [(&str, f64); 7] =
        [("ns", 1.0), ("us", 1e3), ("\u{b5}s", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 6e10), ("h", 3.6e12)];
    if text == "0" {
        return Some(0);
    }
    let (mut rest, mut sum) = (text, 0.0);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let (_, length) = UNITS.iter().find(|(name, _)| *name == unit)?;
        sum += number.parse::<f64>().ok()? * length;
        rest = next;
    }
    (!text.is_empty() && sum < i64::MAX as f64).then_some(sum as i64)
}

/// Splits at blanks outside of quotes.
pub(super) fn words(text: &str, env: &[String], quotes: Quotes) -> Result<Vec<String>, Error> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None | Some('"'), '\\') => {
                word.push(c);
                word.extend(chars.next());
                continue;
            }
            _ => {}
        }
        word.push(c);
    }
    if !word.is_empty() {
        words.push(word);
    }
    match quotes {
        Quotes::Kept => Ok(words),
        Quotes::Removed => words.iter().map(|word| expand(word, env)).collect(),
    }
}

/// Removes quotes and puts values for variables.
pub(super) fn expand(text: &str, env: &[String]) -> Result<String, Error> {
    process(text, env).map_err(|what| Error::Invalid(format!("failed to process {text:?}: {what}")))
}

fn process(text: &str, env: &[String]) -> Result<String, String> {
    let mut out = String::new();
    let mut quote = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None, '\\') => out.extend(chars.next()),
            (Some('"'), '\\') => match chars.peek() {
                Some('"' | '$' | '\\') => out.extend(chars.next()),
                _ => out.push('\\'),
            },
            (None | Some('"'), '$') => out.push_str(&variable(&mut chars, env)?),
            (_, c) => out.push(c),
        }
    }
    match quote {
        None => Ok(out),
        Some(open) => {
            let kind = if open == '"' { "double" } else { "single" };
            Err(format!("unexpected end of statement while looking for matching {kind}-quote"))
        }
    }
}

/// What stands for the variable that begins after a `$`.
fn variable(chars: &mut Peekable<Chars<'_>>, env: &[String]) -> Result<String, String> {
    let value = |name: &str| {
        env.iter().filter_map(|entry| entry.split_once('=')).find(|(known, _)| *known == name).map(|(_, v)| v)
    };
    if chars.peek() != Some(&'{') {
        let mut name = String::new();
        while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
            name.push(c);
        }
        return Ok(if name.is_empty() {
            "$".to_owned()
        } else {
            value(&name).unwrap_or_default().to_owned()
        });
    }
    chars.next();
    let mut inside = String::new();
    loop {
        match chars.next() {
            Some('}') => break,
            Some(c) => inside.push(c),
            None => return Err("syntax error: missing '}'".to_owned()),
        }
    }
    let (name, otherwise) = inside.split_once(':').unwrap_or((&inside, ""));
    let set = value(name).filter(|v| !v.is_empty());
    match (otherwise.chars().next(), set) {
        (None, _) => Ok(value(name).unwrap_or_default().to_owned()),
        (Some('-'), set) => Ok(set.unwrap_or(&otherwise[1..]).to_owned()),
        (Some('+'), set) => Ok(set.map_or("", |_| &otherwise[1..]).to_owned()),
        (Some(_), _) => Err(format!("unsupported modifier ({otherwise}) in substitution")),
    }
}
