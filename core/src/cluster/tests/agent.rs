//! A model of an agent: one replacement at a time, one phase at a step, everything told.

use crate::assignment::{Assignment, AssignmentSet, Generation, Traffic};
use crate::ids::*;
use crate::report::*;
use crate::spec::Strategy;
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
    strategies: BTreeMap<JobId, Strategy>,
    pub current: BTreeMap<SlotId, JobId>,
    /// How often each job that runs once was started.
    pub begun: BTreeMap<JobId, u32>,
    pub replacements: BTreeMap<SlotId, ReplacementReport>,
    pub capacity: Capacity,
    /// What runs and a lost ledger knew, by its slot, with the steps that it takes to end it when nobody wants it.
    pub strays: BTreeMap<JobId, (SlotId, u32)>,
    /// Its engine has not told yet what runs.
    pub blind: bool,
    /// Its engine does not answer: nothing changes there.
    pub engine_down: bool,
    /// Images that it holds itself, and their ids.
    pub images_here: BTreeMap<String, String>,
    /// The disk that keeps it from beginning jobs; placement is what is asked here, so it takes them all the same.
    pub full_disk: Option<FullDisk>,
}

/// So many steps a container takes to end that nobody wants any more.
const STEPS_OF_A_STRAY: u32 = 4;

/// What the process of a broken image does.
pub fn crash() -> Failure {
    Failure::Exited { code: 3, after: Millis(120), last_lines: vec!["no DATABASE_URL".into()] }
}

fn fresh(wanted: &Assignment, attempt: u32, phase: JobPhase) -> JobReport {
    JobReport {
        job: wanted.job,
        slot: wanted.slot.clone(),
        attempt,
        phase,
        health: Health::Starting,
        failure: None,
        address: None,
        memory_bytes: 0,
        cpu_milli: 0,
        waits_for: None,
    }
}

/// Whether the old job ended, or is ending, before the new one starts.
fn comes_instead(it: &ReplacementReport) -> bool {
    it.reached.iter().any(|(phase, _)| *phase == ReplacementPhase::Emptying)
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
            strategies: BTreeMap::new(),
            current: BTreeMap::new(),
            begun: BTreeMap::new(),
            replacements: BTreeMap::new(),
            capacity,
            strays: BTreeMap::new(),
            blind: false,
            engine_down: false,
            images_here: BTreeMap::new(),
            full_disk: None,
        }
    }

    pub fn report(&self) -> NodeReport {
        NodeReport {
            generation: self.held,
            jobs: self.jobs.values().cloned().collect(),
            replacements: self.replacements.values().cloned().collect(),
            capacity: self.capacity,
            troubles: match self.engine_down {
                true => {
                    vec!["the container engine does not answer: no socket".into(), "its disk is nearly full".into()]
                }
                false => vec![],
            },
            full_disk: self.full_disk.clone(),
            strays: self.strays().filter(|_| !self.blind).collect(),
            strays_unclear: self.blind,
        }
    }

    fn strays(&self) -> impl Iterator<Item = StrayReport> {
        self.strays.iter().map(|(job, (slot, _))| StrayReport { job: *job, slot: slot.clone() })
    }

    /// What really runs in a slot, whatever is known or told of it.
    pub fn runs_in(&self, slot: &SlotId) -> BTreeSet<JobId> {
        let known = self.jobs.values().filter(|job| job.slot == *slot && job.phase == JobPhase::Running);
        known.map(|job| job.job).chain(self.strays().filter(|it| it.slot == *slot).map(|it| it.job)).collect()
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
                let goes_on = it.phase.is_after_switch() || (comes_instead(it) && it.phase == ReplacementPhase::Ready);
                self.wanted.get(slot).map(|wanted| wanted.job) != it.new && !goes_on
            })
            .map(|(slot, _)| slot.clone())
            .collect();
        for slot in stale {
            self.abandon(&slot, Failure::Superseded, wall);
        }
        let named = |slot: &SlotId| self.wanted.contains_key(slot);
        self.jobs.retain(|_, job| named(&job.slot) || !job.phase.is_final());
        self.adopt(wall);
        true
    }

    /// Its ledger is lost, and its jobs run on.
    pub fn lose_ledger(&mut self) {
        // What runs once leaves its container behind.
        let has_container = |job: &JobReport| job.phase == JobPhase::Running || self.begun.contains_key(&job.job);
        let left = core::mem::take(&mut self.jobs).into_values().filter(has_container);
        self.strays.extend(left.map(|job| (job.job, (job.slot, STEPS_OF_A_STRAY))));
        self.blind = true;
        self.current.clear();
        self.replacements.clear();
        self.wanted.clear();
        self.held = None;
    }

    /// What is wanted and runs is taken over, as what it is wanted to be; what nobody wants ends in its time.
    fn adopt(&mut self, wall: Wall) {
        for wanted in self.wanted.clone().into_values() {
            if self.strays.remove(&wanted.job).is_none() {
                continue;
            }
            self.begin(&wanted, wall);
            let it = self.replacements.get_mut(&wanted.slot).unwrap();
            (it.phase, it.reached) = (ReplacementPhase::Ready, vec![(ReplacementPhase::Ready, wall)]);
            let job = self.jobs.get_mut(&wanted.job).unwrap();
            (job.phase, job.health) = (JobPhase::Running, Health::Healthy);
            if wanted.traffic == Traffic::Full {
                self.replacements.remove(&wanted.slot);
                self.current.insert(wanted.slot.clone(), wanted.job);
            }
        }
    }

    fn abandon(&mut self, slot: &SlotId, failure: Failure, wall: Wall) {
        let it = self.replacements.get_mut(slot).unwrap();
        it.phase = ReplacementPhase::Abandoned;
        it.reached.push((it.phase, wall));
        it.failure = Some(failure.clone());
        let job = self.jobs.get_mut(&it.new.unwrap()).unwrap();
        (job.phase, job.health, job.failure) = (JobPhase::Failed, Health::Unhealthy, Some(failure));
        // The old one, which has ended for its sake, is started again.
        if let Some(old) = it.old.filter(|_| comes_instead(it)) {
            let again = self.jobs.get_mut(&old).unwrap();
            again.attempt += u32::from(again.phase.is_final());
            (again.phase, again.health) = (JobPhase::Running, Health::Healthy);
            self.current.insert(slot.clone(), old);
        }
    }

    /// One step of one slot. False when there is nothing to do.
    pub fn step(&mut self, broken: &BTreeSet<String>, wall: Wall) -> bool {
        if self.engine_down {
            return false;
        }
        let sees = core::mem::take(&mut self.blind);
        if self.end_strays() | sees | self.step_once() {
            return true;
        }
        let under_way = || self.replacements.iter().filter(|(_, it)| !it.phase.is_final());
        if let Some(slot) = under_way().find(|(_, it)| !self.is_held(it)).map(|it| it.0.clone()) {
            self.advance(&slot, broken, wall);
            return true;
        }
        let holds = under_way().next().is_some();
        if let Some(slot) = self.current.keys().find(|slot| !self.wanted.contains_key(slot)).cloned() {
            let job = self.current.remove(&slot).unwrap();
            self.jobs.remove(&job);
            return true;
        }
        let has_none = |it: &Assignment| !self.current.contains_key(&it.slot);
        let may_begin = |it: &&Assignment| !holds || it.traffic != Traffic::Full || has_none(it);
        let next = self.wanted.values().filter(may_begin).find(|it| self.is_to_begin(it)).cloned();
        if let Some(next) = &next {
            self.begin(next, wall);
        }
        next.is_some()
    }

    /// What nobody wants of what a lost ledger knew ends, which takes its time. True while there is any.
    fn end_strays(&mut self) -> bool {
        if self.held.is_none() || self.strays.is_empty() {
            return false;
        }
        self.strays.values_mut().for_each(|(_, steps)| *steps -= 1);
        self.strays.retain(|_, (_, steps)| *steps > 0);
        true
    }

    /// Whether a replacement is ready and has to be released.
    fn is_held(&self, it: &ReplacementReport) -> bool {
        let wanted = self.wanted.get(&it.slot).filter(|wanted| Some(wanted.job) == it.new);
        it.phase == ReplacementPhase::Ready && wanted.is_some_and(|wanted| wanted.traffic != Traffic::Full)
    }

    /// What of the slots' traffic the jobs that wait have here.
    pub fn shares(&self) -> Vec<(u32, Traffic)> {
        let held = self.replacements.values().filter(|it| self.is_held(it));
        held.map(|it| (it.slot.number, self.wanted[&it.slot].traffic)).collect()
    }

    fn is_to_begin(&self, wanted: &Assignment) -> bool {
        if wanted.once.is_some() || self.replacements.get(&wanted.slot).is_some_and(|it| !it.phase.is_final()) {
            return false;
        }
        let failed = self.jobs.get(&wanted.job).is_some_and(|job| job.phase == JobPhase::Failed);
        self.current.get(&wanted.slot) != Some(&wanted.job) && !failed
    }

    /// One step of a job that runs once: `fail` ends with code 3, `hang` does not end, all else ends well.
    fn step_once(&mut self) -> bool {
        let once: Vec<Assignment> = self.wanted.values().filter(|it| it.once.is_some()).cloned().collect();
        let unwanted = |job: &&JobReport| {
            let is_once = self.begun.contains_key(&job.job);
            is_once && !once.iter().any(|it| it.job == job.job)
        };
        if let Some(job) = self.jobs.values().find(unwanted).map(|job| job.job) {
            self.jobs.remove(&job);
            return true;
        }
        for wanted in once {
            let stops = wanted.once.is_some_and(|once| once.stop);
            let Some(job) = self.jobs.get_mut(&wanted.job) else {
                let phase = if stops { JobPhase::Rejected } else { JobPhase::Running };
                *self.begun.entry(wanted.job).or_insert(0) += u32::from(!stops);
                self.jobs.insert(wanted.job, fresh(&wanted, 1, phase));
                return true;
            };
            let word = wanted.run.spec.command.first().map(String::as_str);
            let (phase, failure) = match (job.phase, stops, word) {
                (phase, ..) if phase.is_final() => continue,
                (_, true, _) => (JobPhase::Stopped, None),
                (_, _, Some("fail")) => (JobPhase::Failed, Some(crash())),
                (_, _, Some("hang")) => continue,
                _ => (JobPhase::Succeeded, None),
            };
            (job.phase, job.failure, job.health) = (phase, failure, Health::Unknown);
            return true;
        }
        false
    }

    fn begin(&mut self, wanted: &Assignment, wall: Wall) {
        let attempt = self.jobs.get(&wanted.job).map_or(1, |job| job.attempt + 1);
        self.runs.insert(wanted.job, (wanted.run.revision, wanted.run.image.pinned().into()));
        self.strategies.insert(wanted.job, wanted.run.spec.deploy.strategy);
        self.jobs.insert(wanted.job, fresh(wanted, attempt, JobPhase::Starting));
        let report = ReplacementReport {
            slot: wanted.slot.clone(),
            deployment: wanted.deployment,
            old: self.current.get(&wanted.slot).copied(),
            new: Some(wanted.job),
            phase: ReplacementPhase::Accepted,
            reached: vec![(ReplacementPhase::Accepted, wall)],
            stopped_at: None,
            good_at: None,
            bad_answer: None,
            failure: None,
            waits_for: None,
        };
        self.replacements.insert(wanted.slot.clone(), report);
    }

    fn advance(&mut self, slot: &SlotId, broken: &BTreeSet<String>, wall: Wall) {
        use ReplacementPhase::*;
        let it = self.replacements.get_mut(slot).unwrap();
        let new = it.new.unwrap();
        let is_recreate = self.strategies[&new] == Strategy::Recreate;
        let next = match it.phase {
            Accepted if it.old.is_some() && is_recreate => Emptying,
            Emptying if self.jobs[&it.old.unwrap()].phase == JobPhase::Running => {
                let old = self.jobs.get_mut(&it.old.unwrap()).unwrap();
                (old.phase, old.health) = (JobPhase::Stopped, Health::Unknown);
                it.stopped_at = Some(wall);
                self.current.remove(slot);
                return;
            }
            Accepted | Emptying => Starting,
            Starting if broken.contains(&self.runs[&new].1) => return self.abandon(&slot.clone(), crash(), wall),
            Starting => Ready,
            Ready => Switched,
            Switched if comes_instead(it) => Done,
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
