//! What a guest says on its second serial line, made into results.

use std::fmt::Write as _;

use super::programs::Suite;

/// What became of one program's tests.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Outcome {
    pub(super) passed: usize,
    /// Names, with what is wrong where it is more than the test's own failure.
    pub(super) failed: Vec<String>,
    /// Names with the reason.
    pub(super) ignored: Vec<String>,
    pub(super) seconds: f64,
    output: Vec<String>,
    left: Vec<String>,
    code: Option<i32>,
}

/// Reads the lines of a report.
pub(super) struct Report {
    outcomes: Vec<Outcome>,
    /// As `uname -r` says in the guest.
    pub(super) kernel: String,
    current: usize,
}

impl Report {
    pub(super) fn new(suites: usize) -> Self {
        Self {
            outcomes: (0..suites).map(|_| Outcome::default()).collect(),
            kernel: String::new(),
            current: 0,
        }
    }

    /// Takes one line; the number of a suite that has ended with it.
    pub(super) fn hear(&mut self, line: &str) -> Option<usize> {
        if let Some(text) = line.strip_prefix('|') {
            self.outcomes.get_mut(self.current)?.output.push(text.to_owned());
            return None;
        }
        let mut words = line.strip_prefix("@@ ")?.splitn(3, ' ');
        let (verb, first, rest) = (words.next()?, words.next()?, words.next().unwrap_or_default());
        if verb == "hello" {
            first.clone_into(&mut self.kernel);
            return None;
        }
        let number: usize = first.parse().ok()?;
        let outcome = self.outcomes.get_mut(number)?;
        match verb {
            "begin" => self.current = number,
            "left" => outcome.left.push(rest.to_owned()),
            "end" => {
                let mut words = rest.split(' ');
                outcome.code = words.next()?.parse().ok();
                let times: Vec<f64> = words.filter_map(|word| word.parse().ok()).collect();
                outcome.seconds = times.last()? - times.first()?;
                return Some(number);
            }
            _ => {}
        }
        None
    }

    /// What became of a suite, ended or not.
    pub(super) fn outcome(&mut self, number: usize, suite: &Suite<'_>) -> Outcome {
        let mut outcome = std::mem::take(&mut self.outcomes[number]);
        outcome.judge(&suite.tests);
        outcome
    }
}

impl Outcome {
    /// Every test that was to run has a verdict, or has failed.
    fn judge(&mut self, tests: &[&str]) {
        for test in tests {
            match verdict(&self.output, test) {
                Some("ok") => self.passed += 1,
                Some("FAILED") => self.failed.push((*test).to_owned()),
                Some(other) if other.starts_with("ignored") => self.ignored.push(format!("{test} ({other})")),
                _ => self.failed.push(format!("{test} (told no result)")),
            }
        }
        match self.code {
            Some(0) => {}
            None if tests.is_empty() => {}
            Some(_) if !self.failed.is_empty() => {}
            Some(code) => self.failed.push(format!("the program ended with {code}")),
            None => self.failed.push("the program did not end".to_owned()),
        }
        self.failed.extend(self.left.drain(..).map(|thing| format!("left behind: {thing}")));
    }

    /// What explains failures: the programs' own words, from where they tell of failures if they do.
    pub(super) fn explain(&self) -> String {
        let told = self.output.iter().position(|line| line == "failures:");
        let from = told.unwrap_or(self.output.len().saturating_sub(60));
        self.output[from..].iter().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "    {line}");
            text
        })
    }
}

/// The last word on a test. It may stand behind what a child process wrote without a line's end.
fn verdict<'a>(output: &'a [String], test: &str) -> Option<&'a str> {
    let marks = [format!("test {test} ... "), format!("test {test} - should panic ... ")];
    output.iter().find_map(|line| marks.iter().find_map(|mark| Some(line.split_once(mark)?.1.trim_end())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(lines: &[&str], tests: &[&str]) -> Outcome {
        let mut report = Report::new(1);
        for line in lines {
            report.hear(line);
        }
        let mut outcome = std::mem::take(&mut report.outcomes[0]);
        outcome.judge(tests);
        outcome
    }

    #[test]
    fn verdicts_are_counted() {
        let lines = [
            "@@ hello 6.1.0",
            "@@ begin 0",
            "|test a ... ok",
            "|noisetest b ... FAILED",
            "|test c ... ignored, needs more",
            "|test d - should panic ... ok",
            "|failures:",
            "|why",
            "@@ end 0 101 1.5 3.0",
        ];
        let outcome = outcome(&lines, &["a", "b", "c", "d"]);
        assert_eq!((outcome.passed, &outcome.failed[..]), (2, &["b".to_owned()][..]));
        assert_eq!(outcome.ignored, ["c (ignored, needs more)"]);
        assert!((outcome.seconds - 1.5).abs() < 0.01);
        assert_eq!(outcome.explain(), "    failures:\n    why\n");
    }

    #[test]
    fn silence_is_failure() {
        let silent = outcome(&["@@ begin 0", "|test a ... ok"], &["a", "b"]);
        assert_eq!(silent.failed, ["b (told no result)", "the program did not end"]);
        let dirty = outcome(&["|test a ... ok", "@@ left 0 mount /x y", "@@ end 0 0 1 2"], &["a"]);
        assert_eq!(dirty.failed, ["left behind: mount /x y"]);
        let crash = outcome(&["|test a ... ok", "@@ end 0 137 1 2"], &["a"]);
        assert_eq!(crash.failed, ["the program ended with 137"]);
    }
}
