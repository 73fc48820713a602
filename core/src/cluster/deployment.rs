//! The deployment's machine: one phase, one step, until it waits or has ended.
//!
//! ```text
//! Queued -> Resolving -> Preparing -> Placing -> Rolling -> Complete
//!   |          |            |            |          |
//!   +----------+------------+------------+----------+--> Reverting -> Failed | Cancelled
//! any of these -> Superseded, by a newer one
//! ```
//!
//! Guarantees: until Rolling no slot was changed, but for those that a predecessor has left with nobody: they get what is
//! active. In Rolling a node gets new jobs only when the nodes before it have settled theirs, and slots that are too many are
//! emptied last, when nothing can fail any more. What Reverting gives back is what was active; it gives each slot back once,
//! so that it ends even if the old revision does not run either.

use crate::cluster::event::EventKind;
use crate::cluster::live::Live;
use crate::cluster::paths::slot_word;
use crate::cluster::reconcile::Home;
use crate::cluster::slots::fresh_job;
use crate::cluster::state::*;
use crate::cluster::trial::Round;
use crate::cluster::{Cluster, Context, Followup};
use crate::ids::{NodeId, SlotId};
use crate::placement::place_at;
use crate::policy::{DEPLOYMENTS_KEPT, REVISIONS_KEPT};
use crate::reason::Reason;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

impl Cluster {
    /// One step of the service's unfinished deployment. True if anything changed.
    pub(crate) fn step(
        &mut self,
        live: &mut Live,
        service: &Service,
        deployment: &Deployment,
        cx: &mut Context<'_>,
        follow: &mut Followup,
    ) -> bool {
        if deployment.phase == DeploymentPhase::Queued && deployment.bindings.is_none() {
            return self.bind_values(live, service, deployment, cx, follow);
        }
        match (deployment.phase, deployment.revision) {
            (DeploymentPhase::Queued, None) => self.enter(service, deployment.number, DeploymentPhase::Resolving, cx),
            (DeploymentPhase::Queued, Some(revision)) => {
                let next = self.phase_with_image(service, deployment, revision);
                self.enter(service, deployment.number, next, cx)
            }
            (DeploymentPhase::Preparing, Some(revision)) => {
                self.prepare(live, service, deployment, revision, cx, follow)
            }
            (DeploymentPhase::Resolving, _) => self.resolve(live, service, deployment, cx, follow),
            (DeploymentPhase::Placing, Some(revision)) => {
                self.place_new(live, service, deployment, revision, cx, follow)
            }
            (DeploymentPhase::Rolling, Some(revision)) => self.roll(live, service, deployment, revision, cx, follow),
            (DeploymentPhase::Reverting, _) => self.revert(live, service, deployment, cx, follow),
            // Only a broken store has a deployment without a revision there; it goes back and asks again.
            (DeploymentPhase::Preparing | DeploymentPhase::Placing | DeploymentPhase::Rolling, None) => {
                let said = "its revision is not in the store".into();
                self.fail(service, deployment.number, DeploymentFailure::Image { said }, cx)
            }
            (
                DeploymentPhase::Complete
                | DeploymentPhase::Superseded
                | DeploymentPhase::Failed
                | DeploymentPhase::Cancelled,
                _,
            ) => false,
        }
    }

    /// Moves a deployment to a phase. Always true, for `step`.
    pub(crate) fn enter(&mut self, service: &Service, number: u32, phase: DeploymentPhase, cx: &Context<'_>) -> bool {
        let mut sentence = format!("deployment {number} is {}", phase.word());
        self.edit::<Deployment>(&(service.id, number), |deployment| {
            deployment.phase = phase;
            deployment.reached.push((phase, cx.wall));
            if let Some(revision) = deployment.revision {
                sentence += &format!(", r{revision}");
            }
            if let Some(failure) = &deployment.failure {
                sentence += &format!(": {failure}");
            }
        });
        self.tell_of(cx, EventKind::Deployment, service, sentence);
        true
    }

    /// It does not work: what was changed goes back. Always true, for `step`.
    pub(crate) fn fail(
        &mut self,
        service: &Service,
        number: u32,
        failure: DeploymentFailure,
        cx: &Context<'_>,
    ) -> bool {
        self.edit::<Deployment>(&(service.id, number), |deployment| {
            deployment.failure.get_or_insert(failure);
        });
        self.enter(service, number, DeploymentPhase::Reverting, cx)
    }

    /// The revision that a deployment brings. If it is not kept any more, the deployment fails.
    pub(crate) fn kept_or_fail(
        &mut self,
        service: &Service,
        deployment: &Deployment,
        number: u32,
        cx: &Context<'_>,
    ) -> Option<Revision> {
        let kept = self.get::<Revision>(&(service.id, number)).cloned();
        if kept.is_none() {
            let said = format!("the revision r{number} is not kept any more");
            self.fail(service, deployment.number, DeploymentFailure::Image { said }, cx);
        }
        kept
    }

    /// Placing: finds a node for each slot that is not there yet, for all or for none.
    fn place_new(
        &mut self,
        live: &Live,
        service: &Service,
        deployment: &Deployment,
        number: u32,
        cx: &mut Context<'_>,
        follow: &mut Followup,
    ) -> bool {
        let Some(revision) = self.kept_or_fail(service, deployment, number, cx) else { return true };
        if let Some(failure) = self.why_it_cannot_be_placed(service, deployment, &revision) {
            return self.fail(service, deployment.number, failure, cx);
        }
        let wanted = wanted(service, deployment);
        self.begin_trial(service, deployment, number);
        if self.waits_for_moves(live, service, &wanted, &revision, cx, follow) {
            return false;
        }
        let job = &mut |cx: &mut Context<'_>| fresh_job(number, deployment, cx);
        if !self.fill(live, service, Fill { wanted: &wanted, revision: &revision, job, all: true }, cx, follow) {
            return false;
        }
        self.enter(service, deployment.number, DeploymentPhase::Rolling, cx)
    }

    /// Finds a node for each slot without a job that has not to wait for what the last one has left: for all of those or for none, and
    /// for none if `all` is asked for and any slot has to wait. False if something was missing and nothing came of it.
    pub(crate) fn fill(
        &mut self,
        live: &Live,
        service: &Service,
        fill: Fill<'_>,
        cx: &mut Context<'_>,
        follow: &mut Followup,
    ) -> bool {
        let Fill { wanted, revision, job, all } = fill;
        let is_empty = |slot: &&SlotId| self.get::<Slot>(slot).is_none_or(|slot| slot.job.is_none());
        let (mut missing, mut waits): (Vec<&SlotId>, bool) = (Vec::new(), false);
        for id in wanted.iter().filter(is_empty) {
            // Where no two jobs of a slot may be up together, the last one's end is confirmed before the next one gets a node.
            let ending = self.get::<Slot>(id).filter(|_| revision.spec.deploy.is_alone());
            if let Some(slot) = ending {
                self.wait_for_slot(live, service, slot, cx, follow);
                waits = true;
            } else if self.waits_for_leftovers(live, service, id, &revision.spec, cx, follow) {
                waits = true;
            } else {
                missing.push(id);
            }
        }
        if waits && (all || missing.is_empty()) {
            return false;
        }
        let candidates = self.candidates(live, service, Some(revision), cx);
        let homes: Vec<Option<NodeId>> = missing.iter().map(|slot| service.wanted.home_of(slot.number)).collect();
        let places = place_at(&homes, revision.demand(), candidates);
        if let Some(nodes) = places.iter().find_map(|place| place.as_ref().err()) {
            let environment = self.environment_path(service.environment);
            follow.wait(self.path_of(service), Reason::NoFittingNode { environment, nodes: nodes.clone() });
            return false;
        }
        for (slot, node) in missing.into_iter().zip(places.into_iter().flatten()) {
            let job = job(cx);
            self.give(slot, node, Some(job));
        }
        true
    }

    /// Why a deployment fails before it has begun, whatever nodes there are.
    pub(crate) fn why_it_cannot_be_placed(
        &self,
        service: &Service,
        deployment: &Deployment,
        revision: &Revision,
    ) -> Option<DeploymentFailure> {
        let image = self.without_image(service, deployment, revision).map(|said| DeploymentFailure::Image { said });
        image.or_else(|| {
            let said = self.outgrows_its_nodes(service, deployment, revision, &wanted(service, deployment))?;
            Some(DeploymentFailure::Values { said })
        })
    }

    /// A slot keeps its node; one that does not hold an image that comes from nowhere else cannot go on.
    fn without_image(&self, service: &Service, deployment: &Deployment, revision: &Revision) -> Option<String> {
        let wanted = wanted(service, deployment);
        let slot = self.slots_of(service.id).find(|slot| {
            let stays = slot.job.is_some_and(|job| !self.is_new(&job, deployment, revision.number))
                && self.unmet(revision, slot.node).is_none();
            stays && wanted.contains(&slot.id) && !revision.holders.is_empty() && !revision.holders.contains(&slot.node)
        })?;
        let (word, node) = (slot_word(&slot.id), self.node_name(slot.node));
        Some(format!(
            "{word} is on {node}, which does not hold the image {}; load it there and deploy again",
            revision.image.reference()
        ))
    }

    /// Rolling: one node after the other, then the slots that are too many, then it is complete.
    fn roll(
        &mut self,
        live: &mut Live,
        service: &Service,
        deployment: &Deployment,
        revision: u32,
        cx: &mut Context<'_>,
        follow: &mut Followup,
    ) -> bool {
        let slots: Vec<Slot> = self.slots_of(service.id).cloned().collect();
        let wanted = wanted(service, deployment);
        let (stay, surplus): (Vec<&Slot>, Vec<&Slot>) = slots.iter().partition(|slot| wanted.contains(&slot.id));
        if self.take_back(live, deployment, revision, &slots) {
            return true;
        }
        // What another deployment held back is this one's to release.
        if deployment.trial.is_none() && self.tell_traffic(&stay) {
            return true;
        }
        // A job of the same revision that was given up before this deployment gets its successor from it.
        let failed = |slot: &Slot| matches!(slot.outcome, Some(SlotOutcome::Failed { .. }));
        let begun = |slot: &Slot| {
            let of_this = |job: &SlotJob| job.deployment_number == deployment.number;
            slot.job.is_some_and(|job| self.is_new(&job, deployment, revision) && (of_this(&job) || !failed(slot)))
        };
        for slot in stay.iter().filter(|slot| begun(slot)) {
            if let Some(SlotOutcome::Failed { failure, .. }) = &slot.outcome {
                let node = self.node_name(slot.node);
                let failure = DeploymentFailure::Job { slot: slot.id.clone(), node, failure: failure.clone() };
                return self.fail(service, deployment.number, failure, cx);
            }
        }
        if let Some(trial) = deployment.trial {
            let (shown, rest) = stay.iter().copied().partition(|slot| begun(slot));
            let round = Round { service, deployment, trial, revision, shown, rest };
            return self.show(live, &round, cx, follow);
        }
        let under_way: Vec<&&Slot> = stay.iter().filter(|slot| begun(slot) && slot.outcome.is_none()).collect();
        // A slot that is too many has failed, and the agent tries no other of that deployment: neither will these.
        if let Some(failure) = under_way.iter().find_map(|slot| self.held_back_by(live, slot)) {
            return self.fail(service, deployment.number, failure, cx);
        }
        for slot in &under_way {
            self.wait_for_slot(live, service, slot, cx, follow);
        }
        let (unheard, unbegun): (Vec<&Slot>, Vec<&Slot>) =
            stay.iter().filter(|slot| !begun(slot)).partition(|slot| live.is_untold(slot));
        for slot in &unheard {
            self.wait_for_slot(live, service, slot, cx, follow);
        }
        let mut later: BTreeMap<NodeId, Vec<&Slot>> = BTreeMap::new();
        for slot in unbegun {
            later.entry(slot.node).or_default().push(slot);
        }
        if let Some(first) = under_way.first() {
            let node = self.node_name(first.node);
            for slot in later.values().flatten() {
                follow.wait_slot(self.path_of(service), &slot.id, Reason::OtherNodeFirst { node: node.clone() });
            }
            return false;
        }
        // A slot whose node is not its environment's any more gets its new job where it moves to.
        let home = |node: NodeId| self.is_allotted(service.environment, node);
        let record = self.get::<Revision>(&(service.id, revision)).cloned();
        // One that had to end on its old node before it starts on the next.
        let left: Vec<SlotId> = wanted.iter().filter(|id| self.get::<Slot>(id).is_none()).cloned().collect();
        if let (Some(record), false) = (&record, left.is_empty()) {
            let job = &mut |cx: &mut Context<'_>| fresh_job(revision, deployment, cx);
            return self.fill(live, service, Fill { wanted: &left, revision: record, job, all: false }, cx, follow);
        }
        let fits = |node: NodeId| record.as_ref().is_none_or(|record| self.unmet(record, node).is_none());
        let ready = |node: &NodeId| home(*node) && fits(*node) && live.is_reachable(*node, cx.tick);
        if let Some(node) = later.keys().copied().find(ready) {
            for slot in later.remove(&node).unwrap_or_default() {
                let job = fresh_job(revision, deployment, cx);
                self.give(&slot.id, node, Some(job));
            }
            return true;
        }
        // Those that stay where they are come first, so that they serve while the others move, one at a time. Where no second
        // job of the slot may be up, a node that is lost has its time to come back before another one gets it.
        let is_instead = record.as_ref().is_some_and(|record| record.spec.deploy.is_alone());
        let is_waited_for = |slot: &Slot| is_instead && matches!(self.home(live, service, slot, cx), Home::LeavesAt(_));
        let moves = |slot: &&&Slot| slot.job.is_some() && home(slot.node) && !fits(slot.node) && !is_waited_for(slot);
        let moving = later.values().flatten().find(moves).map(|slot| (*slot).clone());
        if let (Some(slot), Some(record)) = (moving, record) {
            let job = fresh_job(revision, deployment, cx);
            return self.move_to_fit(live, service, &slot, job, &record, cx, follow);
        }
        for slot in later.values().flatten().filter(|slot| home(slot.node)) {
            self.wait_for_slot(live, service, slot, cx, follow);
        }
        if !later.is_empty() || !unheard.is_empty() {
            return false;
        }
        self.empty(live, service, &surplus, cx, follow)
            || (surplus.is_empty() && self.complete(service, deployment, revision, cx))
    }

    /// Empties slots. True if that changed anything; they are gone when their nodes have said so.
    pub(crate) fn empty(
        &mut self,
        live: &Live,
        service: &Service,
        slots: &[&Slot],
        cx: &Context<'_>,
        follow: &mut Followup,
    ) -> bool {
        let mut changed = false;
        for slot in slots {
            if slot.job.is_some() {
                self.give(&slot.id, slot.node, None);
                changed = true;
            } else {
                self.wait_for_slot(live, service, slot, cx, follow);
            }
        }
        changed
    }

    fn complete(&mut self, service: &Service, deployment: &Deployment, revision: u32, cx: &Context<'_>) -> bool {
        let active = Active {
            revision,
            scale: deployment.spec.scale,
            deployment: deployment.id,
            deployment_number: deployment.number,
        };
        self.edit::<Service>(&service.id, |service| {
            service.active = Some(active);
            service.unfinished = None;
        });
        self.edit::<Revision>(&(service.id, revision), |revision| revision.completed = true);
        self.enter(service, deployment.number, DeploymentPhase::Complete, cx);
        self.prune(service);
        true
    }

    /// The end of a deployment that did not work, or was not to. Always true, for `step`.
    pub(crate) fn end_failed(&mut self, service: &Service, deployment: &Deployment, cx: &Context<'_>) -> bool {
        self.edit::<Service>(&service.id, |service| service.unfinished = None);
        let end = match deployment.failure {
            Some(DeploymentFailure::Cancelled { .. }) => DeploymentPhase::Cancelled,
            Some(_) | None => DeploymentPhase::Failed,
        };
        self.enter(service, deployment.number, end, cx);
        self.prune(service);
        true
    }

    /// Whether a job is what the deployment wants in a slot: its revision with its values, and young enough.
    pub(crate) fn is_new(&self, job: &SlotJob, deployment: &Deployment, revision: u32) -> bool {
        let has = self.bindings_of(deployment.service, job.bound_by);
        job.revision == revision
            && has == deployment.bindings.as_deref().unwrap_or_default()
            && deployment.renew_from.is_none_or(|from| job.deployment_number >= from)
    }

    /// Forgets deployments and revisions that nobody needs: a limit on everything.
    fn prune(&mut self, service: &Service) {
        let Some(service) = self.get::<Service>(&service.id).cloned() else { return };
        let oldest = service.last_deployment.saturating_sub(DEPLOYMENTS_KEPT);
        // A job's values are found by way of its deployment.
        let mut bound: BTreeSet<u32> = service.active.iter().map(|active| active.deployment_number).collect();
        for slot in self.slots_of(service.id) {
            bound.extend(slot.job.iter().chain(&slot.previous).map(|job| job.bound_by));
        }
        bound.extend(self.one_offs_of(service.id).map(|one| one.bound_by));
        let is_old = |it: &u32| *it <= oldest && !bound.contains(it);
        let old: Vec<u32> = self.deployments_of(service.id).map(|it| it.number).filter(is_old).collect();
        for number in old {
            self.remove::<Deployment>((service.id, number));
        }
        self.tidy_values(service.id);
        let mut used: BTreeSet<u32> = service.active.iter().map(|active| active.revision).collect();
        for slot in self.slots_of(service.id) {
            used.extend(slot.job.iter().chain(&slot.previous).map(|job| job.revision));
        }
        used.extend(self.one_offs_of(service.id).map(|one| one.revision));
        let oldest = service.last_revision.saturating_sub(REVISIONS_KEPT);
        let old: Vec<u32> = self.revisions_of(service.id).map(|it| it.number).collect();
        for number in old.into_iter().filter(|it| *it <= oldest && !used.contains(it)) {
            self.remove::<Revision>((service.id, number));
        }
    }
}

/// Slots that shall have jobs.
pub(crate) struct Fill<'a> {
    /// Which; those that have one keep it.
    pub wanted: &'a [SlotId],
    /// What the jobs run.
    pub revision: &'a Revision,
    /// Makes one.
    pub job: &'a mut dyn FnMut(&mut Context<'_>) -> SlotJob,
    /// None gets one while any of them has to wait.
    pub all: bool,
}

/// The slots that a deployment wants.
pub(crate) fn wanted(service: &Service, deployment: &Deployment) -> Vec<SlotId> {
    slots_up_to(service, deployment.spec.target(), deployment.spec.scale)
}

/// The slots from 1 up to a scale.
pub(crate) fn slots_up_to(service: &Service, target: &str, scale: u32) -> Vec<SlotId> {
    (1..=scale).map(|number| SlotId { service: service.id, target: target.into(), number }).collect()
}
