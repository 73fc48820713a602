//! Numbers that any thread may raise. Nobody waits for anybody: a reader may see one of two numbers that belong together
//! a moment before the other.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A number that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// How many there were since the start.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How often which spans of time were seen, in buckets.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [Duration],
    /// One for each bound, and one for what is longer than all of them. Not cumulative.
    buckets: Box<[AtomicU64]>,
    /// In nanoseconds: it overflows after 584 years of waiting.
    sum: AtomicU64,
}

impl Histogram {
    /// A histogram without observations. `bounds` are the upper ends of its buckets, rising.
    pub fn new(bounds: &'static [Duration]) -> Histogram {
        debug_assert!(bounds.is_sorted(), "bounds rise");
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { bounds, buckets, sum: AtomicU64::new(0) }
    }

    /// One span of time that was seen. One that is as long as a bound is within it.
    pub fn observe(&self, span: Duration) {
        let bucket = self.bounds.partition_point(|bound| *bound < span);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum.fetch_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }
}

/// What histograms of the same bounds have seen together: one for each worker, say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    /// The upper ends of the buckets, rising.
    pub bounds: &'static [Duration],
    /// One for each bound, and one for what is longer. Not cumulative.
    pub counts: Vec<u64>,
    /// All spans together.
    pub sum: Duration,
}

impl Distribution {
    /// Nothing seen.
    pub fn new(bounds: &'static [Duration]) -> Distribution {
        Distribution { bounds, counts: vec![0; bounds.len() + 1], sum: Duration::ZERO }
    }

    /// Adds what this histogram has seen. Its bounds must be the same ones.
    pub fn add(&mut self, histogram: &Histogram) {
        debug_assert_eq!(self.bounds, histogram.bounds);
        for (count, bucket) in self.counts.iter_mut().zip(&histogram.buckets) {
            *count += bucket.load(Relaxed);
        }
        self.sum += Duration::from_nanos(histogram.sum.load(Relaxed));
    }
}

impl From<&Histogram> for Distribution {
    fn from(histogram: &Histogram) -> Distribution {
        let mut seen = Distribution::new(histogram.bounds);
        seen.add(histogram);
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: &[Duration] = &[Duration::from_millis(1), Duration::from_millis(10)];

    #[test]
    fn a_span_is_counted_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::new(BOUNDS);
        for micros in [0, 1_000, 1_001, 10_000, 10_001, 5_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let seen = Distribution::from(&histogram);
        assert_eq!(seen.counts, [2, 2, 2]);
        assert_eq!(seen.sum, Duration::from_micros(5_022_002));
    }

    #[test]
    fn the_histograms_of_several_workers_add_up() {
        let (one, other) = (Histogram::new(BOUNDS), Histogram::new(BOUNDS));
        one.observe(Duration::from_millis(5));
        other.observe(Duration::from_millis(6));
        let mut seen = Distribution::new(BOUNDS);
        seen.add(&one);
        seen.add(&other);
        assert_eq!((seen.counts, seen.sum), (vec![0, 2, 0], Duration::from_millis(11)));
    }
}
