//! Deployments that show themselves before they take over: `blue-green` and `canary`.
//!
//! Their jobs get ready beside the old ones and wait; what traffic they get meanwhile is said in their assignments. When
//! every job that a step wants is ready on every node, a blue-green deployment is released at once, a canary when the step's
//! time is over or somebody says so. Once it is released, what is left goes on as a rolling deployment does.
//!
//! Nothing is shown of a first deployment (nobody serves, so nobody is spared by waiting), of one that replaces no job, and
//! of slots that have to move: their old job ends when the node that they leave hears of it.

use crate::assignment::{ServicePath, Traffic};
use crate::cluster::command::{Answer, Outcome, Refusal};
use crate::cluster::deployment::wanted;
use crate::cluster::event::EventKind;
use crate::cluster::live::Live;
use crate::cluster::slots::fresh_job;
use crate::cluster::state::*;
use crate::cluster::{Cluster, Context, Followup};
use crate::ids::{DeploymentId, NodeId, ServiceId, SlotId};
use crate::reason::Reason;
use crate::report::{Failure, Health, NodeReport, ReplacementPhase, ReplacementReport};
use crate::spec::{CanaryStep, Strategy};
use crate::time::earlier;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;

/// What an operator does to a deployment under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steer {
    /// Ends it: the service goes back to what was active.
    Cancel,
    /// A canary stays at its step until it is released.
    Hold,
    /// A canary goes to its next step.
    Release,
    /// A canary gets all of the traffic.
    ReleaseAll,
}

impl Steer {
    /// The word for people.
    pub const fn word(self) -> &'static str {
        match self {
            Steer::Cancel => "cancel",
            Steer::Hold => "hold",
            Steer::Release => "release",
            Steer::ReleaseAll => "release --all",
        }
    }
}

/// One look at a deployment that shows itself.
pub(crate) struct Round<'a> {
    /// Whose.
    pub service: &'a Service,
    /// Which.
    pub deployment: &'a Deployment,
    /// How far it is.
    pub trial: Trial,
    /// What it shows.
    pub revision: u32,
    /// The slots that have its jobs.
    pub shown: Vec<&'a Slot>,
    /// The other slots that it wants.
    pub rest: Vec<&'a Slot>,
}

impl Round<'_> {
    fn step(&self) -> Option<CanaryStep> {
        step(self.deployment, self.trial)
    }
}

impl Cluster {
    /// What a job of a slot may have of the traffic: the deployment under way says it of all jobs that it wants, also of those
    /// that an earlier one has begun.
    pub(crate) fn traffic_of(&self, slot: &SlotId, job: &SlotJob) -> Traffic {
        let deployment = self.get::<Service>(&slot.service).and_then(|service| self.unfinished(service));
        let Some((deployment, trial)) = deployment.and_then(|it| Some((it, it.trial?))) else { return Traffic::Full };
        let goes_forward = matches!(deployment.phase, DeploymentPhase::Placing | DeploymentPhase::Rolling);
        let is_shown = deployment.revision.is_some_and(|revision| self.is_new(job, deployment, revision));
        if !goes_forward || !is_shown {
            return Traffic::Full;
        }
        step(deployment, trial).map_or(Traffic::Held, |step| Traffic::Share(step.weight))
    }

    /// Before the first job of a deployment is given away: whether it is to be held back.
    pub(crate) fn begin_trial(&mut self, service: &Service, deployment: &Deployment, revision: u32) {
        let shows = match deployment.spec.deploy.strategy {
            Strategy::Rolling | Strategy::Recreate => false,
            Strategy::BlueGreen | Strategy::Canary => true,
        };
        let wanted = wanted(service, deployment);
        // A new job that waits has replaced nobody yet.
        let waits = |slot: &Slot| slot.traffic != Traffic::Full && slot.outcome.is_none();
        let replaces = self.slots_of(service.id).any(|slot| {
            let is_old = slot.job.is_some_and(|job| !self.is_new(&job, deployment, revision));
            wanted.contains(&slot.id) && (is_old || waits(slot))
        });
        let shows_itself = shows && replaces && service.active.is_some();
        let trial = if shows_itself { self.trial_so_far(deployment, revision) } else { None };
        if trial != deployment.trial {
            self.edit::<Deployment>(&(service.id, deployment.number), |deployment| deployment.trial = trial);
        }
    }

    /// Where a deployment begins to show itself: at its first step, or, if it only wants another number of the jobs that are being
    /// shown already, where those are, held if they are held, and nowhere if they were released.
    fn trial_so_far(&self, deployment: &Deployment, revision: u32) -> Option<Trial> {
        let mut older = self.goes_on_with(deployment, revision);
        let shown = older.find(|older| older.has_reached(DeploymentPhase::Rolling));
        shown.map_or(Some(Trial::default()), |older| older.trial)
    }

    /// A node has lost its ledger. It knows its containers again by the set that it is sent, and of the two jobs of a slot a set
    /// names one: that has to be the one that serves. What waited beside it is shown anew when the node has said that it has it.
    pub(crate) fn lead_back(&mut self, live: &mut Live, node: NodeId) {
        let runs = |slot: &&Slot| {
            let service = self.get::<Service>(&slot.id.service);
            slot.job.is_some() && service.is_some_and(|it| !it.deleting && it.wanted.pause().is_none())
        };
        let slots: Vec<Slot> = self.slots_on(node).filter(runs).cloned().collect();
        for slot in slots {
            let waits = slot.traffic != Traffic::Full && slot.outcome.is_none();
            if let Some(old) = self.beside(live, &slot).filter(|_| waits) {
                self.give_back(&slot, Some(old));
            }
            live.untold.insert((node, slot.id));
        }
    }

    /// A node has a set, and says nothing of some of its slots: it lost its ledger earlier, and has not seen its containers since,
    /// or it has not had that set. Which of a slot's jobs runs there is known once it says something of the slot.
    pub(crate) fn mark_untold(&self, live: &mut Live, node: NodeId, report: &NodeReport) {
        let is_told = |slot: &SlotId| {
            report.jobs.iter().any(|it| it.slot == *slot) || report.replacements.iter().any(|it| it.slot == *slot)
        };
        let untold = self.slots_on(node).filter(|slot| slot.job.is_some() && !is_told(&slot.id));
        live.untold.extend(untold.map(|slot| (node, slot.id.clone())));
    }

    /// What a node says of its slots it knows. So it does of those that it holds back because it has failed beside them: an agent
    /// looks for what it has of them before it begins with any. And of those whose job it names as a container that it has, by a set
    /// that wants the job: had its engine told how that container is, it would have taken it over. Nobody knows how long the engine
    /// keeps silent about one, so that is not waited for; the agent ends it when it can, and starts nothing beside it that is to be
    /// alone. Of a slot that has left its node, whichever that was, nothing is waited for there any more.
    pub(crate) fn unmark_told(&self, live: &mut Live, node: NodeId, report: &NodeReport) {
        if live.untold.is_empty() {
            return;
        }
        let told = report.jobs.iter().map(|it| &it.slot).chain(report.replacements.iter().map(|it| &it.slot));
        let told: BTreeSet<&SlotId> = told.collect();
        let failed =
            |it: &&ReplacementReport| it.phase.is_final() && !matches!(it.failure, Some(Failure::Superseded) | None);
        let failed: BTreeSet<(ServiceId, DeploymentId)> =
            report.replacements.iter().filter(failed).map(|it| (it.slot.service, it.deployment)).collect();
        let is_held_back = |slot: &Slot| {
            let of = slot.job.map(|job| (slot.id.service, job.deployment));
            of.is_some_and(|of| failed.contains(&of)) && self.is_acknowledged(live, slot)
        };
        let is_left = |slot: &Slot| {
            let is_there = slot.job.is_some_and(|job| report.cannot_tell_of(&slot.id, job.job));
            is_there && self.is_acknowledged(live, slot)
        };
        let is_known = |slot: &Slot| told.contains(&slot.id) || is_held_back(slot) || is_left(slot);
        let is_untold = |(of, id): &(NodeId, SlotId)| {
            let slot = self.get::<Slot>(id).filter(|slot| slot.node == *of);
            slot.is_some_and(|slot| *of != node || !is_known(slot))
        };
        live.untold = live.untold.iter().filter(|it| is_untold(it)).cloned().collect();
    }

    /// What an earlier deployment had shown and this one does not want goes at once: its slots get back the jobs that it was
    /// beside. True if anything changed.
    pub(crate) fn take_back(&mut self, live: &Live, deployment: &Deployment, revision: u32, slots: &[Slot]) -> bool {
        let stale = |slot: &&Slot| slot.job.is_some_and(|job| !self.is_new(&job, deployment, revision));
        let stale: Vec<&Slot> = slots.iter().filter(|slot| slot.traffic != Traffic::Full).filter(stale).collect();
        for slot in &stale {
            self.give_back(slot, self.beside(live, slot));
        }
        !stale.is_empty()
    }

    /// The job beside which a slot's job waits: the one that its node says has the slot, else what is active, else the newest
    /// of the earlier ones.
    pub(crate) fn beside(&self, live: &Live, slot: &Slot) -> Option<SlotJob> {
        let waits = slot.job.map(|job| job.job);
        let told = live.report(slot.node).into_iter().flat_map(|report| &report.replacements);
        let told = told.filter(|it| it.slot == slot.id && it.new == waits).find_map(|it| it.old);
        let active = self.get::<Service>(&slot.id.service).and_then(|service| service.active);
        let is_active = |it: &&SlotJob| active.is_some_and(|active| it.revision == active.revision);
        let has_it = slot.previous.iter().find(|it| Some(it.job) == told);
        has_it.or_else(|| slot.previous.iter().find(is_active)).or(slot.previous.first()).copied()
    }

    /// One round of showing: as many jobs as the step wants, until all are ready; then the next step, or the release. True if
    /// anything changed.
    pub(crate) fn show(
        &mut self,
        live: &mut Live,
        round: &Round<'_>,
        cx: &mut Context<'_>,
        follow: &mut Followup,
    ) -> bool {
        let Round { service, deployment, revision, ref shown, ref rest, .. } = *round;
        if self.tell_traffic(shown) {
            return true;
        }
        let record = self.get::<Revision>(&(service.id, revision)).cloned();
        let stays = |cluster: &Cluster, slot: &Slot| {
            let fits = record.as_ref().is_none_or(|record| cluster.unmet(record, slot.node).is_none());
            cluster.is_allotted(service.environment, slot.node) && fits
        };
        let step = round.step();
        let mut per_node: BTreeMap<NodeId, (u32, Vec<&Slot>)> = BTreeMap::new();
        for slot in shown {
            per_node.entry(slot.node).or_default().0 += 1;
        }
        for slot in rest.iter().filter(|slot| stays(self, slot)) {
            per_node.entry(slot.node).or_default().1.push(slot);
        }
        let (mut changed, mut waits) = (false, false);
        for (node, (begun, mut rest)) in per_node {
            rest.sort_by_key(|slot| live.is_untold(slot));
            let all = begun + rest.len() as u32;
            let due = step.map_or(all, |step| slots_at(step.weight, all)).saturating_sub(begun);
            for slot in rest.into_iter().take(due as usize) {
                if live.is_reachable(node, cx.tick) && !live.is_untold(slot) {
                    let job = fresh_job(revision, deployment, cx);
                    self.give(&slot.id, node, Some(job));
                    changed = true;
                } else {
                    self.wait_for_slot(live, service, slot, cx, follow);
                    waits = true;
                }
            }
        }
        if changed {
            return true;
        }
        if let Some(failure) = shown.iter().find_map(|slot| self.held_back_by(live, slot)) {
            return self.fail(service, deployment.number, failure, cx);
        }
        for slot in shown {
            waits |= self.waits_to_be_shown(live, round, slot, cx, follow);
        }
        if waits {
            return false;
        }
        // Where every slot has to move there is nothing to show.
        let Some(step) = step.filter(|_| !shown.is_empty()) else {
            return self.give_traffic(service, deployment.number, None, cx);
        };
        self.stay_at(step, live, round, cx, follow)
    }

    /// Every job of the step is ready: how long it lasts from now on.
    fn stay_at(
        &mut self,
        step: CanaryStep,
        live: &mut Live,
        round: &Round<'_>,
        cx: &mut Context<'_>,
        follow: &mut Followup,
    ) -> bool {
        let Round { service, deployment, trial, .. } = *round;
        let known =
            live.steps.get(&service.id).filter(|(number, at, _)| (*number, *at) == (deployment.number, trial.step));
        let since = known.map_or(cx.tick, |(.., since)| *since);
        live.steps.insert(service.id, (deployment.number, trial.step, since));
        let ends = step.hold.filter(|_| !trial.held).map(|hold| since + hold);
        if ends.is_some_and(|ends| cx.tick >= ends) {
            return self.give_traffic(service, deployment.number, next_step(deployment, trial), cx);
        }
        follow.wake = earlier(follow.wake, ends);
        let left = ends.map(|ends| ends.since(cx.tick));
        let steps = deployment.spec.deploy.steps.len() as u32;
        follow.wait(
            self.path_of(service),
            Reason::CanaryStep { step: trial.step + 1, steps, weight: step.weight, left, held: trial.held },
        );
        false
    }

    /// To the next step, or, without one, all of the traffic. Always true, for `step`.
    fn give_traffic(&mut self, service: &Service, number: u32, to: Option<Trial>, cx: &mut Context<'_>) -> bool {
        self.edit::<Deployment>(&(service.id, number), |deployment| deployment.trial = to);
        let slots: Vec<Slot> = self.slots_of(service.id).cloned().collect();
        self.tell_traffic(&slots.iter().collect::<Vec<_>>());
        let deployment = self.get::<Deployment>(&(service.id, number));
        let weight = to.and_then(|trial| step(deployment?, trial)).map(|step| step.weight);
        let sentence = match weight {
            Some(weight) => format!("deployment {number} gets {weight} % of the requests"),
            None => format!("deployment {number} gets all of the requests"),
        };
        self.tell_of(cx, EventKind::Deployment, service, sentence);
        true
    }

    /// Whether a slot's job has still to get ready or well: it waits there beside another one, or has the slot, and is healthy, by
    /// a picture that knows what was said of it last, from a node that is there to say otherwise. How those are that had their
    /// slots before the deployment came says nothing of it.
    fn waits_to_be_shown(
        &self,
        live: &Live,
        round: &Round<'_>,
        slot: &Slot,
        cx: &Context<'_>,
        follow: &mut Followup,
    ) -> bool {
        let (Some(new), Round { service, deployment, .. }) = (slot.job, round) else { return false };
        let is_settled = slot.outcome == Some(SlotOutcome::Settled);
        if is_settled && slot.traffic == Traffic::Full && new.deployment_number != deployment.number {
            return false;
        }
        let report = live.report(slot.node).filter(|_| live.is_reachable(slot.node, cx.tick));
        let report = report.filter(|_| self.is_acknowledged(live, slot));
        let is_ready = |it: &ReplacementReport| {
            it.slot == slot.id && it.new == Some(new.job) && it.phase == ReplacementPhase::Ready
        };
        let told = report.filter(|report| is_settled || report.replacements.iter().any(is_ready));
        let told = told.and_then(|report| report.jobs.iter().find(|told| told.job == new.job));
        match told {
            Some(told) if told.health == Health::Healthy => return false,
            Some(told) => {
                let (node, is_known) = (self.node_name(slot.node), told.health != Health::Unknown);
                let reason = Reason::NotHealthy { node, is_known, failure: told.failure.clone() };
                follow.wait_slot(self.path_of(service), &slot.id, reason);
            }
            None => self.wait_for_slot(live, service, slot, cx, follow),
        }
        true
    }

    /// What an operator does to the deployment under way.
    pub(crate) fn steer(
        &mut self,
        path: &ServicePath,
        number: u32,
        how: Steer,
        cx: &mut Context<'_>,
    ) -> Result<Outcome, Refusal> {
        let service = self.service_at(path)?.clone();
        let done = |answer| Ok(Outcome { answer, warnings: Vec::new(), touched: [service.id].into() });
        let Some(deployment) = self.get::<Deployment>(&(service.id, number)).cloned() else {
            return Err(Refusal::not_found(format!("{path} has no deployment {number}"))
                .hint("`lap deployments` lists those that are kept"));
        };
        if deployment.phase.is_final() {
            let word = deployment.phase.word();
            return Err(Refusal::conflict(format!("deployment {number} of {path} is {word} already"))
                .hint("`lap rollback` goes back to the revision before"));
        }
        if deployment.phase == DeploymentPhase::Reverting {
            return Err(Refusal::conflict(format!("deployment {number} of {path} is going back already")));
        }
        if how == Steer::Cancel {
            let failure = DeploymentFailure::Cancelled { by: cx.by() };
            self.fail(&service, number, failure, cx);
            return done(Answer::Recorded);
        }
        // Before that there is nothing to hold or to release, and its first job begins it anew.
        let shown = deployment.trial.filter(|_| deployment.phase == DeploymentPhase::Rolling);
        let trial = shown.filter(|trial| step(&deployment, *trial).is_some()).ok_or_else(|| {
            Refusal::conflict(format!("deployment {number} of {path} holds nothing back"))
                .hint("only a canary is held and released, from its first step to its last")
        })?;
        match how {
            Steer::Cancel => {}
            Steer::Hold if trial.held => return done(Answer::Unchanged),
            Steer::Hold => {
                let held = Some(Trial { held: true, ..trial });
                self.edit::<Deployment>(&(service.id, number), |deployment| deployment.trial = held);
                let sentence = format!("{} holds deployment {number} at its step {}", cx.by(), trial.step + 1);
                self.tell_of(cx, EventKind::Deployment, &service, sentence);
            }
            Steer::Release | Steer::ReleaseAll => {
                let to = next_step(&deployment, trial).filter(|_| how == Steer::Release);
                self.give_traffic(&service, number, to, cx);
            }
        }
        done(Answer::Recorded)
    }
}

/// The step at which a canary is; none for a blue-green deployment, whose jobs get nothing until it is released.
fn step(deployment: &Deployment, trial: Trial) -> Option<CanaryStep> {
    let policy = &deployment.spec.deploy;
    match policy.strategy {
        Strategy::Canary => policy.steps.get(trial.step as usize).copied(),
        Strategy::Rolling | Strategy::Recreate | Strategy::BlueGreen => None,
    }
}

fn next_step(deployment: &Deployment, trial: Trial) -> Option<Trial> {
    let next = Trial { step: trial.step + 1, held: false };
    step(deployment, next).map(|_| next)
}

/// How many of a node's slots a step begins with: its weight of them, rounded up, so that every node that serves shows some.
const fn slots_at(weight: u32, slots: u32) -> u32 {
    (slots * weight).div_ceil(100)
}

#[cfg(test)]
mod tests {
    use super::slots_at;

    #[test]
    fn a_step_begins_with_its_weight_of_the_slots_and_with_one_at_least() {
        assert_eq!([1, 10, 50, 99].map(|weight| slots_at(weight, 4)), [1, 1, 2, 4]);
        assert_eq!(slots_at(1, 1), 1);
        assert_eq!(slots_at(50, 0), 0);
    }
}
