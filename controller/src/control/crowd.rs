//! A bounded number of connections of one kind.
//!
//! When it is full, whoever comes takes a place of the address that holds the most, there of the one that has been
//! there longest. A place whose holder was found to be guessing is taken before any other. Whoever is honest needs its place for milliseconds; whoever holds places to keep others out only loses
//! its own.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

pub(super) struct Crowd {
    limit: usize,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    next: u64,
    /// By the order of coming.
    places: BTreeMap<u64, Held>,
}

struct Held {
    address: IpAddr,
    evicted: CancellationToken,
    suspect: Suspect,
}

/// Whether the holder of a place was found to be guessing. Clones are the same mark.
#[derive(Debug, Clone, Default)]
pub(super) struct Suspect(Arc<AtomicBool>);

impl Suspect {
    /// It was.
    pub(super) fn mark(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_marked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Inside {
    /// The suspect that is there longest; else, of the addresses that hold the most places, the one that is there longest.
    fn to_evict(&self) -> Option<u64> {
        if let Some((number, _)) = self.places.iter().find(|(_, held)| held.suspect.is_marked()) {
            return Some(*number);
        }
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for held in self.places.values() {
            *counts.entry(held.address).or_default() += 1;
        }
        let most = counts.values().max().copied()?;
        self.places.iter().find(|(_, held)| counts.get(&held.address) == Some(&most)).map(|(number, _)| *number)
    }
}

/// A place, until it is dropped.
pub(super) struct Place {
    crowd: Arc<Crowd>,
    number: u64,
    evicted: CancellationToken,
    suspect: Suspect,
}

impl Crowd {
    pub(super) fn new(limit: usize) -> Arc<Crowd> {
        Arc::new(Crowd { limit, inside: Mutex::default() })
    }

    /// Takes a place, if need be somebody else's.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Place {
        let mut inside = self.lock();
        if inside.places.len() >= self.limit
            && let Some(number) = inside.to_evict()
            && let Some(held) = inside.places.remove(&number)
        {
            held.evicted.cancel();
        }
        let number = inside.next;
        inside.next += 1;
        let (evicted, suspect) = (CancellationToken::new(), Suspect::default());
        inside.places.insert(number, Held { address, evicted: evicted.clone(), suspect: suspect.clone() });
        Place { crowd: self.clone(), number, evicted, suspect }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Ends when somebody else has taken the place.
    pub(super) fn evicted(&self) -> WaitForCancellationFutureOwned {
        self.evicted.clone().cancelled_owned()
    }

    /// The mark of this place.
    pub(super) fn suspect(&self) -> Suspect {
        self.suspect.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.lock().places.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn who_comes_into_a_full_crowd_takes_the_place_of_the_longest_there() {
        let crowd = Crowd::new(2);
        let (first, second) = (crowd.enter(HERE), crowd.enter(HERE));
        let third = crowd.enter(HERE);
        assert!(first.evicted.is_cancelled());
        assert!(!second.evicted.is_cancelled() && !third.evicted.is_cancelled());
        drop(first);
        drop(second);
        let _fourth = crowd.enter(HERE);
        assert!(!third.evicted.is_cancelled());
        assert_eq!(crowd.lock().places.len(), 2);
    }

    #[test]
    fn an_address_that_holds_many_places_does_not_get_that_of_another() {
        let crowd = Crowd::new(3);
        let honest = crowd.enter(THERE);
        let greedy: Vec<Place> = (0..100).map(|_| crowd.enter(HERE)).collect();
        assert!(!honest.evicted.is_cancelled());
        assert_eq!(greedy.iter().filter(|place| !place.evicted.is_cancelled()).count(), 2);
    }

    #[test]
    fn a_place_of_whoever_guesses_is_taken_before_that_of_an_honest_one_from_the_same_address() {
        let crowd = Crowd::new(3);
        let honest = crowd.enter(HERE);
        let guessing = [crowd.enter(HERE), crowd.enter(HERE)];
        guessing[1].suspect().mark();
        let _next = crowd.enter(HERE);
        assert!(guessing[1].evicted.is_cancelled());
        assert!(!honest.evicted.is_cancelled() && !guessing[0].evicted.is_cancelled());
    }
}
