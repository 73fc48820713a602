//! The deployment's machine: one phase, one step, until it waits or has ended.
//!
//! ```text
//! Queued -> Resolving -> Placing -> Rolling -> Complete
//!              |            |          |
//!              +------------+----------+--> Reverting -> Failed          any of these -> Superseded, by a newer one
//! ```
//!
//! Guarantees: until Rolling no slot was changed. In Rolling a node gets new jobs only when the nodes before it have
//! settled theirs, and slots that are too many are emptied last, when nothing can fail any more. What Reverting gives
//! back is what was active; it gives each slot back once, so that it ends even if the old revision does not run either.

use crate::cluster::event::EventKind;
use crate::cluster::live::Live;
use crate::cluster::paths::slot_word;
use crate::cluster::slots::fresh_job;
use crate::cluster::state::*;
use crate::cluster::{Cluster, Context, Followup};
use crate::ids::{NodeId, SlotId};
use crate::placement::place;
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
            (DeploymentPhase::Queued, Some(_)) => self.enter(service, deployment.number, DeploymentPhase::Placing, cx),
            (DeploymentPhase::Resolving, _) => self.resolve(live, service, deployment, cx, follow),
            (DeploymentPhase::Placing, Some(revision)) => {
                self.place_new(live, service, deployment, revision, cx, follow)
            }
            (DeploymentPhase::Rolling, Some(revision)) => self.roll(live, service, deployment, revision, cx, follow),
            (DeploymentPhase::Reverting, _) => self.revert(live, service, deployment, cx, follow),
            // Only a broken store has a deployment without a revision there; it goes back and asks again.
            (DeploymentPhase::Placing | DeploymentPhase::Rolling, None) => {
                let said = "its revision is not in the store".into();
                self.fail(service, deployment.number, DeploymentFailure::Image { said }, cx)
            }
            (DeploymentPhase::Complete | DeploymentPhase::Superseded | DeploymentPhase::Failed, _) => false,
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
        self.tell_of(cx, EventKind::Deployment, service, Some(number), sentence);
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
        let Some(revision) = self.get::<Revision>(&(service.id, number)).cloned() else {
            let said = format!("the revision r{number} is not kept any more");
            return self.fail(service, deployment.number, DeploymentFailure::Image { said }, cx);
        };
        if let Some(said) = self.without_image(service, deployment, &revision) {
            return self.fail(service, deployment.number, DeploymentFailure::Image { said }, cx);
        }
        let wanted = wanted(service, deployment);
        if self.waits_for_moves(live, service, &wanted, &revision, cx, follow) {
            return false;
        }
        if !self.fill(live, service, &wanted, &revision, &mut |cx| fresh_job(number, deployment, cx), cx, follow) {
            return false;
        }
        self.enter(service, deployment.number, DeploymentPhase::Rolling, cx)
    }

    /// Finds a node for each of these slots that has no job, for all or for none. False if that has to wait.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn fill(
        &mut self,
        live: &Live,
        service: &Service,
        wanted: &[SlotId],
        revision: &Revision,
        job: &mut dyn FnMut(&mut Context<'_>) -> SlotJob,
        cx: &mut Context<'_>,
        follow: &mut Followup,
    ) -> bool {
        let empty = |slot: &&SlotId| self.get::<Slot>(slot).is_none_or(|slot| slot.job.is_none());
        let missing: Vec<&SlotId> = wanted.iter().filter(empty).collect();
        let candidates = self.candidates(live, service, Some(revision), cx);
        let places = place(missing.len(), revision.demand(), candidates);
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
        live: &Live,
        service: &Service,
        deployment: &Deployment,
        revision: u32,
        cx: &mut Context<'_>,
        follow: &mut Followup,
    ) -> bool {
        let slots: Vec<Slot> = self.slots_of(service.id).cloned().collect();
        let wanted = wanted(service, deployment);
        let (stay, surplus): (Vec<&Slot>, Vec<&Slot>) = slots.iter().partition(|slot| wanted.contains(&slot.id));
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
        let under_way: Vec<&&Slot> = stay.iter().filter(|slot| begun(slot) && slot.outcome.is_none()).collect();
        // A slot that is too many has failed, and the agent tries no other of that deployment: neither will these.
        if let Some(failure) = under_way.iter().find_map(|slot| self.held_back_by(live, slot)) {
            return self.fail(service, deployment.number, failure, cx);
        }
        for slot in &under_way {
            self.wait_for_slot(live, service, slot, cx, follow);
        }
        let mut later: BTreeMap<NodeId, Vec<&Slot>> = BTreeMap::new();
        for slot in stay.iter().filter(|slot| !begun(slot)) {
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
        let fits = |node: NodeId| record.as_ref().is_none_or(|record| self.unmet(record, node).is_none());
        let ready = |node: &NodeId| home(*node) && fits(*node) && live.is_reachable(*node, cx.tick);
        if let Some(node) = later.keys().copied().find(ready) {
            for slot in later.remove(&node).unwrap_or_default() {
                let job = fresh_job(revision, deployment, cx);
                self.give(&slot.id, node, Some(job));
            }
            return true;
        }
        // Those that stay where they are come first, so that they serve while the others move, one at a time.
        let moving =
            later.values().flatten().find(|slot| home(slot.node) && !fits(slot.node)).map(|slot| (*slot).clone());
        if let (Some(slot), Some(record)) = (moving, record) {
            let job = fresh_job(revision, deployment, cx);
            return self.move_to_fit(live, service, &slot, job, &record, cx, follow);
        }
        for slot in later.values().flatten().filter(|slot| home(slot.node)) {
            self.wait_for_slot(live, service, slot, cx, follow);
        }
        if !later.is_empty() {
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

    /// The end of a deployment that did not work. Always true, for `step`.
    pub(crate) fn end_failed(&mut self, service: &Service, deployment: &Deployment, cx: &Context<'_>) -> bool {
        self.edit::<Service>(&service.id, |service| service.unfinished = None);
        self.enter(service, deployment.number, DeploymentPhase::Failed, cx);
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
        let oldest = service.last_revision.saturating_sub(REVISIONS_KEPT);
        let old: Vec<u32> = self.revisions_of(service.id).map(|it| it.number).collect();
        for number in old.into_iter().filter(|it| *it <= oldest && !used.contains(it)) {
            self.remove::<Revision>((service.id, number));
        }
    }
}

/// The slots that a deployment wants.
pub(crate) fn wanted(service: &Service, deployment: &Deployment) -> Vec<SlotId> {
    slots_up_to(service, deployment.spec.target(), deployment.spec.scale)
}

/// The slots from 1 up to a scale.
pub(crate) fn slots_up_to(service: &Service, target: &str, scale: u32) -> Vec<SlotId> {
    (1..=scale).map(|number| SlotId { service: service.id, target: target.into(), number }).collect()
}
