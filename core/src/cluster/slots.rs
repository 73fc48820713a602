//! Giving jobs to slots: the only place where a slot changes, and with it the number of its node's set.

use crate::assignment::Traffic;
use crate::cluster::live::Live;
use crate::cluster::state::*;
use crate::cluster::{Cluster, Context};
use crate::ids::{JobId, NodeId, SlotId};
use crate::placement::Candidate;
use crate::report::Capacity;
use crate::spec::Size;
use alloc::vec::Vec;

/// So many earlier jobs of a slot are remembered. More than two are never there at once: the agent lets one replacement
/// run to its end before it begins the next.
const PREVIOUS_KEPT: usize = 4;

impl Cluster {
    /// Gives a slot, which is made if it is not there, another job, or none, on this or another node.
    pub(crate) fn give(&mut self, id: &SlotId, node: NodeId, job: Option<SlotJob>) {
        let traffic = job.map_or(Traffic::Full, |job| self.traffic_of(id, &job));
        self.give_with(id, node, job, traffic);
    }

    /// Gives a slot the job beside which another one waited, or none. It serves there, so that nothing is held back from it,
    /// though a deployment that only shows itself may want the same.
    pub(crate) fn give_back(&mut self, slot: &Slot, job: Option<SlotJob>) {
        self.give_with(&slot.id, slot.node, job, Traffic::Full);
    }

    fn give_with(&mut self, id: &SlotId, node: NodeId, job: Option<SlotJob>, traffic: Traffic) {
        let before = self.get::<Slot>(id).cloned();
        let mut previous = Vec::new();
        let mut reverted_by = None;
        if let Some(before) = before {
            reverted_by = before.reverted_by;
            if before.node == node {
                previous.extend(before.job);
                previous.extend(before.previous);
                previous.retain(|it| Some(it.job) != job.map(|job| job.job));
                previous.truncate(PREVIOUS_KEPT);
            } else {
                self.bump(before.node);
            }
        }
        let generation = self.bump(node);
        self.put(Slot { id: id.clone(), node, job, previous, generation, outcome: None, reverted_by, traffic });
    }

    /// Tells the nodes of slots what their jobs may have of the traffic by now. True if that is news to any. From a job that
    /// may have everything nothing can be held back: it fills its slot already, or is about to.
    pub(crate) fn tell_traffic(&mut self, slots: &[&Slot]) -> bool {
        let mut told = false;
        for slot in slots {
            let traffic = slot.job.map_or(Traffic::Full, |job| self.traffic_of(&slot.id, &job));
            if traffic != slot.traffic && slot.traffic != Traffic::Full {
                let generation = self.bump(slot.node);
                self.edit::<Slot>(&slot.id, |slot| (slot.traffic, slot.generation) = (traffic, generation));
                told = true;
            }
        }
        told
    }

    /// Takes a slot away: its node has nothing of it any more, or is beyond asking.
    pub(crate) fn drop_slot(&mut self, id: &SlotId) {
        let Some(slot) = self.get::<Slot>(id).cloned() else { return };
        self.remove::<Slot>(id.clone());
        if slot.job.is_some() {
            self.bump(slot.node);
        }
    }

    /// The number of the node's next set; that of a node that is gone does not matter.
    pub(crate) fn bump(&mut self, node: NodeId) -> u64 {
        self.edit::<Node>(&node, |node| node.generation += 1);
        self.get::<Node>(&node).map_or(0, |node| node.generation)
    }

    /// The environment's nodes, as placement looks at them.
    pub(crate) fn candidates(
        &self,
        live: &Live,
        service: &Service,
        revision: Option<&Revision>,
        cx: &Context<'_>,
    ) -> Vec<Candidate> {
        self.nodes_of(service.environment)
            .map(|node| {
                let pulse = live.pulse(node.id);
                let on_node = self.slots_on(node.id);
                let neighbours = on_node.filter(|slot| slot.id.service == service.id && slot.job.is_some()).count();
                Candidate {
                    node: node.id,
                    name: node.name.clone(),
                    wish: node.wish.clone(),
                    architecture: node.architecture.clone(),
                    labels: node.labels.clone(),
                    liveness: pulse.read(cx.tick),
                    silence: pulse.silence(cx.tick),
                    connected: live.session(node.id).is_some(),
                    capacity: node.capacity,
                    free: self.free(node),
                    has_image: revision.is_none_or(|it| it.holders.is_empty() || it.holders.contains(&node.id)),
                    neighbours: neighbours as u32,
                    set: self.set_room(node.id, service, revision),
                    full_disk: live.report(node.id).and_then(|report| report.full_disk.clone()),
                }
            })
            .collect()
    }

    /// What of a node is not given to jobs. A slot that is being emptied still holds what its last job had.
    pub fn free(&self, node: &Node) -> Capacity {
        let mut sizes: Vec<Size> = self.slots_on(node.id).filter_map(|slot| self.size_of(slot)).collect();
        sizes.extend(self.one_offs_on(node.id).filter_map(|one| self.size_of_one_off(one)));
        node.capacity.minus(&sizes)
    }

    /// What a one-off job holds of its node until it has ended.
    pub(crate) fn size_of_one_off(&self, one: &OneOff) -> Option<Size> {
        let revision = self.get::<Revision>(&(one.service, one.revision)).filter(|_| one.is_under_way())?;
        Some(revision.spec.size)
    }

    /// What a slot holds of its node. One that is being emptied still holds what its last job had.
    pub(crate) fn size_of(&self, slot: &Slot) -> Option<Size> {
        let job = slot.job.as_ref().or(slot.previous.first())?;
        Some(self.get::<Revision>(&(slot.id.service, job.revision))?.spec.size)
    }
}

/// A job that nobody has had before.
pub(crate) fn fresh_job(revision: u32, deployment: &Deployment, cx: &mut Context<'_>) -> SlotJob {
    let (id, number) = (deployment.id, deployment.number);
    SlotJob { job: JobId(cx.ids.mint()), revision, deployment: id, deployment_number: number, bound_by: number }
}

/// A job that goes back to what was active, in a deployment that has failed: with the values that it had.
pub(crate) fn returning_job(active: &Active, deployment: &Deployment, cx: &mut Context<'_>) -> SlotJob {
    SlotJob { bound_by: active.deployment_number, ..fresh_job(active.revision, deployment, cx) }
}

/// The same for what is active, outside of a deployment.
pub(crate) fn fresh_active_job(active: &Active, cx: &mut Context<'_>) -> SlotJob {
    let Active { revision, deployment, deployment_number, .. } = *active;
    SlotJob { job: JobId(cx.ids.mint()), revision, deployment, deployment_number, bound_by: deployment_number }
}
