//! Carries out what was decided. Nothing is decided here: an action's outcome goes into the picture, and the next decision
//! sees it.
//!
//! An action is asked for again until its effect is seen, so one that is under way for the same container, image, network
//! or table is left out, and one that has just ended rests a little before it is done again.

use crate::clock::Clock;
use crate::config::Bounds;
use crate::given;
use crate::memory_files::MemoryFiles;
use crate::metrics::Metrics;
use crate::network::Networks;
use crate::observe::View;
use crate::observe::containers::Containers;
use crate::probe::Prober;
use crate::proxies::Proxies;
use crate::runtime::{Got, RunOrder, Runtime, RuntimeError};
use crate::vault::Vault;
use lapstrake_core::assignment::BoundImage;
use lapstrake_core::ids::{EnvironmentId, ValueId};
use lapstrake_core::node::action::Action;
use lapstrake_core::node::images::{Brought, Garbage};
use lapstrake_core::node::seen::{Attempt, Container, Image};
use lapstrake_core::routes::RouteTable;
use lapstrake_core::time::{Millis, Tick};
use lapstrake_core::values::GivenValue;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;

/// An action that took effect is not repeated sooner: what it did shows in the picture a moment later.
const SETTLE: Millis = Millis(100);
/// After a failure: doubled with each one in a row.
const FIRST_REST: Millis = Millis(500);
/// The longest rest. Short enough that a repaired machine goes on before its operator looks again.
const LONGEST_REST: Millis = Millis(30_000);

/// What an action is about: at most one is under way for each.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Attempt(Attempt),
    Image(String),
    Network(EnvironmentId),
    Table,
}

/// The parts that actions reach.
pub struct Executor {
    parts: Arc<Parts>,
}

struct Parts {
    runtime: Arc<dyn Runtime>,
    view: View,
    clock: Clock,
    containers: Containers,
    networks: Arc<Networks>,
    prober: Prober,
    proxies: Proxies,
    vault: Arc<Vault>,
    files: Arc<MemoryFiles>,
    starts: Semaphore,
    pulls: Semaphore,
    desk: Mutex<Desk>,
}

/// What is under way and what rests.
#[derive(Default)]
struct Desk {
    under_way: BTreeSet<Key>,
    rests: BTreeMap<(Key, &'static str), Rest>,
}

#[derive(Clone, Copy)]
struct Rest {
    until: Tick,
    failures: u32,
}

/// Everything that `Executor::new` puts together.
pub struct Reach {
    /// The engine.
    pub runtime: Arc<dyn Runtime>,
    /// Where outcomes go.
    pub view: View,
    /// For rests and for when something was refused.
    pub clock: Clock,
    /// For a look right after an action.
    pub containers: Containers,
    /// Bridges and rules.
    pub networks: Arc<Networks>,
    /// Route tables.
    pub proxies: Proxies,
    /// Opens values.
    pub vault: Arc<Vault>,
    /// Where those that are files lie.
    pub files: Arc<MemoryFiles>,
    /// Where checks are counted.
    pub metrics: Arc<Metrics>,
}

impl Executor {
    /// An executor with nothing under way.
    pub fn new(reach: Reach, bounds: &Bounds) -> Self {
        let Reach { runtime, view, clock, containers, networks, proxies, vault, files, metrics } = reach;
        let prober = Prober::new(Arc::clone(&runtime), view.clone(), clock, metrics);
        let (starts, pulls) = (Semaphore::new(bounds.starts), Semaphore::new(bounds.pulls));
        let desk = Mutex::default();
        let parts =
            Parts { runtime, view, clock, containers, networks, prober, proxies, vault, files, starts, pulls, desk };
        Executor { parts: Arc::new(parts) }
    }

    /// Begins what is not under way already. The values are the ledger's, sealed.
    pub fn execute(&self, actions: Vec<Action>, table: &RouteTable, values: &BTreeMap<ValueId, GivenValue>) {
        for action in actions {
            let key = match &action {
                Action::Watch { attempt, address, checks, was_good } => {
                    self.parts.prober.watch(*attempt, *address, checks.clone(), *was_good);
                    continue;
                }
                Action::Unwatch { attempt } => {
                    self.parts.prober.unwatch(*attempt);
                    continue;
                }
                Action::PublishTable if self.parts.proxies.has_published(table.generation) => continue,
                Action::PublishTable => Key::Table,
                Action::EnsureNetwork { environment, .. } | Action::RemoveNetwork { environment } => {
                    Key::Network(*environment)
                }
                Action::Pull { image, .. } => Key::Image(image.pinned().to_owned()),
                Action::RemoveImage { pinned, .. } => Key::Image(pinned.clone()),
                Action::Run { attempt, .. }
                | Action::Terminate { attempt }
                | Action::Kill { attempt }
                | Action::Remove { attempt } => Key::Attempt(*attempt),
            };
            if self.parts.desk().take(&key, action.word(), self.parts.clock.tick()) {
                if let Action::Run { attempt, .. } = &action {
                    self.parts.view.change(|seen| seen.starting.insert(*attempt));
                }
                if let Action::RemoveImage { pinned, id, .. } = &action {
                    // Before anything else is decided: whoever comes to need it meanwhile gets it again, once this has ended.
                    self.parts.view.change(|seen| seen.forget_image(pinned, id));
                }
                let table = matches!(action, Action::PublishTable).then(|| table.clone());
                let values = needed(&action, values);
                let parts = Arc::clone(&self.parts);
                tokio::spawn(async move { parts.carry_out(key, action, table, values).await });
            }
        }
    }

    /// When the first resting action may be done again.
    pub fn next_try(&self) -> Option<Tick> {
        let now = self.parts.clock.tick();
        self.parts.desk().rests.values().map(|rest| rest.until).filter(|until| *until > now).min()
    }
}

impl Desk {
    /// Whether the action may begin now; then it is under way.
    fn take(&mut self, key: &Key, word: &'static str, now: Tick) -> bool {
        if self.rests.get(&(key.clone(), word)).is_some_and(|rest| now < rest.until) {
            return false;
        }
        self.under_way.insert(key.clone())
    }

    fn put_down(&mut self, key: Key, word: &'static str, failed: bool, now: Tick) {
        self.under_way.remove(&key);
        // A rest that ended long ago was no row of failures.
        self.rests.retain(|_, rest| now.since(rest.until) < Millis(2 * LONGEST_REST.0));
        if matches!(key, Key::Table) && !failed {
            // The next table is another one and must not wait.
            self.rests.remove(&(key, word));
            return;
        }
        let before = self.rests.get(&(key.clone(), word)).map_or(0, |rest| rest.failures);
        let failures = if failed { before + 1 } else { 0 };
        let span = match failures {
            0 => SETTLE,
            n => Millis((FIRST_REST.0 << (n - 1).min(10)).min(LONGEST_REST.0)),
        };
        self.rests.insert((key, word), Rest { until: now + span, failures });
    }
}

impl Parts {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn carry_out(
        &self,
        key: Key,
        action: Action,
        table: Option<RouteTable>,
        values: BTreeMap<ValueId, GivenValue>,
    ) {
        let word = action.word();
        tracing::debug!(action = word, about = ?key, "begins");
        let mut under_way = UnderWay { parts: self, key, word, failed: true };
        lapstrake_crash::point_of(word, "before");
        under_way.failed = match action {
            Action::EnsureNetwork { environment, subnet } => {
                told(word, self.networks.ensure(environment, subnet).await)
            }
            Action::RemoveNetwork { environment } => told(word, self.networks.remove(environment).await),
            Action::Pull { image, login } => self.pull(&image, login, &values).await,
            Action::RemoveImage { pinned, name, id, why } => self.remove_image(&pinned, &name, &id, &why).await,
            Action::Run { attempt, slot, address, subnet: _, run } => {
                match given::to_job(&self.vault, &self.files, attempt, &run, &values) {
                    Ok(given) => self.run(RunOrder { attempt, slot, address, run: *run, given }).await,
                    Err(said) => self.refuse(attempt, said),
                }
            }
            Action::Terminate { attempt } => self.terminate(attempt).await,
            Action::Kill { attempt } => {
                let outcome = self.runtime.kill(attempt).await;
                self.looked(word, attempt, outcome).await
            }
            Action::Remove { attempt } => self.remove(attempt).await,
            Action::PublishTable => match table {
                Some(table) => self.publish(table).await,
                None => false,
            },
            // Done at once by `execute`.
            Action::Watch { .. } | Action::Unwatch { .. } => false,
        };
        lapstrake_crash::point_of(word, "after");
    }

    async fn pull(&self, image: &BoundImage, login: Option<ValueId>, values: &BTreeMap<ValueId, GivenValue>) -> bool {
        let pinned = image.pinned().to_owned();
        self.view.change(|seen| seen.images.insert(pinned.clone(), Image::Pulling) != Some(Image::Pulling));
        // Without credentials that cannot be read it is tried all the same: the image may be here, or anybody's.
        let (login, without) = match given::login(&self.vault, login, values) {
            Ok(login) => (login, None),
            Err(said) => (None, Some(said)),
        };
        let outcome = match self.pulls.acquire().await {
            Ok(_permit) => self.runtime.pull(image, login.as_ref()).await,
            Err(error) => Err(RuntimeError::Unreachable(error.to_string())),
        };
        let (image, failed) = match outcome {
            Ok(got) => {
                self.came(&pinned, got);
                (Some(Image::Present), false)
            }
            // Nobody said no: it is asked for again when the engine answers.
            Err(RuntimeError::Unreachable(_)) => (None, true),
            Err(error) => {
                let said =
                    without.map_or_else(|| error.to_string(), |without| format!("{without}; without them: {error}"));
                (Some(Image::Failed { said, at: self.clock.tick() }), false)
            }
        };
        self.view.change(|seen| {
            match image {
                Some(image) => seen.images.insert(pinned, image),
                None => seen.images.remove(&pinned),
            };
            true
        });
        failed
    }

    /// Notes that the image is one that this agent has brought, and that the last list of images is older than it.
    fn came(&self, pinned: &str, got: Got) {
        let Got::Brought { id, name } = got else { return };
        let one = Brought { id, name, at: self.clock.tick(), order: 0, unneeded_since: None };
        self.view.change(|seen| seen.brought.insert(pinned.to_owned(), one).is_none());
    }

    async fn remove_image(&self, pinned: &str, name: &str, id: &str, why: &Garbage) -> bool {
        let outcome = self.runtime.remove_image(name, id).await;
        match &outcome {
            Ok(()) => tracing::info!(image = pinned, "an image was removed: {why}"),
            Err(RuntimeError::NotThere(_)) => {}
            Err(RuntimeError::Refused(said)) => {
                tracing::info!(said, image = pinned, "an image stays");
                self.view.change(|seen| seen.not_removed.insert(id.to_owned(), said.clone()).as_ref() != Some(said));
                return false;
            }
            Err(_) => return told("remove-image", outcome),
        }
        self.view.change(|seen| {
            seen.image_removed(pinned, name);
            true
        });
        false
    }

    async fn run(&self, order: RunOrder) -> bool {
        let attempt = order.attempt;
        let outcome = match self.starts.acquire().await {
            Ok(_permit) => self.runtime.run(&order).await,
            Err(error) => Err(RuntimeError::Unreachable(error.to_string())),
        };
        match outcome {
            Ok(()) => {
                self.started(attempt, order.address);
                // Tells its process, or that it has ended already.
                let looked = self.containers.look_at(attempt).await;
                told("look", looked)
            }
            Err(RuntimeError::Unreachable(said)) => {
                tracing::warn!(said, "the engine did not answer to a start");
                true
            }
            Err(RuntimeError::NoSuchImage(said)) => {
                // Somebody removed it since it was got: this attempt is over, and the next one gets it again.
                self.view.change(|seen| seen.images.remove(order.run.image.pinned()).is_some());
                self.refuse(attempt, RuntimeError::NoSuchImage(said).to_string())
            }
            Err(error) => self.refuse(attempt, error.to_string()),
        }
    }

    /// The attempt has failed before its process began. No reason to rest: what follows is the decisions' affair.
    fn refuse(&self, attempt: Attempt, said: String) -> bool {
        let at = self.clock.tick();
        tracing::warn!(said, job = %attempt.job, attempt = attempt.number, "a container cannot be started");
        self.view.decide(attempt, |seen| {
            seen.containers.insert(attempt, Container::Refused { said, at });
        });
        false
    }

    fn started(&self, attempt: Attempt, address: Ipv4Addr) {
        let since = self.clock.tick();
        self.view.decide(attempt, |seen| {
            seen.addresses.insert(attempt, address);
            match seen.containers.get(&attempt) {
                // The event was quicker.
                Some(Container::Running { .. } | Container::Exited { .. }) => {}
                Some(Container::Created | Container::Refused { .. }) | None => {
                    let running = Container::Running { since, terminated: false, memory_bytes: 0, cpu_milli: 0 };
                    seen.containers.insert(attempt, running);
                }
            }
        });
    }

    async fn terminate(&self, attempt: Attempt) -> bool {
        let outcome = self.runtime.terminate(attempt).await;
        if outcome.is_ok() {
            let now = self.clock.tick();
            self.view.change(|seen| match seen.containers.get_mut(&attempt) {
                Some(Container::Running { terminated, .. }) => {
                    seen.terminated_at.entry(attempt).or_insert(now);
                    !std::mem::replace(terminated, true)
                }
                Some(_) | None => false,
            });
            return false;
        }
        self.looked("terminate", attempt, outcome).await
    }

    async fn remove(&self, attempt: Attempt) -> bool {
        match self.runtime.remove(attempt).await {
            Ok(()) | Err(RuntimeError::NotThere(_)) => {
                self.files.remove(attempt);
                self.view.decide(attempt, |seen| {
                    seen.containers.remove(&attempt);
                    seen.addresses.remove(&attempt);
                    seen.slots.remove(&attempt);
                    seen.terminated_at.remove(&attempt);
                });
                false
            }
            outcome => self.looked("remove", attempt, outcome).await,
        }
    }

    async fn publish(&self, table: RouteTable) -> bool {
        let outcome = self.proxies.publish(table).await;
        let said = outcome.as_ref().err().map(|error| format!("the route table cannot be written: {error}"));
        self.view.trouble("table", said);
        outcome.is_err()
    }

    /// After a signal: what the engine shows now. Whether the action failed.
    async fn looked(&self, word: &'static str, attempt: Attempt, outcome: Result<(), RuntimeError>) -> bool {
        let looked = told("look", self.containers.look_at(attempt).await);
        match outcome {
            Ok(()) | Err(RuntimeError::NotThere(_)) => looked,
            Err(error) => told(word, Err::<(), _>(error)),
        }
    }
}

/// Those of the ledger's values that an action opens.
fn needed(action: &Action, values: &BTreeMap<ValueId, GivenValue>) -> BTreeMap<ValueId, GivenValue> {
    let ids: Vec<ValueId> = match action {
        Action::Pull { login, .. } => login.iter().copied().collect(),
        Action::Run { run, .. } => run.values.iter().map(|one| one.value).collect(),
        _ => Vec::new(),
    };
    ids.into_iter().filter_map(|id| Some((id, values.get(&id)?.clone()))).collect()
}

/// An action under way. However it ends, be it by a panic, it is put down: nothing else could be done about the same thing.
struct UnderWay<'a> {
    parts: &'a Parts,
    key: Key,
    word: &'static str,
    failed: bool,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(action = self.word, about = ?self.key, "a mistake in the agent ended an action; it is tried again");
        }
        let parts = self.parts;
        parts.view.change(|seen| match &self.key {
            Key::Attempt(attempt) => seen.starting.remove(attempt),
            Key::Image(pinned) if seen.images.get(pinned) == Some(&Image::Pulling) => {
                seen.images.remove(pinned).is_some()
            }
            Key::Image(_) | Key::Network(_) | Key::Table => false,
        });
        parts.desk().put_down(self.key.clone(), self.word, self.failed, parts.clock.tick());
        parts.view.wake();
    }
}

/// Whether it failed; then the log says why.
fn told<E: std::fmt::Display>(word: &str, outcome: Result<(), E>) -> bool {
    if let Err(error) = &outcome {
        tracing::warn!(%error, action = word, "an action failed");
    }
    outcome.is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_under_way_is_not_begun_again_and_a_failed_one_rests_longer_each_time() {
        let mut desk = Desk::default();
        assert!(desk.take(&Key::Table, "publish-table", Tick(0)));
        assert!(!desk.take(&Key::Table, "publish-table", Tick(0)), "under way");
        desk.put_down(Key::Table, "publish-table", true, Tick(0));
        assert!(!desk.take(&Key::Table, "publish-table", Tick(499)));
        assert!(desk.take(&Key::Table, "publish-table", Tick(500)));
        desk.put_down(Key::Table, "publish-table", true, Tick(500));
        assert!(!desk.take(&Key::Table, "publish-table", Tick(1_499)));
        assert!(desk.take(&Key::Table, "publish-table", Tick(1_500)));
        desk.put_down(Key::Table, "publish-table", false, Tick(1_500));
        assert!(desk.take(&Key::Table, "publish-table", Tick(1_500)), "the next table does not wait");
    }

    #[test]
    fn a_kill_does_not_wait_for_a_resting_stop_signal() {
        let mut desk = Desk::default();
        let key = Key::Image("stands for an attempt".into());
        assert!(desk.take(&key, "terminate", Tick(0)));
        desk.put_down(key.clone(), "terminate", true, Tick(0));
        assert!(!desk.take(&key, "terminate", Tick(1)));
        assert!(desk.take(&key, "kill", Tick(1)));
    }
}
