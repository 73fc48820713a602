//! What the agent sees, kept in one place.
//!
//! Several observers write here side by side: the engine's list and hints, the checks, the proxies, the host's numbers, the
//! outcomes of actions. Readers get a whole picture, and are woken when it changes.

pub mod cgroup;
pub mod containers;
pub mod disks;
pub mod images;
pub mod usage;

use lapstrake_core::node::seen::{Attempt, Container, Seen};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// A question that lies further back than so many others has been answered or given up.
const OLDEST_QUESTION: u64 = 10_000;

/// The picture. A clone is the same one.
#[derive(Clone)]
pub struct View(Arc<Inner>);

struct Inner {
    seen: watch::Sender<Seen>,
    order: Mutex<Order>,
    troubles: Mutex<BTreeMap<&'static str, String>>,
}

/// Puts looks and actions in order, by when they were asked or ended and not by when their answers came: what was asked
/// earlier must not undo what was asked later or what an action has shown since.
#[derive(Default)]
struct Order {
    clock: u64,
    /// Of each container the newest question that was answered, or action that has ended.
    settled: BTreeMap<Attempt, u64>,
}

/// Which question it was.
#[derive(Debug, Clone, Copy)]
pub struct Mark(u64);

impl View {
    /// A picture in which nothing but this is known yet.
    pub fn new(seen: Seen) -> Self {
        let seen = watch::Sender::new(seen);
        View(Arc::new(Inner { seen, order: Mutex::default(), troubles: Mutex::default() }))
    }

    /// The picture as it is.
    pub fn snapshot(&self) -> Seen {
        self.0.seen.borrow().clone()
    }

    /// Reads a part of the picture.
    pub fn read<T>(&self, part: impl FnOnce(&Seen) -> T) -> T {
        part(&self.0.seen.borrow())
    }

    /// Tells of changes.
    pub fn subscribe(&self) -> watch::Receiver<Seen> {
        self.0.seen.subscribe()
    }

    /// Changes the picture; `change` says whether it matters, that is whether readers shall be woken.
    pub fn change(&self, change: impl FnOnce(&mut Seen) -> bool) {
        self.0.seen.send_if_modified(change);
    }

    /// Wakes the readers although the picture is the same: an action has ended.
    pub fn wake(&self) {
        self.0.seen.send_modify(|_| ());
    }

    /// Says or takes back what keeps the node from working; each source has one sentence.
    pub fn trouble(&self, source: &'static str, said: Option<String>) {
        let mut troubles = self.0.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = match said {
            Some(said) => troubles.insert(source, said.clone()).is_none_or(|before| before != said),
            None => troubles.remove(source).is_some(),
        };
        if changed {
            let sentences: Vec<String> = troubles.values().cloned().collect();
            if !sentences.is_empty() {
                tracing::warn!(troubles = ?sentences, "the node has troubles");
            }
            self.change(|seen| {
                seen.troubles = sentences;
                true
            });
        }
    }

    /// To be taken before the engine is asked about containers.
    pub fn mark(&self) -> Mark {
        Mark(self.order().next())
    }

    /// Takes in what the engine said about one container to the question of `mark`. Newer knowledge stays, and so does a
    /// refusal of ours, which the engine does not know, until the container runs or is removed. A newer question is believed
    /// whatever it says: an ended container that runs was started again by somebody's hand.
    pub fn settle(&self, attempt: Attempt, mark: Mark, found: Option<Container>) {
        let mut order = self.order();
        if !order.note(attempt, mark.0) {
            return;
        }
        self.change(|seen| {
            let is_clear_now = seen.unclear.remove(&attempt).is_some();
            let before = seen.containers.get(&attempt);
            let is_news = match (before, found) {
                (Some(Container::Refused { .. }), None | Some(Container::Created)) => false,
                (before, Some(found)) if before == Some(&found) => false,
                (before, Some(found)) => {
                    if !matches!(before, Some(Container::Running { .. })) {
                        // A process that was not there before has had no stop signal.
                        seen.terminated_at.remove(&attempt);
                    }
                    let found = carried_over(before, found);
                    seen.containers.insert(attempt, found);
                    true
                }
                (_, None) => {
                    seen.addresses.remove(&attempt);
                    seen.slots.remove(&attempt);
                    seen.containers.remove(&attempt).is_some()
                }
            };
            is_clear_now || is_news
        });
    }

    /// Takes in that the engine listed a container, asked at `mark`, and did not tell about it: what was read of it last
    /// stays. What was learned of it since is better than that.
    pub fn cannot_tell(&self, attempt: Attempt, mark: Mark, said: String) {
        let order = self.order();
        if order.is_older(attempt, mark.0) {
            return;
        }
        self.change(|seen| {
            let changed = seen.unclear.get(&attempt) != Some(&said);
            if changed {
                tracing::warn!(job = %attempt.job, attempt = attempt.number, said, "the engine does not tell how a container is");
                seen.unclear.insert(attempt, said);
            }
            changed
        });
    }

    /// Takes in what an action of ours showed, whatever was asked before.
    pub fn decide(&self, attempt: Attempt, change: impl FnOnce(&mut Seen)) {
        let mut order = self.order();
        let now = order.next();
        order.note(attempt, now);
        self.change(|seen| {
            seen.unclear.remove(&attempt);
            change(seen);
            true
        });
    }

    fn order(&self) -> MutexGuard<'_, Order> {
        self.0.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Order {
    fn next(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Whether something newer is known about this container than what was asked or done then.
    fn is_older(&self, attempt: Attempt, then: u64) -> bool {
        self.settled.get(&attempt).is_some_and(|settled| *settled > then)
    }

    /// Remembers what was asked or done then, unless something newer is known.
    fn note(&mut self, attempt: Attempt, then: u64) -> bool {
        if self.is_older(attempt, then) {
            return false;
        }
        self.settled.insert(attempt, then);
        // What lies so many questions back cannot be met by an answer that still comes: each has a deadline of seconds.
        let clock = self.clock;
        self.settled.retain(|_, at| *at + OLDEST_QUESTION > clock);
        true
    }
}

/// A second look at a running container does not make it younger, nor forget its stop signal and its numbers.
fn carried_over(before: Option<&Container>, found: Container) -> Container {
    match (before, found) {
        (Some(running @ Container::Running { .. }), Container::Running { .. }) => running.clone(),
        (_, found) => found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapstrake_core::ids::JobId;
    use lapstrake_core::time::{Millis, Tick};

    const ATTEMPT: Attempt = Attempt { job: JobId(1), number: 1 };

    fn running() -> Container {
        Container::Running { since: Tick(5), terminated: false, memory_bytes: 0, cpu_milli: 0 }
    }

    fn exited() -> Container {
        Container::Exited { code: 0, out_of_memory: false, ran: Millis(1), last_lines: Vec::new() }
    }

    #[test]
    fn a_list_from_before_a_start_does_not_hide_the_started_container() {
        let view = View::new(Seen::default());
        let asked = view.mark();
        view.decide(ATTEMPT, |seen| {
            seen.containers.insert(ATTEMPT, running());
        });
        view.settle(ATTEMPT, asked, None);
        assert_eq!(view.snapshot().containers.get(&ATTEMPT), Some(&running()));
        view.settle(ATTEMPT, view.mark(), None);
        assert!(view.snapshot().containers.is_empty(), "a later list is believed");
    }

    #[test]
    fn a_slow_look_does_not_bring_an_ended_process_back_to_life() {
        let view = View::new(Seen::default());
        let (early, late) = (view.mark(), view.mark());
        view.settle(ATTEMPT, late, Some(exited()));
        view.settle(ATTEMPT, early, Some(running()));
        assert_eq!(view.snapshot().containers.get(&ATTEMPT), Some(&exited()));
    }

    #[test]
    fn a_process_that_ends_while_an_earlier_look_is_answered_is_seen_to_have_ended() {
        let view = View::new(Seen::default());
        let (early, late) = (view.mark(), view.mark());
        view.settle(ATTEMPT, early, Some(running()));
        view.settle(ATTEMPT, late, Some(exited()));
        assert_eq!(view.snapshot().containers.get(&ATTEMPT), Some(&exited()));
    }

    #[test]
    fn a_container_that_somebody_started_again_by_hand_is_seen_to_run() {
        let view = View::new(Seen::default());
        view.settle(ATTEMPT, view.mark(), Some(running()));
        view.change(|seen| seen.terminated_at.insert(ATTEMPT, Tick(1)).is_none());
        view.settle(ATTEMPT, view.mark(), Some(exited()));
        view.settle(ATTEMPT, view.mark(), Some(running()));
        let seen = view.snapshot();
        assert_eq!(seen.containers.get(&ATTEMPT), Some(&running()));
        assert!(seen.terminated_at.is_empty(), "its new process has had no stop signal");
    }

    #[test]
    fn what_the_engine_does_not_tell_leaves_the_last_reading_until_it_tells_again() {
        let view = View::new(Seen::default());
        view.settle(ATTEMPT, view.mark(), Some(running()));
        view.cannot_tell(ATTEMPT, view.mark(), "no answer".into());
        assert_eq!(view.snapshot().containers.get(&ATTEMPT), Some(&running()));
        assert!(view.snapshot().unclear.contains_key(&ATTEMPT));
        view.settle(ATTEMPT, view.mark(), Some(running()));
        assert!(view.snapshot().unclear.is_empty());
    }

    #[test]
    fn a_container_that_was_removed_while_it_was_looked_at_in_vain_is_gone() {
        let view = View::new(Seen::default());
        let listed = view.mark();
        view.decide(ATTEMPT, |seen| {
            seen.containers.remove(&ATTEMPT);
        });
        view.cannot_tell(ATTEMPT, listed, "no answer".into());
        assert!(view.snapshot().unclear.is_empty());
    }

    #[test]
    fn a_refusal_is_not_forgotten_because_the_engine_lists_the_corpse() {
        let view = View::new(Seen::default());
        let refused = Container::Refused { said: "no such executable".into(), at: Tick(1) };
        view.decide(ATTEMPT, |seen| {
            seen.containers.insert(ATTEMPT, refused.clone());
        });
        view.settle(ATTEMPT, view.mark(), Some(Container::Created));
        view.settle(ATTEMPT, view.mark(), None);
        assert_eq!(view.snapshot().containers.get(&ATTEMPT), Some(&refused));
    }
}
