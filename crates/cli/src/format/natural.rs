//! The order in which people count: `web2` before `web10`.

use std::cmp::Ordering;

/// Compares texts with their runs of digits as numbers.
pub(crate) fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (left, right) = (chunk(a), chunk(b));
        if left.is_empty() || right.is_empty() {
            return a.len().cmp(&b.len());
        }
        let digits = |text: &str| text.as_bytes()[0].is_ascii_digit();
        let order = match (digits(left), digits(right)) {
            (true, true) => {
                let value = |text: &str| {
                    let bare = text.trim_start_matches('0').to_owned();
                    (bare.len(), bare, text.len())
                };
                value(left).cmp(&value(right))
            }
            _ => left.cmp(right),
        };
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (&a[left.len()..], &b[right.len()..]);
    }
}

/// A run of digits, or one other character.
fn chunk(text: &str) -> &str {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    match digits {
        0 => &text[..text.chars().next().map_or(0, char::len_utf8)],
        _ => &text[..digits],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_counted() {
        let mut names = ["web10", "web2", "web", "a", "web02", "80/tcp -> x", "443/tcp -> x", "é"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["80/tcp -> x", "443/tcp -> x", "a", "web", "web2", "web02", "web10", "é"]);
    }
}
