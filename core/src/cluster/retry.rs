//! What was given up and is still wanted is tried again.
//!
//! An agent gives a job up after `max_attempts` if it never was healthy. Within a deployment that is the deployment's
//! failure. Without one, a service has completed this revision before: what keeps it from running now (a registry that is
//! down, a node without room) is most likely to pass, and nobody may be awake to see that.

use crate::cluster::live::Live;
use crate::cluster::slots::fresh_active_job;
use crate::cluster::state::*;
use crate::cluster::{Cluster, Context, Followup};
use crate::ids::SlotId;
use crate::reason::Reason;
use crate::restart::LONGEST_DELAY;
use crate::time::earlier;
use alloc::vec::Vec;

impl Cluster {
    /// Gives a fresh job to every wanted slot whose job of the active revision was given up a while ago: as long as the
    /// longest delay between two attempts, because that many attempts have failed already. True if anything changed.
    pub(crate) fn retry(
        &mut self,
        live: &mut Live,
        service: &Service,
        wanted: &[SlotId],
        cx: &mut Context<'_>,
        follow: &mut Followup,
    ) -> bool {
        let Some(active) = service.active else { return false };
        let failed: Vec<Slot> = self.slots_of(service.id).filter(|slot| wanted.contains(&slot.id)).cloned().collect();
        let mut changed = false;
        for slot in failed {
            let (Some(SlotOutcome::Failed { failure, .. }), Some(job)) = (&slot.outcome, slot.job) else {
                live.given_up.remove(&slot.id);
                continue;
            };
            let noticed = live.given_up.get(&slot.id).filter(|(of, _)| *of == job.job).map_or(cx.tick, |(_, at)| *at);
            live.given_up.insert(slot.id.clone(), (job.job, noticed));
            let again = noticed + LONGEST_DELAY;
            if cx.tick >= again && live.is_reachable(slot.node, cx.tick) {
                self.give(&slot.id, slot.node, Some(fresh_active_job(&active, cx)));
                changed = true;
                continue;
            }
            follow.wake = earlier(follow.wake, Some(again).filter(|again| *again > cx.tick));
            let (node, left) = (self.node_name(slot.node), again.since(cx.tick));
            let reason = Reason::TriedAgain { node, failure: failure.clone(), left };
            follow.wait_slot(self.path_of(service), &slot.id, reason);
        }
        changed
    }
}
