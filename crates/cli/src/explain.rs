//! `run --explain`: what was done for one start, drawn as a timeline.

mod gather;

use std::fmt::Write;

use gather::{Entry, gather};
use trace::{Room, Step, Timeline};

/// How the drawing is to look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// Columns of the terminal.
    pub(crate) width: usize,
    /// Whether colours are welcome.
    pub(crate) colour: bool,
}

impl Look {
    /// What suits standard error, where the drawing goes.
    pub(crate) fn of_terminal() -> Look {
        let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let size = rustix::termios::tcgetwinsize(std::io::stderr()).ok();
        let width = size.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0).unwrap_or(100);
        let quiet = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Look { width: width.clamp(60, 160), colour: terminal && !quiet }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Eighths of a cell, so that a bar tells fractions of a column.
const EIGHTHS: [char; 9] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];

/// Where the particulars begin: below the bars, so that paths have room.
const DETAILS: usize = 21;
/// Columns before the bars, and from the bars' end to what was done.
const AROUND_BARS: usize = 8 + 1 + 8 + 2 + 2 + 8 + 2;

/// A room's name and its colour.
fn room(room: Room) -> (&'static str, &'static str) {
    match room {
        Room::Engine => ("engine", "34"),
        Room::Snapshot => ("snapshot", "33"),
        Room::Network => ("network", "36"),
        Room::Shim => ("shim", "35"),
        Room::Runtime => ("runtime", "32"),
        Room::Init => ("init", "91"),
    }
}

/// The drawing: a line per step, or per group of alike steps, with its beginning, its length, its bar, its room and
/// what was done; the particulars beside it, or below where they are long; at the end what each room took.
pub(crate) fn draw(timeline: &Timeline, look: Look) -> String {
    let mut steps: Vec<&Step> = timeline.steps.iter().collect();
    steps.sort_by_key(|step| (step.start, std::cmp::Reverse(step.took)));
    let Some(zero) = steps.first().map(|step| step.start) else {
        return "the daemon kept no steps for this start\n".into();
    };
    let end = steps.iter().map(|step| step.start.saturating_add(step.took)).max().unwrap_or(zero);
    let scale = Scale {
        zero,
        span: (end - zero).max(1),
        cells: (look.width.saturating_sub(50) * 2 / 5).clamp(10, 28),
    };
    let mut out = String::new();
    let title =
        format!("{:>8} {:>8}  {:<cells$}  {:<8}  step", "at ms", "took ms", "", "room", cells = scale.cells);
    let _ = writeln!(out, "{}", look.paint("2", title.trim_end()));
    for entry in gather(&steps) {
        line(&mut out, &entry, scale, look);
    }
    summary(&mut out, &steps, scale.span, look);
    out
}

/// What the bars are measured by: the moment of their left end, the nanoseconds and the columns of their length.
#[derive(Debug, Clone, Copy)]
struct Scale {
    zero: u64,
    span: u64,
    cells: usize,
}

fn line(out: &mut String, entry: &Entry, scale: Scale, look: Look) {
    let (name, colour) = room(entry.room);
    let begin = entry.start - scale.zero;
    let bar = look.paint(colour, &bar(begin, entry.took, scale.span, scale.cells));
    let name = look.paint(colour, &format!("{name:<8}"));
    let indent = AROUND_BARS + scale.cells;
    let left = look.width.saturating_sub(indent).max(16);
    let _ = write!(out, "{:>8} {:>8}  {bar}  {name}  ", millis(begin), millis(entry.took));
    let what = fold(&entry.what, left);
    for (at, part) in what.iter().enumerate() {
        let margin = if at == 0 { 0 } else { indent };
        let newline = if at == 0 { "" } else { "\n" };
        let _ = write!(out, "{newline}{:margin$}{}", "", look.paint("1", part));
    }
    let particulars: Vec<String> =
        entry.details.iter().map(|(key, value)| shorten(&printable(&format!("{key} {value}")))).collect();
    let beside = particulars.join("; ");
    let free = left.saturating_sub(what.last().map_or(0, |part| part.chars().count()));
    if beside.is_empty() {
        out.push('\n');
    } else if beside.chars().count() + 2 <= free {
        let _ = writeln!(out, "  {}", look.paint("2", &beside));
    } else {
        out.push('\n');
        for part in flow(&particulars, look.width - DETAILS) {
            let _ = writeln!(out, "{:DETAILS$}{}", "", look.paint("2", &part));
        }
    }
}

/// Texts one after another, as many on a line as it holds; a long one has lines of its own, the further ones set in.
fn flow(texts: &[String], width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut open = false;
    for text in texts {
        let length = text.chars().count();
        match lines.last_mut().filter(|_| open) {
            Some(last) if last.chars().count() + 2 + length <= width => {
                last.push_str("; ");
                last.push_str(text);
            }
            _ if length <= width => lines.push(text.clone()),
            _ => {
                let parts = fold(text, width - 2);
                lines.extend(parts.iter().enumerate().map(|(at, part)| {
                    let margin = if at == 0 { "" } else { "  " };
                    format!("{margin}{part}")
                }));
            }
        }
        open = length <= width;
    }
    lines
}

/// A bar of `width` cells for a step that begins at `begin` and takes `took` of `span`; never empty.
fn bar(begin: u64, took: u64, span: u64, width: usize) -> String {
    let eighths = |time: u64| (u128::from(time) * width as u128 * 8 / u128::from(span)) as usize;
    let from = eighths(begin) / 8;
    let from = from.min(width - 1);
    let until = eighths(begin.saturating_add(took)).clamp(from * 8 + 1, width * 8);
    (0..width)
        .map(|cell| match cell {
            cell if cell < from => '·',
            cell => match EIGHTHS[until.saturating_sub(cell * 8).min(8)] {
                ' ' => '·',
                block => block,
            },
        })
        .collect()
}

fn summary(out: &mut String, steps: &[&Step], span: u64, look: Look) {
    let rooms = [Room::Engine, Room::Snapshot, Room::Network, Room::Shim, Room::Runtime, Room::Init];
    let mut parts = Vec::new();
    for of in rooms {
        let mine = steps.iter().filter(|step| step.room == of);
        let spans: Vec<_> = mine.map(|step| (step.start, step.start.saturating_add(step.took))).collect();
        if !spans.is_empty() {
            parts.push(format!("{} {}", room(of).0, millis(covered(spans))));
        }
    }
    let head = format!("{} ms in all, {} steps", millis(span), steps.len());
    let _ = writeln!(out, "{}", look.paint("1", &head));
    for mut line in flow(&parts, look.width) {
        for (name, colour) in rooms.map(room) {
            line = line.replace(name, &look.paint(colour, name));
        }
        let _ = writeln!(out, "{line}");
    }
}

/// How much time spans cover together: steps of one room may hold others.
fn covered(mut spans: Vec<(u64, u64)>) -> u64 {
    spans.sort_unstable();
    let (mut total, mut reached) = (0, 0);
    for (from, until) in spans {
        total += until.saturating_sub(from.max(reached));
        reached = reached.max(until);
    }
    total
}

fn millis(nanos: u64) -> String {
    format!("{:.3}", nanos as f64 / 1e6)
}

/// Text in lines of at most `width`, broken after `:`, `,`, `/` or a space where there is one.
fn fold(text: &str, width: usize) -> Vec<String> {
    let chars: Vec<char> = shorten(&printable(text)).chars().collect();
    let (mut lines, mut at) = (Vec::new(), 0);
    while chars.len() - at > width {
        let window = &chars[at..at + width];
        let last =
            |of: &[char]| window.iter().rposition(|c| of.contains(c)).filter(|place| *place > width / 2);
        let good = last(&[':', ',', '/', ' ']).or_else(|| last(&['.', '_', '-', '=']));
        let end = at + good.map_or(width, |place| place + 1);
        lines.push(chars[at..end].iter().collect());
        at = end;
    }
    lines.push(chars[at..].iter().collect());
    lines
}

/// Text in which long ids and digests are cut to the twelve digits that listings show.
fn shorten(text: &str) -> String {
    let hex = |c: char| c.is_ascii_hexdigit();
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(hex) {
        let run = &rest[start..];
        let run = &run[..run.find(|c| !hex(c)).unwrap_or(run.len())];
        out.push_str(&rest[..start]);
        match run.get(..12) {
            Some(head) if run.len() >= 32 => out.extend([head, "…"]),
            _ => out.push_str(run),
        }
        rest = &rest[start + run.len()..];
    }
    out + rest
}

/// What a container or an image named must not steer the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(start: u64, took: u64, room: Room, what: &str, details: &[(&str, &str)]) -> Step {
        let details = details.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        Step { start, took, room, what: what.into(), details }
    }

    fn sample() -> Timeline {
        Timeline {
            steps: vec![
                step(1_000_000, 1_000_000, Room::Engine, "resolve image", &[("name", "busybox:latest")]),
                step(2_000_000, 2_000_000, Room::Shim, "mount overlay", &[("lower", "/a:/b")]),
                step(4_000_000, 10_000, Room::Init, "exec\x1b[2J", &[]),
            ],
        }
    }

    #[test]
    fn a_timeline_drawn_plainly() {
        let text = draw(&sample(), Look { width: 80, colour: false });
        let want = "   at ms  took ms                room      step
   0.000    1.000  ███▉········  engine    resolve image  name busybox:latest
   1.000    2.000  ···████████▉  shim      mount overlay  lower /a:/b
   3.000    0.010  ···········█  init      exec\u{fffd}[2J
3.010 ms in all, 3 steps
engine 1.000; shim 2.000; init 0.010
";
        assert_eq!(text, want, "\n{text}");
    }

    #[test]
    fn long_things_are_wrapped_and_nothing_is_cut() {
        let path = "/run/knarr/containers/7f87fb10cc99/resolv.conf";
        let options = "nosuid,nodev,noexec,relatime,mode=0755,size=65536k";
        let what = format!("bind {path} on /etc/resolv.conf");
        let details = [("recursive", "true"), ("options", options), ("source", path)];
        let all = [Room::Engine, Room::Snapshot, Room::Network, Room::Shim, Room::Runtime, Room::Init];
        let steps = all.map(|room| step(123_456_789_012, 123_456_789, room, &what, &details));
        for width in [60, 80, 100, 140] {
            let text = draw(&Timeline { steps: steps.to_vec() }, Look { width, colour: false });
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}\n{text}");
            let whole: String = text.split_whitespace().collect();
            for part in ["resolv.confon/etc/resolv.conf", options, "recursivetrue"] {
                assert!(whole.contains(part), "{width}: {part}\n{text}");
            }
        }
    }

    #[test]
    fn colours_only_where_they_are_welcome() {
        assert!(!draw(&sample(), Look { width: 80, colour: false }).contains('\x1b'));
        assert!(draw(&sample(), Look { width: 80, colour: true }).contains("\x1b[34mengine"));
        assert!(draw(&Timeline::default(), Look { width: 80, colour: true }).contains("no steps"));
    }

    #[test]
    fn bars_are_never_empty_and_never_too_long() {
        for (begin, took) in [(0, 0), (0, 100), (99, 1), (100, 0), (50, 1)] {
            let bar = bar(begin, took, 100, 10);
            assert_eq!(bar.chars().count(), 10, "{bar}");
            assert!(bar.chars().any(|c| EIGHTHS[1..].contains(&c)), "{bar}");
        }
        let digest = "7f87fb10cc9997afbf14252a8e773899d98131513b9a56492215c06ba0bf5422";
        assert_eq!(shorten(&format!("/l/{digest}/x cafe")), "/l/7f87fb10cc99…/x cafe");
        assert_eq!(covered(vec![(0, 10), (2, 5), (8, 12)]), 12);
    }
}
