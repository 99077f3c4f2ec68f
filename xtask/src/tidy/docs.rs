//! Documents name what exists, and nothing else.

/// Links of a Markdown text to files of the repository.
pub(super) fn links(markdown: &str) -> Vec<&str> {
    let targets = markdown.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    let files = targets.map(|(target, _)| target.split('#').next().unwrap_or_default());
    files.filter(|target| !target.is_empty() && !target.contains("://")).collect()
}

/// Whether a text shows a command of `knarr` in code: `` `knarr run …` `` or a line of a listing.
pub(super) fn shows(text: &str, command: &str) -> bool {
    let call = format!("knarr {command}");
    text.match_indices(&call).any(|(at, _)| {
        let next = text[at + call.len()..].chars().next();
        !next.is_some_and(|character| character.is_alphanumeric() || character == '-' || character == '_')
    })
}

/// The commands that the command line's table of verbs (`verbs! { … }`) puts at the top: `knarr NAME`.
pub(super) fn commands(table: &str) -> Vec<String> {
    // Groups called `…Only` hold those that stand under another command.
    let groups = table.split("verbs! {").skip(1).filter_map(|group| group.split_once("Verb {"));
    let mut found = Vec::new();
    for (_, body) in groups {
        // `Name(file::Type)`: what stands before a parenthesis with a path in it.
        let parts: Vec<&str> = body.split_once('}').map_or(body, |(body, _)| body).split('(').collect();
        for pair in parts.windows(2) {
            let start = pair[0].rfind(|c: char| !c.is_alphanumeric()).map_or(0, |at| at + 1);
            let path = pair[1].split(')').next().unwrap_or_default();
            if path.contains("::") && start < pair[0].len() {
                found.push(pair[0][start..].to_lowercase());
            }
        }
    }
    found
}

/// A room's row in `ARCHITECTURE.md`: its name, and what it leans on as far as rooms are named there.
pub(super) fn row(line: &str) -> Option<(&str, Vec<&str>)> {
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    let [_, name, _, leans_on, ..] = cells[..] else {
        return None;
    };
    let name = name.strip_prefix('`')?.strip_suffix('`')?;
    Some((name, leans_on.split(", ").filter(|room| *room != "–").collect()))
}

/// Tests that a text names as `` `path/file.rs::name` ``: file and name.
pub(super) fn named_tests(markdown: &str) -> Vec<(&str, &str)> {
    let code = markdown.split('`').skip(1).step_by(2);
    code.filter_map(|code| code.split_once(".rs::").map(|(file, name)| (&code[..file.len() + 3], name)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_document_says() {
        assert_eq!(row("| `cli` | flags | api, trace | all |"), Some(("cli", vec!["api", "trace"])));
        assert_eq!(row("| `api` | words | – | files |"), Some(("api", vec![])));
        assert_eq!(row("| room | in one line | leans on |"), None);
        let table = "verbs! {\n AVerb {\n Run(run::Run), #[command(alias = \"x\")] Rm(rm::Rm),\n }\n}\n\
                     verbs! { BOnly { Ls(ps::Ps) } }";
        assert_eq!(commands(table), ["run", "rm"]);
        assert_eq!(links("[a](docs/b.md#c) [d](https://e) [f](#g)"), ["docs/b.md"]);
        assert_eq!(named_tests("| x | `a/b.rs::c` and `d` |"), [("a/b.rs", "c")]);
        assert!(shows("`knarr run -it x`", "run") && shows("knarr ps\n", "ps"));
        assert!(!shows("knarr runs", "run") && !shows("run", "run"));
    }
}
