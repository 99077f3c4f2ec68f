//! How a long request goes on: on a terminal one line a layer, redrawn in place, and their sum below; elsewhere a
//! line for each change of state.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use api::message::Progress;

use crate::terminal::{self, Plain};
use crate::words::size::human_finer;

/// Between two drawings of the sum.
const PACE: Duration = Duration::from_millis(200);
/// Columns of the text beside a bar.
const BESIDE: usize = 60;
/// Columns of a bar, where there is room.
const BAR: usize = 50;

/// What is drawn, and where.
#[derive(Debug)]
pub(crate) struct Board {
    to: Plain,
    /// Rows and columns, on a terminal.
    size: Option<(u16, u16)>,
    /// The lines of layers, in order.
    ids: Vec<String>,
    sum: Sum,
    has_sum: bool,
    drawn: Instant,
}

/// All layers together.
#[derive(Debug, Default)]
struct Sum {
    /// Of each layer that moves: bytes here, bytes in all.
    layers: BTreeMap<String, (i64, i64)>,
    /// When the first moved, and what was there then.
    begun: Option<(Instant, i64)>,
}

impl Sum {
    fn note(&mut self, id: &str, current: i64, total: i64) {
        let first = !self.layers.contains_key(id);
        self.layers.insert(id.to_owned(), (current, total));
        let here = self.here();
        match &mut self.begun {
            None => self.begun = Some((Instant::now(), here)),
            // What a layer begins with was there before.
            Some((_, before)) if first => *before += current,
            Some(_) => {}
        }
    }

    fn finish(&mut self, id: &str) {
        if let Some((current, total)) = self.layers.get_mut(id) {
            *current = *total;
        }
    }

    fn here(&self) -> i64 {
        self.layers.values().map(|(current, _)| current).sum()
    }

    /// `Total 12MB/34MB  35%  5MB/s  4s left`
    fn text(&self, now: Instant) -> String {
        let (here, all) = (self.here(), self.layers.values().map(|(_, total)| total).sum::<i64>());
        let percent = (here * 100).checked_div(all).unwrap_or_default();
        let text = format!("Total {}/{}  {percent}%", human_finer(here as f64), human_finer(all as f64));
        let Some((begun, before)) = self.begun else { return text };
        let seconds = now.saturating_duration_since(begun).as_secs_f64();
        let speed = (here - before) as f64 / seconds;
        if seconds >= 1.0 && speed >= 1.0 {
            let left = ((all - here) as f64 / speed).ceil();
            let speed = human_finer(speed.round());
            return format!("{text}  {speed}/s  {left}s left");
        }
        text
    }
}

impl Board {
    pub(crate) fn new(to: Plain) -> Self {
        let is_terminal = match to {
            Plain::Out => io::stdout().is_terminal(),
            Plain::Err => io::stderr().is_terminal(),
            Plain::Closed => false,
        };
        let size = terminal::size().filter(|(rows, columns)| *rows > 2 && *columns > 0);
        Self {
            to,
            size: size.filter(|_| is_terminal),
            ids: Vec::new(),
            sum: Sum::default(),
            has_sum: false,
            drawn: Instant::now(),
        }
    }

    /// Shows one message.
    pub(crate) fn line(&mut self, said: &Progress) -> io::Result<()> {
        let moving = said.progress_detail.as_ref().filter(|detail| detail.current > 0 || detail.total > 0);
        if !said.stream.is_empty() {
            self.leave()?;
            return self.to.write_all(said.stream.as_bytes());
        }
        if said.status.is_empty() {
            return Ok(());
        }
        let id = if said.id.is_empty() { String::new() } else { format!("{}: ", said.id) };
        let Some((rows, columns)) =
            self.size.filter(|_| said.progress_detail.is_some() && !said.id.is_empty())
        else {
            if moving.is_some() {
                return Ok(());
            }
            self.leave()?;
            return writeln!(self.to, "{id}{}", said.status);
        };
        let mut text = format!("{id}{}", said.status);
        match moving {
            Some(detail) => {
                self.sum.note(&said.id, detail.current, detail.total);
                text += &bar(detail.current, detail.total, columns.into());
            }
            None if matches!(said.status.as_str(), "Pull complete" | "Pushed" | "Download complete") => {
                self.sum.finish(&said.id);
            }
            None => {}
        }
        self.draw(&said.id, &text, rows.into())
    }

    /// Puts the line of `id`, and now and then the sum, in their places.
    fn draw(&mut self, id: &str, text: &str, rows: usize) -> io::Result<()> {
        let mut out = Vec::new();
        let known = self.ids.iter().position(|known| known == id);
        if known.is_none() {
            self.rub_out(&mut out)?;
            self.ids.push(id.to_owned());
            out.extend_from_slice(b"\n");
        }
        let at = known.unwrap_or(self.ids.len() - 1);
        let up = self.ids.len() - at + usize::from(self.has_sum);
        // What has left the screen cannot be redrawn.
        if up < rows {
            write!(out, "\x1b[{up}A\r\x1b[2K{text}\x1b[{up}B\r")?;
        }
        if !self.sum.layers.is_empty() && (!self.has_sum || self.drawn.elapsed() >= PACE) {
            self.rub_out(&mut out)?;
            writeln!(out, "{}", self.sum.text(Instant::now()))?;
            self.has_sum = true;
            self.drawn = Instant::now();
        }
        self.to.write_all(&out)
    }

    fn rub_out(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        if std::mem::take(&mut self.has_sum) {
            write!(out, "\x1b[1A\r\x1b[2K")?;
        }
        Ok(())
    }

    /// Lets what is drawn stand: other lines follow.
    fn leave(&mut self) -> io::Result<()> {
        let mut out = Vec::new();
        self.rub_out(&mut out)?;
        self.ids.clear();
        self.sum = Sum::default();
        self.to.write_all(&out)
    }

    /// Takes the sum away.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        self.leave()
    }
}

/// As docker's, in the columns that there are.
fn bar(current: i64, total: i64, columns: usize) -> String {
    let sizes = format!("{:>8}/{}", human_finer(current as f64), human_finer(total as f64));
    let width = BAR.min(columns.saturating_sub(BESIDE));
    if width < 10 || total <= 0 {
        return format!(" {sizes}");
    }
    let part = (current.clamp(0, total) as u128 * width as u128 / total as u128) as usize;
    format!(" [{}>{}] {sizes}", "=".repeat(part), " ".repeat(width - part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_bars() {
        let mut sum = Sum::default();
        sum.note("a", 500, 1000);
        sum.note("b", 0, 3000);
        assert_eq!(sum.text(Instant::now()), "Total 500B/4kB  12%");
        let (begun, _) = sum.begun.unwrap();
        sum.note("b", 1000, 3000);
        assert_eq!(sum.text(begun + Duration::from_secs(2)), "Total 1.5kB/4kB  37%  500B/s  5s left");
        sum.finish("b");
        assert_eq!(sum.here(), 3500);
        assert_eq!(bar(5, 10, 70), " [=====>     ]       5B/10B");
        assert_eq!(bar(5, 10, 40), "       5B/10B");
    }
}
