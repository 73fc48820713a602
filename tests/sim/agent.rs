//! An agent's process: the real decisions, with the ledger, the session and the picture that they work on.

use crate::event::{Event, Home, MachineNumber, StreamNumber};
use crate::execute::Desk;
use crate::faults::Dies;
use crate::world::World;
use lapstrake_core::assignment::AssignmentSet;
use lapstrake_core::check::node::{check_ledger, check_plan, check_settled};
use lapstrake_core::ids::{BootId, ClusterId};
use lapstrake_core::message::{AgentWord, ControllerWord, Elsewhere, Hello};
use lapstrake_core::node::ledger::{Ledger, NotAccepted};
use lapstrake_core::node::seen::{Now, Proxy, Seen};
use lapstrake_core::node::{advance, plan};
use lapstrake_core::report::{NodeReport, Use};
use lapstrake_core::routes::RouteTable;
use lapstrake_core::time::{Millis, Tick};
use lapstrake_core::values::Body;
use std::collections::VecDeque;

/// Decided again after so long even if nothing is known to have changed.
const LONGEST_SLEEP: Millis = Millis(10_000);
/// After a ledger could not be written: doubled each time.
const FIRST_RETRY: Millis = Millis(500);
/// The longest pause between two attempts to write.
const LONGEST_RETRY: Millis = Millis(10_000);
/// From the hello to the welcome.
const WELCOME_WITHIN: u64 = 10_000;

/// A process.
pub struct Agent {
    /// Which.
    pub home: Home,
    /// The memory, as it was last written.
    pub ledger: Ledger,
    /// The picture.
    pub seen: Seen,
    /// Sets that came and are not taken yet, in the order in which they came.
    pub orders: VecDeque<AssignmentSet>,
    /// What runs elsewhere, as last heard.
    pub elsewhere: Option<Vec<Elsewhere>>,
    retry: Option<(Tick, Millis)>,
    /// What is under way.
    pub desk: Desk,
    turn_at: Option<u64>,
    /// When the engine's next list is due.
    pub list_at: u64,
    /// The newest table that was written and sent.
    pub published: Option<RouteTable>,
    /// The newest picture for the controller.
    pub report: NodeReport,
    /// The registration.
    pub session: Option<Session>,
    failed_dials: u32,
}

/// A registration, as the agent knows it.
pub struct Session {
    /// The stream.
    pub stream: StreamNumber,
    /// When it was opened.
    since: Tick,
    terms: Option<(Millis, Millis)>,
    number: u64,
    next_beat: u64,
    sent: VecDeque<(u64, Tick)>,
    answered: Tick,
    told: NodeReport,
}

impl World {
    /// The agent that this is for, if it still lives.
    pub fn agent(&mut self, home: Home) -> Option<&mut Agent> {
        self.machines[home.machine].agent.as_mut().filter(|agent| agent.home == home)
    }

    /// Looks at the loop again soon.
    pub fn wake(&mut self, home: Home) {
        let delay = self.rng.below(3);
        self.wake_at(home, self.at + delay);
    }

    fn wake_at(&mut self, home: Home, at: u64) {
        let now = self.at;
        let Some(agent) = self.agent(home) else { return };
        if agent.turn_at.is_none_or(|planned| planned > at || planned < now) {
            agent.turn_at = Some(at);
            self.queue.push(at, Event::AgentTurn(home));
        }
    }

    /// A process begins, with what the disk holds and with what it sees of the proxies.
    pub fn agent_starts(&mut self, number: MachineNumber) {
        let process = self.number();
        let at = self.at;
        let Some(cluster) = self.cluster_id else { return };
        let machine = &mut self.machines[number];
        let (Some(node), None) = (machine.node, &machine.agent) else { return };
        let now = machine.now(at);
        let read: Option<Ledger> = machine.disk.ledger.as_ref().and_then(|text| serde_json::from_str(text).ok());
        let own = read.filter(|ledger| ledger.cluster == cluster && ledger.node == node);
        let mut ledger = own.unwrap_or_else(|| Ledger::new(cluster, node, now.boot, &machine.config));
        let table = machine.disk.table.clone();
        if let Some(table) = table.as_ref().filter(|table| table.generation > ledger.table.generation) {
            ledger.table = table.clone();
        }
        let proxies = machine.proxies.keys().map(|pid| Proxy { pid: *pid, acknowledged: 0, leaving: [].into() });
        let seen = Seen {
            capacity: machine.capacity,
            disks: Some(Vec::new()),
            agent_started: now.tick,
            proxies: proxies.collect(),
            table_written: table.as_ref().map_or(0, |table| table.generation),
            ..Seen::default()
        };
        let report = plan(&ledger, &seen, &machine.config, now).report;
        let home = Home { machine: number, process };
        machine.agent = Some(Agent {
            home,
            ledger,
            seen,
            orders: VecDeque::new(),
            elsewhere: None,
            retry: None,
            desk: Desk::default(),
            turn_at: None,
            list_at: at + 20,
            published: table,
            report,
            session: None,
            failed_dials: 0,
        });
        let pids: Vec<u32> = machine.proxies.keys().copied().collect();
        self.trace.line(at, format_args!("node-{number}: agent {process} starts"));
        self.queue.push(at + 20, Event::List(home));
        for pid in pids {
            self.queue.push(at + 10, Event::ProxyConnects(home, pid));
        }
        self.queue.push(at + 1_000, Event::ProxyScan(home));
        self.queue.push(at + 30, Event::AgentDials(home));
        self.wake(home);
    }

    /// Once round: the ledger moves and is written, what follows from it is done.
    pub fn agent_turn(&mut self, home: Home) {
        let at = self.at;
        let Some(agent) = self.agent(home).filter(|agent| agent.turn_at == Some(at)) else { return };
        agent.turn_at = None;
        if !self.move_ledger(home) {
            return;
        }
        let machine = &self.machines[home.machine];
        let Some(agent) = &machine.agent else { return };
        let now = machine.now(at);
        let plan = plan(&agent.ledger, &agent.seen, &machine.config, now);
        let broken = check_plan(&agent.ledger, &agent.seen, &plan);
        let mute = plan.waits.iter().any(|(_, why)| why.to_string().is_empty());
        let wake = lapstrake_core::time::earlier(plan.wake, agent.retry.map(|retry| retry.0));
        let rest = agent.desk.next_try(now.tick);
        let wake = lapstrake_core::time::earlier(wake, rest).unwrap_or(now.tick + LONGEST_SLEEP);
        let clock = machine.clock;
        self.judge(home.machine, broken);
        if wake <= now.tick {
            self.broken(0, format!("node-{} wants to be awake at {wake:?}, and it is {:?}", home.machine, now.tick));
        }
        if mute {
            self.broken(0, format!("node-{} waits and does not say why", home.machine));
        }
        for (_, why) in &plan.waits {
            self.coverage.count("promise", "a wait had a reason");
            if let lapstrake_core::node::reason::Reason::Stray { .. } = why {
                self.coverage.count("wait", "stray");
            }
        }
        if !self.execute(home, plan.actions) {
            return;
        }
        if let Some(agent) = self.agent(home) {
            agent.report = plan.report;
        }
        self.tell_report(home);
        let wake = clock.when(wake).max(at + 1).min(at + LONGEST_SLEEP.0);
        self.wake_at(home, wake);
    }

    /// Takes in a set and what is seen, and writes the ledger if that changed it. False when the agent has died of it.
    fn move_ledger(&mut self, home: Home) -> bool {
        let at = self.at;
        let machine = &self.machines[home.machine];
        let Some(agent) = &machine.agent else { return false };
        let now = machine.now(at);
        let mut next = agent.ledger.clone();
        let mut changed = false;
        let mut older = false;
        if let Some(set) = agent.orders.front() {
            match next.accept(set.clone(), now) {
                Ok(()) => changed = true,
                Err(NotAccepted::Older) => older = true,
            }
        }
        if let Some(elsewhere) = agent.elsewhere.clone() {
            changed |= next.set_elsewhere(elsewhere);
        }
        changed |= advance(&mut next, &agent.seen, &machine.config, now);
        let broken = check_ledger(&agent.ledger, &next, &agent.seen, now);
        self.judge(home.machine, broken);
        if older {
            self.coverage.count("promise", "4 an older set was refused");
            self.agent(home).map(|agent| agent.orders.pop_front());
        }
        if changed {
            return self.write_ledger(home, next, now);
        }
        if let Some(agent) = self.agent(home) {
            agent.retry = None;
        }
        true
    }

    fn write_ledger(&mut self, home: Home, next: Ledger, now: Now) -> bool {
        let full = self.machines[home.machine].disk.full;
        let dies = self.machines[home.machine].dies;
        let Some(agent) = self.agent(home) else { return false };
        if agent.retry.is_some_and(|(at, _)| now.tick < at) {
            return true;
        }
        if full {
            let pause = agent.retry.map_or(FIRST_RETRY, |(_, pause)| Millis((pause.0 * 2).min(LONGEST_RETRY.0)));
            agent.retry = Some((now.tick + pause, pause));
            self.trace.line(self.at, format_args!("node-{}: the ledger cannot be written", home.machine));
            return true;
        }
        if dies == Some(Dies::BeforeWrite) {
            self.coverage.count("fault", "agent crash before ledger write");
            self.agent_dies(home.machine);
            return false;
        }
        self.note_ledger(home.machine, &next, now);
        let Some(agent) = self.agent(home) else { return false };
        if agent.orders.front().map(|set| set.generation) == next.generation {
            agent.orders.pop_front();
        }
        agent.ledger = next;
        agent.retry = None;
        if dies == Some(Dies::AfterWrite) {
            self.coverage.count("fault", "agent crash after ledger write");
            self.agent_dies(home.machine);
            return false;
        }
        let machine = &self.machines[home.machine];
        let Some(agent) = &machine.agent else { return false };
        let broken = check_settled(&agent.ledger, &agent.seen, &machine.config, now);
        let more = !agent.orders.is_empty();
        self.judge(home.machine, broken);
        if more {
            self.wake_at(home, self.at + 1);
        }
        true
    }

    /// The process is gone; what it had written stays.
    pub fn agent_dies(&mut self, number: MachineNumber) {
        let machine = &mut self.machines[number];
        machine.dies = None;
        let Some(agent) = machine.agent.take() else { return };
        let text = serde_json::to_string(&agent.ledger).expect("a ledger can be written");
        let read: Result<Ledger, _> = serde_json::from_str(&text);
        let same = read.is_ok_and(|read| read == agent.ledger);
        machine.disk.ledger = Some(text);
        self.trace.line(self.at, format_args!("node-{number}: agent {} dies", agent.home.process));
        if !same {
            self.broken(8, format!("the ledger of node-{number} is read otherwise than it was written"));
        }
        if let Some(session) = agent.session {
            self.end_stream(session.stream, false);
        }
        let delay = self.rng.between(50, 5_000);
        self.queue.push(self.at + delay, Event::AgentStarts(number));
    }

    /// Opens a session, or tries again later.
    pub fn agent_dials(&mut self, home: Home) {
        let (at, cluster) = (self.at, self.cluster_id.unwrap_or(ClusterId(0)));
        let machine = &self.machines[home.machine];
        let (Some(node), Some(agent)) = (machine.node, &machine.agent) else { return };
        if agent.home != home || agent.session.is_some() {
            return;
        }
        let hello = hello(cluster, node, machine.boot, machine.now(at), agent.report.clone());
        let failed = agent.failed_dials;
        let Some(stream) = self.open_stream(home, node) else {
            let pause = self.rng.between(100, 400 << failed.min(4));
            self.queue.push(at + pause, Event::AgentDials(home));
            if let Some(agent) = self.agent(home) {
                agent.failed_dials += 1;
            }
            return;
        };
        let told = hello.report.clone();
        let since = self.machines[home.machine].clock.tick(at);
        if let Some(agent) = self.agent(home) {
            let sent = VecDeque::new();
            agent.session =
                Some(Session { stream, since, terms: None, number: 0, next_beat: 0, sent, answered: since, told });
        }
        self.say_up(stream, AgentWord::Hello(hello));
        self.queue.push(at + WELCOME_WITHIN, Event::HeartbeatDue(home, stream));
    }

    /// The agent's side of a stream has ended.
    pub fn agent_loses(&mut self, home: Home, stream: StreamNumber) {
        let pause = self.rng.between(50, 1_500);
        let Some(agent) = self.agent(home) else { return };
        if agent.session.as_ref().is_some_and(|session| session.stream == stream) {
            agent.session = None;
            self.queue.push(self.at + pause, Event::AgentDials(home));
        }
    }

    /// Gives a sign of life, or gives the session up when none was answered for a lease.
    pub fn heartbeat_due(&mut self, home: Home, stream: StreamNumber) {
        let at = self.at;
        let tick = self.machines[home.machine].clock.tick(at);
        let jitter = self.rng.below(100);
        let Some(agent) = self.agent(home) else { return };
        let Some(session) = agent.session.as_mut().filter(|session| session.stream == stream) else { return };
        let Some((lease, period)) = session.terms else {
            if tick.since(session.since).0 >= WELCOME_WITHIN - 100 {
                self.end_stream(stream, false);
                self.agent_loses(home, stream);
            }
            return;
        };
        if session.next_beat != at {
            return;
        }
        if tick.since(session.answered) > lease {
            self.end_stream(stream, false);
            self.agent_loses(home, stream);
            return;
        }
        session.number += 1;
        session.sent.push_back((session.number, tick));
        let word = AgentWord::Heartbeat { number: session.number, used: Use::default() };
        let next = at + period.0 + jitter;
        session.next_beat = next;
        self.queue.push(next, Event::HeartbeatDue(home, stream));
        self.say_up(stream, word);
    }

    fn tell_report(&mut self, home: Home) {
        let Some(agent) = self.agent(home) else { return };
        let report = &agent.report;
        let Some(session) = agent.session.as_mut().filter(|one| one.terms.is_some() && one.told != *report) else {
            return;
        };
        session.told = report.clone();
        let (stream, word) = (session.stream, AgentWord::Report(report.clone()));
        self.say_up(stream, word);
    }

    /// The agent hears the controller.
    pub fn heard_from_controller(&mut self, number: StreamNumber, word: ControllerWord) {
        let Some(home) = self.streams.get(&number).map(|stream| stream.home) else { return };
        let at = self.at;
        let tick = self.machines[home.machine].clock.tick(at);
        let Some(agent) = self.agent(home) else { return };
        let Some(session) = agent.session.as_mut().filter(|session| session.stream == number) else { return };
        match word {
            ControllerWord::Welcome { lease, heartbeat, .. } => {
                session.terms = Some((lease, heartbeat));
                session.answered = tick;
                session.next_beat = at + 1;
                agent.failed_dials = 0;
                self.queue.push(at + 1, Event::HeartbeatDue(home, number));
                self.tell_report(home);
            }
            ControllerWord::HeartbeatAnswer { number } => {
                let sent_at = session.sent.iter().find(|(sent, _)| *sent == number).map(|(_, at)| *at);
                session.sent.retain(|(sent, _)| *sent > number);
                if let Some(sent_at) = sent_at {
                    session.answered = tick;
                    agent.seen.lease_ends = Some(sent_at + session.terms.map_or(Millis(0), |(lease, _)| lease));
                }
            }
            ControllerWord::Assignments(mut set) => {
                // Nobody here opens and seals: what the one side's store holds the other side's ledger takes.
                for value in set.values.values_mut() {
                    if let Body::Stored { sealed, .. } = &value.body {
                        value.body = Body::Sealed(sealed.clone());
                    }
                }
                agent.orders.push_back(set);
                self.wake(home);
            }
            ControllerWord::Elsewhere(services) => {
                agent.elsewhere = Some(services);
                self.wake(home);
            }
            ControllerWord::ResolveImage { request, image, .. } => {
                let delay = self.rng.between(10, 500);
                self.queue.push(self.at + delay, Event::Resolved { home, stream: number, request, image });
            }
            ControllerWord::SendLogs { .. }
            | ControllerWord::OpenTunnel { .. }
            | ControllerWord::CloseTunnel { .. }
            | ControllerWord::Trust { .. } => {}
        }
    }

    /// A set that an earlier session had handed over comes after the newer ones.
    pub fn late_set(&mut self, home: Home, set: AssignmentSet) {
        self.coverage.count("fault", "old set again");
        if let Some(agent) = self.agent(home) {
            agent.orders.push_back(set);
            self.wake(home);
        }
    }
}

fn hello(cluster: ClusterId, node: lapstrake_core::ids::NodeId, boot: BootId, now: Now, report: NodeReport) -> Hello {
    let (version, architecture) = ("0.1.0".into(), "amd64".into());
    Hello { cluster, node, boot, version, architecture, wall: now.wall, report }
}
