//! What agents say, taken in: readings go to `Live`, what is to be stored goes to the records.

use crate::cluster::event::{Event, EventKind};
use crate::cluster::live::Live;
use crate::cluster::standing::HelloRefused;
use crate::cluster::state::*;
use crate::cluster::{Cluster, Context, Touched};
use crate::ids::{NodeId, RequestId, SessionId};
use crate::image::may_mean;
use crate::liveness::{HEARTBEAT, Liveness};
use crate::message::{Hello, ResolvedImage};
use crate::quote::quoted;
use crate::report::{NodeReport, Use};
use crate::time::Tick;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

impl Cluster {
    /// An agent begins a session, which ends the node's earlier one. After the commit the rim answers with `Welcome`, then
    /// with the assignment set. What is refused is stored too when it makes the node quarantined.
    pub fn hello(
        &mut self,
        live: &mut Live,
        session: SessionId,
        hello: Hello,
        cx: &mut Context<'_>,
    ) -> Result<Touched, HelloRefused> {
        let meta = self.meta().ok_or(HelloRefused::NoCluster)?;
        if hello.cluster != meta.cluster {
            return Err(HelloRefused::OtherCluster { theirs: hello.cluster, ours: meta.cluster });
        }
        let epoch = meta.epoch;
        let Some(node) = self.get::<Node>(&hello.node).cloned() else { return Err(HelloRefused::UnknownNode) };
        if let Some(refused) = node.standing.refusal() {
            return Err(refused);
        }
        let mut twin = false;
        self.edit::<Node>(&node.id, |node| twin = node.shows_a_twin(hello.boot));
        if twin {
            self.quarantine(node.id, cx);
            live.node_mut(node.id).session = None;
            live.drop_asks(node.id);
            return Err(HelloRefused::Twins);
        }
        if node.boot.is_some_and(|boot| boot != hello.boot) {
            self.tell_of_node(cx, EventKind::NodeTrouble, &node.name, "its machine was started again".into());
        }
        self.edit::<Node>(&node.id, |node| {
            node.boot = Some(hello.boot);
            // The yes to its return, if there was one, is used up.
            node.returning = None;
            node.architecture.clone_from(&hello.architecture);
            // The node has a later set than this store remembers having sent: the store went back. What is sent from now
            // on must be newer still, or the agent would rightly refuse it.
            if let Some(held) = hello.report.generation.filter(|held| held.epoch == epoch)
                && held.number > node.generation
            {
                node.generation = held.number.saturating_add(1);
            }
        });
        let asking = live.drop_asks(node.id);
        live.untold.retain(|(of, _)| *of != node.id);
        if hello.report.generation.is_none() {
            self.lead_back(live, node.id);
        } else {
            self.mark_untold(live, node.id, &hello.report);
        }
        // A machine that has just joined had nothing to forget. One that has a set again may not have looked at its engine yet,
        // and this process may not be the one that heard of its loss.
        let has_forgotten = hello.report.generation.is_none() && node.boot.is_some();
        if has_forgotten || hello.report.strays_unclear {
            let services = self.services.keys().copied().collect();
            live.note_unclear(node.id, services, has_forgotten, cx.tick);
        }
        let known = live.node_mut(node.id);
        known.session = Some(session);
        known.pulse.beat(cx.tick);
        known.version = hello.version;
        known.clock_skew = i64::try_from(i128::from(hello.wall.0) - i128::from(cx.wall.0)).unwrap_or(i64::MAX);
        known.report = None;
        known.credentials = None;
        let mut touched = self.report(live, node.id, session, hello.report, cx);
        touched.extend(asking);
        Ok(touched)
    }

    /// An agent's newest picture of its node. One from a session that has ended is dropped.
    pub fn report(
        &mut self,
        live: &mut Live,
        id: NodeId,
        session: SessionId,
        report: NodeReport,
        cx: &mut Context<'_>,
    ) -> Touched {
        if live.session(id) != Some(session) || !self.nodes.contains_key(&id) {
            return Touched::new();
        }
        let known = live.node_mut(id);
        known.pulse.beat(cx.tick);
        // A picture that was overtaken by one of a newer set tells nothing new.
        let newer = |held: &NodeReport| match (held.generation, report.generation) {
            (Some(held), Some(new)) => held.epoch == new.epoch && held.number > new.number,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if known.report.as_ref().is_some_and(newer) {
            return Touched::new();
        }
        self.edit::<Node>(&id, |node| node.capacity = report.capacity);
        known.report = Some(report.clone());
        if !report.strays_unclear {
            live.unclear.remove(&id);
        }
        self.unmark_told(live, id, &report);
        self.take_outcomes(id, &report, cx);
        self.settle_slots(live, id, &report);
        self.settle_one_offs(id, &report, cx);
        self.touched_by_node(live, id)
    }

    /// The records are those of the store again, because a batch was not stored. Agents do not repeat what they have said,
    /// so their newest pictures are taken in once more; questions about images that may never have been sent are asked anew.
    pub fn take_pictures_again(&mut self, live: &mut Live, cx: &Context<'_>) {
        live.asks.clear();
        let pictures: Vec<(NodeId, NodeReport)> =
            live.nodes.iter().filter_map(|(id, known)| Some((*id, known.report.clone()?))).collect();
        for (id, report) in pictures.into_iter().filter(|(id, _)| live.session(*id).is_some()) {
            self.edit::<Node>(&id, |node| node.capacity = report.capacity);
            self.take_outcomes(id, &report, cx);
            self.settle_slots(live, id, &report);
            self.settle_one_offs(id, &report, cx);
        }
    }

    /// A node's stream has ended. Nothing is lost yet: it may come back within its lease.
    pub fn session_ended(&mut self, live: &mut Live, node: NodeId, session: SessionId) -> Touched {
        if live.session(node) != Some(session) {
            return Touched::new();
        }
        live.node_mut(node).session = None;
        let mut touched = live.drop_asks(node);
        touched.extend(self.touched_by_node(live, node));
        touched
    }

    /// The answer to a question about an image. One that nobody waits for any more is dropped.
    pub fn image_resolved(
        &mut self,
        live: &mut Live,
        node: NodeId,
        request: RequestId,
        outcome: Result<ResolvedImage, String>,
    ) -> Touched {
        match live.asks.get(&request) {
            Some(ask) if ask.node == node => {
                let deployment = ask.deployment;
                let asked = self.get::<Deployment>(&deployment).map(|deployment| &deployment.spec.image);
                let may_be = |resolved: &ResolvedImage| asked.is_none_or(|image| may_mean(image, &resolved.pinned));
                let outcome = outcome.and_then(|resolved| match may_be(&resolved) {
                    true => Ok(resolved),
                    false => Err(format!("{}, which is no answer to the question", quoted(&resolved.pinned))),
                });
                live.asks.remove(&request);
                live.answers.entry(deployment).or_default().insert(node, outcome);
                [deployment.0].into()
            }
            Some(_) | None => Touched::new(),
        }
    }

    /// Silence, or a sign of life after silence, means something: tells which nodes are believed otherwise than before. To
    /// be called at the start, at `Live::wake`, and whenever that is not in the future.
    pub fn pass_time(&mut self, live: &mut Live, cx: &mut Context<'_>) -> Touched {
        let mut touched = Touched::new();
        self.drop_old_join_tokens(cx.wall);
        let gone: Vec<NodeId> = live.nodes.keys().copied().filter(|id| !self.nodes.contains_key(id)).collect();
        for id in gone {
            live.nodes.remove(&id);
        }
        let nodes: Vec<_> = self.all::<Node>().map(|node| (node.id, node.name.clone(), node.boot.is_some())).collect();
        for (id, name, came) in nodes {
            let known = live.node_mut(id);
            let now = known.pulse.read(cx.tick);
            if now == known.told {
                continue;
            }
            known.told = now;
            // Of a machine that has only joined nothing is known; it is neither silent nor lost.
            if !came {
                continue;
            }
            let silence = known.pulse.silence(cx.tick);
            let sentence = match now {
                Liveness::Ready => "it is ready".into(),
                Liveness::Suspect => format!("it has been silent for {silence}"),
                Liveness::Lost => format!("it is lost, silent for {silence}"),
            };
            self.tell_of_node(cx, EventKind::NodeLiveness, &name, sentence);
            touched.extend(self.touched_by_node(live, id));
        }
        self.advance_rotation(live, cx);
        touched
    }

    pub(crate) fn tell_of_node(&mut self, cx: &Context<'_>, kind: EventKind, name: &str, sentence: String) {
        let path = format!("node/{name}");
        self.note(Event { kind, path, sentence, wall: cx.wall, by: None });
    }

    /// What an operator should look at on a node, as sentences.
    pub fn node_troubles(&self, live: &Live, node: NodeId, now: Tick) -> Vec<String> {
        let Some(known) = live.nodes.get(&node) else { return Vec::new() };
        let mut troubles = Vec::new();
        if known.pulse.read(now) != Liveness::Ready {
            troubles.push(format!("it has been silent for {}", known.pulse.silence(now)));
        }
        // Less than a heartbeat may be the way of the message.
        if known.clock_skew.unsigned_abs() > HEARTBEAT.0 {
            let (skew, side) =
                (known.clock_skew.unsigned_abs() / 1000, if known.clock_skew > 0 { "ahead of" } else { "behind" });
            troubles.push(format!("its clock is {skew} s {side} the controller's"));
        }
        troubles.extend(known.report.iter().flat_map(|report| report.troubles.clone()));
        troubles
    }
}

impl Live {
    /// The questions that a node will not answer any more are dropped; whoever waits for them asks another one.
    fn drop_asks(&mut self, node: NodeId) -> Touched {
        let asking = self.asks.values().filter(|ask| ask.node == node).map(|ask| ask.deployment.0).collect();
        self.asks.retain(|_, ask| ask.node != node);
        asking
    }

    /// A sign of life. False if this is not the node's session any more: the rim then ends the stream without an answer.
    pub fn heartbeat(&mut self, node: NodeId, session: SessionId, used: Use, now: Tick) -> bool {
        if self.session(node) != Some(session) {
            return false;
        }
        let known = self.node_mut(node);
        known.pulse.beat(now);
        known.used = used;
        true
    }

    /// When `pass_time` is due if nothing is heard; now, if a belief has changed that was not told yet.
    pub fn wake(&self, now: Tick) -> Option<Tick> {
        let due = |known: &crate::cluster::live::LiveNode| {
            if known.pulse.read(now) != known.told { Some(now) } else { known.pulse.wake(now) }
        };
        self.nodes.values().filter_map(due).min()
    }
}
