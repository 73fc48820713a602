//! One look at one service: from what is, as far as it goes towards what is wanted.

use crate::assignment::Traffic;
use crate::cluster::deployment::{Fill, slots_up_to, wanted};
use crate::cluster::event::EventKind;
use crate::cluster::live::Live;
use crate::cluster::paths::slot_word;
use crate::cluster::slots::{fresh_active_job, fresh_job, returning_job};
use crate::cluster::state::*;
use crate::cluster::{Cluster, Context, Followup, Touched};
use crate::ids::{NodeId, ServiceId, SlotId};
use crate::liveness::Liveness;
use crate::placement::place;
use crate::reason::Reason;
use crate::report::{NodeReport, ReplacementPhase};
use crate::spec::Size;
use crate::time::{Tick, earlier};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

/// A look takes at most so many steps: the phases of a deployment, a node of each wave, and room to spare. More would be a
/// machine that turns in a circle.
const MOST_STEPS: usize = 200;

/// Whether a slot can stay where it is.
pub(crate) enum Home {
    /// Its node is there for it.
    Good,
    /// Its node is gone, or not its environment's any more, or has been lost for long enough.
    Left,
    /// Its node is Lost, and the time to move is this.
    LeavesAt(Tick),
}

impl Cluster {
    /// Goes as far as it can. A second look at the same instant changes nothing and sends nothing.
    pub fn reconcile(&mut self, live: &mut Live, id: ServiceId, cx: &mut Context<'_>) -> Followup {
        let mut follow = Followup::default();
        let held = self.held_by(id);
        for _ in 0..MOST_STEPS {
            let Some(service) = self.get::<Service>(&id).cloned() else { break };
            (follow.wake, follow.waits) = (None, Vec::new());
            let unfinished = self.unfinished(&service).cloned();
            live.answers.retain(|(of, number), _| *of != id || Some(*number) == service.unfinished);
            live.steps.retain(|of, (number, ..)| *of != id || Some(*number) == service.unfinished);
            live.asks.retain(|_, ask| ask.deployment.0 != id || Some(ask.deployment.1) == service.unfinished);
            let changed = if self.drop_unreachable(live, &service, cx, &mut follow)
                || self.step_one_offs(live, &service, cx, &mut follow)
            {
                true
            } else if service.deleting {
                self.step_removal(live, &service, cx, &mut follow)
            } else if service.wanted.pause().is_some() {
                self.keep_paused(live, &service, cx, &mut follow)
            } else if self.end_resuming(&service, cx)
                || self.rehome(live, &service, unfinished.as_ref(), cx, &mut follow)
            {
                true
            } else if let Some(deployment) = unfinished {
                self.step(live, &service, &deployment, cx, &mut follow)
                    || self.stand_in(live, &service, &deployment, cx, &mut follow)
            } else {
                self.keep(live, &service, cx, &mut follow)
            };
            if !changed {
                break;
            }
        }
        follow.waits.sort();
        follow.waits.dedup();
        if follow.waits.is_empty() {
            live.waits.remove(&id);
        } else {
            live.waits.insert(id, follow.waits.clone());
        }
        follow.touched = self.waiting_for(live, id, &held);
        follow
    }

    /// What a service's slots hold of each node.
    fn held_by(&self, id: ServiceId) -> BTreeMap<NodeId, Size> {
        let mut held: BTreeMap<NodeId, Size> = BTreeMap::new();
        let of_slots = self.slots_of(id).filter_map(|slot| Some((slot.node, self.size_of(slot)?)));
        let of_one_offs = self.one_offs_of(id).filter_map(|one| Some((one.node, self.size_of_one_off(one)?)));
        for (node, size) in of_slots.chain(of_one_offs) {
            let sum = held.entry(node).or_insert(Size { cpu_milli: 0, memory_bytes: 0, pids: 0 });
            sum.cpu_milli = sum.cpu_milli.saturating_add(size.cpu_milli);
            sum.memory_bytes = sum.memory_bytes.saturating_add(size.memory_bytes);
        }
        held
    }

    /// The other services that wait in environments of nodes of which this service holds less than it did.
    fn waiting_for(&self, live: &Live, id: ServiceId, held: &BTreeMap<NodeId, Size>) -> Touched {
        let now = self.held_by(id);
        let left = |(node, before): &(&NodeId, &Size)| {
            now.get(node).is_none_or(|now| now.cpu_milli < before.cpu_milli || now.memory_bytes < before.memory_bytes)
        };
        let nodes: Vec<NodeId> = held.iter().filter(left).map(|(node, _)| *node).collect();
        nodes.iter().flat_map(|node| self.waiting_near(live, *node)).filter(|waiting| *waiting != id).collect()
    }

    /// The services that wait in a node's environments.
    fn waiting_near(&self, live: &Live, node: NodeId) -> Touched {
        let near = |id: &&ServiceId| {
            self.get::<Service>(id).is_some_and(|service| self.is_allotted(service.environment, node))
        };
        live.waits.keys().filter(near).copied().collect()
    }

    /// Slots that are being emptied on a node that cannot be asked any more are gone: if it returns, its set does not
    /// name them, and it stops what it has of them.
    fn drop_unreachable(&mut self, live: &Live, service: &Service, cx: &Context<'_>, follow: &mut Followup) -> bool {
        let mut gone: Vec<SlotId> = Vec::new();
        for slot in self.slots_of(service.id).filter(|slot| slot.job.is_none()) {
            if !self.nodes.contains_key(&slot.node) {
                gone.push(slot.id.clone());
            } else if live.liveness(slot.node, cx.tick) == Liveness::Lost {
                let at = self.gives_way_at(live, service, slot);
                if cx.tick >= at {
                    gone.push(slot.id.clone());
                } else {
                    follow.wake = earlier(follow.wake, Some(at));
                }
            }
        }
        for slot in &gone {
            self.drop_slot(slot);
        }
        !gone.is_empty()
    }

    /// When what a Lost node may still have of an emptied slot is no longer waited for: at once, or, where no second job of the
    /// slot may be up, when a job there would be replaced too.
    fn gives_way_at(&self, live: &Live, service: &Service, slot: &Slot) -> Tick {
        let lost = live.pulse(slot.node).lost_at();
        let last = slot.previous.first().filter(|_| self.next_is_alone(slot));
        let revision = last.and_then(|job| self.get::<Revision>(&(service.id, job.revision)));
        revision.map_or(lost, |revision| lost + revision.spec.replace_after)
    }

    /// Without a deployment: as many slots as the last completed one made.
    fn keep(&mut self, live: &mut Live, service: &Service, cx: &mut Context<'_>, follow: &mut Followup) -> bool {
        let wanted = self.slots_to_keep(service);
        let slots: Vec<Slot> = self.slots_of(service.id).cloned().collect();
        let surplus: Vec<&Slot> = slots.iter().filter(|slot| !wanted.contains(&slot.id)).collect();
        if self.empty(live, service, &surplus, cx, follow) {
            return true;
        }
        let Some(active) = service.active else { return false };
        let Some(revision) = self.get::<Revision>(&(service.id, active.revision)).cloned() else { return false };
        let has_job = |id: &SlotId| slots.iter().any(|slot| slot.id == *id && slot.job.is_some());
        let fill =
            Fill { wanted: &wanted, revision: &revision, job: &mut |cx| fresh_active_job(&active, cx), all: false };
        if !wanted.iter().all(has_job) && self.fill(live, service, fill, cx, follow) {
            return true;
        }
        for slot in slots.iter().filter(|slot| slot.job.is_some() && slot.outcome.is_none()) {
            self.wait_for_slot(live, service, slot, cx, follow);
        }
        self.retry(live, service, &wanted, cx, follow)
    }

    /// A deployment waits, and slots are gone that it or its predecessor has emptied for their move: they run what is active
    /// meanwhile. Not after a pause, whose end may be for the sake of what is deployed now. True if anything changed.
    fn stand_in(
        &mut self,
        live: &Live,
        service: &Service,
        deployment: &Deployment,
        cx: &mut Context<'_>,
        follow: &mut Followup,
    ) -> bool {
        let Some(active) = service.active.filter(|_| service.wanted == Wanted::Running) else { return false };
        let Some(revision) = self.get::<Revision>(&(service.id, active.revision)).cloned() else { return false };
        let (mut slots, wanted) = (self.slots_to_keep(service), wanted(service, deployment));
        slots.retain(|id| wanted.contains(id));
        let known: Vec<&Slot> = slots.iter().filter_map(|id| self.get::<Slot>(id)).collect();
        let ending = known.iter().filter(|slot| slot.job.is_none());
        ending.for_each(|slot| self.wait_for_slot(live, service, slot, cx, follow));
        let mut left: Vec<SlotId> = slots.iter().filter(|id| self.get::<Slot>(id).is_none()).cloned().collect();
        // What is to be alone in the slot next comes in the place of what stands in, and asks nobody any more.
        if deployment.phase != DeploymentPhase::Reverting {
            left.retain(|id| !self.waits_for_leftovers(live, service, id, &deployment.spec, cx, follow));
        }
        let fill =
            Fill { wanted: &left, revision: &revision, job: &mut |cx| fresh_active_job(&active, cx), all: false };
        !left.is_empty() && self.fill(live, service, fill, cx, follow)
    }

    /// A removed service: its slots are emptied, then it is gone with all that belongs to it.
    fn step_removal(&mut self, live: &Live, service: &Service, cx: &Context<'_>, follow: &mut Followup) -> bool {
        let slots: Vec<Slot> = self.slots_of(service.id).cloned().collect();
        if !slots.is_empty() {
            let slots: Vec<&Slot> = slots.iter().collect();
            return self.empty(live, service, &slots, cx, follow);
        }
        if let Some(one) = self.one_offs_of(service.id).find(|one| one.is_under_way()) {
            let node = self.node_name(one.node);
            follow.wait_slot(self.path_of(service), &one.slot(), Reason::Emptying { node });
            return false;
        }
        self.forget_one_offs_of(service.id);
        let revisions: Vec<u32> = self.revisions_of(service.id).map(|it| it.number).collect();
        let deployments: Vec<u32> = self.deployments_of(service.id).map(|it| it.number).collect();
        self.tell_of(cx, EventKind::ServiceRemoved, service, "the service is gone".into());
        for number in revisions {
            self.remove::<Revision>((service.id, number));
        }
        for number in deployments {
            self.remove::<Deployment>((service.id, number));
        }
        self.forget_values_of(service.id);
        self.remove::<Service>(service.id);
        true
    }

    /// Slots whose node is lost or not theirs any more are started elsewhere. True if anything changed.
    fn rehome(
        &mut self,
        live: &Live,
        service: &Service,
        unfinished: Option<&Deployment>,
        cx: &mut Context<'_>,
        follow: &mut Followup,
    ) -> bool {
        let slots: Vec<Slot> = self.slots_of(service.id).filter(|slot| slot.job.is_some()).cloned().collect();
        let mut changed = false;
        for slot in slots {
            match self.home(live, service, &slot, cx) {
                Home::Good => {}
                Home::LeavesAt(at) => {
                    follow.wake = earlier(follow.wake, Some(at));
                    self.wait_for_silence(live, service, &slot, cx, follow);
                }
                Home::Left => changed |= self.move_slot(live, service, &slot, unfinished, cx, follow),
            }
        }
        changed
    }

    pub(crate) fn home(&self, live: &Live, service: &Service, slot: &Slot, cx: &Context<'_>) -> Home {
        if !self.is_allotted(service.environment, slot.node) {
            return Home::Left;
        }
        if live.liveness(slot.node, cx.tick) != Liveness::Lost {
            return Home::Good;
        }
        let revision = slot.job.and_then(|job| self.get::<Revision>(&(service.id, job.revision)));
        let replace_after = revision.map_or(service.spec.replace_after, |revision| revision.spec.replace_after);
        let at = live.pulse(slot.node).lost_at() + replace_after;
        if cx.tick >= at { Home::Left } else { Home::LeavesAt(at) }
    }

    fn move_slot(
        &mut self,
        live: &Live,
        service: &Service,
        slot: &Slot,
        unfinished: Option<&Deployment>,
        cx: &mut Context<'_>,
        follow: &mut Followup,
    ) -> bool {
        let Some(job) = self.job_elsewhere(service, slot, unfinished, cx) else {
            self.drop_slot(&slot.id);
            return true;
        };
        let Some(revision) = self.get::<Revision>(&(service.id, job.revision)).cloned() else { return false };
        if self.waits_for_leftovers(live, service, &slot.id, &revision.spec, cx, follow) {
            return false;
        }
        let mut candidates = self.candidates(live, service, Some(&revision), cx);
        candidates.retain(|candidate| candidate.node != slot.node);
        let from = self.node_name(slot.node);
        match place(1, revision.demand(), candidates).remove(0) {
            Ok(_) if self.ends_first(live, &revision, slot, cx.tick) => {
                self.give(&slot.id, slot.node, None);
                true
            }
            Ok(node) => {
                self.give(&slot.id, node, Some(job));
                let reverting = unfinished.filter(|it| it.phase == DeploymentPhase::Reverting).map(|it| it.number);
                self.edit::<Slot>(&slot.id, |slot| slot.reverted_by = reverting.or(slot.reverted_by));
                let sentence = format!("{} moved from {from} to {}", slot_word(&slot.id), self.node_name(node));
                self.tell_of(cx, EventKind::SlotMoved, service, sentence);
                true
            }
            Err(mut nodes) => {
                if let Liveness::Lost = live.liveness(slot.node, cx.tick) {
                    let silence = live.pulse(slot.node).silence(cx.tick);
                    nodes.push((from, format!("it is lost, silent for {silence}")));
                }
                let environment = self.environment_path(service.environment);
                follow.wait_slot(self.path_of(service), &slot.id, Reason::NoFittingNode { environment, nodes });
                false
            }
        }
    }

    /// Whether the job that a slot has must have ended before its next one starts on another node, and its node is there to say
    /// that it has.
    pub(crate) fn ends_first(&self, live: &Live, next: &Revision, slot: &Slot, now: Tick) -> bool {
        next.spec.deploy.is_alone()
            && self.nodes.contains_key(&slot.node)
            && live.liveness(slot.node, now) != Liveness::Lost
    }

    /// What a slot that has lost its node runs on the next one; none if it is not wanted any more.
    fn job_elsewhere(
        &self,
        service: &Service,
        slot: &Slot,
        unfinished: Option<&Deployment>,
        cx: &mut Context<'_>,
    ) -> Option<SlotJob> {
        let job = slot.job?;
        // What only waits beside the one that serves is not what takes its place.
        let reverts = unfinished.is_some_and(|deployment| deployment.phase == DeploymentPhase::Reverting);
        if slot.traffic != Traffic::Full && !reverts && self.slots_to_keep(service).contains(&slot.id) {
            return service.active.map(|active| fresh_active_job(&active, cx));
        }
        match unfinished.map(|deployment| (deployment, deployment.phase, deployment.revision)) {
            // While the new revision only shows itself, what is lost is made good with the one that serves.
            Some((deployment, DeploymentPhase::Rolling, Some(_)))
                if deployment.trial.is_some() && self.slots_to_keep(service).contains(&slot.id) =>
            {
                service.active.map(|active| fresh_active_job(&active, cx))
            }
            // It has nothing to lose any more and starts with what it would get anyway.
            Some((deployment, DeploymentPhase::Rolling, Some(revision))) => {
                let wanted = slots_up_to(service, deployment.spec.target(), deployment.spec.scale);
                wanted.contains(&slot.id).then(|| fresh_job(revision, deployment, cx))
            }
            Some((deployment, DeploymentPhase::Reverting, _)) => {
                let kept = self.slots_to_keep(service).contains(&slot.id);
                let active = service.active.filter(|_| kept)?;
                Some(returning_job(&active, deployment, cx))
            }
            Some(_) => Some(SlotJob { job: crate::ids::JobId(cx.ids.mint()), ..job }),
            None => {
                let wanted = self.slots_to_keep(service).contains(&slot.id);
                service.active.filter(|_| wanted).map(|active| fresh_active_job(&active, cx))
            }
        }
    }

    /// Says what a slot waits for that is not as it shall be.
    pub(crate) fn wait_for_slot(
        &self,
        live: &Live,
        service: &Service,
        slot: &Slot,
        cx: &Context<'_>,
        follow: &mut Followup,
    ) {
        if !live.is_reachable(slot.node, cx.tick) {
            return self.wait_for_silence(live, service, slot, cx, follow);
        }
        let node = self.node_name(slot.node);
        let report = live.report(slot.node);
        let replacement = report.and_then(|report| report.replacements.iter().find(|it| it.slot == slot.id));
        let reason = match (replacement, slot.job) {
            _ if !self.is_acknowledged(live, slot) => {
                let troubles = report.map(NodeReport::troubles_with_sets).unwrap_or_default();
                Reason::NotAcknowledged { node, troubles }
            }
            (None, Some(_)) if live.is_untold(slot) => {
                let troubles = report.map(NodeReport::troubles_with_engine).unwrap_or_default();
                Reason::Untold { node, troubles }
            }
            (_, None) if self.is_left(live, slot) => self.why_left(live, slot.node, &slot.id, None),
            (_, None) => Reason::Emptying { node },
            (Some(it), Some(_)) => {
                Reason::Replacing { node, phase: it.phase.word(), agent_waits: it.waits_for.clone() }
            }
            (None, Some(_)) => Reason::Replacing { node, phase: ReplacementPhase::Accepted.word(), agent_waits: None },
        };
        follow.wait_slot(self.path_of(service), &slot.id, reason);
    }

    fn wait_for_silence(&self, live: &Live, service: &Service, slot: &Slot, cx: &Context<'_>, follow: &mut Followup) {
        let silence = live.pulse(slot.node).silence(cx.tick);
        let gone_at = match (slot.job, self.home(live, service, slot, cx)) {
            (Some(_), Home::LeavesAt(at)) => Some(at),
            (None, Home::LeavesAt(_)) => Some(self.gives_way_at(live, service, slot)),
            (_, Home::Good | Home::Left) => None,
        };
        let gone_in = gone_at.map(|at| at.since(cx.tick));
        let (replaced_in, given_up_in) =
            if self.is_wanted(service, &slot.id) { (gone_in, None) } else { (None, gone_in) };
        let reason = Reason::NodeSilent { node: self.node_name(slot.node), silence, replaced_in, given_up_in };
        follow.wait_slot(self.path_of(service), &slot.id, reason);
    }

    /// Whether a slot shall have a job, here or elsewhere.
    fn is_wanted(&self, service: &Service, slot: &SlotId) -> bool {
        let runs = !service.deleting && service.wanted.pause().is_none();
        let deployed = self.unfinished(service).filter(|it| it.phase != DeploymentPhase::Reverting);
        // What is active keeps its slots until a deployment has places for its own.
        let keeps = deployed.is_none_or(|it| it.phase < DeploymentPhase::Rolling);
        let is_kept = || keeps && self.slots_to_keep(service).contains(slot);
        runs && (is_kept() || deployed.is_some_and(|it| wanted(service, it).contains(slot)))
    }

    /// Whether a node's newest picture is of a set that already said what the slot shall have.
    pub(crate) fn is_acknowledged(&self, live: &Live, slot: &Slot) -> bool {
        let epoch = self.meta().map(|meta| meta.epoch);
        let held = live.report(slot.node).and_then(|report| report.generation);
        held.is_some_and(|held| Some(held.epoch) == epoch && held.number >= slot.generation)
    }

    /// The services that a node's change may matter to: those with slots there, and those that wait in its environments.
    pub fn touched_by_node(&self, live: &Live, node: NodeId) -> Touched {
        let mut touched: Touched = self.slots_on(node).map(|slot| slot.id.service).collect();
        touched.extend(self.one_offs_on(node).map(|one| one.service));
        touched.extend(self.waiting_near(live, node));
        touched
    }
}
