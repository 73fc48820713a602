//! Who watches the whole world: the checks of core after every decision, and what only somebody can know who sees all
//! machines, processes and proxies at once.

use crate::controller::Controller;
use crate::event::MachineNumber;
use crate::machine::Machine;
use crate::runtime::Vessel;
use crate::specs::ONCE;
use crate::world::World;
use lapstrake_core::assignment::Traffic;
use lapstrake_core::check::{Violation, cluster as check};
use lapstrake_core::cluster::state::{
    Allotment, Deployment, DeploymentFailure, DeploymentPhase, Node, Revision, Service, Slot,
};
use lapstrake_core::cluster::{Followup, Key, Record};
use lapstrake_core::ids::{JobId, NodeId, ServiceId, SlotId};
use lapstrake_core::liveness::LOST_AFTER;
use lapstrake_core::node::ledger::{Job, Ledger, Manner};
use lapstrake_core::node::seen::{Attempt, Now, Seen};
use lapstrake_core::reason::Reason;
use lapstrake_core::report::{Failure, JobPhase};
use lapstrake_core::spec::{Strategy, WhenCutOff};
use lapstrake_core::time::Tick;
use std::collections::{BTreeMap, BTreeSet};

/// A container that has answered for so long has been seen to be healthy by every spec of this world.
const SURELY_HEALTHY: u64 = 5_000;
/// The store is read back after so many commits: it costs as much as many of them.
const STORE_CHECKED_EVERY: u64 = 8;
/// A node that is silent for so long is lost. Ticks and instants are rounded differently.
const WHOLE_LEASE: u64 = LOST_AFTER.0 - 10;
/// The lease, as the specs' readers know it.
const LEASE: u64 = 6_000;

/// What the judge remembers of jobs that run once.
#[derive(Debug, Default)]
pub struct Once {
    /// Those whose container was started.
    started: BTreeSet<JobId>,
    /// Those whose container somebody removed by hand.
    pub removed: BTreeSet<JobId>,
}

/// What the judge remembers of slots in which no two jobs may be up together, and of the nodes that they are on.
#[derive(Debug, Default)]
pub struct Alone {
    /// To which node each slot came last, and when.
    came: BTreeMap<SlotId, (NodeId, u64)>,
    /// When each node was heard last, by whichever process of the controller.
    last: BTreeMap<NodeId, u64>,
    /// Since when it is heard without such a silence that it may have been taken for lost.
    since: BTreeMap<NodeId, u64>,
}

impl Alone {
    /// Whether a node was heard all the time from then until now.
    fn is_heard(&self, node: NodeId, from: u64, at: u64) -> bool {
        let since = self.since.get(&node).is_some_and(|since| *since <= from);
        since && self.last.get(&node).is_some_and(|last| at - last < WHOLE_LEASE)
    }
}

/// What the judge remembers of one machine, in its ticks.
#[derive(Debug, Default)]
pub struct Memory {
    /// Jobs that some serving proxy sends requests to.
    routed: BTreeSet<JobId>,
    /// When the last proxy stopped sending requests to a job.
    left: BTreeMap<JobId, u64>,
    /// When the replacement of an old job was first seen switched.
    switched: BTreeMap<JobId, u64>,
    /// Jobs that were found running by an agent without a ledger: whether they were healthy nobody knew.
    pub adopted: BTreeSet<JobId>,
    /// Jobs whose end was decided because their node was cut off.
    cut_off: BTreeSet<JobId>,
}

impl World {
    /// Takes in what a check has found.
    pub fn judge(&mut self, machine: MachineNumber, found: Vec<Violation>) {
        if let Some(first) = found.into_iter().next() {
            let place = if machine == usize::MAX { "controller".into() } else { format!("node-{machine}") };
            self.broken(first.invariant, format!("{place}: {}", first.sentence));
        }
    }

    /// A promise is broken; the first one ends the run.
    pub fn broken(&mut self, invariant: u8, sentence: String) {
        if self.broken.is_none() {
            self.broken = Some(format!("invariant {invariant}: {sentence}"));
        }
    }

    /// A machine was restarted: its ticks mean nothing any more.
    pub fn forget_ticks(&mut self, number: MachineNumber) {
        self.memory[number] = Memory::default();
        self.note_routes(number);
    }

    /// The proxies' tables have changed.
    pub fn note_routes(&mut self, number: MachineNumber) {
        let machine = &self.machines[number];
        let tick = machine.clock.tick(self.at).0;
        let serving = machine.proxies.values().filter(|proxy| proxy.serves);
        let tables = serving.filter_map(|proxy| proxy.table.as_ref());
        let backends = tables.flat_map(|table| &table.routes).flat_map(|route| &route.backends);
        let routed: BTreeSet<JobId> = backends.map(|backend| backend.job).collect();
        let memory = &mut self.memory[number];
        for job in memory.routed.difference(&routed) {
            memory.left.insert(*job, tick);
        }
        memory.routed = routed;
        let ended = |job: &JobId| {
            let newest = machine.engine.of_job(*job).next_back();
            newest.is_some_and(|(_, one)| one.ended_in_health)
        };
        if let Some(job) = memory.routed.iter().find(|job| ended(job)).copied() {
            self.broken(2, format!("a proxy of node-{number} sends requests to job {job}, which was told to stop"));
        }
    }

    /// A ledger is about to be written: counts what is new in it.
    pub fn note_ledger(&mut self, number: MachineNumber, next: &Ledger, now: Now) {
        let Some(agent) = &self.machines[number].agent else { return };
        for (slot, one) in &next.replacements {
            let was = agent.ledger.replacements.get(slot).filter(|was| was.accepted == one.accepted);
            let told = was.map_or(0, |was| was.reached.len());
            for (phase, _) in one.reached.iter().skip(told) {
                self.coverage.count("replacement", phase.word());
                self.trace.line(self.at, format_args!("node-{number}: {slot} {}", phase.word()));
            }
            if one.phase.is_after_switch()
                && let (Some(old), Some(_)) = (one.old, one.new)
            {
                self.memory[number].switched.entry(old).or_insert(now.tick.0);
            }
            if let Some(failure) = one.failure.as_ref().filter(|_| was.is_none_or(|was| was.failure.is_none())) {
                self.coverage.count("failure", failure_word(failure));
            }
        }
        for (id, job) in &next.jobs {
            let was = agent.ledger.jobs.get(id);
            let phase = was.map(|was| (was.attempt, was.phase));
            if phase != Some((job.attempt, job.phase)) {
                self.coverage.count("job", job.phase.word());
                self.trace.line(self.at, format_args!("node-{number}: {:?} {}", job.key(), job.phase.word()));
                let runs = self.machines[number].engine.running(*id).is_some();
                if was.is_none() && job.phase == JobPhase::Running && runs {
                    self.coverage.count("promise", "10 a healthy container was adopted without a ledger");
                    self.memory[number].adopted.insert(*id);
                }
            }
            if let Some(failure) = job.failure.as_ref().filter(|_| was.is_none_or(|was| was.failure != job.failure)) {
                self.coverage.count("failure", failure_word(failure));
            }
        }
        if next.table.routes.iter().any(|route| route.backends.iter().any(|backend| is_bad(next, backend.job))) {
            self.coverage.count("promise", "1 all jobs bad");
        }
        let serving = next.table.routes.iter().map(|route| (route.service, route.backends.len()));
        let wanted = |service: ServiceId| next.current.keys().filter(|slot| slot.service == service).count();
        if serving.into_iter().any(|(service, backends)| backends > 0 && backends < wanted(service)) {
            self.coverage.count("promise", "1 a bad job beside a good one gets no request");
        }
        self.note_lease(number, next, now);
    }

    fn note_lease(&mut self, number: MachineNumber, next: &Ledger, now: Now) {
        let Some(agent) = &self.machines[number].agent else { return };
        if !is_cut_off(&agent.seen, now.tick) {
            return;
        }
        let stops = |job: &&Job| job.assignment.run.when_cut_off() == WhenCutOff::Stop;
        let ending = next.jobs.values().filter(|job| job.drain_until.is_some()).filter(stops);
        self.memory[number].cut_off.extend(ending.map(|job| job.assignment.job));
        let mut kept = false;
        let mut stopped = false;
        for job in next.current.values().filter_map(|id| next.jobs.get(id)) {
            let keeps = job.assignment.run.when_cut_off() == WhenCutOff::Keep;
            kept |= keeps && job.phase == JobPhase::Running;
            stopped |= !keeps && job.phase == JobPhase::Stopped;
        }
        if kept {
            self.coverage.count("promise", "7 cut off and kept");
        }
        if stopped {
            self.coverage.count("promise", "7 cut off and stopped");
        }
    }

    /// The controller has heard of a node.
    pub fn hears(&mut self, node: NodeId) {
        let last = self.alone.last.insert(node, self.at);
        if last.is_none_or(|last| self.at - last >= WHOLE_LEASE) {
            self.alone.since.insert(node, self.at);
        }
        self.heard.insert(node, self.at);
    }

    /// A container was started.
    pub fn judge_start(&mut self, number: MachineNumber, attempt: Attempt) {
        let machine = &self.machines[number];
        let Some(started) = machine.engine.containers.get(&attempt) else { return };
        if started.run.spec.command.first().is_some_and(|word| word == ONCE) {
            let before = self.once.started.insert(attempt.job);
            // What somebody removed by hand leaves no mark that it ran.
            if !before && !self.once.removed.contains(&attempt.job) {
                self.broken(3, format!("{attempt:?} runs its command again on node-{number}"));
            }
            self.coverage.count("promise", "3 a command ran once");
            return;
        }
        let running = || {
            let all = machine.engine.containers.iter();
            all.filter(|(other, one)| **other != attempt && one.runs() && !one.by_hand)
        };
        let same_address = running().find(|(_, one)| one.address == started.address).map(|(other, _)| *other);
        let twin = self.machines.iter().flat_map(|machine| machine.engine.of_job(attempt.job));
        // What somebody started by hand is not the agent's doing.
        let twin = twin
            .filter(|(other, one)| **other != attempt && one.runs() && !one.by_hand)
            .map(|(other, _)| *other)
            .next();
        self.coverage.count("promise", "3 no two containers of one job");
        if let Some(other) = same_address {
            self.broken(0, format!("{attempt:?} has the address of {other:?} on node-{number}"));
        }
        if let Some(other) = twin {
            self.broken(3, format!("{attempt:?} runs beside {other:?}"));
        }
        self.judge_alone(number, attempt);
    }

    /// Invariant 9, as far as there is anything of it: a job that is to be alone in its slot is, whatever anybody has written down
    /// of what runs. Its first attempt has nobody beside it on its node, a later one nobody of its kind: what came beside it since
    /// by another strategy stays. On other nodes nothing runs of the slot, if they and its own were heard since it came here.
    fn judge_alone(&mut self, number: MachineNumber, attempt: Attempt) {
        let is_recreated = |one: &Vessel| one.run.spec.deploy.strategy == Strategy::Recreate;
        let started = &self.machines[number].engine.containers[&attempt];
        if !is_recreated(started) {
            return;
        }
        let in_slot = |machine: MachineNumber| {
            let all = self.machines[machine].engine.of_slot(&started.slot, self.machines[machine].node);
            all.filter(|(other, _)| other.job != attempt.job)
        };
        let here = in_slot(number).find(|(_, one)| attempt.number == 1 || is_recreated(one));
        let broken =
            here.map(|(other, _)| format!("{attempt:?} of node-{number} runs beside {other:?}")).or_else(|| {
                let own = self.machines[number].node?;
                let (_, came) = self.alone.came.get(&started.slot).filter(|(node, _)| *node == own)?;
                let heard = |node| self.is_of_slot(node, &started.slot) && self.alone.is_heard(node, *came, self.at);
                let is_other = |machine: &MachineNumber| {
                    let node = self.machines[*machine].node;
                    node.is_some_and(|node| node != own && heard(node) && heard(own))
                };
                let (other, there) = (0..self.machines.len())
                    .filter(is_other)
                    .find_map(|machine| Some((in_slot(machine).next()?.0, machine)))?;
                Some(format!("{attempt:?} of node-{number} runs beside {other:?} of node-{there}"))
            });
        self.coverage.count("promise", "9 a job to be alone started");
        if let Some(sentence) = broken {
            self.broken(9, sentence);
        }
    }

    /// Whether a node is one of those of the slot's environment.
    fn is_of_slot(&self, node: NodeId, slot: &SlotId) -> bool {
        let service = self.committed.get::<Service>(&slot.service);
        service.is_some_and(|service| self.committed.is_allotted(service.environment, node))
    }

    /// A stop signal reaches a container.
    pub fn judge_terminate(&mut self, number: MachineNumber, attempt: Attempt) {
        let at = self.at;
        let machine = &self.machines[number];
        let tick = machine.clock.tick(at).0;
        let Some(one) = machine.engine.containers.get(&attempt).filter(|one| one.runs()) else { return };
        if one.terminated.is_some() || one.was_sick(at) || at < one.listens.saturating_add(SURELY_HEALTHY) {
            return;
        }
        let Some(agent) = &machine.agent else { return };
        let job = agent.ledger.jobs.get(&attempt.job).filter(|job| job.key() == attempt);
        let memory = &self.memory[number];
        let mut broken = None;
        if memory.routed.contains(&attempt.job) {
            broken = Some((2, format!("{attempt:?} of node-{number} is told to stop while a proxy sends to it")));
        }
        let left = memory.left.get(&attempt.job).copied();
        let mut counts = vec![];
        if left.is_some() && machine.proxies.values().any(|proxy| proxy.serves) {
            counts.push("2 stopped after every proxy acknowledged");
        }
        if let Some(job) = job {
            let cut_off = memory.cut_off.contains(&attempt.job)
                || job.assignment.run.when_cut_off() == WhenCutOff::Stop && is_cut_off(&agent.seen, Tick(tick));
            // A command that ran once is not run again, also not by somebody's hand.
            if job.drain_until.is_none() && !one.by_hand {
                broken = broken
                    .or(Some((10, format!("the healthy {attempt:?} of node-{number} is stopped to be restarted"))));
            }
            match self.too_early(number, job, one, tick, left) {
                Some(sentence) if !cut_off => broken = broken.or(Some((0, sentence))),
                Some(_) => {}
                None => counts.push("the overlap was kept"),
            }
            if !cut_off && self.is_still_wanted(number, job, &agent.ledger) {
                let sentence = format!("the healthy and wanted {attempt:?} of node-{number} is told to stop");
                broken = broken.or(Some((10, sentence)));
            }
            if open_connections(&machine.proxies, one.life) > 0 {
                counts.push("a connection was cut at the end of its drain");
            }
        } else if self.has_one_waiting_beside_it(number, attempt.job) {
            let sentence = format!("the healthy {attempt:?} of node-{number} is told to stop, and its successor waits");
            broken = broken.or(Some((10, sentence)));
        }
        for what in counts {
            self.coverage.count("promise", what);
        }
        if let Some(one) = self.machines[number].engine.containers.get_mut(&attempt) {
            one.ended_in_health = true;
        }
        if let Some((invariant, sentence)) = broken {
            self.broken(invariant, sentence);
        }
    }

    /// Whether the overlap, or the drain of an open connection, is not over.
    fn too_early(
        &self,
        number: MachineNumber,
        job: &Job,
        one: &Vessel,
        tick: u64,
        left: Option<u64>,
    ) -> Option<String> {
        let machine = &self.machines[number];
        let ledger = &machine.agent.as_ref()?.ledger;
        let id = job.assignment.job;
        let replacement = ledger.under_way(&job.assignment.slot).filter(|replacement| replacement.old == Some(id))?;
        let new = ledger.jobs.get(&replacement.new?)?;
        let policy = &new.assignment.run.spec.deploy;
        let since = match (replacement.manner, self.memory[number].switched.get(&id).copied()) {
            // It ends for the new one's sake, which waits for that: there is no switch before it.
            (Manner::Instead, _) => left.unwrap_or(0),
            (Manner::Beside, Some(switched)) => left.unwrap_or(0).max(switched),
            (Manner::Beside, None) => {
                return Some(format!("the old job {id} of node-{number} is told to stop before the switch"));
            }
        };
        let early = (since + policy.overlap.0).saturating_sub(tick);
        if early > 0 && replacement.manner == Manner::Beside {
            return Some(format!(
                "the old job {id} of node-{number} is told to stop {early} ms before its overlap ends"
            ));
        }
        let open = open_connections(&machine.proxies, one.life);
        if open > 0 && tick < since + policy.drain.0 {
            return Some(format!("{open} connections of {id} on node-{number} are cut before their drain ends"));
        }
        None
    }

    /// Whether the controller wants this job, and its node has known that for long.
    fn is_still_wanted(&self, number: MachineNumber, job: &Job, ledger: &Ledger) -> bool {
        let Some(slot) = self.committed.get::<Slot>(&job.assignment.slot) else { return false };
        let wanted = slot.job.is_some_and(|wanted| wanted.job == job.assignment.job);
        let here = self.machines[number].node == Some(slot.node);
        let knows = ledger.generation.is_some_and(|held| held.number >= slot.generation);
        let leaves = ledger.replacements.get(&slot.id).is_some_and(|one| one.old == Some(job.assignment.job));
        let failed = ledger.replacements.get(&slot.id).is_some_and(|one| one.failure.is_some());
        wanted && here && knows && job.was_healthy && !leaves && !failed
    }

    /// Whether the controller holds a job back for this one's sake, of which a lost ledger knew.
    fn has_one_waiting_beside_it(&self, number: MachineNumber, job: JobId) -> bool {
        let here = |slot: &&Slot| self.machines[number].node == Some(slot.node) && slot.traffic != Traffic::Full;
        let beside = |slot: &Slot| slot.outcome.is_none() && slot.previous.first().is_some_and(|it| it.job == job);
        self.committed.all::<Slot>().filter(here).any(beside)
    }

    /// SIGKILL reaches a container.
    pub fn judge_kill(&mut self, number: MachineNumber, attempt: Attempt) {
        let machine = &self.machines[number];
        let tick = machine.clock.tick(self.at).0;
        let Some(one) = machine.engine.containers.get(&attempt).filter(|one| one.runs()) else { return };
        let grace = one.run.spec.deploy.stop_grace.0;
        match one.terminated {
            Some(since) if tick >= since + grace => self.coverage.count("promise", "the stop grace was kept"),
            Some(since) => {
                let had = tick - since;
                self.broken(0, format!("{attempt:?} of node-{number} is killed after {had} of {grace} ms"));
            }
            // Ended by its signal and started again by hand between two looks, it is not told from what had the signal.
            None if one.by_hand => {}
            None => self.broken(0, format!("{attempt:?} of node-{number} is killed without a stop signal")),
        }
    }

    /// What a service waits for is said.
    pub fn judge_waits(&mut self, service: ServiceId, follow: &Followup) {
        let Some(controller) = &self.controller else { return };
        let unfinished =
            controller.cluster.get::<Service>(&service).is_some_and(|it| it.unfinished.is_some() || it.deleting);
        for wait in &follow.waits {
            if wait.to_string().len() <= wait.what.len() + " waits: ".len() {
                return self.broken(0, format!("{} waits and nobody knows why", wait.what));
            }
            match wait.reason {
                Reason::Leftover { .. } => self.coverage.count("wait", "leftover"),
                Reason::Untold { .. } => self.coverage.count("wait", "untold"),
                _ => {}
            }
        }
        if unfinished && follow.waits.is_empty() && follow.asks.is_empty() {
            self.broken(0, format!("service {service} is unfinished and does not say what it waits for"));
        }
        if !follow.waits.is_empty() {
            self.coverage.count("promise", "a wait had a reason");
        }
    }

    /// A batch is on disk: compares what was with what is.
    pub fn judge_commit(&mut self, changes: &[(Key, Option<Record>)]) {
        let Some(controller) = &self.controller else { return };
        let after = controller.cluster.clone();
        self.commits += 1;
        let mut found = check::of_state(&after);
        found.extend(check::of_change(&self.committed, &after));
        if self.commits.is_multiple_of(STORE_CHECKED_EVERY) {
            found.extend(check::of_store(&after, self.store.records()));
        }
        self.judge(usize::MAX, found);
        for (key, record) in changes {
            match (key, record) {
                (Key::Deployment((service, number)), Some(Record::Deployment(now))) => {
                    self.note_deployment(*service, *number, now);
                }
                (Key::Slot(_), Some(Record::Slot(now))) => self.note_slot(now),
                _ => {}
            }
        }
        self.committed = after;
    }

    fn note_deployment(&mut self, service: ServiceId, number: u32, now: &Deployment) {
        let was = self.committed.get::<Deployment>(&(service, number)).cloned();
        let told = was.as_ref().map_or(0, |was| was.reached.len());
        for (phase, _) in now.reached.iter().skip(told) {
            self.coverage.count("deployment", phase.word());
            if *phase == DeploymentPhase::Superseded {
                self.coverage.count("promise", "3 a deployment superseded an unfinished one");
            }
        }
        if was.is_none_or(|was| was.failure.is_none()) {
            match &now.failure {
                Some(DeploymentFailure::Values { .. }) => self.coverage.count("failure", "values not bound"),
                Some(DeploymentFailure::Release { .. }) => self.coverage.count("failure", "release command"),
                Some(DeploymentFailure::Image { .. }) => self.coverage.count("failure", "image not resolved"),
                Some(DeploymentFailure::Job { failure, .. }) => {
                    self.coverage.count("failure", failure_word(failure));
                }
                Some(DeploymentFailure::Cancelled { .. }) => self.coverage.count("failure", "cancelled"),
                None => {}
            }
        }
    }

    /// Invariant 6, and that nothing begins on a node that nobody has heard of for a lease.
    fn note_slot(&mut self, now: &Slot) {
        let was = self.committed.get::<Slot>(&now.id).cloned();
        let came = now.job.is_some() && was.as_ref().is_none_or(|was| was.node != now.node || was.job.is_none());
        if !came {
            return;
        }
        self.coverage.count("promise", "6 a job was placed");
        self.alone.came.insert(now.id.clone(), (now.node, self.at));
        if let Some(was) = &was {
            self.judge_move(was, now);
        }
        self.judge_fill(was.as_ref(), now);
        let silent = |node| self.heard.get(&node).is_none_or(|heard| self.at - heard > LEASE + 1_100);
        if was.as_ref().is_some_and(|was| was.node != now.node && silent(was.node)) {
            self.coverage.count("promise", "6 a slot left a lost node");
        }
        // A slot may get another job where it is though its node is silent: the node is told when it is back.
        if was.is_none_or(|was| was.node != now.node) && silent(now.node) {
            let name = self.committed.get::<Node>(&now.node).map(|node| node.name.clone()).unwrap_or_default();
            self.broken(6, format!("a job of {} came to {name}, which is lost", now.id));
        }
    }
}

impl World {
    /// Invariant 10: a slot leaves a node of its environment that fits only when the controller has listened for a whole lease and
    /// not heard of it. What it did not hear while it was away counts for nothing.
    fn judge_move(&mut self, was: &Slot, now: &Slot) {
        let Some(service) = self.committed.get::<Service>(&now.id.service) else { return };
        let allotment = (service.environment, was.node);
        let allotted = self.committed.get::<Allotment>(&allotment).is_some();
        let was_lost_before = self.lost_before.contains(&was.node);
        let listened = self.at.saturating_sub(self.listens_since);
        let moved = was.job.is_some() && was.node != now.node && allotted;
        let unmet = moved && self.does_not_fit(was, now);
        if unmet {
            self.coverage.count("promise", "6 a slot left a node that it does not fit");
        }
        if moved && !unmet && !was_lost_before && listened < WHOLE_LEASE {
            let broken = format!("{} left its node though the controller has listened for {listened} ms only", now.id);
            self.broken(10, broken);
        }
        let wants = now.job.and_then(|job| self.committed.get::<Revision>(&(now.id.service, job.revision)));
        let had = was.job.and_then(|job| self.committed.get::<Revision>(&(now.id.service, job.revision)));
        let alone = self.is_to_be_alone(now);
        let is_there = self.committed.get::<Node>(&was.node).is_some() && !was_lost_before;
        let is_heard = self.heard.get(&was.node).is_some_and(|heard| self.at - heard < WHOLE_LEASE);
        let last_heard = self.heard.get(&was.node).copied().unwrap_or(0).max(self.listens_since);
        // It may have been taken away in the same batch.
        let still_has_it = |controller: &Controller| controller.cluster.get::<Allotment>(&allotment).is_some();
        let still_has_it = self.controller.as_ref().is_some_and(still_has_it);
        // In the same batch it may have been given back what it had before.
        let replace_after = wants.into_iter().chain(had).map(|revision| revision.spec.replace_after.0).min();
        let time_to_return = WHOLE_LEASE + replace_after.unwrap_or(0);
        if moved && alone && is_there && still_has_it && self.at.saturating_sub(last_heard) < time_to_return {
            self.broken(9, format!("{} starts on another node before the one that it leaves had its time", now.id));
        }
        if was.node != now.node && alone && is_there && is_heard && was.job.is_some() {
            self.broken(9, format!("{} starts on another node before the one that it leaves has ended it", now.id));
        }
    }

    /// Whether the node that a slot leaves is not what its new job asks for.
    fn does_not_fit(&self, was: &Slot, now: &Slot) -> bool {
        let Some(Controller { cluster, .. }) = &self.controller else { return false };
        let wants = now.job.and_then(|job| cluster.get::<Revision>(&(now.id.service, job.revision)));
        wants.zip(cluster.get::<Node>(&was.node)).is_some_and(|(wants, node)| {
            wants.spec.constraints.iter().any(|it| it.why_not(&node.architecture, &node.labels).is_some())
        })
    }

    /// Invariant 9: a slot that is to be alone comes to a node only when nothing of it runs on the one that it leaves or on another
    /// one of its environment, if that is heard, whatever anybody has written down of what runs there.
    fn judge_fill(&mut self, was: Option<&Slot>, now: &Slot) {
        if !self.is_to_be_alone(now) {
            return;
        }
        let counts = |node: NodeId| {
            let is_heard = self.heard.get(&node).is_some_and(|heard| self.at - heard < WHOLE_LEASE);
            let is_left = was.is_some_and(|was| was.node == node) && self.committed.get::<Node>(&node).is_some();
            let may_have = node != now.node && (is_left || self.is_of_slot(node, &now.id));
            may_have && is_heard && !self.lost_before.contains(&node)
        };
        let in_slot = |machine: &Machine| {
            let mut there = machine.engine.of_slot(&now.id, machine.node);
            there.next().filter(|_| machine.node.is_some_and(counts)).map(|(attempt, _)| *attempt)
        };
        let runs = self.machines.iter().find_map(in_slot);
        if let Some(attempt) = runs {
            self.broken(9, format!("{} comes to another node while {attempt:?} runs", now.id));
        }
    }

    fn is_to_be_alone(&self, slot: &Slot) -> bool {
        let wants = slot.job.and_then(|job| self.committed.get::<Revision>(&(slot.id.service, job.revision)));
        wants.is_some_and(|revision| revision.spec.deploy.strategy == Strategy::Recreate)
    }
}

fn open_connections(proxies: &BTreeMap<u32, crate::proxy::Proxy>, life: u64) -> u32 {
    proxies.values().flat_map(|proxy| &proxy.open).filter(|((_, of), _)| *of == life).map(|(_, open)| open).sum()
}

fn is_cut_off(seen: &Seen, now: Tick) -> bool {
    now.0 >= seen.lease_ends.map_or(seen.agent_started.0 + LEASE, |ends| ends.0)
}

fn is_bad(ledger: &Ledger, job: JobId) -> bool {
    ledger.jobs.get(&job).is_some_and(|job| job.phase == JobPhase::Running && job.failure.is_some() && !job.was_good)
}

fn failure_word(failure: &Failure) -> &'static str {
    match failure {
        Failure::CannotPull { .. } => "cannot-pull",
        Failure::CannotStart { .. } => "cannot-start",
        Failure::Exited { .. } => "exited",
        Failure::OutOfMemory { .. } => "out-of-memory",
        Failure::CheckFailed { .. } => "check-failed",
        Failure::NotReadyInTime { .. } => "not-ready-in-time",
        Failure::NoRoom { .. } => "no-room",
        Failure::NotReleased { .. } => "not-released",
        Failure::TimedOut { .. } => "timed-out",
        Failure::Superseded => "superseded",
    }
}
