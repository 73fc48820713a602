//! When each request is due, and what it is. An open loop: request n is due at its time whatever became of those before
//! it, so a service that stalls gets no pity from a load that stalls with it.

use std::time::Duration;

/// The plan of all requests, by number.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// Requests per second.
    pub rate: u32,
    /// How many of a hundred requests use a connection of their own.
    pub fresh_percent: u32,
    /// The length of the bodies that `/body` is asked for; none leaves it alone.
    pub body_bytes: Option<u64>,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// The path of the target's URL.
    Page,
    /// `/body?bytes=N`, whose every byte is known beforehand.
    Body(u64),
}

impl Schedule {
    /// How long after the start request `number` is due.
    pub fn due(&self, number: u64) -> Duration {
        Duration::from_nanos(number * 1_000_000_000 / u64::from(self.rate))
    }

    /// Whether request `number` uses a connection of its own; spread evenly.
    pub fn is_fresh(&self, number: u64) -> bool {
        let percent = u64::from(self.fresh_percent);
        (number + 1) * percent / 100 > number * percent / 100
    }

    /// What request `number` asks for: one in three a body. Three has no factor in common with the usual shares of new
    /// connections, so both kinds of request meet both kinds of connection.
    pub fn asks(&self, number: u64) -> Asks {
        match self.body_bytes {
            Some(bytes) if number.is_multiple_of(3) => Asks::Body(bytes),
            _ => Asks::Page,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: Schedule = Schedule { rate: 500, fresh_percent: 10, body_bytes: Some(9) };

    #[test]
    fn requests_are_due_at_equal_distances_without_drift() {
        assert_eq!(SCHEDULE.due(1), Duration::from_millis(2));
        assert_eq!(SCHEDULE.due(500 * 3600), Duration::from_secs(3600));
    }

    #[test]
    fn exactly_the_given_share_of_the_requests_is_fresh() {
        assert_eq!((0..1000).filter(|&number| SCHEDULE.is_fresh(number)).count(), 100);
        let all = Schedule { fresh_percent: 100, ..SCHEDULE };
        assert!((0..1000).all(|number| all.is_fresh(number)));
    }

    #[test]
    fn bodies_are_asked_for_on_new_and_on_kept_connections() {
        let bodies = |fresh| {
            (0..1000)
                .filter(|&number| SCHEDULE.is_fresh(number) == fresh)
                .filter(|&number| SCHEDULE.asks(number) == Asks::Body(9))
                .count()
        };
        assert!(bodies(true) > 0 && bodies(false) > 0);
    }
}
