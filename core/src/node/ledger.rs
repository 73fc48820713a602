//! What the agent has accepted and done, on disk: enough to go on alone after its own death.
//!
//! Written whole (write, fsync, rename, fsync of the folder) before any action that follows from it.

use crate::assignment::{Assignment, AssignmentSet, Generation, Traffic};
use crate::ids::{BootId, ClusterId, DeploymentId, EnvironmentId, JobId, NodeId, SlotId, ValueId, pairs};
use crate::message::Elsewhere;
use crate::node::action::Subnet;
use crate::node::images::Brought;
use crate::node::seen::{Attempt, Now};
use crate::report::{Failure, JobPhase, ReplacementPhase};
use crate::routes::RouteTable;
use crate::time::{Tick, Wall};
use crate::values::GivenValue;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use serde::{Deserialize, Serialize};

/// The version of the ledger's format.
pub const LEDGER_FORMAT: u32 = 1;

/// The agent's memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// `LEDGER_FORMAT` of the writer.
    pub format: u32,
    /// The cluster.
    pub cluster: ClusterId,
    /// This node.
    pub node: NodeId,
    /// The boot that the ticks below belong to.
    pub boot: BootId,
    /// The newest accepted set's generation.
    pub generation: Option<Generation>,
    /// Whether slots that `wanted` does not name shall be stopped.
    pub stop_absent: bool,
    /// The newest accepted set, by slot.
    #[serde(with = "pairs")]
    pub wanted: BTreeMap<SlotId, Assignment>,
    /// Every job that has, had or shall have a container here, until it is removed.
    pub jobs: BTreeMap<JobId, Job>,
    /// Who fills each slot: the job that has its traffic.
    #[serde(with = "pairs")]
    pub current: BTreeMap<SlotId, JobId>,
    /// The values that the wanted jobs and those that are still here get, sealed under this node's key.
    #[serde(default)]
    pub values: BTreeMap<ValueId, GivenValue>,
    /// The images that the newest set keeps here besides, by `BoundImage::pinned`; none while nobody has said it.
    #[serde(default)]
    pub kept_images: Option<BTreeSet<String>>,
    /// Those of them that a full disk does not take either.
    #[serde(default)]
    pub firm_images: BTreeSet<String>,
    /// The images that this agent has brought here, by `BoundImage::pinned`. It removes no others.
    #[serde(default)]
    pub brought: BTreeMap<String, Brought>,
    /// Replacements under way, and ended ones until the next set.
    #[serde(with = "pairs")]
    pub replacements: BTreeMap<SlotId, Replacement>,
    /// The subnets of the environments.
    pub subnets: BTreeMap<EnvironmentId, Subnet>,
    /// The newest route table; its generation only counts up.
    pub table: RouteTable,
    /// The first table that this ledger made. A proxy that has not acknowledged it may have one that a lost ledger made, with
    /// addresses that nobody remembers.
    #[serde(default)]
    pub first_table: u64,
    /// Where jobs of other nodes run, for the proxy's messages.
    pub elsewhere: Vec<Elsewhere>,
    /// Running containers that carry our labels and that nobody wants (an older attempt, a job of a lost ledger), and
    /// when their end was decided.
    #[serde(with = "pairs")]
    pub strays: BTreeMap<Attempt, Tick>,
}

/// One job as the ledger holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// What it runs, and where.
    pub assignment: Assignment,
    /// The attempt under way, from 1.
    pub attempt: u32,
    /// The attempt's phase.
    pub phase: JobPhase,
    /// When the attempt entered this phase.
    pub since: Tick,
    /// When a job that runs once came: its `start_timeout` counts from here.
    #[serde(default)]
    pub came: Tick,
    /// Whether a job that runs once may have run when its machine was started anew: what is left of it does not tell then whether
    /// it came to its end.
    #[serde(default)]
    pub interrupted: bool,
    /// Its static address: from the first start until its container is gone and every live proxy has acknowledged a table
    /// without it.
    pub address: Option<Ipv4Addr>,
    /// Whether it has ever been healthy for `min_healthy`: before that, the attempts are limited.
    pub was_healthy: bool,
    /// Whether this attempt has been healthy: then an unknown reading is trusted.
    pub was_good: bool,
    /// Failed attempts since it was last healthy for long, for the back-off.
    pub failures: u32,
    /// When the next attempt may start, while it waits for that.
    pub retry_at: Option<Tick>,
    /// Why the last attempt failed.
    pub failure: Option<Failure>,
    /// Set when it shall end: from then on it gets no new request, and its stop signal follows when no connection of it is
    /// open, at this instant at the latest. None while it shall run (an attempt may still be stopped for a new one).
    pub drain_until: Option<Tick>,
    /// Whether no other job of its slot may be up beside it: it took part in a replacement *instead*. Said by the job and not by
    /// the replacement's record, which goes with the next set.
    #[serde(default)]
    pub alone: bool,
    /// The first table without it after one that named it; none when no table ever named it, or the newest one does. Every
    /// proxy has to acknowledge this generation before the job is told to stop and before its address is used again.
    pub unrouted_at: Option<u64>,
}

/// Whether two jobs of a slot are up together while one replaces the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Manner {
    /// The new job gets ready beside the old one.
    #[default]
    Beside,
    /// The old job has ended before the new one starts. If that fails, the old one is started again.
    Instead,
}

/// One slot's way from its old job to its new one. At least one of the two is there: none is old at a first start, none
/// is new when the slot is emptied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replacement {
    /// Who asked.
    pub deployment: DeploymentId,
    /// The job that had the slot.
    pub old: Option<JobId>,
    /// The job that shall have it.
    pub new: Option<JobId>,
    /// Beside each other or one instead of the other.
    #[serde(default)]
    pub manner: Manner,
    /// Where it stands.
    pub phase: ReplacementPhase,
    /// When it entered this phase; the deadlines count from here or from `accepted`.
    pub since: Tick,
    /// When it was begun: `timeout` counts from here.
    pub accepted: Tick,
    /// The wall-clock time of each phase, for the timeline.
    pub reached: Vec<(ReplacementPhase, Wall)>,
    /// From `Ready`: the generation of the first table with the new job and without the old.
    pub table: u64,
    /// When the old job's SIGTERM was decided. From then on there is no way back.
    pub stopped_at: Option<Wall>,
    /// When all checks of the new job were good for the first time.
    #[serde(default)]
    pub good_at: Option<Wall>,
    /// The last bad answer of one of them until then, or until the new job was given up.
    #[serde(default)]
    pub bad_answer: Option<String>,
    /// Why it was abandoned or switched back.
    pub failure: Option<Failure>,
}

impl Job {
    /// A job that is to have its first attempt.
    pub fn new(assignment: Assignment, now: Tick) -> Job {
        Job {
            assignment,
            attempt: 1,
            phase: JobPhase::Assigned,
            since: now,
            came: now,
            interrupted: false,
            address: None,
            was_healthy: false,
            was_good: false,
            failures: 0,
            retry_at: None,
            failure: None,
            drain_until: None,
            alone: false,
            unrouted_at: None,
        }
    }
    /// The identity of its container.
    pub const fn key(&self) -> Attempt {
        Attempt { job: self.assignment.job, number: self.attempt }
    }
    /// Moves on within the attempt.
    pub(super) fn enter(&mut self, phase: JobPhase, now: Tick) {
        self.phase = phase;
        self.since = now;
    }
    /// A fresh container: the next attempt, not before `retry_at`.
    pub(super) fn next_attempt(&mut self, retry_at: Option<Tick>, now: Tick) {
        self.attempt += 1;
        self.was_good = false;
        self.retry_at = retry_at;
        self.drain_until = None;
        self.enter(JobPhase::Assigned, now);
    }
}

impl Replacement {
    /// One that begins now.
    pub(super) fn new(deployment: DeploymentId, old: Option<JobId>, new: Option<JobId>, now: Now) -> Replacement {
        Replacement {
            deployment,
            old,
            new,
            manner: Manner::Beside,
            phase: ReplacementPhase::Accepted,
            since: now.tick,
            accepted: now.tick,
            reached: Vec::from([(ReplacementPhase::Accepted, now.wall)]),
            table: 0,
            stopped_at: None,
            good_at: None,
            bad_answer: None,
            failure: None,
        }
    }
    /// The phase from which on the old job is to end.
    pub const fn old_ends_at(&self) -> ReplacementPhase {
        match self.manner {
            Manner::Beside => ReplacementPhase::Draining,
            Manner::Instead => ReplacementPhase::Emptying,
        }
    }
    /// Moves on; `since` is when the phase began by right, which may lie before now when the agent was away.
    pub(super) fn enter(&mut self, phase: ReplacementPhase, since: Tick, now: Now) {
        if self.phase != phase {
            self.reached.push((phase, now.wall));
        }
        self.phase = phase;
        self.since = since;
    }
}

/// Why a set was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAccepted {
    /// The ledger already holds this one or a newer one of the same epoch.
    Older,
}

impl Ledger {
    /// Whether this set is newer than what the ledger holds. An unknown epoch is newer by definition: only the controller
    /// that this node trusts can speak, and it mints an epoch when its store was restored.
    pub fn is_newer(&self, set: &AssignmentSet) -> bool {
        match self.generation {
            Some(held) if held.epoch == set.generation.epoch => set.generation.number > held.number,
            Some(_) | None => true,
        }
    }
    /// The replacement of this slot, unless it has ended.
    pub fn under_way(&self, slot: &SlotId) -> Option<&Replacement> {
        self.replacements.get(slot).filter(|one| !one.phase.is_final())
    }
    /// What of the slot's traffic a new job gets before it takes the slot over, as was said last.
    pub fn traffic(&self, new: &Job) -> Traffic {
        let wanted = self.wanted.get(&new.assignment.slot);
        wanted.filter(|one| one.job == new.assignment.job).map_or(Traffic::Full, |one| one.traffic)
    }
    /// Whether this job has its slot's traffic.
    pub fn is_current(&self, job: &Job) -> bool {
        self.current.get(&job.assignment.slot) == Some(&job.assignment.job)
    }
    /// Whether this job is meant to stay up: it has its slot's traffic, or is on its way to it.
    pub fn lasts(&self, job: &Job) -> bool {
        let is_new = |one: &Replacement| one.new == Some(job.assignment.job);
        self.is_current(job) || self.under_way(&job.assignment.slot).is_some_and(is_new)
    }
    /// Whether this job shall be up now: it lasts, or is the old one of a replacement whose drain has not begun.
    pub fn shall_be_up(&self, job: &Job) -> bool {
        let is_old = |one: &Replacement| one.old == Some(job.assignment.job) && one.phase < one.old_ends_at();
        self.lasts(job) || self.under_way(&job.assignment.slot).is_some_and(is_old)
    }
}
