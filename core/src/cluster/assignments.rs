//! What follows from the records for one node.

use crate::assignment::{Assignment, AssignmentSet, Generation, KeptImages, RunSpec};
use crate::cluster::Cluster;
use crate::cluster::state::*;
use crate::ids::{NodeId, ValueId};
use crate::message::Elsewhere;
use crate::values::{Bound, GivenValue};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// What a node was sent last in a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    number: u64,
    kept_images: KeptImages,
}

impl Cluster {
    /// The node's set, if it is another one than was sent last in its session. What it keeps may change while its number does
    /// not: a service or a revision is gone, or another one is firm, and none of the node's slots is another one. The agent takes
    /// that in all the same.
    pub fn newer_set(&self, node: NodeId, stop_absent: bool, sent: &mut Option<Sent>) -> Option<AssignmentSet> {
        let number = self.get::<Node>(&node)?.generation;
        let kept_images = self.kept_images(node);
        if sent.as_ref().is_some_and(|sent| sent.number == number && sent.kept_images == kept_images) {
            return None;
        }
        *sent = Some(Sent { number, kept_images });
        self.assignments(node, stop_absent)
    }

    /// All that a node should run. None for a node that is not there. To be sent after `Welcome`, and whenever the node's
    /// `generation` has changed in a committed batch. `stop_absent` once this epoch's controller has acknowledged the
    /// node's inventory, which `Welcome` does.
    pub fn assignments(&self, node: NodeId, stop_absent: bool) -> Option<AssignmentSet> {
        let number = self.get::<Node>(&node)?.generation;
        let generation = Generation { epoch: self.meta()?.epoch, number };
        let mut values = BTreeMap::new();
        let mut assignments: Vec<Assignment> =
            self.slots_on(node).filter_map(|slot| self.assignment(slot, &mut values)).collect();
        // A restored store does not know which commands have run since: it names none, and nodes stop none of those they have.
        if stop_absent {
            assignments.extend(self.one_offs_on(node).filter_map(|one| self.one_off_assignment(one, &mut values)));
        }
        assignments.sort_by(|a, b| a.slot.cmp(&b.slot));
        let kept_images = Some(self.kept_images(node));
        Some(AssignmentSet { generation, stop_absent, assignments, values, kept_images })
    }

    /// A slot as its node is told, and the values that go with it. None if it is being emptied, or if the node is not its
    /// environment's any more.
    fn assignment(&self, slot: &Slot, values: &mut BTreeMap<ValueId, GivenValue>) -> Option<Assignment> {
        let job = slot.job?;
        let revision = self.get::<Revision>(&(slot.id.service, job.revision))?;
        Some(Assignment {
            slot: slot.id.clone(),
            job: job.job,
            deployment: job.deployment,
            run: self.run_on(slot.node, revision, job.bound_by, |_| true, values)?,
            traffic: slot.traffic,
            once: None,
        })
    }

    /// A revision as a node is told to run it with the values of a deployment, of which it has these, and the values. None if the
    /// node is not the environment's any more.
    pub(crate) fn run_on(
        &self,
        node: NodeId,
        revision: &Revision,
        bound_by: u32,
        has: impl Fn(&Bound) -> bool,
        values: &mut BTreeMap<ValueId, GivenValue>,
    ) -> Option<RunSpec> {
        let service = self.get::<Service>(&revision.service)?;
        let environment = self.get::<Environment>(&service.environment)?;
        if !self.is_allotted(environment.id, node) {
            return None;
        }
        let mut bound = self.bindings_of(service.id, bound_by).to_vec();
        bound.extend(self.login_for(service, &revision.spec));
        bound.retain(has);
        values.extend(bound.iter().map(|one| (one.binding().value, self.given(one))));
        Some(RunSpec {
            environment: environment.id,
            application: environment.application,
            path: self.path_of(service),
            revision: revision.number,
            image: revision.image.clone(),
            spec: revision.spec.clone(),
            hosts: revision.hosts.clone(),
            values: bound.iter().map(Bound::binding).collect(),
        })
    }

    /// Where else jobs of public services run, and which of them are paused, for the node's proxy to say: of the environments
    /// that the node is given to, because nothing else crosses their boundary. Sorted by service.
    pub fn elsewhere(&self, node: NodeId) -> Vec<Elsewhere> {
        let given = |service: &&Service| self.is_allotted(service.environment, node);
        self.all::<Service>()
            .filter(given)
            .filter_map(|service| {
                let revision = self.get::<Revision>(&(service.id, service.active?.revision))?;
                let ports = revision.spec.ports.iter().zip(&revision.hosts);
                let routes: Vec<_> = ports
                    .filter_map(|(port, host)| Some((host.clone()?, port.path.clone().unwrap_or_else(|| "/".into()))))
                    .collect();
                // Whoever had a slot before has it until its node says otherwise.
                let serves = |slot: &&Slot| {
                    let has_one = slot.outcome == Some(SlotOutcome::Settled) || !slot.previous.is_empty();
                    slot.node != node && slot.job.is_some() && has_one
                };
                let mut nodes: Vec<_> =
                    self.slots_of(service.id).filter(serves).map(|slot| self.node_name(slot.node)).collect();
                nodes.sort();
                nodes.dedup();
                let path = self.path_of(service);
                let paused = service.wanted.pause().is_some();
                (!routes.is_empty() && (paused || !nodes.is_empty())).then_some(Elsewhere {
                    service: service.id,
                    path,
                    routes,
                    nodes,
                    paused,
                })
            })
            .collect()
    }
}
