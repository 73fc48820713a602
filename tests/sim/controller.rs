//! The controller's process: the real decisions, driven as its engine drives them. Inputs are taken in batches, touched
//! services are looked at, everything is committed, and only then answered and sent.

use crate::event::{Event, MachineNumber, ProcessNumber, StreamNumber};
use crate::faults::Dies;
use crate::people::{self, Ticket};
use crate::world::World;
use lapstrake_core::access::Author;
use lapstrake_core::check::cluster as check;
use lapstrake_core::cluster::command::{Command, Outcome, Refusal};
use lapstrake_core::cluster::live::Live;
use lapstrake_core::cluster::state::{Node, Service};
use lapstrake_core::cluster::{Cluster, Context, Ids, Sent, Touched};
use lapstrake_core::ids::{NodeId, ServiceId, SessionId};
use lapstrake_core::liveness::{HEARTBEAT, LEASE};
use lapstrake_core::message::{AgentWord, ControllerWord, Elsewhere};
use lapstrake_core::reason::Reason;
use lapstrake_core::time::{Millis, Tick, earlier};
use std::collections::{BTreeMap, VecDeque};

/// A batch is committed when it has this many changes.
const COMMIT_AT: usize = 50;
/// So many inputs are taken before a commit.
const INPUTS_PER_BATCH: usize = 256;
/// Even when nobody asks to be woken, time passes this often.
const LONGEST_NAP: Millis = Millis(1_000);
/// After a commit failed.
const RETRY_COMMIT: u64 = 500;

/// What waits for the loop.
#[derive(Debug)]
pub enum Input {
    /// A person asks.
    Command(Ticket, Box<Command>),
    /// An agent says something, in this session.
    Word(StreamNumber, NodeId, SessionId, Box<AgentWord>),
    /// A stream has ended.
    Ended(NodeId, SessionId),
}

struct Session {
    id: SessionId,
    stream: StreamNumber,
    sent: Option<Sent>,
    elsewhere: Option<Vec<Elsewhere>>,
}

/// What a person is told once the batch is on disk.
pub type Reply = Result<Outcome, Vec<Refusal>>;

/// A process.
pub struct Controller {
    /// Which.
    pub process: ProcessNumber,
    /// The records.
    pub cluster: Cluster,
    /// The readings.
    pub live: Live,
    ids: Ids,
    sessions: BTreeMap<NodeId, Session>,
    touched: Touched,
    wakes: BTreeMap<ServiceId, Tick>,
    asks: Vec<(NodeId, ControllerWord)>,
    replies: Vec<(Ticket, Reply)>,
    greetings: Vec<(NodeId, SessionId, StreamNumber)>,
    inbox: VecDeque<Input>,
    turn_at: Option<u64>,
    turns: u64,
}

/// How a commit ended.
#[derive(PartialEq, Eq)]
enum Committed {
    Done,
    NotTaken,
    Dead,
}

impl World {
    /// A process begins with what the store holds.
    pub fn controller_starts(&mut self) {
        if self.controller.is_some() {
            return;
        }
        let process = self.number();
        let cluster = self.store.load();
        let broken = self.facts.missing(&cluster);
        self.judge(usize::MAX, broken);
        if self.facts.len() > 4 {
            self.coverage.count("promise", "8 acknowledged and found after a restart");
        }
        let tick = self.controller_clock.tick(self.at);
        let base = u128::from(self.controller_clock.wall(self.at).0) << 80 | self.rng.id() >> 48;
        self.trace.line(self.at, format_args!("controller {process} starts"));
        self.heard.clear();
        self.lost_before.clear();
        (self.listens_since, self.controller_away_until) = (self.at, self.at);
        self.controller = Some(Controller {
            process,
            live: cluster.unheard(tick),
            ids: Ids::from_base(base),
            sessions: BTreeMap::new(),
            touched: cluster.all::<Service>().map(|service| service.id).collect(),
            wakes: BTreeMap::new(),
            asks: Vec::new(),
            replies: Vec::new(),
            greetings: Vec::new(),
            inbox: VecDeque::new(),
            turn_at: None,
            turns: 0,
            cluster,
        });
        self.controller_wakes(self.at);
    }

    /// The process is gone, with everything that it had not committed.
    pub fn controller_dies(&mut self) {
        if self.controller.take().is_none() {
            return;
        }
        self.controller_death = None;
        self.trace.line(self.at, format_args!("the controller dies"));
        let streams: Vec<StreamNumber> = self.streams.keys().copied().collect();
        for stream in streams {
            self.end_stream(stream, true);
        }
        let delay = self.rng.between(100, 12_000);
        self.queue.push(self.at + delay, Event::ControllerStarts);
    }

    /// The loop goes round at this instant at the latest.
    pub fn controller_wakes(&mut self, at: u64) {
        let now = self.at;
        let Some(controller) = &mut self.controller else { return };
        if controller.turn_at.is_none_or(|planned| planned > at || planned < now) {
            controller.turn_at = Some(at);
            self.queue.push(at, Event::ControllerTurn(controller.process));
        }
    }

    /// Something waits for the loop.
    pub fn controller_takes(&mut self, input: Input) {
        let delay = self.rng.below(4);
        if let Some(controller) = &mut self.controller {
            controller.inbox.push_back(input);
            self.controller_wakes(self.at + delay);
        }
    }

    /// A word arrives on a stream.
    pub fn controller_hears(&mut self, number: StreamNumber, word: AgentWord) {
        let Some(stream) = self.streams.get(&number) else { return };
        let (node, session) = (stream.node, stream.session);
        if self.controller.as_ref().is_some_and(|controller| controller.process == stream.controller) {
            self.controller_takes(Input::Word(number, node, session, Box::new(word)));
        }
    }

    /// A word of a session that has ended arrives after the end.
    pub fn late_word(&mut self, session: SessionId, machine: MachineNumber, word: AgentWord) {
        let Some(node) = self.machines[machine].node else { return };
        if !matches!(word, AgentWord::Hello(_)) {
            self.coverage.count("fault", "word after the end");
            self.controller_takes(Input::Word(StreamNumber::MAX, node, session, Box::new(word)));
        }
    }

    /// The controller's side of a stream has ended.
    pub fn controller_loses(&mut self, number: StreamNumber) {
        let Some(stream) = self.streams.get(&number) else { return };
        let ended = Input::Ended(stream.node, stream.session);
        if self.controller.as_ref().is_some_and(|controller| controller.process == stream.controller) {
            self.controller_takes(ended);
        }
    }

    /// Once round.
    pub fn controller_turn(&mut self, process: ProcessNumber) {
        let at = self.at;
        let Some(controller) = self.controller.as_mut() else { return };
        if controller.process != process || controller.turn_at != Some(at) {
            return;
        }
        controller.turn_at = None;
        if at < self.controller_away_until {
            return self.controller_wakes(self.controller_away_until);
        }
        controller.turns += 1;
        for _ in 0..INPUTS_PER_BATCH {
            let Some(controller) = self.controller.as_mut() else { return };
            if controller.cluster.changes_waiting() >= COMMIT_AT {
                break;
            }
            let Some(input) = controller.inbox.pop_front() else { break };
            self.take(input);
        }
        self.pass_time();
        match self.settle() {
            Committed::Dead => return self.controller_dies(),
            Committed::NotTaken => return self.controller_wakes(at + RETRY_COMMIT),
            Committed::Done => {}
        }
        self.look_twice();
        let tick = self.controller_clock.tick(at);
        let Some(controller) = &self.controller else { return };
        let wake = earlier(controller.wakes.values().min().copied(), controller.live.wake(tick));
        let nap = wake.map_or(LONGEST_NAP, |wake| wake.since(tick).min(LONGEST_NAP));
        let nap = if controller.inbox.is_empty() { nap.0.max(1) } else { 1 };
        self.controller_wakes(at + nap);
    }

    fn decide<T>(
        &mut self,
        author: Author,
        decide: impl FnOnce(&mut Cluster, &mut Live, &mut Context<'_>) -> T,
    ) -> Option<T> {
        let (tick, wall) = (self.controller_clock.tick(self.at), self.controller_clock.wall(self.at));
        let Controller { cluster, live, ids, .. } = self.controller.as_mut()?;
        live.attend(tick);
        let mut context = Context { tick, wall, author, ids };
        Some(decide(cluster, live, &mut context))
    }

    fn touch(&mut self, services: Option<Touched>) {
        if let Some(controller) = &mut self.controller {
            controller.touched.extend(services.into_iter().flatten());
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Command(ticket, command) => self.take_command(ticket, *command),
            Input::Word(stream, node, session, word) => self.take_word(stream, node, session, *word),
            Input::Ended(node, session) => {
                let touched =
                    self.decide(Author::Controller, |cluster, live, _| cluster.session_ended(live, node, session));
                self.touch(touched);
                self.forget(node, session);
            }
        }
    }

    fn take_command(&mut self, ticket: Ticket, command: Command) {
        let author = match command {
            Command::EnrolNode(_) => Author::Applicant { address: people::ADDRESS },
            _ => people::ada(),
        };
        let Some(result) = self.decide(author, |cluster, live, cx| cluster.command(live, command, cx)) else { return };
        if let Ok(outcome) = &result {
            self.touch(Some(outcome.touched.clone()));
        }
        if let Some(controller) = &mut self.controller {
            controller.replies.push((ticket, result));
        }
    }

    fn take_word(&mut self, stream: StreamNumber, node: NodeId, session: SessionId, word: AgentWord) {
        let known = self.controller.as_ref().and_then(|controller| controller.live.session(node));
        match word {
            AgentWord::Hello(hello) => self.take_hello(stream, node, session, hello),
            AgentWord::Heartbeat { number, used } => {
                let tick = self.controller_clock.tick(self.at);
                let taken = self
                    .decide(Author::Controller, |_, live, _| live.heartbeat(node, session, used, tick))
                    .unwrap_or(false);
                if taken {
                    self.hears(node);
                    self.say_down(stream, ControllerWord::HeartbeatAnswer { number });
                } else {
                    self.forget(node, session);
                    self.end_stream(stream, true);
                }
            }
            AgentWord::Report(report) => {
                if known != Some(session) {
                    self.coverage.count("promise", "4 a report of an ended session was dropped");
                } else {
                    self.hears(node);
                }
                let touched = self
                    .decide(Author::Controller, |cluster, live, cx| cluster.report(live, node, session, report, cx));
                self.touch(touched);
            }
            AgentWord::Credentials(_) => {}
            AgentWord::ImageResolved { request, outcome } => {
                let touched = self.decide(Author::Controller, |cluster, live, _| {
                    cluster.image_resolved(live, node, request, outcome)
                });
                self.touch(touched);
            }
        }
    }

    fn take_hello(
        &mut self,
        stream: StreamNumber,
        node: NodeId,
        session: SessionId,
        hello: lapstrake_core::message::Hello,
    ) {
        let result = self.decide(Author::Controller, |cluster, live, cx| {
            // A refusal may have quarantined the node, which is stored.
            cluster.hello(live, session, hello, cx)
        });
        let Some(Ok(touched)) = result else { return self.end_stream(stream, true) };
        self.hears(node);
        self.touch(Some(touched));
        let Some(controller) = &mut self.controller else { return };
        let earlier = controller.sessions.insert(node, Session { id: session, stream, sent: None, elsewhere: None });
        controller.greetings.push((node, session, stream));
        if let Some(earlier) = earlier.filter(|earlier| earlier.stream != stream) {
            self.end_stream(earlier.stream, true);
        }
    }

    fn forget(&mut self, node: NodeId, session: SessionId) {
        if let Some(controller) = &mut self.controller
            && controller.sessions.get(&node).is_some_and(|held| held.id == session)
        {
            controller.sessions.remove(&node);
        }
    }

    fn pass_time(&mut self) {
        let touched = self.decide(Author::Controller, |cluster, live, cx| cluster.pass_time(live, cx));
        self.touch(touched);
        let tick = self.controller_clock.tick(self.at);
        let Some(controller) = &mut self.controller else { return };
        let due = controller.wakes.iter().filter(|(_, wake)| **wake <= tick).map(|(service, _)| *service);
        controller.touched.extend(due);
    }

    fn settle(&mut self) -> Committed {
        loop {
            let Some(controller) = &mut self.controller else { return Committed::Dead };
            let Some(service) = controller.touched.pop_first() else { break };
            let Some(follow) =
                self.decide(Author::Controller, |cluster, live, cx| cluster.reconcile(live, service, cx))
            else {
                return Committed::Dead;
            };
            self.judge_waits(service, &follow);
            let Some(controller) = &mut self.controller else { return Committed::Dead };
            controller.asks.extend(follow.asks);
            controller.touched.extend(follow.touched);
            match follow.wake {
                Some(wake) => controller.wakes.insert(service, wake),
                None => controller.wakes.remove(&service),
            };
            if controller.cluster.changes_waiting() >= COMMIT_AT {
                match self.commit() {
                    Committed::Done => {}
                    other => return other,
                }
            }
        }
        self.commit()
    }

    fn commit(&mut self) -> Committed {
        let at = self.at;
        let Some(controller) = &mut self.controller else { return Committed::Dead };
        let changes = controller.cluster.take_changes();
        let events = controller.cluster.take_events();
        if !changes.is_empty() || !events.is_empty() {
            for event in &events {
                self.trace.line(at, format_args!("{}: {}", event.path, event.sentence));
            }
            if self.controller_death == Some(Dies::BeforeWrite) {
                self.coverage.count("fault", "controller crash before commit");
                return Committed::Dead;
            }
            if !self.store.commit(&changes, events.len()) {
                self.reload();
                return Committed::NotTaken;
            }
            self.judge_commit(&changes);
            if self.controller_death == Some(Dies::AfterWrite) {
                self.coverage.count("fault", "controller crash after commit");
                return Committed::Dead;
            }
        }
        self.cut_removed();
        self.answer();
        self.send(!changes.is_empty());
        Committed::Done
    }

    fn cut_removed(&mut self) {
        let Some(controller) = &mut self.controller else { return };
        let known = |node: &NodeId| controller.cluster.get::<Node>(node).is_some();
        let gone: Vec<NodeId> = controller.sessions.keys().filter(|node| !known(node)).copied().collect();
        let streams: Vec<StreamNumber> =
            gone.iter().filter_map(|node| controller.sessions.remove(node)).map(|session| session.stream).collect();
        for stream in streams {
            self.end_stream(stream, true);
        }
    }

    fn answer(&mut self) {
        let Some(controller) = &mut self.controller else { return };
        let replies = std::mem::take(&mut controller.replies);
        let greetings = std::mem::take(&mut controller.greetings);
        let epoch = controller.cluster.meta().map(|meta| meta.epoch);
        for (ticket, reply) in replies {
            self.person_hears(ticket, reply);
        }
        for (_, session, stream) in greetings {
            let Some(epoch) = epoch else { continue };
            let welcome =
                ControllerWord::Welcome { session, epoch, lease: LEASE, heartbeat: HEARTBEAT, trust: String::new() };
            self.say_down(stream, welcome);
        }
    }

    fn send(&mut self, records_changed: bool) {
        let Some(controller) = &mut self.controller else { return };
        let mut words = Vec::new();
        for (node, session) in &mut controller.sessions {
            if (session.sent.is_none() || records_changed)
                && let Some(set) = controller.cluster.newer_set(*node, true, &mut session.sent)
            {
                words.push((session.stream, ControllerWord::Assignments(set)));
            }
            if records_changed || session.elsewhere.is_none() {
                let elsewhere = controller.cluster.elsewhere(*node);
                if session.elsewhere.as_ref() != Some(&elsewhere) {
                    words.push((session.stream, ControllerWord::Elsewhere(elsewhere.clone())));
                    session.elsewhere = Some(elsewhere);
                }
            }
        }
        for (node, word) in std::mem::take(&mut controller.asks) {
            words.extend(controller.sessions.get(&node).map(|session| (session.stream, word)));
        }
        for (stream, word) in words {
            self.say_down(stream, word);
        }
    }

    /// The store did not take the batch: what memory holds was never true.
    fn reload(&mut self) {
        self.trace.line(self.at, format_args!("the store did not take a batch"));
        let cluster = self.store.load();
        let Some(controller) = &mut self.controller else { return };
        let replies = std::mem::take(&mut controller.replies);
        let greetings = std::mem::take(&mut controller.greetings);
        controller.asks.clear();
        controller.touched = cluster.all::<Service>().map(|service| service.id).collect();
        controller.cluster = cluster;
        self.decide(Author::Controller, |cluster, live, cx| cluster.take_pictures_again(live, cx));
        for (node, session, stream) in greetings {
            self.forget(node, session);
            self.end_stream(stream, true);
        }
        for (ticket, _) in replies {
            self.coverage.count("promise", "8 a failed commit was not acknowledged");
            self.person_waits_in_vain(ticket);
        }
    }

    /// Invariant 5, of the cluster.
    fn look_twice(&mut self) {
        let tick = self.controller_clock.tick(self.at);
        let Some(controller) = &self.controller else { return };
        // It costs as much as many turns, so it is not done at each.
        if controller.turns.is_multiple_of(4) && !self.somebody_waits_for_room() {
            let broken = check::of_a_second_look(&controller.cluster, &controller.live, tick);
            self.coverage.count("promise", "5 a second look changed nothing");
            self.judge(usize::MAX, broken);
        }
    }

    /// What one service gives up another one may want; that one looks again when the node reports what became of it.
    fn somebody_waits_for_room(&self) -> bool {
        let live = self.controller.as_ref().map(|controller| &controller.live);
        let mut waits = live.into_iter().flat_map(|live| live.waits.values().flatten());
        waits.any(|wait| matches!(wait.reason, Reason::NoFittingNode { .. }))
    }
}
