//! Keeps the containers in the picture: the engine's events are hints, its list is the truth.

use super::{Mark, View};
use crate::clock::Clock;
use crate::runtime::{Brief, Look, Runtime, RuntimeError};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use lapstrake_core::node::seen::{Attempt, Container};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// Between two full lists. What an event did not tell is seen at the latest then.
const LIST_PERIOD: Duration = Duration::from_secs(10);
/// After the engine failed. A restarting engine is back within a few seconds.
const PAUSE: Duration = Duration::from_secs(1);
/// Looks at once after a list; each is a few milliseconds of the engine's time.
const LOOKS: usize = 8;
/// For the last lines of an ended container: they are for people, the end itself must not wait long for them.
const LINES_DEADLINE: Duration = Duration::from_secs(3);
/// So many last lines are kept.
const LINES: u32 = 20;

/// Looks at containers for the view.
#[derive(Clone)]
pub struct Containers {
    runtime: Arc<dyn Runtime>,
    view: View,
    clock: Clock,
    /// The processes of running containers, for their cgroups.
    pids: Arc<Mutex<BTreeMap<Attempt, u32>>>,
}

impl Containers {
    /// An observer of this runtime's containers.
    pub fn new(runtime: Arc<dyn Runtime>, view: View, clock: Clock) -> Self {
        Containers { runtime, view, clock, pids: Arc::default() }
    }

    /// The processes of running containers.
    pub fn pids(&self) -> BTreeMap<Attempt, u32> {
        self.pids.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Watches until it is dropped.
    pub async fn watch(self) {
        let mut since = None;
        loop {
            let error = self.watch_connected(&mut since).await;
            self.view.change(|seen| {
                let said = error.to_string();
                let changed = seen.engine_answers || seen.engine_trouble.as_ref() != Some(&said);
                if changed {
                    tracing::warn!(said, "the engine does not answer");
                }
                seen.engine_answers = false;
                seen.engine_trouble = Some(said);
                changed
            });
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Watches until the engine fails.
    async fn watch_connected(&self, since: &mut Option<i64>) -> RuntimeError {
        let mut hints = match self.runtime.hints(*since).await {
            Ok(hints) => hints,
            Err(error) => return error,
        };
        let mut lists = tokio::time::interval(LIST_PERIOD);
        lists.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut listing: Option<BoxFuture<'_, Result<(), RuntimeError>>> = None;
        loop {
            let is_listed = listing.is_none();
            // A look that hangs holds up the list that it belongs to, and nothing else.
            let listed = async {
                match &mut listing {
                    Some(listing) => listing.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                hint = hints.next() => match hint {
                    Some(Ok(hint)) => {
                        *since = Some(hint.at);
                        let containers = self.clone();
                        // A slow look at one container does not hold up the others; what it misses the list finds.
                        tokio::spawn(async move { containers.look_at(hint.attempt).await });
                    }
                    Some(Err(error)) => return error,
                    None => return RuntimeError::Unreachable("the stream of events ended".into()),
                },
                outcome = listed => {
                    listing = None;
                    if let Err(error) = outcome {
                        return error;
                    }
                    lists.reset();
                }
                _ = lists.tick(), if is_listed => listing = Some(self.list().boxed()),
            }
        }
    }

    /// The list, and a closer look at every container that is not as the picture has it. A container that cannot be looked at
    /// is unknown, and hides none of the others.
    async fn list(&self) -> Result<(), RuntimeError> {
        let mark = self.view.mark();
        let listed = self.runtime.list().await?;
        let (changed, gone) = self.view.read(|seen| {
            let same = |attempt: &Attempt, brief| seen.containers.get(attempt).is_some_and(|c| is_brief(c, brief));
            let is_due = |attempt: &Attempt, brief| !same(attempt, brief) || seen.unclear.contains_key(attempt);
            let changed: Vec<Attempt> = listed
                .iter()
                .filter(|(attempt, one)| is_due(attempt, one.brief))
                .map(|(attempt, _)| *attempt)
                .collect();
            let known = seen.containers.keys().chain(seen.unclear.keys());
            let gone: Vec<Attempt> = known.filter(|attempt| !listed.contains_key(attempt)).copied().collect();
            (changed, gone)
        });
        for attempt in gone {
            self.view.settle(attempt, mark, None);
        }
        let look = async |attempt| (attempt, self.look_at(attempt).await);
        let mut looks = stream::iter(changed).map(look).buffer_unordered(LOOKS);
        while let Some((attempt, outcome)) = looks.next().await {
            if let Err(error) = outcome {
                self.view.cannot_tell(attempt, mark, error.to_string());
            }
        }
        self.view.change(|seen| {
            let mut changed = !seen.engine_answers;
            seen.engine_answers = true;
            seen.engine_trouble = None;
            for (attempt, one) in listed {
                if !seen.containers.contains_key(&attempt) && !seen.unclear.contains_key(&attempt) {
                    continue;
                }
                if let Some(address) = one.address {
                    changed |= seen.addresses.insert(attempt, address) != Some(address);
                }
                if let Some(slot) = one.slot {
                    changed |= seen.slots.insert(attempt, slot.clone()) != Some(slot);
                }
            }
            changed
        });
        Ok(())
    }

    /// A closer look at one container.
    pub async fn look_at(&self, attempt: Attempt) -> Result<(), RuntimeError> {
        let mark = self.view.mark();
        let found = self.runtime.look(attempt).await?;
        self.take(attempt, mark, found).await;
        Ok(())
    }

    async fn take(&self, attempt: Attempt, mark: Mark, found: Option<Look>) {
        let found = match found {
            None => None,
            Some(Look::Created) => Some(Container::Created),
            Some(Look::Running { pid }) => {
                self.pids.lock().unwrap_or_else(PoisonError::into_inner).insert(attempt, pid);
                let since = self.clock.tick();
                Some(Container::Running { since, terminated: false, memory_bytes: 0, cpu_milli: 0 })
            }
            Some(Look::Exited { code, out_of_memory, ran }) => {
                let is_same = |known: &&Container| {
                    let end = (code, out_of_memory, ran);
                    matches!(known, Container::Exited { code, out_of_memory, ran, .. } if (*code, *out_of_memory, *ran) == end)
                };
                match self.view.read(|seen| seen.containers.get(&attempt).filter(is_same).cloned()) {
                    // Its last lines were read already.
                    Some(known) => Some(known),
                    None => {
                        let last_lines = self.last_lines(attempt).await;
                        Some(Container::Exited { code, out_of_memory, ran, last_lines })
                    }
                }
            }
        };
        if !matches!(found, Some(Container::Running { .. })) {
            self.pids.lock().unwrap_or_else(PoisonError::into_inner).remove(&attempt);
        }
        self.view.settle(attempt, mark, found);
    }

    async fn last_lines(&self, attempt: Attempt) -> Vec<String> {
        match tokio::time::timeout(LINES_DEADLINE, self.runtime.last_lines(attempt, LINES)).await {
            Ok(Ok(lines)) => lines,
            Ok(Err(error)) => {
                tracing::debug!(%error, job = %attempt.job, "the last lines cannot be read");
                Vec::new()
            }
            Err(_) => Vec::new(),
        }
    }
}

/// Whether the picture's container is what a list says. A refusal of ours is a corpse in the list.
const fn is_brief(container: &Container, brief: Brief) -> bool {
    match container {
        Container::Refused { .. } | Container::Created => matches!(brief, Brief::Created),
        Container::Running { .. } => matches!(brief, Brief::Running),
        Container::Exited { .. } => matches!(brief, Brief::Exited),
    }
}
