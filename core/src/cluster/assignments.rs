//! What follows from the records for one node.

use crate::assignment::{Assignment, AssignmentSet, Generation, RunSpec};
use crate::cluster::Cluster;
use crate::cluster::state::*;
use crate::ids::{NodeId, ValueId};
use crate::message::Elsewhere;
use crate::values::{Bound, GivenValue};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

impl Cluster {
    /// All that a node should run. None for a node that is not there. To be sent after `Welcome`, and whenever the node's
    /// `generation` has changed in a committed batch. `stop_absent` once this epoch's controller has acknowledged the
    /// node's inventory, which `Welcome` does.
    pub fn assignments(&self, node: NodeId, stop_absent: bool) -> Option<AssignmentSet> {
        let number = self.get::<Node>(&node)?.generation;
        let generation = Generation { epoch: self.meta()?.epoch, number };
        let mut values = BTreeMap::new();
        let assignments = self.slots_on(node).filter_map(|slot| self.assignment(slot, &mut values)).collect();
        Some(AssignmentSet { generation, stop_absent, assignments, values })
    }

    /// A slot as its node is told, and the values that go with it. None if it is being emptied, or if the node is not its
    /// environment's any more.
    fn assignment(&self, slot: &Slot, values: &mut BTreeMap<ValueId, GivenValue>) -> Option<Assignment> {
        let job = slot.job?;
        let service = self.get::<Service>(&slot.id.service)?;
        let environment = self.get::<Environment>(&service.environment)?;
        if !self.is_allotted(environment.id, slot.node) {
            return None;
        }
        let revision = self.get::<Revision>(&(service.id, job.revision))?;
        let mut bound = self.bindings_of(service.id, job.bound_by).to_vec();
        bound.extend(self.login_for(service, &revision.spec));
        values.extend(bound.iter().map(|one| (one.binding().value, self.given(one))));
        let run = RunSpec {
            environment: environment.id,
            application: environment.application,
            path: self.path_of(service),
            revision: revision.number,
            image: revision.image.clone(),
            spec: revision.spec.clone(),
            hosts: revision.hosts.clone(),
            values: bound.iter().map(Bound::binding).collect(),
        };
        Some(Assignment { slot: slot.id.clone(), job: job.job, deployment: job.deployment, run })
    }

    /// Where else jobs of public services run, for the node's proxy to name: of the environments that the node is given
    /// to, because nothing else crosses their boundary. Sorted by service.
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
                let serves = |slot: &&Slot| {
                    slot.node != node && slot.job.is_some() && slot.outcome == Some(SlotOutcome::Settled)
                };
                let mut nodes: Vec<_> =
                    self.slots_of(service.id).filter(serves).map(|slot| self.node_name(slot.node)).collect();
                nodes.sort();
                nodes.dedup();
                let path = self.path_of(service);
                (!routes.is_empty() && !nodes.is_empty()).then_some(Elsewhere {
                    service: service.id,
                    path,
                    routes,
                    nodes,
                })
            })
            .collect()
    }
}
