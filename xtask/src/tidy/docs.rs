//! Documents name what exists, and nothing else.

/// Rooms that the table in `ARCHITECTURE.md` lists.
pub(super) fn listed_rooms(architecture: &str) -> Vec<&str> {
    architecture
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"))
        .map(|(name, _)| name)
        .collect()
}

/// Links of a Markdown text to files of the repository.
pub(super) fn links(markdown: &str) -> Vec<&str> {
    let targets = markdown
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'));
    let files = targets.map(|(target, _)| target.split('#').next().unwrap_or_default());
    files
        .filter(|target| !target.is_empty() && !target.contains("://"))
        .collect()
}

/// Whether a text shows a command of `knarr` in code: `` `knarr run …` `` or a line of a listing.
pub(super) fn shows(text: &str, command: &str) -> bool {
    let call = format!("knarr {command}");
    text.match_indices(&call).any(|(at, _)| {
        let next = text[at + call.len()..].chars().next();
        !next.is_some_and(|character| character.is_alphanumeric() || character == '-' || character == '_')
    })
}

/// Tests that a text names as `` `path/file.rs::name` ``: file and name.
pub(super) fn named_tests(markdown: &str) -> Vec<(&str, &str)> {
    let code = markdown.split('`').skip(1).step_by(2);
    code.filter_map(|code| {
        code.split_once(".rs::")
            .map(|(file, name)| (&code[..file.len() + 3], name))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_document_says() {
        assert_eq!(
            listed_rooms("| room |\n|---|\n| `api` | words |\n| `cli` | x |\n"),
            ["api", "cli"]
        );
        assert_eq!(links("[a](docs/b.md#c) [d](https://e) [f](#g)"), ["docs/b.md"]);
        assert_eq!(named_tests("| x | `a/b.rs::c` and `d` |"), [("a/b.rs", "c")]);
        assert!(shows("`knarr run -it x`", "run") && shows("knarr ps\n", "ps"));
        assert!(!shows("knarr runs", "run") && !shows("run", "run"));
    }
}
