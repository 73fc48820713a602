//! How often somebody may ask: a bucket for each of them, which every request fills a little and which empties with time.
//!
//! Pure arithmetic: the instant is passed in. The memory is bounded whoever asks: when there are buckets for as many as
//! are allowed, and none of them is empty, whoever comes new shares one bucket with all the others who do.

use crate::time::{Millis, Tick};
use alloc::collections::BTreeMap;
use core::net::{IpAddr, Ipv6Addr};

/// So many requests, over time and at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests a second, for as long as one likes. At least 1.
    pub per_second: u32,
    /// Requests at once, after a time without any. At least 1.
    pub burst: u32,
}

/// A request counts a thousand, so that a bucket empties by whole numbers: `per_second` in each millisecond.
const REQUEST: u64 = 1_000;

/// Between two looks for empty buckets passes at least this, so that nobody can make each request look through them all.
const SWEEP: Millis = Millis(1_000);

/// How full somebody's bucket was, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Bucket {
    /// Thousandths of requests.
    level: u64,
    at: Tick,
}

impl Bucket {
    fn level(&self, rate: Rate, now: Tick) -> u64 {
        let emptied = now.since(self.at).0.saturating_mul(u64::from(rate.per_second.max(1)));
        self.level.saturating_sub(emptied)
    }

    /// Takes so many requests, or says how long to wait until it can.
    fn take(&mut self, rate: Rate, cost: u32, now: Tick) -> Result<(), Millis> {
        let size = u64::from(rate.burst) * REQUEST;
        // What costs more than the whole bucket is taken by an empty one, or it would wait for ever.
        let cost = (u64::from(cost) * REQUEST).min(size);
        let level = self.level(rate, now);
        let over = (level + cost).saturating_sub(size);
        if over > 0 {
            return Err(Millis(over.div_ceil(u64::from(rate.per_second.max(1)))));
        }
        *self = Bucket { level: level + cost, at: now };
        Ok(())
    }

    /// Counts what has happened already. It is never fuller than full, so that the wait is never longer than for one who
    /// stopped in time.
    fn charge(&mut self, rate: Rate, cost: u32, now: Tick) {
        let level = self.level(rate, now) + u64::from(cost) * REQUEST;
        *self = Bucket { level: level.min(u64::from(rate.burst) * REQUEST), at: now };
    }
}

/// The buckets of all who ask.
#[derive(Debug, Clone)]
pub struct Limiter<K> {
    rate: Rate,
    most: usize,
    buckets: BTreeMap<K, Bucket>,
    /// Of those for whom there is no room.
    others: Bucket,
    swept: Option<Tick>,
}

impl<K: Ord> Limiter<K> {
    /// For at most `most` at a time, each with this rate.
    pub const fn new(rate: Rate, most: usize) -> Limiter<K> {
        Limiter { rate, most, buckets: BTreeMap::new(), others: Bucket { level: 0, at: Tick(0) }, swept: None }
    }

    /// Takes a request that counts as `cost`, or says how long to wait before the next try.
    pub fn take(&mut self, who: K, cost: u32, now: Tick) -> Result<(), Millis> {
        let rate = self.rate;
        self.bucket(who, now).take(rate, cost, now)
    }

    /// Counts something that has happened already, such as a wrong token.
    pub fn charge(&mut self, who: K, cost: u32, now: Tick) {
        let rate = self.rate;
        self.bucket(who, now).charge(rate, cost, now);
    }

    /// For how many there is a bucket of their own.
    pub fn known(&self) -> usize {
        self.buckets.len()
    }

    fn bucket(&mut self, who: K, now: Tick) -> &mut Bucket {
        if !self.buckets.contains_key(&who) && self.buckets.len() >= self.most {
            self.sweep(now);
            if self.buckets.len() >= self.most {
                return &mut self.others;
            }
        }
        self.buckets.entry(who).or_insert(Bucket { level: 0, at: now })
    }

    /// Forgets everybody whose bucket is empty: a new one would be the same.
    fn sweep(&mut self, now: Tick) {
        if self.swept.is_some_and(|swept| now.since(swept) < SWEEP) {
            return;
        }
        self.swept = Some(now);
        let rate = self.rate;
        self.buckets.retain(|_, bucket| bucket.level(rate, now) > 0);
    }
}

/// Who an address counts as. One machine has a whole /64 of IPv6 addresses to ask from, so these count as one.
pub fn asker(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RATE: Rate = Rate { per_second: 10, burst: 5 };

    #[test]
    fn a_burst_is_taken_at_once_and_then_one_after_the_other() {
        let mut limiter = Limiter::new(RATE, 4);
        for _ in 0..5 {
            assert_eq!(limiter.take("ada", 1, Tick(0)), Ok(()));
        }
        assert_eq!(limiter.take("ada", 1, Tick(0)), Err(Millis(100)));
        assert_eq!(limiter.take("ada", 1, Tick(99)), Err(Millis(1)));
        assert_eq!(limiter.take("ada", 1, Tick(100)), Ok(()));
        assert_eq!(limiter.take("grace", 1, Tick(100)), Ok(()), "somebody else has a bucket of their own");
    }

    #[test]
    fn a_refusal_costs_nothing_so_that_who_waits_as_told_is_taken() {
        let mut limiter = Limiter::new(RATE, 4);
        limiter.charge("ada", 1_000, Tick(0));
        for at in 0..50 {
            assert!(limiter.take("ada", 1, Tick(at)).is_err());
        }
        assert_eq!(limiter.take("ada", 1, Tick(100)), Ok(()));
    }

    #[test]
    fn many_addresses_do_not_make_the_memory_grow_and_do_not_push_anybody_out() {
        let mut limiter = Limiter::new(RATE, 100);
        for _ in 0..5 {
            limiter.take(0, 1, Tick(0)).expect("within the burst");
        }
        let taken = (1..10_000u32).filter(|who| limiter.take(*who, 1, Tick(0)).is_ok()).count();
        assert_eq!(limiter.known(), 100);
        assert_eq!(taken, 99 + 5, "99 with a bucket of their own, and a burst of all the others together");
        assert!(limiter.take(0, 1, Tick(0)).is_err(), "who was there before is still remembered");
        assert_eq!(limiter.take(77_777, 1, Tick(10_000)), Ok(()), "and room is made when they have gone");
        assert!(limiter.known() < 100);
    }

    #[test]
    fn addresses_of_one_machine_count_as_one() {
        let of = |text: &str| asker(text.parse().expect("an address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }

    proptest! {
        #[test]
        fn over_any_time_no_more_is_taken_than_the_burst_and_the_rate(
            pauses in proptest::collection::vec(0u64..400, 1..200), cost in 1u32..4
        ) {
            let mut limiter = Limiter::new(RATE, 1);
            let (mut now, mut taken) = (Tick(0), 0u64);
            for pause in pauses {
                now = now + Millis(pause);
                match limiter.take((), cost, now) {
                    Ok(()) => taken += u64::from(cost),
                    Err(wait) => {
                        prop_assert!(wait > Millis(0));
                        let mut patient = limiter.clone();
                        prop_assert_eq!(patient.take((), cost, now + wait), Ok(()), "who waits as told is taken");
                    }
                }
            }
            prop_assert!(taken * 1_000 <= 5_000 + now.0 * 10);
        }
    }
}
