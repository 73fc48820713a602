//! What was measured: a line each, `MEASURE SIDE ROUND VALUE`.
//!
//! A side is `ours` or the name of what it is compared with. What one round measured of two sides belongs together: the two
//! were measured one right after the other.

use anyhow::{Context as _, ensure};
use std::collections::BTreeMap;

/// Everything that was measured.
#[derive(Debug, Default)]
pub struct Samples(BTreeMap<(String, String), BTreeMap<u32, f64>>);

impl Samples {
    /// Reads the lines.
    pub fn read(text: &str) -> anyhow::Result<Samples> {
        let mut all = Samples::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [measure, side, round, value] = words[..] else {
                anyhow::bail!("{line:?} is not MEASURE SIDE ROUND VALUE");
            };
            let round = round.parse().with_context(|| format!("{line:?} has no round"))?;
            let value: f64 = value.parse().with_context(|| format!("{line:?} has no value"))?;
            ensure!(value.is_finite(), "{line:?} has no value");
            all.0.entry((measure.to_owned(), side.to_owned())).or_default().insert(round, value);
        }
        Ok(all)
    }

    /// What was measured of one side, by rounds.
    pub fn of(&self, measure: &str, side: &str) -> Vec<f64> {
        self.rounds(measure, side).map(|(_, value)| value).collect()
    }

    /// What each round measured of us and of another side.
    pub fn pairs(&self, measure: &str, side: &str) -> Vec<(f64, f64)> {
        let theirs: BTreeMap<u32, f64> = self.rounds(measure, side).collect();
        let pair = |(round, ours)| Some((ours, *theirs.get(&round)?));
        self.rounds(measure, OURS).filter_map(pair).collect()
    }

    fn rounds(&self, measure: &str, side: &str) -> impl Iterator<Item = (u32, f64)> + '_ {
        let rounds = self.0.get(&(measure.to_owned(), side.to_owned()));
        rounds.into_iter().flatten().map(|(round, value)| (*round, *value))
    }
}

/// The side that is measured.
pub const OURS: &str = "ours";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_one_round_measured_of_both_sides_makes_a_pair() {
        let text = "apply ours 1 10\napply raw 1 8\napply ours 2 12\napply raw 3 9\n";
        let samples = Samples::read(text).unwrap();
        assert_eq!(samples.pairs("apply", "raw"), [(10.0, 8.0)]);
        assert_eq!(samples.of("apply", "ours"), [10.0, 12.0]);
        assert!(samples.of("apply", "swarm").is_empty());
    }

    #[test]
    fn a_line_that_is_no_measurement_is_refused() {
        for wrong in ["apply ours 1", "apply ours 1 nan", "apply ours x 1", "apply ours 1 1 1"] {
            assert!(Samples::read(wrong).is_err(), "{wrong}");
        }
    }
}
