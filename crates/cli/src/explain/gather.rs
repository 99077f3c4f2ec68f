//! What a timeline says many times, said once: steps of one kind become one line, long values are shown where they
//! come first.

use std::collections::HashMap;

use trace::{Room, Step};

/// A step, or several of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// When the first began, nanoseconds.
    pub(super) start: u64,
    /// What they took together, nanoseconds.
    pub(super) took: u64,
    pub(super) room: Room,
    pub(super) what: String,
    pub(super) details: Vec<(String, String)>,
}

/// Fewer steps than this that differ in one word keep a line each.
const WORTH_GATHERING: usize = 3;
/// Values longer than this are shown once.
const LONG: usize = 40;

/// The lines of a timeline whose steps are in order of their beginnings.
pub(super) fn gather(mut steps: &[&Step]) -> Vec<Entry> {
    let mut entries = Vec::new();
    while let Some(first) = steps.first() {
        let alike = 1 + steps[1..].iter().take_while(|s| kin(first, s) && s.what == first.what).count();
        let close = siblings(steps);
        let close = if readable(&steps[..close]) { close } else { 1 };
        let count = if alike > 1 {
            alike
        } else if close >= WORTH_GATHERING {
            close
        } else {
            1
        };
        entries.push(entry(&steps[..count]));
        steps = &steps[count..];
    }
    once(&mut entries);
    entries
}

/// Whether two steps can share a line at all.
fn kin(a: &Step, b: &Step) -> bool {
    let keys = |step: &Step| step.details.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
    a.room == b.room && keys(a) == keys(b)
}

/// How many steps from the first on differ from it in the same one word.
fn siblings(steps: &[&Step]) -> usize {
    let first = steps[0];
    let Some(place) = steps.get(1).and_then(|second| difference(&first.what, &second.what)) else {
        return 1;
    };
    let mut count = 1;
    while let Some(step) = steps.get(count) {
        if !kin(first, step) || difference(&first.what, &step.what) != Some(place) {
            break;
        }
        // Equal neighbours are a line of their own.
        if steps.get(count + 1).is_some_and(|next| next.what == step.what) {
            break;
        }
        count += 1;
    }
    count
}

/// Whether particulars that differ can be told apart when they stand in a row: the names before them must be short.
fn readable(steps: &[&Step]) -> bool {
    let same = steps.iter().all(|step| step.details == steps[0].details);
    same || !variants(steps).is_some_and(|(_, words)| parts(&words).1.iter().any(|name| name.contains('/')))
}

/// The place of the word in which steps differ, and what each has there.
fn variants<'a>(steps: &[&'a Step]) -> Option<(usize, Vec<&'a str>)> {
    let place = difference(&steps[0].what, &steps.get(1)?.what)?;
    Some((place, steps.iter().map(|step| step.what.split(' ').nth(place).unwrap_or("")).collect()))
}

/// The one word in which two texts differ.
fn difference(a: &str, b: &str) -> Option<usize> {
    if a.split(' ').count() != b.split(' ').count() {
        return None;
    }
    let mut places = a.split(' ').zip(b.split(' ')).enumerate().filter(|(_, (a, b))| a != b);
    let place = places.next()?.0;
    places.next().is_none().then_some(place)
}

fn entry(steps: &[&Step]) -> Entry {
    let first = steps[0];
    let mut what: Vec<String> = first.what.split(' ').map(Into::into).collect();
    if let Some((place, words)) = variants(steps) {
        what[place] = braces(&words);
    }
    if steps.len() > 1 {
        what.push(format!("×{}", steps.len()));
    }
    Entry {
        start: first.start,
        took: steps.iter().map(|step| step.took).sum(),
        room: first.room,
        what: what.join(" "),
        details: details(steps),
    }
}

/// Every particular's values, in its first place; a value that all steps share once.
fn details(steps: &[&Step]) -> Vec<(String, String)> {
    let mut rows: Vec<(&str, Vec<&str>)> = Vec::new();
    for (key, value) in steps.iter().flat_map(|step| &step.details) {
        match rows.iter_mut().find(|(known, _)| known == key) {
            Some((_, values)) => values.push(value),
            None => rows.push((key, vec![value])),
        }
    }
    let separator = if steps.len() > 1 { ", " } else { "," };
    rows.into_iter()
        .map(|(key, mut values)| {
            if steps.len() > 1 && values.iter().all(|value| *value == values[0]) {
                values.truncate(1);
            }
            (key.to_owned(), values.join(separator))
        })
        .collect()
}

/// `/a/b/x` and `/a/c/x` as a shell writes them: `/a/{b,c}/x`.
fn braces(words: &[&str]) -> String {
    let (head, middles, tail) = parts(words);
    format!("{head}{{{}}}{tail}", middles.join(","))
}

/// The directories that all words begin with, what differs, and the directories that all end with.
fn parts<'a>(words: &[&'a str]) -> (&'a str, Vec<&'a str>, &'a str) {
    let first = words[0];
    let begins = |head: &str| words.iter().all(|word| word.starts_with(head));
    let head = first.rmatch_indices('/').map(|(at, _)| &first[..=at]).find(|head| begins(head)).unwrap_or("");
    let rest: Vec<&str> = words.iter().map(|word| &word[head.len()..]).collect();
    let ends = |tail: &str| rest.iter().all(|word| word.ends_with(tail) && word.len() > tail.len());
    let tail = rest[0].match_indices('/').map(|(at, _)| &rest[0][at..]).find(|tail| ends(tail)).unwrap_or("");
    (head, rest.iter().map(|word| &word[..word.len() - tail.len()]).collect(), tail)
}

/// Puts the place where a long value was shown in the place of its repetitions.
fn once(entries: &mut [Entry]) {
    let mut seen: HashMap<String, String> = HashMap::new();
    for entry in entries {
        let mut here: HashMap<String, String> = HashMap::new();
        for (key, value) in entry.details.iter_mut().filter(|(_, value)| super::shorten(value).len() > LONG) {
            if let Some(other) = here.get(value) {
                *value = format!("as {other}");
                continue;
            }
            here.insert(value.clone(), key.clone());
            if let Some(what) = seen.get(value) {
                *value = format!("as in \u{201c}{what}\u{201d}");
            }
        }
        for value in here.into_keys() {
            seen.entry(value).or_insert_with(|| entry.what.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(start: u64, what: &str, details: &[(&str, &str)]) -> Step {
        let details = details.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        Step { start, took: 2, room: Room::Runtime, what: what.into(), details }
    }

    fn told(steps: &[Step]) -> Vec<String> {
        let line = |entry: &Entry| {
            let details: Vec<_> = entry.details.iter().map(|(k, v)| format!("{k}={v}")).collect();
            format!("{} | {}", entry.what, details.join(" "))
        };
        gather(&steps.iter().collect::<Vec<_>>()).iter().map(line).collect()
    }

    #[test]
    fn steps_of_one_kind_share_a_line() {
        let steps = [
            step(0, "make cgroup /c/cpu/k/1", &[]),
            step(1, "make cgroup /c/memory/k/1", &[]),
            step(2, "make cgroup /c/pids/k/1", &[]),
            step(3, "write /c/memory/k/1/memory.limit_in_bytes", &[("value", "64")]),
            step(3, "write /c/memory/k/1/memory.memsw.limit_in_bytes", &[("value", "128")]),
            step(3, "write /c/devices/k/1/devices.deny", &[("value", "a")]),
            step(4, "write /c/devices/k/1/devices.allow", &[("value", "c *:* m")]),
            step(5, "write /c/devices/k/1/devices.allow", &[("value", "b *:* m")]),
            step(6, "make device /dev/null", &[("number", "c 1:3"), ("mode", "0666")]),
            step(7, "make device /dev/zero", &[("number", "c 1:5"), ("mode", "0666")]),
            step(8, "make device /dev/full", &[("number", "c 1:7"), ("mode", "0666")]),
            step(9, "mount proc on /proc", &[]),
            step(10, "mount tmpfs on /dev", &[]),
            step(11, "mount tmpfs on /run", &[]),
        ];
        assert_eq!(
            told(&steps),
            [
                "make cgroup /c/{cpu,memory,pids}/k/1 ×3 | ",
                "write /c/memory/k/1/memory.limit_in_bytes | value=64",
                "write /c/memory/k/1/memory.memsw.limit_in_bytes | value=128",
                "write /c/devices/k/1/devices.deny | value=a",
                "write /c/devices/k/1/devices.allow ×2 | value=c *:* m, b *:* m",
                "make device /dev/{null,zero,full} ×3 | number=c 1:3, c 1:5, c 1:7 mode=0666",
                "mount proc on /proc | ",
                "mount tmpfs on /dev | ",
                "mount tmpfs on /run | ",
            ]
        );
        let entries = gather(&steps.iter().collect::<Vec<_>>());
        assert_eq!((entries[0].start, entries[0].took), (0, 6));
    }

    #[test]
    fn long_values_are_shown_once() {
        let layers = "lowerdir+=/layers/0000000000/1111111111,volatile";
        let (lower, rest) = layers.split_once(',').unwrap();
        let steps = [
            step(0, "compose layers", &[("option", lower), ("option", rest)]),
            step(1, "mount overlay", &[("on", "/"), ("options", layers)]),
            step(2, "set capabilities", &[("effective", &"X ".repeat(30)), ("permitted", &"X ".repeat(30))]),
        ];
        let told = told(&steps);
        assert_eq!(told[0], format!("compose layers | option={layers}"));
        assert_eq!(told[1], "mount overlay | on=/ options=as in “compose layers”");
        assert!(told[2].ends_with("permitted=as effective"), "{}", told[2]);
    }

    #[test]
    fn braces_hold_what_differs() {
        assert_eq!(braces(&["/a/b/x", "/a/c/x"]), "/a/{b,c}/x");
        assert_eq!(braces(&["/proc/kcore", "/sys/firmware"]), "/{proc/kcore,sys/firmware}");
        assert_eq!(braces(&["a", "b"]), "{a,b}");
        assert_eq!(braces(&["/a/x/x", "/a/x"]), "/a/{x/x,x}");
    }
}
