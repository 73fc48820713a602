//! The engine's thread: decides in memory, commits, answers.

use super::{CommandError, Credentials, Input, Look, LookAt, chain, changes_of, credentials, load, standings};
use crate::clock;
use crate::control::{HelloRefusal, Outbox, SessionOver};
use crate::metrics::Metrics;
use crate::store::{BATCH_CHANGES, Batch, Change, NewEvent, Store, StoreError};
use lapstrake_core::access::Author;
use lapstrake_core::audit::Entry;
use lapstrake_core::cluster::event::{Event, EventKind, ORGANIZATION};
use lapstrake_core::cluster::live::Live;
use lapstrake_core::cluster::request::Carried;
use lapstrake_core::cluster::standing::HelloRefused;
use lapstrake_core::cluster::state::{Authority, Meta, Service, Standing};
use lapstrake_core::cluster::{Cluster, Context, Ids, One, Sent, Touched};
use lapstrake_core::ids::{EpochId, NodeId, ServiceId, SessionId};
use lapstrake_core::message::{ControllerWord, Elsewhere};
use lapstrake_core::time::{Millis, Tick, earlier};
use lapstrake_pki::mint;
use lapstrake_unit::Pulse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, oneshot, watch};

/// A batch is committed when it has this many changes, though more inputs wait: below the store's limit by what one
/// command or one look at a service can add.
const COMMIT_AT: usize = BATCH_CHANGES / 2;

/// So many inputs are taken before a commit, so that the first of them does not wait long for its answer.
const INPUTS_PER_BATCH: usize = 256;

/// Even when nobody asks to be woken, time passes this often.
const LONGEST_NAP: Millis = Millis(1_000);

/// After a commit failed, the next one is tried this much later: a full disk is not emptied by trying faster.
const RETRY_COMMIT: Millis = Millis(500);

/// One agent's registration, as the engine needs it.
struct Session {
    id: SessionId,
    outbox: Outbox,
    /// The set that was sent last.
    sent: Option<Sent>,
    elsewhere: Option<Vec<Elsewhere>>,
}

/// A command as it was decided.
type Decided = Result<Carried, CommandError>;

/// A session that waits for its welcome, or for its refusal: that may be on its way to the store too.
struct Greeting {
    reply: oneshot::Sender<Result<EpochId, HelloRefusal>>,
    node: NodeId,
    session: SessionId,
    decided: Result<(), HelloRefused>,
}

/// The store did not take the last batch.
struct NotStored {
    why: String,
    /// When it is tried again though nothing waits, so that whoever asks is not told of a disk that was full an hour ago.
    again: Tick,
}

pub(super) struct Writer {
    store: Store,
    cluster: Cluster,
    live: Live,
    ids: Ids,
    sessions: BTreeMap<NodeId, Session>,
    /// Services to look at.
    touched: Touched,
    /// When to look at a service though nothing was heard.
    wakes: BTreeMap<ServiceId, Tick>,
    waits: BTreeMap<ServiceId, Vec<String>>,
    /// Words to send once the batch is on disk.
    asks: Vec<(NodeId, ControllerWord)>,
    /// Who tried what in this batch, and what came of it.
    audit: Vec<Entry>,
    /// Refusals that wait for the commit; dropped when it fails, as those are not answered with more than the refusal.
    refused: Vec<oneshot::Sender<()>>,
    /// Commands that wait for the commit.
    replies: Vec<(oneshot::Sender<Decided>, Decided)>,
    /// Sessions that wait for the commit.
    greetings: Vec<Greeting>,
    not_stored: Option<NotStored>,
    watchers: Watchers,
    pulse: Pulse,
    metrics: Arc<Metrics>,
}

/// Who is told what is on disk.
pub(super) struct Watchers {
    /// The newest event's number.
    pub events: watch::Sender<u64>,
    /// All nodes, and whether they are admitted.
    pub nodes: watch::Sender<BTreeMap<NodeId, Standing>>,
    /// All operators' tokens.
    pub credentials: watch::Sender<Credentials>,
    /// The certificate authority.
    pub authority: watch::Sender<Option<Authority>>,
}

impl Writer {
    /// Nothing is known of any node, so every service is looked at.
    pub(super) fn new(
        store: Store,
        cluster: Cluster,
        watchers: Watchers,
        pulse: Pulse,
        metrics: Arc<Metrics>,
    ) -> Writer {
        let mut live = cluster.unheard(clock::tick());
        live.restored = store.is_restored();
        Writer {
            live,
            store,
            touched: cluster.all::<Service>().map(|service| service.id).collect(),
            cluster,
            ids: Ids::from_base(mint::id()),
            sessions: BTreeMap::new(),
            wakes: BTreeMap::new(),
            waits: BTreeMap::new(),
            asks: Vec::new(),
            audit: Vec::new(),
            refused: Vec::new(),
            replies: Vec::new(),
            greetings: Vec::new(),
            not_stored: None,
            watchers,
            pulse,
            metrics,
        }
    }

    pub(super) fn run(mut self, mut queue: mpsc::UnboundedReceiver<Input>) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "the engine has no timer");
                return;
            }
        };
        let mut looks = VecDeque::new();
        loop {
            self.pulse.beat();
            let first = runtime.block_on(async { tokio::time::timeout(self.nap().std(), queue.recv()).await });
            match first {
                Ok(None) => return,
                Ok(Some(input)) => self.take(input, &mut looks),
                Err(_) => {}
            }
            for _ in 1..INPUTS_PER_BATCH {
                if self.cluster.changes_waiting() >= COMMIT_AT {
                    break;
                }
                match queue.try_recv() {
                    Ok(input) => self.take(input, &mut looks),
                    Err(_) => break,
                }
            }
            self.metrics.queue(queue.len());
            self.pass_time();
            let settled = self.settle();
            // Also after a failed commit, when memory is what the store says: who only asks is not held up by a full disk.
            let view = Look {
                cluster: &self.cluster,
                live: &self.live,
                now: clock::tick(),
                waits: &self.waits,
                not_stored: self.not_stored.as_ref().map(|not_stored| not_stored.why.as_str()),
            };
            for look in looks.drain(..) {
                look(&view);
            }
            if !settled {
                // A timer is made within the runtime, or not at all.
                runtime.block_on(async { tokio::time::sleep(RETRY_COMMIT.std()).await });
            }
        }
    }

    fn nap(&self) -> Millis {
        let now = clock::tick();
        if !self.touched.is_empty() {
            return Millis(0);
        }
        let wake = earlier(self.wakes.values().min().copied(), self.live.wake(now));
        wake.map_or(LONGEST_NAP, |wake| wake.since(now).min(LONGEST_NAP))
    }

    fn take(&mut self, input: Input, looks: &mut VecDeque<LookAt>) {
        self.metrics.inputs.add(1);
        match input {
            Input::Look(look) => looks.push_back(look),
            Input::Command { command, author, request, reply } => {
                let savepoint = self.cluster.savepoint();
                let deed = command.deed();
                // What the first start finds on its own disk is nobody's deed.
                let is_deed = deed.verb != "adopt-root";
                let result =
                    self.decide(author.clone(), |cluster, live, cx| cluster.request(live, *command, &request, cx));
                if is_deed {
                    self.audit.push(Entry::of_request(&author, deed, &result, mint::wall()));
                }
                match result {
                    Ok(carried) => {
                        self.touched.extend(carried.outcome.touched.iter().copied());
                        self.replies.push((reply, Ok(carried)));
                    }
                    Err(refusals) => {
                        self.cluster.roll_back(savepoint);
                        self.replies.push((reply, Err(CommandError::Refused(refusals))));
                    }
                }
            }
            Input::Unreadable(values) => self.live.unreadable = values,
            Input::Refused { entry, recorded } => {
                self.audit.push(*entry);
                self.refused.push(recorded);
            }
            Input::Hello { node, session, hello, outbox, reply } => {
                let decided =
                    self.decide(Author::Controller, |cluster, live, cx| cluster.hello(live, session, *hello, cx));
                let decided = decided.map(|touched| {
                    self.touched.extend(touched);
                    let earlier =
                        self.sessions.insert(node, Session { id: session, outbox, sent: None, elsewhere: None });
                    // Nothing that it says counts any more, even if this one is not welcome in the end.
                    if let Some(earlier) = earlier {
                        earlier.outbox.end(SessionOver::Superseded);
                    }
                });
                self.greetings.push(Greeting { reply, node, session, decided });
            }
            Input::Credentials { node, session, said } => self.live.take_credentials(node, session, said),
            Input::Heartbeat { node, session, used } => {
                if !self.live.heartbeat(node, session, used, clock::tick()) {
                    self.forget(node, session);
                }
            }
            Input::Report { node, session, report, taken } => {
                let touched = self
                    .decide(Author::Controller, |cluster, live, cx| cluster.report(live, node, session, *report, cx));
                self.touched.extend(touched);
                let _ = taken.send(());
            }
            Input::Resolved { node, request, outcome } => {
                let touched = self.cluster.image_resolved(&mut self.live, node, request, outcome);
                self.touched.extend(touched);
            }
            Input::Ended { node, session } => {
                self.turn_away(node, session);
            }
        }
    }

    /// Ends a session that is not the node's any more, so that its heartbeats are not answered.
    fn forget(&mut self, node: NodeId, session: SessionId) {
        if self.sessions.get(&node).is_some_and(|held| held.id == session)
            && let Some(held) = self.sessions.remove(&node)
        {
            held.outbox.end(SessionOver::Superseded);
        }
    }

    /// A session that was not welcome, or that nobody waits for any more, is over before it began.
    fn turn_away(&mut self, node: NodeId, session: SessionId) {
        let touched = self.cluster.session_ended(&mut self.live, node, session);
        self.touched.extend(touched);
        self.forget(node, session);
    }

    fn decide<T>(
        &mut self,
        author: Author,
        decision: impl FnOnce(&mut Cluster, &mut Live, &mut Context<'_>) -> T,
    ) -> T {
        let mut cx = Context { tick: clock::tick(), wall: mint::wall(), author, ids: &mut self.ids };
        self.live.attend(cx.tick);
        decision(&mut self.cluster, &mut self.live, &mut cx)
    }

    fn pass_time(&mut self) {
        let touched = self.decide(Author::Controller, |cluster, live, cx| cluster.pass_time(live, cx));
        self.touched.extend(touched);
        let now = clock::tick();
        let due = self.wakes.iter().filter(|(_, wake)| **wake <= now).map(|(service, _)| *service);
        self.touched.extend(due);
    }

    /// Looks at every touched service and makes everything durable. False when the store did not take it.
    fn settle(&mut self) -> bool {
        while let Some(service) = self.touched.pop_first() {
            let followup = self.decide(Author::Controller, |cluster, live, cx| cluster.reconcile(live, service, cx));
            self.asks.extend(followup.asks);
            self.touched.extend(followup.touched);
            match followup.wake {
                Some(wake) => self.wakes.insert(service, wake),
                None => self.wakes.remove(&service),
            };
            match followup.waits.is_empty() {
                true => self.waits.remove(&service),
                false => self.waits.insert(service, followup.waits.iter().map(ToString::to_string).collect()),
            };
            if self.cluster.changes_waiting() >= COMMIT_AT && !self.commit() {
                return false;
            }
        }
        self.commit()
    }

    fn commit(&mut self) -> bool {
        let changes = match changes_of(&mut self.cluster) {
            Ok(changes) => changes,
            Err(error) => return self.reload(&error.to_string()),
        };
        let events = self.cluster.take_events().into_iter().map(new_event).collect();
        let batch = Batch { changes, events, audit: std::mem::take(&mut self.audit) };
        if !batch.is_empty() {
            if let Err(error) = self.store(&batch) {
                return self.reload(&chain(&error));
            }
        } else {
            self.try_again();
        }
        self.know_nodes(&batch.changes);
        self.know_credentials(&batch.changes);
        self.answer();
        self.send(!batch.changes.is_empty());
        true
    }

    /// Gives the store a batch, and tells whoever waits for events.
    fn store(&mut self, batch: &Batch) -> Result<(), StoreError> {
        lapstrake_crash::point("store.before-commit");
        let begun = Instant::now();
        let committed = self.store.commit(batch);
        self.metrics.commits.observe(begun.elapsed());
        let last = committed?;
        self.not_stored = None;
        self.metrics.changes.add(batch.changes.len() as u64);
        lapstrake_crash::point("store.after-commit");
        if let Some(last) = last {
            self.watchers.events.send_replace(last);
        }
        Ok(())
    }

    fn note_not_stored(&mut self, why: &str) {
        self.metrics.failed_commits.add(1);
        self.not_stored = Some(NotStored { why: why.into(), again: clock::tick() + LONGEST_NAP });
    }

    /// Nothing waits to be stored, and the store did not take what came last: whether it would now, it says by taking an event.
    fn try_again(&mut self) {
        if self.not_stored.as_ref().is_none_or(|not_stored| clock::tick() < not_stored.again) {
            return;
        }
        let event = Event {
            kind: EventKind::Store,
            path: ORGANIZATION.into(),
            sentence: "the store takes changes again".into(),
            wall: mint::wall(),
            by: None,
        };
        let batch = Batch { changes: Vec::new(), events: vec![new_event(event)], audit: Vec::new() };
        if let Err(error) = self.store(&batch) {
            self.note_not_stored(&chain(&error));
        }
    }

    /// Tells who is admitted now, and what the authority is; the session of a node that is admitted no more is cut.
    fn know_nodes(&mut self, changes: &[Change]) {
        if changes.iter().any(|change| change.key.starts_with("authority/")) {
            self.watchers.authority.send_replace(self.cluster.get::<Authority>(&One).cloned());
        }
        if !changes.iter().any(|change| change.key.starts_with("node/")) {
            return;
        }
        let nodes = standings(&self.cluster);
        let refused = |node: &NodeId| nodes.get(node).map_or(Some(HelloRefused::UnknownNode), |it| it.refusal());
        let cut: Vec<_> = self.sessions.keys().filter_map(|node| Some((*node, refused(node)?))).collect();
        self.watchers.nodes.send_replace(nodes);
        for (node, why) in cut {
            if let Some(session) = self.sessions.remove(&node) {
                session.outbox.end(SessionOver::NotAdmitted(why));
            }
        }
    }

    /// Tells who is an operator now, before the command that changed it is answered.
    fn know_credentials(&mut self, changes: &[Change]) {
        let concerned = ["operator-token/", "application/", "environment/"];
        if changes.iter().any(|change| concerned.iter().any(|table| change.key.starts_with(table))) {
            self.watchers.credentials.send_if_modified(|held| {
                let now = credentials(&self.cluster);
                let differs = *held != now;
                *held = now;
                differs
            });
        }
    }

    fn answer(&mut self) {
        for recorded in self.refused.drain(..) {
            let _ = recorded.send(());
        }
        for (reply, result) in self.replies.drain(..) {
            let _ = reply.send(result);
        }
        let epoch = self.cluster.get::<Meta>(&One).map(|meta| meta.epoch);
        for Greeting { reply, node, session, decided } in std::mem::take(&mut self.greetings) {
            let welcome = decided.and(epoch.ok_or(HelloRefused::NoCluster)).map_err(HelloRefusal::Refused);
            if reply.send(welcome).is_err() {
                tracing::debug!(%node, %session, "the session ended before it was welcome");
                self.turn_away(node, session);
            }
        }
    }

    /// Sends what follows from the committed records: newer sets, where else services run, questions.
    fn send(&mut self, records_changed: bool) {
        for (node, session) in &mut self.sessions {
            if records_changed || session.sent.is_none() {
                // The inventory of this session is recorded, so what the set does not name is not wanted; unless the store is
                // older than what runs.
                if let Some(set) = self.cluster.newer_set(*node, !self.live.restored, &mut session.sent) {
                    session.outbox.assign(set);
                }
            }
            if records_changed || session.elsewhere.is_none() {
                let elsewhere = self.cluster.elsewhere(*node);
                if session.elsewhere.as_ref() != Some(&elsewhere) {
                    session.outbox.elsewhere(elsewhere.clone());
                    session.elsewhere = Some(elsewhere);
                }
            }
        }
        for (node, word) in self.asks.drain(..) {
            // A question that does not reach the node counts as answered with no when its time is over.
            if let (Some(session), ControllerWord::ResolveImage { request, image, login }) =
                (self.sessions.get(&node), word)
                && let Err(error) = session.outbox.resolve_image(request, image, login)
            {
                tracing::warn!(%node, %error, "a question about an image was not asked");
            }
        }
    }

    /// The store did not take the batch: what memory holds was never true. Everybody who waits is told so, memory is what
    /// the store says, and every service is looked at again.
    fn reload(&mut self, why: &str) -> bool {
        self.note_not_stored(why);
        tracing::error!(why, "the store did not take a batch; nothing of it counts");
        for (reply, _) in self.replies.drain(..) {
            let _ = reply.send(Err(CommandError::NotStored(why.into())));
        }
        for Greeting { reply, node, session, .. } in std::mem::take(&mut self.greetings) {
            let said = format!("the inventory cannot be recorded: {why}");
            let _ = reply.send(Err(HelloRefusal::Unavailable(said)));
            self.turn_away(node, session);
        }
        self.asks.clear();
        self.audit.clear();
        self.refused.clear();
        match load(&self.store) {
            Ok(cluster) => {
                self.touched = cluster.all::<Service>().map(|service| service.id).collect();
                self.cluster = cluster;
                self.decide(Author::Controller, |cluster, live, cx| cluster.take_pictures_again(live, cx));
            }
            Err(error) => {
                // Neither written nor read: to decide on from a memory that was never stored would be a lie.
                tracing::error!(error = chain(&error), "the store cannot be read either; the controller stops");
                lapstrake_log::finish();
                std::process::exit(1);
            }
        }
        false
    }
}

pub(super) fn new_event(event: Event) -> NewEvent {
    let kind = serde_json::to_value(event.kind).ok().and_then(|kind| kind.as_str().map(str::to_owned));
    NewEvent {
        at_ms: event.wall.0,
        kind: kind.unwrap_or_default(),
        subject: event.path,
        text: event.sentence,
        by: event.by,
    }
}
