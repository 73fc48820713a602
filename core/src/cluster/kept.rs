//! The images that stay on a node, so that the services there can go back without a registry.

use crate::assignment::bytes::{KEPT_IMAGES_BYTES, of_kept_image};
use crate::cluster::Cluster;
use crate::cluster::state::*;
use crate::ids::NodeId;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

impl Cluster {
    /// The images of every revision that is kept of a service that has a slot on the node, or had one before its pause, and
    /// will have it again. Those that are the node's own are named by their ids: one of them may be what an agent has brought under
    /// another name.
    ///
    /// Where their names would be too long for the set, those of the newest revisions are kept.
    pub(crate) fn kept_images(&self, node: NodeId) -> BTreeSet<String> {
        let placed = self.slots_on(node).map(|slot| slot.id.service);
        let paused = self.all::<Service>().filter(|it| it.wanted.homes().iter().any(|(_, home)| *home == node));
        let services: BTreeSet<_> = placed.chain(paused.map(|service| service.id)).collect();
        let services = services.into_iter().filter_map(|id| self.get::<Service>(&id));
        let revisions = services.flat_map(|service| {
            self.revisions_of(service.id).map(|it| (service.last_revision.saturating_sub(it.number), it))
        });
        let mut by_age: Vec<(u32, &str)> = revisions.map(|(age, revision)| (age, revision.image.pinned())).collect();
        by_age.sort_unstable();
        let mut left = KEPT_IMAGES_BYTES;
        let mut kept = BTreeSet::new();
        for (_, pinned) in by_age {
            if kept.contains(pinned) {
                continue;
            }
            let Some(rest) = left.checked_sub(of_kept_image(pinned)) else { break };
            left = rest;
            kept.insert(String::from(pinned));
        }
        kept
    }
}
