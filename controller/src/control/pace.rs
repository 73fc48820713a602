//! Guessing at join tokens, slowed.
//!
//! A token that exists and was not refused yet goes through at once. Everything else queues for its address: one guess at a
//! time, with a pause before each. A machine that joins therefore never waits behind whoever guesses, not even from the same
//! address, and what guessing costs the store and its log is bounded.

use lapstrake_core::ids::TokenId;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::OwnedMutexGuard;

/// Before each guess of one address: twenty a second, of 2^256.
const PAUSE: Duration = Duration::from_millis(50);
/// Tokens that were refused once, of which the oldest ids are forgotten first.
const REMEMBERED: usize = 1024;

type Lane = Arc<tokio::sync::Mutex<()>>;

/// The queues of all addresses.
#[derive(Default)]
pub(super) struct Pace {
    lanes: Mutex<HashMap<IpAddr, Lane>>,
    refused: Mutex<BTreeSet<TokenId>>,
}

impl Pace {
    /// Waits for this address's turn. The turn lasts until what is returned is dropped.
    pub(super) async fn turn(&self, address: IpAddr) -> OwnedMutexGuard<()> {
        let lane = {
            let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            // A lane that only this map holds is nobody's.
            lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
            lanes.entry(address).or_default().clone()
        };
        let turn = lane.lock_owned().await;
        tokio::time::sleep(PAUSE).await;
        turn
    }

    /// A token of this id was refused: the next who shows it queues.
    pub(super) fn refused(&self, token: TokenId) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.insert(token);
        if refused.len() > REMEMBERED {
            refused.pop_first();
        }
    }

    /// Whether a token of this id was refused before.
    pub(super) fn was_refused(&self, token: TokenId) -> bool {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).contains(&token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[tokio::test]
    async fn an_address_guesses_twenty_times_a_second_and_another_does_not_wait_for_it() {
        let pace = Arc::new(Pace::default());
        let (here, there) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let began = Instant::now();
        let guesses: Vec<_> = (0..8)
            .map(|_| {
                let pace = pace.clone();
                tokio::spawn(async move { drop(pace.turn(here).await) })
            })
            .collect();
        tokio::task::yield_now().await;
        drop(pace.turn(there).await);
        assert!(began.elapsed() < PAUSE * 7, "it waited for another address");
        for guess in guesses {
            guess.await.expect("no panic");
        }
        assert!(began.elapsed() >= PAUSE * 8);
        drop(pace.turn(there).await);
        assert_eq!(pace.lanes.lock().expect("not poisoned").len(), 1, "lanes without anybody are forgotten");
    }
}
