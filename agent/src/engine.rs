//! The loop: what is seen moves the ledger forward, the ledger is written, what follows from it is done.
//!
//! Guarantees: nothing is done before the ledger that says so is on disk. When it cannot be written, the old one stays in
//! force: what runs serves on, actions that the old one asks for are repeated, and nothing new begins.

use crate::clock::{Clock, ClockError};
use crate::config::Config;
use crate::execute::{Executor, Reach};
use crate::identity::Identity;
use crate::ledger::{Found, LedgerError, LedgerFile};
use crate::link::{EngineLink, SetOrder, SetOutcome};
use crate::memory_files::MemoryFiles;
use crate::metrics::Metrics;
use crate::network::{Fence, Networks};
use crate::observe::View;
use crate::observe::containers::Containers;
use crate::observe::disks::Disks;
use crate::observe::images;
use crate::observe::usage::{self, NoCapacity, Usage};
use crate::proxies::Proxies;
use crate::runtime::Runtime;
use crate::runtime::measured::Measured;
use crate::tunnel::Commands;
use crate::vault::{self, Vault};
use lapstrake_core::assignment::AssignmentSet;
use lapstrake_core::ids::SlotId;
use lapstrake_core::message::Elsewhere;
use lapstrake_core::node::ledger::{Ledger, NotAccepted};
use lapstrake_core::node::reason::Reason;
use lapstrake_core::node::seen::{NodeConfig, Now, Seen};
use lapstrake_core::node::{advance, plan};
use lapstrake_core::report::{LEDGER_TROUBLE, NodeReport, Use};
use lapstrake_core::time::{Millis, Tick, earlier};
use lapstrake_unit::Pulse;
use std::collections::BTreeMap;
use std::mem::Discriminant;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Decided again after so long even if nothing is known to have changed.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);
/// After a ledger could not be written: doubled each time. A full disk is emptied by a person.
const FIRST_RETRY: Millis = Millis(500);
/// The longest pause between two attempts to write.
const LONGEST_RETRY: Millis = Millis(10_000);

/// A container that somebody else removed leaves secrets in memory for so long at most.
const SWEEP_PERIOD: Duration = Duration::from_secs(60);
/// Under which names the node's troubles have the key and the values.
const KEY_TROUBLE: &str = "key";
const VALUES_TROUBLE: &str = "values";

/// Why the engine cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No clock.
    #[error("the machine's clock cannot be used")]
    Clock(#[from] ClockError),
    /// No ledger.
    #[error("the ledger cannot be used")]
    Ledger(#[from] LedgerError),
    /// No capacity.
    #[error("the machine's capacity is not known")]
    Capacity(#[from] NoCapacity),
    /// The proxies' folder or the table file's.
    #[error("the proxies' folder {folder} cannot be used")]
    Proxies {
        /// Which.
        folder: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// The machine as the engine reaches it.
pub struct Machine {
    /// The container engine.
    pub runtime: Arc<dyn Runtime>,
    /// What keeps environments apart.
    pub fence: Fence,
}

/// The loop over one node.
pub struct Engine {
    config: NodeConfig,
    clock: Clock,
    view: View,
    file: Arc<LedgerFile>,
    ledger: Ledger,
    executor: Executor,
    link: EngineLink,
    sets: mpsc::Receiver<SetOrder>,
    pending: Option<AssignmentSet>,
    elsewhere: watch::Receiver<Option<Vec<Elsewhere>>>,
    reports: watch::Sender<NodeReport>,
    waits: watch::Sender<Vec<(SlotId, String)>>,
    /// What each slot was last told to wait for.
    told: BTreeMap<SlotId, Discriminant<Reason>>,
    retry: Option<Retry>,
    pulse: Pulse,
    metrics: Arc<Metrics>,
    _observers: JoinSet<()>,
    _stop: DropGuard,
}

/// The ledger could not be written.
struct Retry {
    at: Tick,
    pause: Millis,
    said: String,
}

impl Engine {
    /// Reads the ledger and begins to observe. When this returns, the picture names every live proxy; the containers follow
    /// when the container engine answers.
    pub fn open(config: &Config, identity: &Identity, machine: Machine) -> Result<Self, EngineError> {
        let clock = Clock::of_this_boot()?;
        let node = config.for_decisions(&identity.name);
        let (file, found) = LedgerFile::open(&config.state_dir)?;
        let capacity = usage::capacity(&config.reserved)?;
        let view = View::new(Seen { capacity, agent_started: clock.tick(), ..Seen::default() });
        let mut ledger = begin(found, identity, clock, &node, &view);
        // The ledger's lock is held, so that nobody else makes a key there.
        let vault = Arc::new(Vault::open(identity.cluster, identity.node, &config.state_dir, &config.seal_key));
        vault.mark_unreadable(&mut ledger);
        view.trouble(KEY_TROUBLE, vault.trouble());
        view.trouble(VALUES_TROUBLE, vault::unreadable(&ledger));
        let files = Arc::new(MemoryFiles::open(&config.memory_dir));
        let stop = CancellationToken::new();
        let Machine { runtime, fence } = machine;
        let metrics = Arc::new(Metrics::default());
        let runtime: Arc<dyn Runtime> = Arc::new(Measured::new(runtime, Arc::clone(&metrics)));
        let proxies = Proxies::open(view.clone(), &config.proxy.control_dir, &config.proxy.table_file, stop.clone())
            .map_err(|source| EngineError::Proxies { folder: config.proxy.control_dir.clone(), source })?;
        if let Some(table) = proxies.table()
            && table.generation > ledger.table.generation
        {
            // Only after a lost ledger. Proxies refuse older generations, so ours go on from theirs.
            ledger.table = (*table).clone();
        }
        let networks = Arc::new(Networks::new(Arc::clone(&runtime), view.clone(), fence));
        let containers = Containers::new(Arc::clone(&runtime), view.clone(), clock);
        let (used, used_now) = watch::channel(Use::default());

        let mut observers = JoinSet::new();
        observers.spawn(containers.clone().watch());
        observers.spawn(proxies.clone().watch());
        observers.spawn(Usage::new(Arc::clone(&runtime), containers.clone(), view.clone(), used).watch());
        observers.spawn(sweep(view.clone(), Arc::clone(&files)));
        observers.spawn(images::watch(Arc::clone(&runtime), view.clone(), clock));
        let disks = Disks::new(config.disk.marks(), &config.state_dir);
        observers.spawn(disks.watch(Arc::clone(&runtime), view.clone()));
        let audited = Arc::clone(&networks);
        observers.spawn(async move { audited.watch().await });

        let reach = Reach {
            runtime: Arc::clone(&runtime),
            view: view.clone(),
            clock,
            containers,
            networks,
            proxies,
            vault: Arc::clone(&vault),
            files,
            metrics: Arc::clone(&metrics),
        };
        let executor = Executor::new(reach, &config.bounds);
        let first = plan(&ledger, &view.snapshot(), &node, clock.now());
        let (sets, orders) = mpsc::channel(1);
        let (elsewhere, told_elsewhere) = watch::channel(None);
        let (reports, reports_now) = watch::channel(first.report);
        let (waits, waits_now) = watch::channel(sentences(&first.waits));
        let link = EngineLink {
            runtime,
            view: view.clone(),
            vault,
            sets,
            elsewhere,
            reports: reports_now,
            waits: waits_now,
            used: used_now,
            commands: Commands::default(),
        };
        Ok(Engine {
            config: node,
            clock,
            view,
            file: Arc::new(file),
            ledger,
            executor,
            link,
            sets: orders,
            pending: None,
            elsewhere: told_elsewhere,
            reports,
            waits,
            told: BTreeMap::new(),
            retry: None,
            pulse: Pulse::default(),
            metrics,
            _observers: observers,
            _stop: stop.drop_guard(),
        })
    }

    /// The other end, for a session.
    pub fn link(&self) -> EngineLink {
        self.link.clone()
    }

    /// What it counts.
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// Beats once a round of the loop, each ten seconds at the latest.
    pub fn beating(mut self, pulse: Pulse) -> Self {
        self.pulse = pulse;
        self
    }

    /// Decides and acts until `shutdown`. What runs then keeps running.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut changes = self.view.subscribe();
        let mut asked = None;
        loop {
            self.pulse.beat();
            // What changes from here on ends the wait below.
            changes.mark_unchanged();
            let wake = self.step(asked.take()).await;
            let sleep = wake.map_or(LONGEST_SLEEP, |at| at.since(self.clock.tick()).std().min(LONGEST_SLEEP));
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = changes.changed() => {}
                _ = self.elsewhere.changed() => {}
                order = self.sets.recv() => if let Some(SetOrder { set, reply }) = order {
                    self.pending = Some(set);
                    asked = Some(reply);
                },
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    /// Once round. When to decide again at the latest.
    async fn step(&mut self, asked: Option<oneshot::Sender<SetOutcome>>) -> Option<Tick> {
        let seen = self.view.snapshot();
        let now = self.clock.now();
        let outcome = self.move_ledger(&seen, now).await;
        if let Some(reply) = asked {
            // A session that ended meanwhile does not want to know.
            let _ = reply.send(outcome);
        }
        // The picture may have got a trouble from the ledger.
        let seen = self.view.snapshot();
        let plan = plan(&self.ledger, &seen, &self.config, now);
        self.executor.execute(plan.actions, &self.ledger.table, &self.ledger.values);
        self.reports.send_if_modified(|report| replace(report, plan.report));
        self.tell_waits(&plan.waits);
        self.waits.send_if_modified(|waits| replace(waits, sentences(&plan.waits)));
        let retry = self.retry.as_ref().map(|retry| retry.at);
        earlier(earlier(plan.wake, self.executor.next_try()), retry)
    }

    /// The log tells when a slot begins to wait for something else, and not each second that is left.
    fn tell_waits(&mut self, waits: &[(SlotId, Reason)]) {
        for (slot, why) in waits {
            if self.told.get(slot) != Some(&why.kind()) {
                tracing::info!(%slot, "waits: {why}");
            }
        }
        self.told = waits.iter().map(|(slot, why)| (slot.clone(), why.kind())).collect();
    }

    /// Takes in a set and what is seen, and writes the ledger if that changed it. What became of the pending set.
    async fn move_ledger(&mut self, seen: &Seen, now: Now) -> SetOutcome {
        let mut next = self.ledger.clone();
        let mut outcome = SetOutcome::Accepted;
        let mut changed = false;
        if let Some(set) = &self.pending {
            match next.accept(set.clone(), now) {
                Ok(()) => changed = true,
                Err(NotAccepted::Older) => {
                    outcome = SetOutcome::Older;
                    self.pending = None;
                }
            }
        }
        if let Some(elsewhere) = self.elsewhere.borrow_and_update().clone() {
            changed |= next.set_elsewhere(elsewhere);
        }
        changed |= advance(&mut next, seen, &self.config, now);
        if !changed {
            // What could not be written is not due any more: a retry of nothing would wake the loop again and again.
            if self.retry.take().is_some() {
                self.view.trouble("ledger", None);
            }
            return outcome;
        }
        if let Some(retry) = &self.retry
            && now.tick < retry.at
        {
            return SetOutcome::NotWritten(retry.said.clone());
        }
        match self.write(next).await {
            Ok(next) => {
                tell_phases(&self.ledger, &next);
                self.ledger = next;
                self.pending = None;
                self.retry = None;
                self.view.trouble("ledger", None);
                self.view.trouble(VALUES_TROUBLE, vault::unreadable(&self.ledger));
                outcome
            }
            Err(said) => {
                let pause =
                    self.retry.as_ref().map_or(FIRST_RETRY, |retry| Millis((retry.pause.0 * 2).min(LONGEST_RETRY.0)));
                // Counted from the end of the attempt: a disk that hangs must not be written to without a pause.
                self.retry = Some(Retry { at: self.clock.tick() + pause, pause, said: said.clone() });
                self.view.trouble("ledger", Some(format!("{LEDGER_TROUBLE}: {said}")));
                SetOutcome::NotWritten(said)
            }
        }
    }

    async fn write(&self, next: Ledger) -> Result<Ledger, String> {
        let file = Arc::clone(&self.file);
        let begun = Instant::now();
        let written = tokio::task::spawn_blocking(move || file.write(&next).map(|()| next)).await;
        self.metrics.ledger(begun.elapsed(), matches!(written, Ok(Ok(_))));
        match written {
            Ok(Ok(next)) => Ok(next),
            Ok(Err(error)) => Err(chain(&error)),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Removes the files of containers that went without this agent, as soon as it is known which ones exist, and then every
/// minute.
async fn sweep(view: View, files: Arc<MemoryFiles>) {
    let mut changes = view.subscribe();
    let mut period = tokio::time::interval(SWEEP_PERIOD);
    // Ends with the view at the latest.
    while changes.wait_for(|seen| seen.engine_answers).await.is_ok() {
        period.tick().await;
        files.sweep(|| {
            let seen = changes.borrow();
            let known = seen.containers.keys().chain(seen.unclear.keys()).chain(&seen.starting);
            known.copied().collect()
        });
    }
}

/// The ledger to begin with.
fn begin(found: Found, identity: &Identity, clock: Clock, node: &NodeConfig, view: &View) -> Ledger {
    let new = || Ledger::new(identity.cluster, identity.node, clock.boot(), node);
    match found {
        Found::Whole(ledger) if ledger.cluster == identity.cluster && ledger.node == identity.node => *ledger,
        Found::Whole(_) => {
            tracing::warn!("the ledger belongs to another node or cluster; this one begins anew");
            new()
        }
        Found::Nothing => new(),
        Found::Corrupt { kept, said } => {
            let sentence = format!(
                "the ledger could not be read ({said}) and is kept as {}; what runs is kept until the controller has spoken",
                kept.display()
            );
            view.trouble("lost ledger", Some(sentence));
            new()
        }
    }
}

fn sentences(waits: &[(SlotId, Reason)]) -> Vec<(SlotId, String)> {
    waits.iter().map(|(slot, why)| (slot.clone(), why.to_string())).collect()
}

fn replace<T: PartialEq>(place: &mut T, value: T) -> bool {
    let changed = *place != value;
    *place = value;
    changed
}

/// The log's timeline of replacements and jobs.
fn tell_phases(before: &Ledger, after: &Ledger) {
    for (slot, replacement) in &after.replacements {
        if before.replacements.get(slot).map(|before| before.phase) != Some(replacement.phase) {
            tracing::info!(%slot, deployment = %replacement.deployment, "replacement {}", replacement.phase.word());
        }
    }
    for (id, job) in &after.jobs {
        let was = before.jobs.get(id).map(|before| (before.attempt, before.phase));
        if was != Some((job.attempt, job.phase)) {
            let failure = job.failure.as_ref().map(ToString::to_string);
            tracing::info!(job = %id, service = %job.assignment.run.path, attempt = job.attempt, failure, "job {:?}", job.phase);
        }
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
