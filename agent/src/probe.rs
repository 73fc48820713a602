//! Asks the checks of running jobs.
//!
//! Each check of a watched attempt is asked by a loop of its own, one question at a time, so that slow answers never pile
//! up. What a row of answers means is decided elsewhere; here they are only taken into the reading.

mod ask;
mod grpc;

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::observe::View;
use crate::runtime::Runtime;
use lapstrake_core::node::seen::{Attempt, Container};
use lapstrake_core::probe::Reading;
use lapstrake_core::spec::Check;
use lapstrake_core::time::Tick;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::task::AbortHandle;

/// Watches attempts.
pub struct Prober {
    runtime: Arc<dyn Runtime>,
    view: View,
    clock: Clock,
    metrics: Arc<Metrics>,
    watched: Mutex<BTreeMap<Attempt, Vec<AbortHandle>>>,
}

impl Prober {
    /// A prober that watches nothing yet.
    pub fn new(runtime: Arc<dyn Runtime>, view: View, clock: Clock, metrics: Arc<Metrics>) -> Self {
        Prober { runtime, view, clock, metrics, watched: Mutex::default() }
    }

    /// Asks these checks from now on; `was_good` when they have been good in this attempt. An attempt that is watched already
    /// stays as it is.
    pub fn watch(&self, attempt: Attempt, address: Ipv4Addr, checks: Vec<Check>, was_good: bool) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.contains_key(&attempt) {
            return;
        }
        let readings = vec![Reading::unasked(was_good); checks.len()];
        let started = self.view.read(|seen| match seen.containers.get(&attempt) {
            Some(Container::Running { since, .. }) => *since,
            Some(_) | None => self.clock.tick(),
        });
        self.view.change(|seen| {
            seen.checks.insert(attempt, readings);
            true
        });
        let loops = checks.into_iter().enumerate().map(|(index, check)| {
            let question = Question {
                runtime: Arc::clone(&self.runtime),
                view: self.view.clone(),
                clock: self.clock,
                metrics: Arc::clone(&self.metrics),
                attempt,
                address,
                index,
                check,
                started,
                was_good,
            };
            tokio::spawn(question.repeat()).abort_handle()
        });
        watched.insert(attempt, loops.collect());
    }

    /// Asks no more and forgets the readings.
    pub fn unwatch(&self, attempt: Attempt) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        for handle in watched.remove(&attempt).unwrap_or_default() {
            handle.abort();
        }
        self.view.change(|seen| seen.checks.remove(&attempt).is_some());
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        let watched = self.watched.get_mut().unwrap_or_else(PoisonError::into_inner);
        for handle in watched.values().flatten() {
            handle.abort();
        }
    }
}

/// One check of one attempt.
struct Question {
    runtime: Arc<dyn Runtime>,
    view: View,
    clock: Clock,
    metrics: Arc<Metrics>,
    attempt: Attempt,
    address: Ipv4Addr,
    index: usize,
    check: Check,
    started: Tick,
    was_good: bool,
}

impl Question {
    async fn repeat(self) {
        let mut reading = Reading::unasked(self.was_good);
        loop {
            tokio::time::sleep(reading.delay(&self.check).std()).await;
            let begun = Instant::now();
            let answer = ask::ask(&*self.runtime, self.attempt, self.address, &self.check).await;
            self.metrics.check(begun.elapsed(), &answer);
            reading.take(&self.check, answer, self.started, self.clock.tick());
            self.view.change(|seen| match seen.checks.get_mut(&self.attempt).and_then(|r| r.get_mut(self.index)) {
                Some(place) => {
                    // A further good answer after a good one changes no decision.
                    let matters = place.good_since != reading.good_since || reading.good_since.is_none();
                    place.clone_from(&reading);
                    matters
                }
                None => false,
            });
        }
    }
}
