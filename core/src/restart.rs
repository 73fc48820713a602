//! The arithmetic of restarts: how long a job that failed waits for its next attempt.

use crate::time::Millis;

/// After the first failure. Long enough that a job that ends at once does not keep the engine busy, short enough that one
/// crash is hardly noticed.
pub const FIRST_DELAY: Millis = Millis(1_000);
/// However often it failed, it is tried again this often: a dependency that comes back should not find us asleep.
pub const LONGEST_DELAY: Millis = Millis(60_000);
/// Failures are forgotten after it was healthy for this long: as long as the longest delay, so that a job which is
/// healthy for a moment and dies does not start over with the shortest.
pub const FORGIVEN_AFTER: Millis = LONGEST_DELAY;

/// How long to wait after so many failures in a row: 1 s, 2 s, 4 s, … 60 s.
pub const fn delay(failures: u32) -> Millis {
    let doublings = failures.saturating_sub(1);
    // Six doublings of the first delay are more than the longest one.
    if doublings >= 6 { LONGEST_DELAY } else { Millis(FIRST_DELAY.0 << doublings) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn a_job_that_fails_again_and_again_waits_twice_as_long_each_time_up_to_a_minute() {
        let delays: Vec<u64> = (1..=8).map(|failures| delay(failures).0 / 1_000).collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(delay(u32::MAX), LONGEST_DELAY);
    }
}
