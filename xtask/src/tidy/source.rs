//! What a source file alone can tell: lengths, fences, words.
//!
//! A real parser would be slower to build than the whole check; comments and strings are blanked out first, so that
//! only code is counted and searched.

/// A source file with its comments and strings blanked, line for line.
pub(super) struct Source<'a> {
    /// As it is on disk.
    pub(super) text: Vec<&'a str>,
    /// The same lines, with spaces where comments, strings and characters were.
    pub(super) code: Vec<String>,
}

/// A function and where it stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    /// From 1.
    pub(super) line: usize,
    /// From `fn` to its closing brace.
    pub(super) lines: usize,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text: text.lines().collect(), code: blank(text).lines().map(str::to_owned).collect() }
    }

    /// Every function with a body, inner ones too.
    pub(super) fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        for (at, line) in self.code.iter().enumerate() {
            for (column, _) in words(line, "fn") {
                let name: String = line[column + 2..]
                    .trim_start()
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                if let Some(lines) = self.body(at, column).filter(|_| !name.is_empty()) {
                    found.push(Function { name, line: at + 1, lines });
                }
            }
        }
        found
    }

    /// How many lines from here to the closing brace of the body that follows; `None` for a mere signature.
    fn body(&self, from: usize, column: usize) -> Option<usize> {
        let mut braces = 0;
        let mut brackets = 0;
        for (at, line) in self.code[from..].iter().enumerate() {
            for character in line[if at == 0 { column } else { 0 }..].chars() {
                match character {
                    '(' | '[' => brackets += 1,
                    ')' | ']' => brackets -= 1,
                    // `[u8; 4]` is no end of a signature.
                    ';' if braces == 0 && brackets == 0 => return None,
                    '{' => braces += 1,
                    '}' => {
                        braces -= 1;
                        if braces <= 0 {
                            return Some(at + 1);
                        }
                    }
                    _ => {}
                }
            }
        }
        None
    }

    /// Lines (from 1) where code says `unsafe`; lint attributes such as `unsafe_code` are other words.
    pub(super) fn unsafe_lines(&self) -> Vec<usize> {
        self.lines_with("unsafe")
    }

    /// Those that open a block or an implementation without a `SAFETY:` reason at them or right above.
    pub(super) fn unexplained(&self) -> Vec<usize> {
        let declares = |line: usize| {
            let code = &self.code[line - 1];
            let after = code.split("unsafe").nth(1).unwrap_or_default().trim_start();
            // What an unsafe function asks of its caller stands in its own `# Safety`, which clippy looks after.
            after.starts_with("fn")
                || after.starts_with("extern \"") && code.contains("fn ")
                || after.starts_with('(')
        };
        self.unsafe_lines().into_iter().filter(|&line| !declares(line) && !self.explained(line)).collect()
    }

    fn explained(&self, line: usize) -> bool {
        if self.text[line - 1].contains("SAFETY:") {
            return true;
        }
        for above in (0..line - 1).rev() {
            if self.text[above].contains("SAFETY:") {
                return true;
            }
            let code = self.code[above].trim();
            // The statement that holds the block may have begun lines ago; the one before it has nothing to say here.
            if code.ends_with([';', '{', '}', ',']) {
                return false;
            }
        }
        false
    }

    fn lines_with(&self, word: &str) -> Vec<usize> {
        let holds = |(at, line): (usize, &String)| (!words(line, word).is_empty()).then_some(at + 1);
        self.code.iter().enumerate().filter_map(holds).collect()
    }

    /// Lines (from 1) that hold a word of unfinished work, in code or in a comment.
    pub(super) fn unfinished(&self) -> Vec<(usize, &'static str)> {
        // Put together here so that this file does not find itself.
        const WORDS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
        const MACROS: [&str; 2] = [concat!("unimplement", "ed!"), concat!("to", "do!")];
        let mut found = Vec::new();
        for (at, (text, code)) in self.text.iter().zip(&self.code).enumerate() {
            found.extend(
                WORDS.into_iter().filter(|word| !words(text, word).is_empty()).map(|word| (at + 1, word)),
            );
            found.extend(MACROS.into_iter().filter(|word| code.contains(word)).map(|word| (at + 1, word)));
        }
        found
    }

    /// Whether the file opens by saying what it is.
    pub(super) fn introduced(&self) -> bool {
        self.text.first().is_some_and(|line| line.starts_with("//!"))
    }
}

/// Where a whole word stands in a line.
fn words<'l>(line: &'l str, word: &'l str) -> Vec<(usize, &'l str)> {
    let part = |character: Option<char>| character.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word)
        .filter(|(at, _)| {
            !part(line[..*at].chars().next_back()) && !part(line[at + word.len()..].chars().next())
        })
        .collect()
}

/// The text with comments, strings and character literals blanked; line breaks stay, columns of ASCII too.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let hidden = hidden(rest, out.chars().next_back());
        let length = if hidden == 0 { first.len_utf8() } else { hidden };
        let part = &rest[..length];
        if hidden == 0 {
            out.push(first);
        } else {
            out.extend(part.chars().map(|character| if character == '\n' { '\n' } else { ' ' }));
        }
        rest = &rest[length..];
    }
    out
}

/// How many bytes of a comment, string or character literal the text begins with; 0 for code.
fn hidden(text: &str, before: Option<char>) -> usize {
    let inside_word = !text.starts_with('"')
        && before.is_some_and(|character| character.is_alphanumeric() || character == '_');
    let prefixed = text.trim_start_matches(['b', 'c', 'r']);
    let prefix = &text[..text.len() - prefixed.len()];
    if text.starts_with("//") {
        text.find('\n').unwrap_or(text.len())
    } else if text.starts_with("/*") {
        block_comment(text)
    } else if !inside_word && prefix.len() <= 2 && prefix.ends_with('r') && raw_opening(prefixed).is_some() {
        let hashes = raw_opening(prefixed).unwrap_or_default();
        let end = format!("\"{}", "#".repeat(hashes));
        let start = prefix.len() + hashes + 1;
        text[start..].find(&end).map_or(text.len(), |at| start + at + end.len())
    } else if !inside_word && prefix.len() <= 1 && !prefix.ends_with('r') && prefixed.starts_with('"') {
        prefix.len() + quoted(prefixed, '"')
    } else if text.starts_with('\'') && is_character(text) {
        quoted(text, '\'')
    } else {
        0
    }
}

/// The number of `#` of a raw string's opening.
fn raw_opening(text: &str) -> Option<usize> {
    let opened = text.trim_start_matches('#');
    opened.starts_with('"').then_some(text.len() - opened.len())
}

/// `'a'` and `'\n'` are characters, `'a` is a lifetime.
fn is_character(text: &str) -> bool {
    let mut characters = text.chars().skip(1);
    let first = characters.next();
    first == Some('\\') || first.is_some() && characters.next() == Some('\'')
}

fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_is_left() {
        let text = "let a = \"fn {\\\" {\"; // unsafe {\nlet b: &'a str = r#\"}\"}\"#; /* { /* */ unsafe */ let c = '{';\nbr\"{\" + b'x' + var\"\"";
        let code = blank(text);
        assert!(!code.contains(['{', '}', '"']) && !code.contains("unsafe"), "{code}");
        assert!(code.contains("&'a str =") && code.contains("let c = "), "{code}");
        assert_eq!(code.lines().count(), 3);
    }

    #[test]
    fn functions_and_their_lengths() {
        let text = "trait T {\n    fn a(x: [u8; 4]);\n    fn b<F: Fn() -> u8>(f: F) {\n        f(|| {});\n    }\n}\nfn c() {}\n";
        let source = Source::new(text);
        let found: Vec<_> = source.functions().into_iter().map(|f| (f.name, f.line, f.lines)).collect();
        assert_eq!(found, [("b".to_owned(), 3, 3), ("c".to_owned(), 7, 1)]);
    }

    #[test]
    fn unsafe_wants_a_reason() {
        let text = "// SAFETY: a\nlet x =\n    unsafe { y };\nunsafe { z }\nunsafe fn f() {}\n#![deny(unsafe_code)]\n";
        let source = Source::new(text);
        assert_eq!(source.unsafe_lines(), [3, 4, 5]);
        assert_eq!(source.unexplained(), [4]);
    }

    #[test]
    fn unfinished_work_is_found_and_templates_are_not() {
        let mark = concat!("TO", "DO");
        let text = format!("// {mark}: later\nlet a = \"/tmp/x-XXXXXX\";\n{}!()\n", mark.to_lowercase());
        let lines: Vec<_> = Source::new(&text).unfinished().into_iter().map(|(line, _)| line).collect();
        assert_eq!(lines, [1, 3]);
    }
}
