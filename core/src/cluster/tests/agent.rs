//! A model of an agent: one replacement at a time, one phase at a step, everything told.

use crate::assignment::{Assignment, AssignmentSet, Generation};
use crate::ids::*;
use crate::report::*;
use crate::time::{Millis, Wall};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

pub struct Agent {
    pub connected: bool,
    pub session: SessionId,
    pub boot: BootId,
    pub held: Option<Generation>,
    pub wanted: BTreeMap<SlotId, Assignment>,
    pub jobs: BTreeMap<JobId, JobReport>,
    /// What each job runs.
    pub runs: BTreeMap<JobId, (u32, String)>,
    pub current: BTreeMap<SlotId, JobId>,
    pub replacements: BTreeMap<SlotId, ReplacementReport>,
    pub capacity: Capacity,
    /// Images that it holds itself, and their ids.
    pub images_here: BTreeMap<String, String>,
}

/// What the process of a broken image does.
pub fn crash() -> Failure {
    Failure::Exited { code: 3, after: Millis(120), last_lines: vec!["no DATABASE_URL".into()] }
}

impl Agent {
    pub fn new(number: u128, capacity: Capacity) -> Agent {
        Agent {
            connected: false,
            session: SessionId(0),
            boot: BootId(number),
            held: None,
            wanted: BTreeMap::new(),
            jobs: BTreeMap::new(),
            runs: BTreeMap::new(),
            current: BTreeMap::new(),
            replacements: BTreeMap::new(),
            capacity,
            images_here: BTreeMap::new(),
        }
    }

    pub fn report(&self) -> NodeReport {
        NodeReport {
            generation: self.held,
            jobs: self.jobs.values().cloned().collect(),
            replacements: self.replacements.values().cloned().collect(),
            capacity: self.capacity,
            troubles: vec![],
        }
    }

    /// Takes a newer set. False for one that it has or that is older.
    pub fn accept(&mut self, set: AssignmentSet, wall: Wall) -> bool {
        if self.held.is_some_and(|held| held.epoch == set.generation.epoch && held.number >= set.generation.number) {
            return false;
        }
        self.held = Some(set.generation);
        self.wanted = set.assignments.into_iter().map(|it| (it.slot.clone(), it)).collect();
        self.replacements.retain(|_, it| !it.phase.is_final());
        // What has not switched yet is abandoned for what is newer; what has runs to its end.
        let stale: Vec<SlotId> = self
            .replacements
            .iter()
            .filter(|(slot, it)| {
                self.wanted.get(slot).map(|wanted| wanted.job) != it.new && !it.phase.is_after_switch()
            })
            .map(|(slot, _)| slot.clone())
            .collect();
        for slot in stale {
            self.abandon(&slot, Failure::Superseded, wall);
        }
        let named = |slot: &SlotId| self.wanted.contains_key(slot);
        self.jobs.retain(|_, job| named(&job.slot) || !job.phase.is_final());
        true
    }

    fn abandon(&mut self, slot: &SlotId, failure: Failure, wall: Wall) {
        let it = self.replacements.get_mut(slot).unwrap();
        it.phase = ReplacementPhase::Abandoned;
        it.reached.push((it.phase, wall));
        it.failure = Some(failure.clone());
        let job = self.jobs.get_mut(&it.new.unwrap()).unwrap();
        (job.phase, job.health, job.failure) = (JobPhase::Failed, Health::Unhealthy, Some(failure));
    }

    /// One step of one slot. False when there is nothing to do.
    pub fn step(&mut self, broken: &BTreeSet<String>, wall: Wall) -> bool {
        if let Some(slot) = self.replacements.iter().find(|(_, it)| !it.phase.is_final()).map(|it| it.0.clone()) {
            self.advance(&slot, broken, wall);
            return true;
        }
        if let Some(slot) = self.current.keys().find(|slot| !self.wanted.contains_key(slot)).cloned() {
            let job = self.current.remove(&slot).unwrap();
            self.jobs.remove(&job);
            return true;
        }
        let next = self.wanted.values().find(|it| self.is_to_begin(it)).cloned();
        if let Some(next) = &next {
            self.begin(next, wall);
        }
        next.is_some()
    }

    fn is_to_begin(&self, wanted: &Assignment) -> bool {
        let failed = self.jobs.get(&wanted.job).is_some_and(|job| job.phase == JobPhase::Failed);
        self.current.get(&wanted.slot) != Some(&wanted.job) && !failed
    }

    fn begin(&mut self, wanted: &Assignment, wall: Wall) {
        let attempt = self.jobs.get(&wanted.job).map_or(1, |job| job.attempt + 1);
        self.runs.insert(wanted.job, (wanted.run.revision, wanted.run.image.pinned().into()));
        self.jobs.insert(
            wanted.job,
            JobReport {
                job: wanted.job,
                slot: wanted.slot.clone(),
                attempt,
                phase: JobPhase::Starting,
                health: Health::Starting,
                failure: None,
                address: None,
                memory_bytes: 0,
                cpu_milli: 0,
            },
        );
        let report = ReplacementReport {
            slot: wanted.slot.clone(),
            deployment: wanted.deployment,
            old: self.current.get(&wanted.slot).copied(),
            new: Some(wanted.job),
            phase: ReplacementPhase::Accepted,
            reached: vec![(ReplacementPhase::Accepted, wall)],
            stopped_at: None,
            failure: None,
            waits_for: None,
        };
        self.replacements.insert(wanted.slot.clone(), report);
    }

    fn advance(&mut self, slot: &SlotId, broken: &BTreeSet<String>, wall: Wall) {
        use ReplacementPhase::*;
        let it = self.replacements.get_mut(slot).unwrap();
        let new = it.new.unwrap();
        let next = match it.phase {
            Accepted => Starting,
            Starting if broken.contains(&self.runs[&new].1) => return self.abandon(&slot.clone(), crash(), wall),
            Starting => Ready,
            Ready => Switched,
            Switched => Draining,
            Draining => Done,
            other => panic!("{other:?}"),
        };
        it.phase = next;
        it.reached.push((next, wall));
        if next == Ready {
            let job = self.jobs.get_mut(&new).unwrap();
            (job.phase, job.health) = (JobPhase::Running, Health::Healthy);
        }
        if next == Draining {
            it.stopped_at = Some(wall);
        }
        if next == Done {
            if let Some(old) = it.old {
                self.jobs.remove(&old);
            }
            self.current.insert(slot.clone(), new);
        }
    }
}
