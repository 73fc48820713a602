//! The images that stay on a node, so that the services there can go back without a registry.

use crate::assignment::KeptImages;
use crate::assignment::bytes::{KEPT_IMAGES_BYTES, of_kept_image};
use crate::cluster::Cluster;
use crate::cluster::state::*;
use crate::ids::NodeId;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

impl Cluster {
    /// The images of every revision that is kept of a service that has a slot on the node, or had one before its pause, and
    /// will have it again. Those that are the node's own are named by their ids: one of them may be what an agent has brought under
    /// another name.
    ///
    /// Where their names would be too long for the set, those of firm images and then those of the newest revisions are kept.
    pub(crate) fn kept_images(&self, node: NodeId) -> KeptImages {
        let placed = self.slots_on(node).map(|slot| slot.id.service);
        let paused = self.all::<Service>().filter(|it| it.wanted.homes().iter().any(|(_, home)| *home == node));
        let services: BTreeSet<_> = placed.chain(paused.map(|service| service.id)).collect();
        let services = services.into_iter().filter_map(|id| self.get::<Service>(&id));
        let revisions = services.flat_map(|service| {
            let on_its_way = self.unfinished(service).and_then(|deployment| deployment.revision);
            let firm = [service.active.map(|active| active.revision), on_its_way];
            let newest = service.last_revision;
            self.revisions_of(service.id)
                .map(move |it| (!firm.contains(&Some(it.number)), newest.saturating_sub(it.number), it.image.pinned()))
        });
        let mut by_need: Vec<(bool, u32, &str)> = revisions.collect();
        by_need.sort_unstable();
        let mut left = KEPT_IMAGES_BYTES;
        let mut kept = KeptImages::default();
        for (can_go, _, pinned) in by_need {
            if kept.all.contains(pinned) {
                continue;
            }
            let times = if can_go { 1 } else { 2 };
            let Some(rest) = left.checked_sub(times * of_kept_image(pinned)) else { break };
            left = rest;
            kept.all.insert(pinned.into());
            kept.firm.extend((!can_go).then(|| pinned.into()));
        }
        kept
    }
}
