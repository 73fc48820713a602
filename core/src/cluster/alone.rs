//! Slots in which no two jobs may be up together, on whichever nodes they are: those of `recreate`.
//!
//! A slot comes to a node only when none of its environment's other nodes says that it has something of it: a job that it was
//! told to end, because it was lost for a while, or a container that its lost ledger has forgotten. What is believed is what
//! nodes of the environment say, and of them only those that are heard: a node that is Lost is waited for as long as its jobs
//! would be (`replace_after`), one that was removed not at all. A node that came back without its ledger says nothing before its
//! engine has told it what runs.

use crate::cluster::live::Live;
use crate::cluster::state::*;
use crate::cluster::{Cluster, Context, Followup};
use crate::ids::SlotId;
use crate::liveness::Liveness;
use crate::reason::Reason;
use crate::spec::Strategy;
use crate::time::earlier;
use alloc::vec::Vec;

impl Cluster {
    /// Whether what a slot that is being emptied has next may not be up beside what it had.
    pub(crate) fn next_is_alone(&self, slot: &Slot) -> bool {
        let service = self.get::<Service>(&slot.id.service);
        service.is_some_and(|it| !it.deleting && it.spec.deploy.strategy == Strategy::Recreate)
    }

    /// Whether a slot that is about to come to a node waits, with that reason, because another node has something of it. What the
    /// node says that the slot is on now is the slot's own affair.
    pub(crate) fn waits_for_leftovers(
        &self,
        live: &Live,
        service: &Service,
        slot: &SlotId,
        revision: &Revision,
        cx: &Context<'_>,
        follow: &mut Followup,
    ) -> bool {
        if revision.spec.deploy.strategy != Strategy::Recreate {
            return false;
        }
        let home = self.get::<Slot>(slot).map(|slot| slot.node);
        let others: Vec<&Node> = self
            .nodes_of(service.environment)
            .filter(|node| Some(node.id) != home && live.may_have(node.id, slot))
            .collect();
        let mut waits = false;
        for node in others {
            let pulse = live.pulse(node.id);
            let given_up = pulse.lost_at() + revision.spec.replace_after;
            let is_lost = live.liveness(node.id, cx.tick) == Liveness::Lost;
            if is_lost && cx.tick >= given_up {
                continue;
            }
            let name = node.name.clone();
            let reason = if !live.is_reachable(node.id, cx.tick) {
                follow.wake = earlier(follow.wake, Some(given_up));
                let replaced_in = Some(given_up.since(cx.tick));
                Reason::NodeSilent { node: name, silence: pulse.silence(cx.tick), replaced_in }
            } else if live.restored {
                Reason::Restored { node: name }
            } else {
                let troubles = live.report(node.id).map(|report| report.troubles.clone()).unwrap_or_default();
                Reason::Leftover { node: name, troubles }
            };
            follow.wait_slot(self.path_of(service), slot, reason);
            waits = true;
        }
        waits
    }
}
