//! How long to wait before the next try.

use lapstrake_core::time::Millis;

/// The first wait: a controller that only restarts is back by then.
const FIRST: Millis = Millis(200);
/// The longest wait: a node is back soon after its controller is, and a thousand nodes make 300 dials a second at most.
const LONGEST: Millis = Millis::secs(5);

/// The longest wait after a refusal that lasts until somebody does something: a node that was removed or quarantined, or that
/// asks to return. Nobody is served by asking more often.
const LONGEST_REFUSED: Millis = Millis::secs(30);

/// Doubles from 0.2 s to 5 s, or to 30 s after a refusal. Each wait is somewhere in the upper half of its span, so that nodes which lost the same
/// controller do not come back in one wave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    span: Millis,
}

impl Backoff {
    pub(crate) const fn new() -> Backoff {
        Backoff { span: FIRST }
    }

    /// The next wait; `random` chooses where in the span.
    pub(crate) fn next(&mut self, random: u16) -> Millis {
        self.next_up_to(LONGEST, random)
    }

    /// The same after a refusal that lasts.
    pub(crate) fn next_refused(&mut self, random: u16) -> Millis {
        self.next_up_to(LONGEST_REFUSED, random)
    }

    fn next_up_to(&mut self, longest: Millis, random: u16) -> Millis {
        let half = self.span.0 / 2;
        let wait = half + half * u64::from(random) / u64::from(u16::MAX);
        self.span = Millis((self.span.0 * 2).min(longest.0));
        Millis(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_from_a_fifth_of_a_second_to_five_seconds() {
        let mut backoff = Backoff::new();
        let longest: Vec<u64> = (0..8).map(|_| backoff.next(u16::MAX).0).collect();
        assert_eq!(longest, [200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        assert_eq!(backoff.next(0).0, 2500);
        assert_eq!(Backoff::new().next(0).0, 100);
        let longest: Vec<u64> = (0..4).map(|_| backoff.next_refused(u16::MAX).0).collect();
        assert_eq!(longest, [5000, 10000, 20000, 30000], "whoever was refused asks less often");
    }
}
