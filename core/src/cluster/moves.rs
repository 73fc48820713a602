//! Slots that a new revision does not want where they are.
//!
//! A slot keeps its node as long as the node meets what the slot's revision asks for. When a new revision asks for what
//! the node has not, the slot moves with that revision's deployment: it is given to a node that fits, and the node that it
//! leaves stops the old job when it hears of that. Moves come after all replacements in place, and one at a time, so that a
//! service with more jobs than one is served meanwhile; `plan` says which slots move. A label that changes moves nothing.
//! With `recreate` the slot is emptied first, and goes to its next node when the one that it leaves has said that the job ended;
//! if a newer deployment supersedes this one meanwhile, it has what is active again until that deployment begins.

use crate::cluster::event::EventKind;
use crate::cluster::live::Live;
use crate::cluster::paths::slot_word;
use crate::cluster::state::*;
use crate::cluster::{Cluster, Context, Followup};
use crate::ids::SlotId;
use crate::placement::place;
use crate::reason::Reason;
use crate::spec::ServiceSpec;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

impl Cluster {
    /// Placing: whether slots must move and there is no place for them and for those that are new, all together. Then
    /// nothing is changed.
    pub(crate) fn waits_for_moves(
        &self,
        live: &Live,
        service: &Service,
        wanted: &[SlotId],
        revision: &Revision,
        cx: &Context<'_>,
        follow: &mut Followup,
    ) -> bool {
        let job = |id: &SlotId| self.get::<Slot>(id).filter(|slot| slot.job.is_some());
        let moves = |id: &&SlotId| job(id).is_some_and(|slot| self.unmet(revision, slot.node).is_some());
        let moving = wanted.iter().filter(moves).count();
        if moving == 0 {
            return false;
        }
        let missing = wanted.iter().filter(|id| job(id).is_none()).count();
        let candidates = self.candidates(live, service, Some(revision), cx);
        let places = place(missing + moving, revision.demand(), candidates);
        let Some(nodes) = places.into_iter().find_map(Result::err) else { return false };
        let environment = self.environment_path(service.environment);
        follow.wait(self.path_of(service), Reason::NoFittingNode { environment, nodes });
        true
    }

    /// Gives a slot to a node that meets what the revision asks for. True if there is one.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn move_to_fit(
        &mut self,
        live: &Live,
        service: &Service,
        slot: &Slot,
        job: SlotJob,
        revision: &Revision,
        cx: &Context<'_>,
        follow: &mut Followup,
    ) -> bool {
        if self.waits_for_leftovers(live, service, &slot.id, &revision.spec, cx, follow) {
            return false;
        }
        let candidates = self.candidates(live, service, Some(revision), cx);
        match place(1, revision.demand(), candidates).remove(0) {
            Ok(_) if self.ends_first(live, revision, slot, cx.tick) => {
                let (from, why) = (self.node_name(slot.node), self.unmet(revision, slot.node).unwrap_or_default());
                self.give(&slot.id, slot.node, None);
                let sentence = format!("{} ends on {from} before it moves: of {from}, {why}", slot_word(&slot.id));
                self.tell_of(cx, EventKind::SlotMoved, service, sentence);
                true
            }
            Ok(node) => {
                let (from, to) = (self.node_name(slot.node), self.node_name(node));
                let why = self.unmet(revision, slot.node).unwrap_or_default();
                self.give(&slot.id, node, Some(job));
                let sentence = format!("{} moved from {from} to {to}: of {from}, {why}", slot_word(&slot.id));
                self.tell_of(cx, EventKind::SlotMoved, service, sentence);
                true
            }
            Err(nodes) => {
                let environment = self.environment_path(service.environment);
                follow.wait_slot(self.path_of(service), &slot.id, Reason::NoFittingNode { environment, nodes });
                false
            }
        }
    }

    /// What the constraints of a spec mean for where a service is, as warnings of a plan.
    pub(crate) fn warn_of_places(
        &self,
        service: Option<&Service>,
        of: &Environment,
        spec: &ServiceSpec,
    ) -> Vec<String> {
        let against = |node: &Node| spec.constraints.iter().find_map(|it| it.why_not(&node.architecture, &node.labels));
        let mut warnings = Vec::new();
        let nodes: Vec<(&Node, Option<String>)> = self.nodes_of(of.id).map(|node| (node, against(node))).collect();
        if !nodes.is_empty() && nodes.iter().all(|(_, why)| why.is_some()) {
            let said = nodes.iter().filter_map(|(node, why)| Some(format!("{}: {}", node.name, why.as_ref()?)));
            let said = said.collect::<Vec<_>>().join("; ");
            warnings.push(format!("no node of {} is what it asks for: {said}", self.environment_path(of.id)));
        }
        for slot in service.into_iter().flat_map(|service| self.slots_of(service.id)).filter(|slot| slot.job.is_some())
        {
            let Some(why) = self.get::<Node>(&slot.node).and_then(against) else { continue };
            let (word, node) = (slot_word(&slot.id), self.node_name(slot.node));
            warnings.push(format!(
                "{word} is on {node}, though {why}: a deployment ends it there and starts it on another node"
            ));
        }
        warnings
    }
}
