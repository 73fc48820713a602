//! The arithmetic of measurements.

/// The middle of some numbers, and the two ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Half of them are below, half above.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl Spread {
    /// Of these numbers; none of none.
    pub fn of(numbers: &[f64]) -> Option<Spread> {
        let mut sorted = numbers.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let (below, above) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Some(Spread { median: f64::midpoint(below, above), least, most })
    }
}

/// The smallest of some numbers that so many percent of them do not exceed; none of none.
pub fn percentile(numbers: &[f64], percent: f64) -> Option<f64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    // As many as there are numbers at most: exact, and not negative.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let rank = (sorted.len() as f64 * percent / 100.0).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert_eq!(Spread::of(&[4.0, 1.0, 3.0, 100.0]), Some(Spread { median: 3.5, least: 1.0, most: 100.0 }));
        assert_eq!(Spread::of(&[2.0, 9.0, 1.0]), Some(Spread { median: 2.0, least: 1.0, most: 9.0 }));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn the_99th_percentile_of_a_hundred_numbers_is_exceeded_by_one() {
        let numbers: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(&numbers, 99.0), Some(99.0));
        assert_eq!(percentile(&numbers, 50.0), Some(50.0));
        assert_eq!(percentile(&[7.0], 99.0), Some(7.0));
        assert_eq!(percentile(&[], 99.0), None);
    }
}
