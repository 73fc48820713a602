//! Going back: every slot gets what was active before the deployment that failed.
//!
//! A slot whose old job still runs is given that job again, which its agent has kept for this. A slot whose old job is
//! gone gets a fresh job of the old revision. A slot that had none is emptied. Each slot is given back once: if the old
//! revision does not run any more either, going back ends all the same and the slot says what is wrong.

use crate::assignment::Traffic;
use crate::cluster::deployment::slots_up_to;
use crate::cluster::live::Live;
use crate::cluster::slots::returning_job;
use crate::cluster::state::*;
use crate::cluster::{Cluster, Context, Followup};
use crate::ids::SlotId;
use alloc::vec::Vec;

/// What going back means for one slot.
enum Back {
    /// It has what it shall have.
    There,
    /// What is under way must end first.
    Wait,
    /// It is given a job that its node still has.
    Old(SlotJob),
    /// It is given a fresh job of the active revision.
    Fresh,
    /// It is emptied.
    Empty,
}

impl Cluster {
    /// Reverting: one round over all slots. True if anything changed.
    pub(crate) fn revert(
        &mut self,
        live: &Live,
        service: &Service,
        deployment: &Deployment,
        cx: &mut Context<'_>,
        follow: &mut Followup,
    ) -> bool {
        let kept = self.slots_to_keep(service);
        let slots: Vec<Slot> = self.slots_of(service.id).cloned().collect();
        let mut changed = false;
        let mut waits = false;
        for slot in &slots {
            let back = match self.back(live, service, deployment, slot, &kept) {
                // What a node without a ledger may have of the slot would run beside what it is given now. Of one that a restarted
                // controller has not heard yet nobody knows whether it is such a node.
                Back::Old(_) | Back::Fresh if live.is_untold(slot) => Back::Wait,
                Back::Old(_) | Back::Fresh if live.is_awaited(slot.node, cx.tick) => Back::Wait,
                back => back,
            };
            let job = match back {
                Back::There => continue,
                Back::Wait => {
                    self.wait_for_slot(live, service, slot, cx, follow);
                    waits = true;
                    continue;
                }
                Back::Old(job) => Some(job),
                Back::Fresh => service.active.map(|active| returning_job(&active, deployment, cx)),
                Back::Empty => None,
            };
            self.give(&slot.id, slot.node, job);
            self.edit::<Slot>(&slot.id, |slot| slot.reverted_by = Some(deployment.number));
            changed = true;
        }
        changed || (!waits && self.end_failed(service, deployment, cx))
    }

    /// The slots that the active revision wants.
    pub(crate) fn slots_to_keep(&self, service: &Service) -> Vec<SlotId> {
        let Some(active) = service.active else { return Vec::new() };
        let Some(revision) = self.get::<Revision>(&(service.id, active.revision)) else { return Vec::new() };
        slots_up_to(service, revision.spec.target(), active.scale)
    }

    /// The table of going back, first match wins.
    fn back(&self, live: &Live, service: &Service, deployment: &Deployment, slot: &Slot, kept: &[SlotId]) -> Back {
        let (Some(active), true) = (service.active, kept.contains(&slot.id)) else {
            // It was not there before: nothing to go back to.
            return if slot.job.is_some() { Back::Empty } else { Back::Wait };
        };
        // Its node is not its environment's any more: it is on its way to another, with or without a deployment.
        if !self.is_allotted(service.environment, slot.node) {
            return Back::There;
        }
        // It was there and is being emptied: it had nothing left to lose.
        let Some(job) = slot.job else { return Back::Fresh };
        let own = job.deployment_number == deployment.number;
        // What was active is a revision with the values that it had: a redeploy that did not end had others.
        let had = self.bindings_of(service.id, active.deployment_number);
        let old = |of: &SlotJob| of.revision == active.revision && self.bindings_of(service.id, of.bound_by) == had;
        // It only waits beside another job, and may be of the same revision.
        if slot.traffic != Traffic::Full && slot.outcome.is_none() {
            return self.beside(live, slot).filter(old).map_or(Back::Fresh, Back::Old);
        }
        match &slot.outcome {
            // Given back already: a kept job that turned out to be gone is followed by a fresh one, which is the last.
            Some(SlotOutcome::Failed { .. }) if slot.reverted_by == Some(deployment.number) && own => Back::There,
            Some(SlotOutcome::Failed { .. }) if slot.reverted_by == Some(deployment.number) => Back::Fresh,
            Some(SlotOutcome::Settled) if old(&job) => Back::There,
            None if slot.reverted_by == Some(deployment.number) && self.held_back_by(live, slot).is_some() => {
                Back::There
            }
            None if slot.reverted_by == Some(deployment.number) => Back::Wait,
            // Not begun by this deployment: whatever it has, it has had before.
            Some(SlotOutcome::Failed { .. }) | None if old(&job) && !own => Back::There,
            Some(SlotOutcome::Failed { old: has, .. }) => {
                match slot.previous.iter().find(|it| Some(it.job) == *has && old(it)) {
                    Some(kept) => Back::Old(*kept),
                    None => Back::Fresh,
                }
            }
            Some(SlotOutcome::Settled) => Back::Fresh,
            // Behind the switch the agent goes on alone, to Done or back; the end will be known then.
            None if self.is_switched(live, slot) || old(&job) => Back::Wait,
            None => match slot.previous.iter().find(|it| old(it)) {
                Some(kept) => Back::Old(*kept),
                None => Back::Fresh,
            },
        }
    }

    /// Why a slot's agent will not begin with it: it tries nothing of a deployment that has failed in another slot of the
    /// service. None if it begins, has begun, or has not said that it knows of it.
    pub(crate) fn held_back_by(&self, live: &Live, slot: &Slot) -> Option<DeploymentFailure> {
        let report = live.report(slot.node).filter(|_| self.is_acknowledged(live, slot))?;
        if report.replacements.iter().any(|it| it.slot == slot.id && !it.phase.is_final()) {
            return None;
        }
        let of = |it: &Slot| it.job.map(|job| job.deployment);
        let mut others = self.slots_on(slot.node).filter(|it| it.id.service == slot.id.service && it.id != slot.id);
        others.find_map(|it| match &it.outcome {
            Some(SlotOutcome::Failed { failure, .. }) if of(it) == of(slot) => Some(DeploymentFailure::Job {
                slot: it.id.clone(),
                node: self.node_name(it.node),
                failure: failure.clone(),
            }),
            Some(SlotOutcome::Failed { .. } | SlotOutcome::Settled) | None => None,
        })
    }

    fn is_switched(&self, live: &Live, slot: &Slot) -> bool {
        let replacements = live.report(slot.node).into_iter().flat_map(|report| &report.replacements);
        let new = slot.job.map(|job| job.job);
        replacements.into_iter().any(|it| it.slot == slot.id && it.new == new && it.phase.is_after_switch())
    }
}
