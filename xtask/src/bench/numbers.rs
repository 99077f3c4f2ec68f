//! What a series of times comes to.

use std::time::Duration;

/// Minimum, median and ninth decile.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Summary {
    min: Duration,
    median: Duration,
    p90: Duration,
}

impl Summary {
    /// Of at least one time.
    pub(super) fn of(times: &[Duration]) -> Self {
        let mut times = times.to_vec();
        times.sort_unstable();
        let middle = times.len() / 2;
        let median = if times.len().is_multiple_of(2) {
            (times[middle - 1] + times[middle]) / 2
        } else {
            times[middle]
        };
        Self { min: times[0], median, p90: times[(times.len() * 9).div_ceil(10) - 1] }
    }

    pub(super) fn milliseconds(&self) -> [String; 3] {
        [self.min, self.median, self.p90].map(|time| format!("{:.1}", time.as_secs_f64() * 1000.0))
    }

    /// The median, to a hundredth.
    pub(super) fn milliseconds_finely(&self) -> String {
        format!("{:.2}", self.median.as_secs_f64() * 1000.0)
    }

    pub(super) fn median_ratio(&self, other: &Self) -> f64 {
        self.median.as_secs_f64() / other.median.as_secs_f64()
    }

    pub(super) fn as_json(&self) -> String {
        let [min, median, p90] = self.milliseconds();
        format!("{{\"minMs\":{min},\"medianMs\":{median},\"p90Ms\":{p90}}}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_and_three() {
        let times: Vec<_> = (1..=20).rev().map(Duration::from_millis).collect();
        assert_eq!(Summary::of(&times).milliseconds(), ["1.0", "10.5", "18.0"]);
        assert_eq!(Summary::of(&times[..3]).milliseconds(), ["18.0", "19.0", "20.0"]);
        assert!((Summary::of(&times[..1]).median_ratio(&Summary::of(&times)) - 20.0 / 10.5).abs() < 1e-9);
    }
}
