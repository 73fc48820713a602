//! Slots in which no two jobs may be up together, on whichever nodes they are: those of `recreate`.
//!
//! A slot comes to a node only when none of its environment's other nodes says that it has something of it: a job that it was
//! told to end, because it was lost for a while, or a container that its lost ledger has forgotten. What is believed is what
//! nodes of the environment say, and of them only those that are heard: a node that is Lost is waited for as long as its jobs
//! would be (`replace_after`), one that was removed not at all.
//!
//! A node that came back without its ledger says nothing before its engine has told it what runs. It can only have something of a
//! service that was there when it came. What it has without the controller's knowing was taken from it while it was silent, for
//! `replace_after` at least; so it is waited for no longer than that either, after the time that an engine takes to come up. The same
//! is true of nodes that a controller has not heard yet since it started.

use crate::cluster::live::Live;
use crate::cluster::one_offs::TOLD_WITHIN;
use crate::cluster::state::*;
use crate::cluster::{Cluster, Context, Followup};
use crate::ids::{NodeId, ServiceId, SlotId};
use crate::reason::Reason;
use crate::report::NodeReport;
use crate::spec::ServiceSpec;
use crate::time::{Millis, Tick, earlier};
use alloc::collections::BTreeSet;

impl Cluster {
    /// What a controller knows that has heard nobody since it started: of no machine that has been a node before, what runs there.
    pub fn unheard(&self, started: Tick) -> Live {
        let mut live = Live::new(started);
        let services: BTreeSet<ServiceId> = self.services.keys().copied().collect();
        for node in self.nodes.values().filter(|node| node.boot.is_some()) {
            live.note_unclear(node.id, services.clone(), false, started);
        }
        live
    }

    /// Whether what a slot that is being emptied has next may not be up beside what it had.
    pub(crate) fn next_is_alone(&self, slot: &Slot) -> bool {
        let service = self.get::<Service>(&slot.id.service);
        service.is_some_and(|it| !it.deleting && it.spec.deploy.is_alone())
    }

    /// Whether a slot that is being emptied waits for more than the end of its job: for the operator who restored the store, or for
    /// what its node has forgotten.
    pub(crate) fn is_left(&self, live: &Live, slot: &Slot) -> bool {
        let may_run = live.report(slot.node).is_some_and(|report| report.may_have_stray(&slot.id));
        (live.restored && live.says_it_has(slot.node, &slot.id)) || (may_run && self.next_is_alone(slot))
    }

    /// Why what a node that is heard has of a slot, or may have, is still waited for.
    pub(crate) fn why_left(&self, live: &Live, node: NodeId, slot: &SlotId, given_up_in: Option<Millis>) -> Reason {
        let (name, report) = (self.node_name(node), live.report(node));
        if live.restored && live.says_it_has(node, slot) {
            return Reason::Restored { node: name };
        }
        let troubles = report.map(NodeReport::troubles_with_engine).unwrap_or_default();
        Reason::Leftover { node: name, troubles, given_up_in }
    }

    /// Whether a slot that is about to come to a node waits, with that reason, because another node has something of it. What the
    /// node says that the slot is on now is the slot's own affair.
    pub(crate) fn waits_for_leftovers(
        &self,
        live: &Live,
        service: &Service,
        slot: &SlotId,
        next: &ServiceSpec,
        cx: &Context<'_>,
        follow: &mut Followup,
    ) -> bool {
        if !next.deploy.is_alone() {
            return false;
        }
        let home = self.get::<Slot>(slot).map(|slot| slot.node);
        let replace_after = next.replace_after;
        let mut waits = false;
        for node in self.nodes_of(service.environment).filter(|node| Some(node.id) != home) {
            let pulse = live.pulse(node.id);
            let tells_by = match (live.says_it_has(node.id, slot), live.unclear_since(node.id, service.id)) {
                (true, _) => None,
                // A restored store does not know whether it had taken the slot from that node.
                (false, Some(_)) if live.restored => None,
                (false, Some(since)) => Some(since + TOLD_WITHIN + replace_after),
                (false, None) => continue,
            };
            let is_silent = !live.is_reachable(node.id, cx.tick);
            let until = earlier(tells_by, Some(pulse.lost_at() + replace_after).filter(|_| is_silent));
            if until.is_some_and(|until| cx.tick >= until) {
                continue;
            }
            follow.wake = earlier(follow.wake, until);
            let given_up_in = until.map(|until| until.since(cx.tick));
            let reason = if is_silent {
                let silence = pulse.silence(cx.tick);
                Reason::NodeSilent { node: node.name.clone(), silence, replaced_in: None, given_up_in }
            } else {
                self.why_left(live, node.id, slot, given_up_in)
            };
            follow.wait_slot(self.path_of(service), slot, reason);
            waits = true;
        }
        waits
    }
}
