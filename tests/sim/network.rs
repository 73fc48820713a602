//! The streams between agents and the controller: in order within one, and cut, stalled or ended at any moment.

use crate::event::{Event, Home, MachineNumber, ProcessNumber, StreamNumber};
use crate::world::World;
use lapstrake_core::ids::{NodeId, SessionId};
use lapstrake_core::liveness::LEASE;
use lapstrake_core::message::{AgentWord, ControllerWord};
use std::collections::VecDeque;

/// One stream: one registration of an agent.
#[derive(Debug)]
pub struct Stream {
    /// The agent that dialled.
    pub home: Home,
    /// As which node.
    pub node: NodeId,
    /// As which session the controller knows it.
    pub session: SessionId,
    /// The controller's process that took it.
    pub controller: ProcessNumber,
    /// Whether each side still has it.
    pub agent_has: bool,
    /// The controller's side.
    pub controller_has: bool,
    up: VecDeque<AgentWord>,
    down: VecDeque<ControllerWord>,
    up_at: u64,
    down_at: u64,
    heard_at: u64,
}

impl World {
    /// An agent opens a stream; `None` while nobody answers.
    pub fn open_stream(&mut self, home: Home, node: NodeId) -> Option<StreamNumber> {
        let cut = self.machines[home.machine].cut;
        let controller = self.controller.as_ref().map(|controller| controller.process)?;
        if cut.0 || cut.1 {
            return None;
        }
        let number = self.number();
        let session = SessionId(self.rng.id());
        let stream = Stream {
            home,
            node,
            session,
            controller,
            agent_has: true,
            controller_has: true,
            up: VecDeque::new(),
            down: VecDeque::new(),
            up_at: self.at,
            down_at: self.at,
            heard_at: self.at,
        };
        self.streams.insert(number, stream);
        self.queue.push(self.at + 3_000, Event::StreamIdle(number));
        Some(number)
    }

    /// Mostly quick, sometimes not.
    fn latency(&mut self) -> u64 {
        if self.rng.percent(3) { self.rng.between(100, 1_500) } else { self.rng.between(1, 20) }
    }

    /// The agent says something.
    pub fn say_up(&mut self, number: StreamNumber, word: AgentWord) {
        let latency = self.latency();
        let Some(stream) = self.streams.get_mut(&number).filter(|stream| stream.agent_has) else { return };
        stream.up.push_back(word);
        stream.up_at = stream.up_at.max(self.at + latency);
        self.queue.push(stream.up_at, Event::Deliver { stream: number, up: true });
    }

    /// The controller says something.
    pub fn say_down(&mut self, number: StreamNumber, word: ControllerWord) {
        let latency = self.latency();
        let Some(stream) = self.streams.get_mut(&number).filter(|stream| stream.controller_has) else { return };
        stream.down.push_back(word);
        stream.down_at = stream.down_at.max(self.at + latency);
        self.queue.push(stream.down_at, Event::Deliver { stream: number, up: false });
    }

    /// The next word of a stream arrives, unless the way is cut: then it waits.
    pub fn deliver(&mut self, number: StreamNumber, up: bool) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let cut = self.machines[stream.home.machine].cut;
        if up && !cut.1 {
            let Some(word) = stream.up.pop_front() else { return };
            stream.heard_at = self.at;
            if stream.controller_has {
                self.heard_from_agent(number, word);
            }
        } else if !up && !cut.0 {
            let Some(word) = stream.down.pop_front() else { return };
            if stream.agent_has {
                self.heard_from_controller(number, word);
            }
        }
    }

    /// What the agent said reaches the controller; some words come twice.
    fn heard_from_agent(&mut self, number: StreamNumber, word: AgentWord) {
        let may_double = matches!(word, AgentWord::Report(_) | AgentWord::Heartbeat { .. });
        if may_double && !self.calm && self.rng.percent(3) {
            self.coverage.count("fault", "word doubled");
            self.controller_hears(number, word.clone());
        }
        self.controller_hears(number, word);
    }

    /// One side ends a stream; the other notices later, or at its own deadline.
    pub fn end_stream(&mut self, number: StreamNumber, by_controller: bool) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let machine = stream.home.machine;
        if by_controller {
            stream.controller_has = false;
        } else {
            stream.agent_has = false;
        }
        let cut = self.machines[machine].cut;
        self.spill(number);
        if !(cut.0 || cut.1) {
            let delay = self.rng.between(1, 800);
            let at_controller = !by_controller;
            self.queue.push(self.at + delay, Event::StreamEnds { stream: number, at_controller });
        }
    }

    /// Both sides lose a stream, each at its own time.
    pub fn cut_stream(&mut self, number: StreamNumber) {
        for at_controller in [false, true] {
            let delay = self.rng.between(1, 2_000);
            self.queue.push(self.at + delay, Event::StreamEnds { stream: number, at_controller });
        }
    }

    /// What was under way when the agent's side ended: a set may have been handed over already, a report may lie in the
    /// controller's queue.
    fn spill(&mut self, number: StreamNumber) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let (home, session) = (stream.home, stream.session);
        let down = if stream.agent_has { VecDeque::new() } else { std::mem::take(&mut stream.down) };
        let up = if stream.controller_has { VecDeque::new() } else { std::mem::take(&mut stream.up) };
        for word in down {
            if let ControllerWord::Assignments(set) = word
                && self.rng.percent(50)
            {
                let delay = self.rng.between(1, 5_000);
                self.queue.push(self.at + delay, Event::LateSet(home, Box::new(set)));
            }
        }
        for word in up {
            let delay = self.rng.between(1, 5_000);
            let late = Event::LateWord { session, machine: home.machine, word: Box::new(word) };
            self.queue.push(self.at + delay, late);
        }
    }

    /// One side notices that a stream has ended.
    pub fn stream_ends(&mut self, number: StreamNumber, at_controller: bool) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        if at_controller && stream.controller_has {
            stream.controller_has = false;
            self.spill(number);
            self.controller_loses(number);
        } else if !at_controller && stream.agent_has {
            stream.agent_has = false;
            let home = stream.home;
            self.spill(number);
            self.agent_loses(home, number);
        }
        self.streams.retain(|_, stream| stream.agent_has || stream.controller_has);
    }

    /// The controller gives up a stream that was silent for longer than a lease.
    pub fn stream_idle(&mut self, number: StreamNumber) {
        let Some(stream) = self.streams.get(&number).filter(|stream| stream.controller_has) else { return };
        if self.at - stream.heard_at > LEASE.0 {
            self.stream_ends(number, true);
        } else {
            self.queue.push(self.at + 2_000, Event::StreamIdle(number));
        }
    }

    /// A way is open again: what waited goes on, in order.
    pub fn flush_streams(&mut self, machine: MachineNumber) {
        for (number, stream) in self.streams.iter_mut().filter(|(_, stream)| stream.home.machine == machine) {
            stream.up_at = stream.up_at.max(self.at);
            stream.down_at = stream.down_at.max(self.at);
            for _ in 0..stream.up.len() {
                stream.up_at += 1;
                self.queue.push(stream.up_at, Event::Deliver { stream: *number, up: true });
            }
            for _ in 0..stream.down.len() {
                stream.down_at += 1;
                self.queue.push(stream.down_at, Event::Deliver { stream: *number, up: false });
            }
        }
    }

    /// The open streams of a machine.
    pub fn streams_of(&self, machine: MachineNumber) -> Vec<StreamNumber> {
        let of = self.streams.iter().filter(|(_, stream)| stream.home.machine == machine);
        of.map(|(number, _)| *number).collect()
    }
}
