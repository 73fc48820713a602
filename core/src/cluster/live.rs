//! What the controller knows and does not store: possibly old, possibly unknown. The agents will say it again.

use crate::cluster::state::Slot;
use crate::ids::{JobId, NodeId, RequestId, ServiceId, SessionId, SlotId, ValueId};
use crate::liveness::{AWAY_AFTER, Liveness, Pulse};
use crate::message::{Credentials, ResolvedImage};
use crate::reason::Waiting;
use crate::report::{NodeReport, Use};
use crate::time::{Millis, Tick};
use crate::values::ValueKey;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

/// A node that was asked what an image means gets so long: a registry at the other end of the world, twice.
pub const RESOLVE_TIMEOUT: Millis = Millis::secs(60);

/// The readings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// When this controller began to listen, or again after it was away.
    pub started: Tick,
    /// When it last looked at the clock.
    attended: Tick,
    /// What is known of each node that was heard of since.
    pub nodes: BTreeMap<NodeId, LiveNode>,
    /// What each service waits for, as its last reconcile said.
    pub waits: BTreeMap<ServiceId, Vec<Waiting>>,
    /// Slots whose job was given up outside of a deployment, which job that was, and when this controller noticed.
    pub(crate) given_up: BTreeMap<SlotId, (JobId, Tick)>,
    /// The step of each service's canary, by its deployment's number and the step's, and since when this controller has seen
    /// every job of it ready: a step lasts its whole time again with a new controller.
    pub(crate) steps: BTreeMap<ServiceId, (u32, u32, Tick)>,
    /// Release commands that are under way, and since when this controller has known it.
    pub(crate) one_offs_begun: BTreeMap<(ServiceId, u32), Tick>,
    /// One-off jobs that have ended, and when this controller noticed.
    pub(crate) one_offs_ended: BTreeMap<(ServiceId, u32), Tick>,
    /// Slots of which their nodes have not said, since their sessions began, what they have: they lost their ledgers, or have not seen
    /// their containers yet. Until they do, another job would be started while theirs still runs and nobody knows it.
    pub(crate) untold: BTreeSet<(NodeId, SlotId)>,
    /// Nodes that came back without a ledger, or before their engine had told anything, and have not said since what runs there.
    pub(crate) unclear: BTreeMap<NodeId, Unclear>,
    /// The store was restored, and nobody has accepted that nodes stop what it does not name.
    pub restored: bool,
    /// Versions of values that the rim could not open when it last looked, and why.
    pub unreadable: BTreeMap<(ValueKey, ValueId), String>,
    /// Questions about images that wait for their answers.
    pub(crate) asks: BTreeMap<RequestId, Ask>,
    /// Answers about images, until their deployment has used them.
    pub(crate) answers: BTreeMap<(ServiceId, u32), BTreeMap<NodeId, Result<ResolvedImage, String>>>,
}

/// What is known of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveNode {
    /// Its registration, while its stream is open.
    pub session: Option<SessionId>,
    /// Its signs of life.
    pub pulse: Pulse,
    /// What was believed of it when that was last told.
    pub told: Liveness,
    /// Its newest picture of itself. Old when the node is not Ready.
    pub report: Option<NodeReport>,
    /// What its machine uses. Old when the node is not Ready.
    pub used: Use,
    /// Its agent's version.
    pub version: String,
    /// What it says of its certificate and of whom it trusts; none until it does.
    pub credentials: Option<Credentials>,
    /// Its clock minus the controller's, in milliseconds, at the beginning of the session.
    pub clock_skew: i64,
}

/// A node of which nobody knows what runs there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unclear {
    /// Since when, as this controller has noticed it.
    pub since: Tick,
    /// The services that there were when it came: it has nothing of a younger one that it does not know of.
    pub services: BTreeSet<ServiceId>,
}

/// A question about an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ask {
    /// For which deployment.
    pub deployment: (ServiceId, u32),
    /// Who is asked.
    pub node: NodeId,
    /// In which session; the question ends with it.
    pub session: SessionId,
    /// When the answer is no longer waited for.
    pub until: Tick,
}

impl Live {
    /// A controller that has heard nobody yet.
    pub fn new(started: Tick) -> Live {
        Live {
            started,
            attended: started,
            nodes: BTreeMap::new(),
            waits: BTreeMap::new(),
            given_up: BTreeMap::new(),
            steps: BTreeMap::new(),
            one_offs_begun: BTreeMap::new(),
            one_offs_ended: BTreeMap::new(),
            untold: BTreeSet::new(),
            unclear: BTreeMap::new(),
            restored: false,
            unreadable: BTreeMap::new(),
            asks: BTreeMap::new(),
            answers: BTreeMap::new(),
        }
    }

    /// The controller looks at the clock, before every decision. One that was away has not listened: whoever was not Lost
    /// by then has its whole lease again, as after a start.
    pub fn attend(&mut self, now: Tick) {
        let before = self.attended;
        self.attended = before.max(now);
        if now.since(before) < AWAY_AFTER {
            return;
        }
        self.started = now;
        self.unclear.values_mut().for_each(|unclear| unclear.since = now);
        for known in self.nodes.values_mut().filter(|known| known.pulse.read(before) != Liveness::Lost) {
            known.pulse = Pulse::unheard(now);
        }
    }

    /// What to believe of a node now.
    pub fn liveness(&self, node: NodeId, now: Tick) -> Liveness {
        self.pulse(node).read(now)
    }

    /// Whether something can be begun on a node: it is alive, and its agent can be told.
    pub fn is_reachable(&self, node: NodeId, now: Tick) -> bool {
        self.liveness(node, now) == Liveness::Ready && self.session(node).is_some()
    }

    /// Whether a node has not been heard since the controller started, and may be yet.
    pub(crate) fn is_awaited(&self, node: NodeId, now: Tick) -> bool {
        self.report(node).is_none() && self.liveness(node, now) != Liveness::Lost
    }

    /// A node's signs of life.
    pub fn pulse(&self, node: NodeId) -> Pulse {
        self.nodes.get(&node).map_or(Pulse::unheard(self.started), |live| live.pulse)
    }

    /// The open registration of a node.
    pub fn session(&self, node: NodeId) -> Option<SessionId> {
        self.nodes.get(&node).and_then(|live| live.session)
    }

    /// Whether a slot's node has not said yet what it has of it.
    pub(crate) fn is_untold(&self, slot: &Slot) -> bool {
        self.untold.contains(&(slot.node, slot.id.clone()))
    }

    /// Whether a node says that it has something of a slot.
    pub(crate) fn says_it_has(&self, node: NodeId, slot: &SlotId) -> bool {
        self.report(node).is_some_and(|report| {
            let has_job = report.jobs.iter().any(|job| job.slot == *slot && !job.phase.is_final());
            has_job || report.strays.iter().any(|stray| stray.slot == *slot)
        })
    }

    /// Since when a node does not say whether it has something of a service that it can have had; none if it has said so.
    pub(crate) fn unclear_since(&self, node: NodeId, service: ServiceId) -> Option<Tick> {
        self.unclear.get(&node).filter(|unclear| unclear.services.contains(&service)).map(|unclear| unclear.since)
    }

    /// A node that begins a session does not know what runs there. What it has forgotten with its ledger it can have begun until now;
    /// otherwise what counts is when it was first not known. It has its time again only after it was lost.
    pub(crate) fn note_unclear(&mut self, node: NodeId, services: BTreeSet<ServiceId>, forgets: bool, now: Tick) {
        let was_lost = self.liveness(node, now) == Liveness::Lost;
        let fresh = Unclear { since: now, services: BTreeSet::new() };
        let is_new = !self.unclear.contains_key(&node);
        let unclear = self.unclear.entry(node).or_insert(fresh);
        if was_lost {
            unclear.since = now;
        }
        if forgets || is_new {
            unclear.services = services;
        }
    }

    /// A node's newest picture of itself, however old.
    pub fn report(&self, node: NodeId) -> Option<&NodeReport> {
        self.nodes.get(&node).and_then(|live| live.report.as_ref())
    }

    /// What is known of a node, made if it was not known.
    pub(crate) fn node_mut(&mut self, node: NodeId) -> &mut LiveNode {
        let started = self.started;
        self.nodes.entry(node).or_insert_with(|| LiveNode {
            session: None,
            pulse: Pulse::unheard(started),
            told: Liveness::Suspect,
            report: None,
            used: Use::default(),
            version: String::new(),
            credentials: None,
            clock_skew: 0,
        })
    }
}
