//! Whether a node's assignment set has room for more: an agent decodes sets up to a size, and no further.
//!
//! What a set may come to is counted, not what it is: of a slot whose replacement is under way both jobs count, as either
//! may be the one that stays. So going back never outgrows what going forward has left.

use crate::assignment::ServicePath;
use crate::assignment::bytes::{SET_BYTES, of_command, of_job, of_place, of_value};
use crate::cluster::Cluster;
use crate::cluster::paths::slot_word;
use crate::cluster::state::*;
use crate::ids::{NodeId, SlotId, ValueId};
use crate::placement::{SetRoom, Unfit};
use crate::values::{Bound, ValueKey};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// What people call a value, besides its name: `the credentials for the registry … of shop/production/web`, with three
/// names of 40 characters at most.
const CALLED: u64 = 192;

/// What a node's set may come to.
struct Weight<'a> {
    /// Of each slot the larger of what it has and what it may get back.
    slots: BTreeMap<&'a SlotId, u64>,
    /// Each version once.
    values: BTreeMap<(&'a ValueKey, ValueId), u64>,
    /// All one-off jobs, also those that have ended and are still named.
    one_offs: u64,
}

impl Weight<'_> {
    fn free(&self) -> u64 {
        let held = self.slots.values().sum::<u64>() + self.values.values().sum::<u64>() + self.one_offs;
        SET_BYTES.saturating_sub(held)
    }

    /// What these values would add.
    fn lacks<'b>(&self, cluster: &Cluster, bound: impl Iterator<Item = &'b Bound>) -> u64 {
        let missing: BTreeMap<_, u64> = bound
            .map(|one| ((&one.key, one.version), one))
            .filter(|(id, _)| !self.values.contains_key(id))
            .map(|(id, one)| (id, cluster.weight_of_value(one)))
            .collect();
        missing.values().sum()
    }
}

impl Cluster {
    /// What a node's set has room for, and what a job of a revision takes of it. `revision` is none where only the node is
    /// asked something.
    pub(crate) fn set_room(&self, node: NodeId, service: &Service, revision: Option<&Revision>) -> SetRoom {
        let Some(revision) = revision else { return SetRoom::default() };
        let (weight, bound) = (self.weigh_set(node), self.bound_next(service));
        let each = self.weight_of_job(&self.path_of(service), revision, bound.iter().copied());
        SetRoom { free: weight.free(), each, once: weight.lacks(self, bound.into_iter()) }
    }

    /// The values that a job of the service may get which is placed now: those of the deployment under way, and those that
    /// it has if that one does not come to its end.
    fn bound_next(&self, service: &Service) -> Vec<&Bound> {
        let numbers = service.unfinished.into_iter().chain(service.active.map(|active| active.deployment_number));
        numbers.flat_map(|number| self.bindings_of(service.id, number)).collect()
    }

    fn weigh_set(&self, node: NodeId) -> Weight<'_> {
        let mut weight = Weight { slots: BTreeMap::new(), values: BTreeMap::new(), one_offs: 0 };
        for one in self.one_offs_on(node) {
            let Some(service) = self.get::<Service>(&one.service) else { continue };
            let Some(revision) = self.get::<Revision>(&(one.service, one.revision)) else { continue };
            let bound = self.bindings_of(one.service, one.bound_by);
            let own = of_command(&one.command, &one.env);
            weight.one_offs += own + self.weight_of_job(&self.path_of(service), revision, bound.iter());
            for one in bound {
                weight.values.entry((&one.key, one.version)).or_insert_with(|| self.weight_of_value(one));
            }
        }
        for slot in self.slots_on(node) {
            let Some(service) = self.get::<Service>(&slot.id.service) else { continue };
            let path = self.path_of(service);
            let goes_back = service.active.filter(|_| service.unfinished.is_some());
            let jobs = slot.job.iter().chain(&slot.previous).map(|job| (job.revision, job.bound_by));
            let jobs: BTreeSet<(u32, u32)> =
                jobs.chain(goes_back.map(|active| (active.revision, active.deployment_number))).collect();
            for (number, bound_by) in jobs {
                let bound = self.bindings_of(service.id, bound_by);
                if let Some(revision) = self.get::<Revision>(&(service.id, number)) {
                    let bytes = self.weight_of_job(&path, revision, bound.iter());
                    let most = weight.slots.entry(&slot.id).or_insert(0);
                    *most = bytes.max(*most);
                }
                for one in bound {
                    weight.values.entry((&one.key, one.version)).or_insert_with(|| self.weight_of_value(one));
                }
            }
        }
        weight
    }

    fn weight_of_job<'b>(
        &self,
        path: &ServicePath,
        revision: &Revision,
        bound: impl Iterator<Item = &'b Bound>,
    ) -> u64 {
        let places = bound.map(|one| of_place(&one.place)).sum();
        of_job(path, &revision.image, &revision.spec, &revision.hosts, places)
    }

    fn weight_of_value(&self, bound: &Bound) -> u64 {
        let body = self.version(bound).map_or(0, |version| version.body.0.len());
        of_value(CALLED + bound.key.name.len() as u64, body as u64)
    }

    /// Why a deployment's jobs cannot take the places of those that are there: a node's set would be too large. None if
    /// they can.
    pub(crate) fn outgrows_its_nodes(
        &self,
        service: &Service,
        deployment: &Deployment,
        revision: &Revision,
        wanted: &[SlotId],
    ) -> Option<String> {
        let bound = deployment.bindings.as_deref().unwrap_or_default();
        let each = self.weight_of_job(&self.path_of(service), revision, bound.iter());
        let stays =
            |slot: &&Slot| slot.job.is_some() && wanted.contains(&slot.id) && self.unmet(revision, slot.node).is_none();
        let mut nodes: BTreeMap<NodeId, BTreeSet<&SlotId>> = BTreeMap::new();
        for slot in self.slots_of(service.id).filter(stays) {
            nodes.entry(slot.node).or_default().insert(&slot.id);
        }
        nodes.into_iter().find_map(|(node, slots)| {
            let weight = self.weigh_set(node);
            let grows = |id: &&SlotId| each.saturating_sub(weight.slots.get(*id).copied().unwrap_or(0));
            let wanted = slots.iter().map(grows).sum::<u64>() + weight.lacks(self, bound.iter());
            let free = weight.free();
            let first = slots.first().map(|id| slot_word(id)).unwrap_or_default();
            (wanted > free).then(|| {
                let why = Unfit::Assignments { wanted, free, most: SET_BYTES };
                format!("{first} is on {}: {why}; give the service less, or the node fewer jobs", self.node_name(node))
            })
        })
    }
}
