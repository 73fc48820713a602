//! Liveness: once nothing breaks any more, everything comes to its end.

use crate::event::MachineNumber;
use crate::images::Behaviour;
use crate::world::World;
use lapstrake_core::cluster::state::{DeploymentPhase, Node, OneOff, Revision, Service, Slot, SlotOutcome, Wanted};
use lapstrake_core::ids::JobId;
use lapstrake_core::reason::Reason;
use lapstrake_core::report::Failure;

/// After the last fault: the longest back-off, the longest time-out of a question about an image, and some replacements
/// one after the other.
const SETTLES_WITHIN: u64 = 300_000;

impl World {
    /// Ends the run when everything is as it shall be, or when it has taken too long.
    pub fn look_whether_settled(&mut self) {
        if !self.somebody_waits() {
            // Somebody may have removed a node with the last thing that was asked.
            for machine in 0..self.machines.len() {
                self.joins_again(machine);
            }
        }
        match self.unsettled() {
            None => {
                // Whoever runs without being wanted is an orphan, which was looked for.
                if self.committed.all::<Service>().any(|service| service.wanted.pause().is_some()) {
                    self.coverage.count("promise", "6 a paused service has nothing that runs");
                }
                self.trace.line(self.at, format_args!("settled"));
                self.done = true;
            }
            Some(why) if self.at > self.calm_at + SETTLES_WITHIN => {
                self.broken(0, format!("{} s after the last fault: {why}", SETTLES_WITHIN / 1_000));
            }
            Some(_) => self.queue.push(self.at + 1_000, crate::event::Event::Settled),
        }
    }

    /// What is not as it shall be.
    fn unsettled(&self) -> Option<String> {
        if self.somebody_waits() {
            return Some("somebody waits for an answer".into());
        }
        let Some(_) = &self.controller else { return Some("the controller is down".into()) };
        let machines = (0..self.machines.len()).find_map(|number| self.unsettled_machine(number));
        machines.or_else(|| self.committed.all::<Service>().find_map(|service| self.unsettled_service(service)))
    }

    fn unsettled_machine(&self, number: MachineNumber) -> Option<String> {
        let machine = &self.machines[number];
        let record = machine.node.and_then(|node| self.committed.get::<Node>(&node));
        let Some(record) = record else { return Some(format!("node-{number} has not joined")) };
        let Some(agent) = &machine.agent else { return Some(format!("the agent of node-{number} is down")) };
        let held = agent.ledger.generation.map(|held| held.number);
        if held != Some(record.generation) {
            return Some(format!("node-{number} holds set {held:?} and not {}", record.generation));
        }
        let under_way = agent.ledger.replacements.iter().find(|(_, one)| !one.phase.is_final());
        if let Some((slot, one)) = under_way {
            return Some(format!("the replacement of {slot} on node-{number} is {}", one.phase.word()));
        }
        let orphan = machine.engine.containers.iter().find(|(attempt, one)| {
            let job = agent.ledger.jobs.get(&attempt.job);
            let wanted = job.and_then(|job| self.committed.get::<Slot>(&job.assignment.slot));
            let runs_once = self.committed.all::<OneOff>().any(|it| it.job == attempt.job && it.is_under_way());
            let is_its_job = runs_once || wanted.is_some_and(|slot| self.may_have(slot, attempt.job));
            one.runs() && !(is_its_job && job.is_some_and(|job| job.key() == **attempt))
        });
        orphan.map(|(attempt, _)| {
            let job = agent.ledger.jobs.get(&attempt.job);
            let slot = job.map(|job| &job.assignment.slot);
            let wanted = slot.and_then(|slot| self.committed.get::<Slot>(slot));
            let current = slot.and_then(|slot| agent.ledger.current.get(slot));
            let phase = job.map(|job| (job.attempt, job.phase, job.drain_until));
            let is_stray = agent.ledger.strays.contains_key(attempt);
            format!(
                "{attempt:?} is an orphan on node-{number}: {phase:?}, stray: {is_stray}, slot {slot:?}, current {current:?}, \
                 wanted {wanted:?}"
            )
        })
    }

    /// Whether a slot may end with this job: its own, or the one that serves on because what should have replaced it failed,
    /// or waits for a node that never comes.
    fn may_have(&self, slot: &Slot, job: JobId) -> bool {
        let own = slot.job.is_some_and(|own| own.job == job);
        let kept = matches!(&slot.outcome, Some(SlotOutcome::Failed { old, .. }) if *old == Some(job));
        let waits =
            self.committed.get::<Service>(&slot.id.service).is_some_and(|service| self.cannot_have_room(service));
        own || kept || (waits && slot.previous.iter().any(|before| before.job == job))
    }

    fn unsettled_service(&self, service: &Service) -> Option<String> {
        let path = self.committed.path_of(service);
        if service.deleting {
            return Some(format!("{path} is still being removed"));
        }
        if let Some(unfinished) = self.committed.unfinished(service) {
            if self.cannot_have_room(service) {
                return None;
            }
            let waits = self.controller.as_ref().and_then(|controller| controller.live.waits.get(&service.id));
            let waits: Vec<String> = waits.into_iter().flatten().map(ToString::to_string).collect();
            let (number, word) = (unfinished.number, unfinished.phase.word());
            return Some(format!("deployment {number} of {path} is {word}: {}", waits.join("; ")));
        }
        let last = self.committed.last_deployment(service)?;
        if last.phase == DeploymentPhase::Failed && last.failure.is_none() {
            return Some(format!("deployment {} of {path} failed and nobody knows why", last.number));
        }
        let Some(active) = service.active else {
            let left = self.committed.slots_of(service.id).count();
            return (left > 0).then(|| format!("{path} never ran and has {left} slots"));
        };
        if service.wanted.pause().is_some() {
            let left = self.committed.slots_of(service.id).count();
            return (left > 0).then(|| format!("{path} is paused and has {left} slots"));
        }
        if !matches!(service.wanted, Wanted::Running) && !self.cannot_have_room(service) {
            return Some(format!("{path} is still resuming"));
        }
        let revision = self.committed.get::<Revision>(&(service.id, active.revision))?;
        let good = Behaviour::of(revision.image.pinned()).is_good();
        let slots: Vec<&Slot> = self.committed.slots_of(service.id).collect();
        if slots.len() != active.scale as usize && !self.cannot_have_room(service) {
            return Some(format!("{path} has {} of {} slots", slots.len(), active.scale));
        }
        if self.cannot_have_room(service) {
            return None;
        }
        slots.into_iter().find_map(|slot| self.unsettled_slot(slot, active.revision, good))
    }

    /// Whether the service waits for a node that can take it, or a node has no room for a job beside its predecessor:
    /// without more machines that is so for ever, and is said.
    fn cannot_have_room(&self, service: &Service) -> bool {
        let waits = self.controller.as_ref().and_then(|controller| controller.live.waits.get(&service.id));
        let no_room =
            |slot: &Slot| matches!(&slot.outcome, Some(SlotOutcome::Failed { failure: Failure::NoRoom { .. }, .. }));
        waits.is_some_and(|waits| waits.iter().any(|wait| matches!(wait.reason, Reason::NoFittingNode { .. })))
            || self.committed.slots_of(service.id).any(no_room)
    }

    fn unsettled_slot(&self, slot: &Slot, revision: u32, good: bool) -> Option<String> {
        let id = &slot.id;
        let Some(job) = slot.job else { return Some(format!("{id} has no job")) };
        if job.revision != revision {
            return Some(format!("{id} has r{} and not r{revision}", job.revision));
        }
        let Some(machine) = self.machines.iter().find(|machine| machine.node == Some(slot.node)) else {
            return Some(format!("{id} is on a node that is gone"));
        };
        if !good {
            return None;
        }
        match machine.engine.running(job.job) {
            Some((_, one)) if one.answers(self.at) => None,
            Some(_) => Some(format!("{id} on {} does not answer", machine.config.name)),
            None => Some(format!("{id} on {} does not run; its outcome is {:?}", machine.config.name, slot.outcome)),
        }
    }
}
