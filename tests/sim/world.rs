//! A whole cluster in one process: machines, network, disks, people, and the real decisions in the middle. One seed, one
//! queue of events, no clock and no thread: what happened once happens again.

use crate::controller::Controller;
use crate::coverage::Coverage;
use crate::event::{Event, StreamNumber};
use crate::facts::Facts;
use crate::faults::Dies;
use crate::images;
use crate::judge::{Alone, Memory, Once};
use crate::machine::{Clock, Machine};
use crate::network::Stream;
use crate::people::{APPLICATION, People, token_of_ada};
use crate::queue::Queue;
use crate::rng::Rng;
use crate::store::Store;
use crate::trace::Trace;
use lapstrake_core::cluster::command::Command;
use lapstrake_core::cluster::state::Meta;
use lapstrake_core::cluster::{Cluster, Key, One, Record};
use lapstrake_core::ids::{BootId, ClusterId, EpochId, NodeId};
use lapstrake_core::message::{AgentWord, ResolvedImage};
use lapstrake_core::report::Capacity;
use std::collections::{BTreeMap, BTreeSet};

/// Nothing breaks before everything has begun.
const FAULTS_FROM: u64 = 5_000;
/// How long things break, in simulated milliseconds.
const FAULTS_LAST: (u64, u64) = (20_000, 55_000);
/// More events than any run needs: a world that does not come to rest is broken.
const MOST_EVENTS: u64 = 400_000;

/// The world.
pub struct World {
    /// The instant, in milliseconds.
    pub at: u64,
    /// Chance.
    pub rng: Rng,
    /// What is still to happen.
    pub queue: Queue,
    /// What happened.
    pub trace: Trace,
    /// How often.
    pub coverage: Coverage,
    /// The workers.
    pub machines: Vec<Machine>,
    /// What the judge remembers of each of them.
    pub memory: Vec<Memory>,
    /// The controller's process, while there is one.
    pub controller: Option<Controller>,
    /// The clocks of its machine.
    pub controller_clock: Clock,
    /// Where it shall die next.
    pub controller_death: Option<Dies>,
    /// Its disk.
    pub store: Store,
    /// What the disk holds, as a cluster.
    pub committed: Cluster,
    /// How many commits there were.
    pub commits: u64,
    /// When the controller last heard of each node, since it started.
    pub heard: BTreeMap<NodeId, u64>,
    /// What is known of the slots that are to be alone.
    pub alone: Alone,
    /// Since when it listens, after a start or after it was away for so long that it must have noticed.
    pub listens_since: u64,
    /// Who was lost already when it was away last.
    pub lost_before: BTreeSet<NodeId>,
    /// Until when its process does nothing, though it lives.
    pub controller_away_until: u64,
    /// Connections between agents and the controller.
    pub streams: BTreeMap<StreamNumber, Stream>,
    /// What people want.
    pub people: People,
    /// What people were promised.
    pub facts: Facts,
    /// Whose cluster it is, once the store has been made.
    pub cluster_id: Option<ClusterId>,
    /// What is known of jobs that run once.
    pub once: Once,
    /// Whether the registry gives nothing.
    pub registry_down: bool,
    /// Whether nothing breaks any more.
    pub calm: bool,
    /// From when on.
    pub calm_at: u64,
    /// Whether the run is over.
    pub done: bool,
    /// The first promise that was broken.
    pub broken: Option<String>,
    /// How many events there were.
    pub events: u64,
    numbers: u64,
}

impl World {
    /// The world of a seed.
    pub fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let clock = Clock {
            booted: 0,
            offset: rng.below(1_000_000),
            drift: rng.below(400) as i64 - 200,
            wall: 1_760_000_000_000,
        };
        let mut world = World {
            at: 0,
            queue: Queue::default(),
            trace: Trace::new(),
            coverage: Coverage::default(),
            machines: Vec::new(),
            memory: Vec::new(),
            controller: None,
            controller_clock: clock,
            controller_death: None,
            store: Store::default(),
            committed: Cluster::default(),
            commits: 0,
            heard: BTreeMap::new(),
            alone: Alone::default(),
            listens_since: 0,
            lost_before: BTreeSet::new(),
            controller_away_until: 0,
            streams: BTreeMap::new(),
            people: People::of_seed(seed),
            facts: Facts::default(),
            cluster_id: None,
            once: Once::default(),
            registry_down: false,
            calm: false,
            calm_at: FAULTS_FROM + rng.between(FAULTS_LAST.0, FAULTS_LAST.1),
            done: false,
            broken: None,
            events: 0,
            numbers: 0,
            rng,
        };
        world.set_up();
        world
    }

    fn set_up(&mut self) {
        let id = ClusterId(self.rng.id());
        let epoch = EpochId(self.rng.id());
        let meta = Meta { cluster: id, epoch, organization: "acme".into(), domain: "example.com".into() };
        let token = Record::OperatorToken(token_of_ada());
        self.store.commit(&[(Key::Meta(One), Some(Record::Meta(meta))), (token.key(), Some(token))], 0);
        self.committed = self.store.load();
        self.cluster_id = Some(id);
        for number in 0..self.rng.between(2, 4) as usize {
            self.add_machine(number);
        }
        self.controller_starts();
        self.ask(Command::CreateApplication { name: APPLICATION.into() });
        for number in 0..self.machines.len() {
            self.let_join(number);
            let request = self.rng.between(3_000, 4_000);
            self.queue.push(request, Event::Request(number));
        }
        self.plan_faults(FAULTS_FROM, self.calm_at);
        self.queue.push(2_500, Event::PersonActs);
        self.queue.push(self.calm_at, Event::Calm);
    }

    fn add_machine(&mut self, number: usize) {
        let clock = Clock {
            booted: 0,
            offset: self.rng.below(100_000_000),
            drift: self.rng.below(400) as i64 - 200,
            wall: 1_760_000_000_000 + self.rng.below(5_000),
        };
        let capacity =
            Capacity { cpu_milli: self.rng.pick(&[2_000, 4_000]), memory_bytes: self.rng.pick(&[2 << 30, 4 << 30]) };
        let boot = BootId(self.rng.id());
        self.machines.push(Machine::new(number, clock, boot, capacity));
        self.memory.push(Memory::default());
        for _ in 0..self.rng.between(0, 2) {
            self.proxy_is_born(number);
        }
    }

    /// A number that nothing else has.
    pub fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Lets everything happen. An error is the promise that was broken.
    pub fn run(&mut self) -> Result<(), String> {
        while let Some((at, event)) = self.queue.pop() {
            self.at = at;
            self.events += 1;
            self.happens(event);
            if let Some(broken) = self.broken.take() {
                return Err(broken);
            }
            if self.done {
                return Ok(());
            }
            if self.events > MOST_EVENTS {
                return Err(format!("{MOST_EVENTS} events, and no rest"));
            }
        }
        Err("nothing happens any more".into())
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::ControllerStarts => self.controller_starts(),
            Event::ControllerTurn(process) => self.controller_turn(process),
            Event::PersonActs => self.person_begins(),
            Event::CommandArrives(ticket) => self.command_arrives(ticket),
            Event::PatienceEnds(ticket) => self.patience_ends(ticket),
            Event::Deliver { stream, up } => self.deliver(stream, up),
            Event::StreamEnds { stream, at_controller } => self.stream_ends(stream, at_controller),
            Event::StreamIdle(stream) => self.stream_idle(stream),
            Event::LateWord { session, machine, word } => self.late_word(session, machine, *word),
            Event::LateSet(home, set) => self.late_set(home, *set),
            Event::AgentStarts(machine) => self.agent_starts(machine),
            Event::AgentTurn(home) => self.agent_turn(home),
            Event::AgentDials(home) => self.agent_dials(home),
            Event::HeartbeatDue(home, stream) => self.heartbeat_due(home, stream),
            Event::Resolved { home, stream, request, image } => {
                let outcome = match self.registry_down {
                    true => Err("the registry does not answer".into()),
                    false => images::resolve(&image).map(|pinned| ResolvedImage { pinned }),
                };
                if self.agent(home).is_some() {
                    self.say_up(stream, AgentWord::ImageResolved { request, outcome });
                }
            }
            Event::ActionReaches { home, boot, action, table } => self.action_reaches(home, boot, action, table),
            Event::StartReaches { home, boot, action } => self.start_reaches(home, boot, action),
            Event::ActionReturns { home, action, returned } => self.action_returns(home, &action, returned),
            Event::Hint(home, attempt) => self.look_at(home, attempt),
            Event::List(home) => self.list(home),
            Event::Probe { home, attempt, index } => self.probe(home, attempt, index),
            Event::Exits { machine, attempt, life, code, out_of_memory, cause } => {
                self.exits(machine, attempt, life, (code, out_of_memory), cause);
            }
            Event::ProxyReads { machine, pid } => self.proxy_reads(machine, pid),
            Event::ProxyScan(home) => self.proxy_scan(home),
            Event::ProxyConnects(home, pid) => self.proxy_connects(home, pid),
            Event::ProxyTakes { home, pid, table } => self.proxy_takes(home, pid, table),
            Event::ProxyReports { home, pid, generation, leaving } => {
                self.proxy_reports(home, pid, generation, leaving)
            }
            Event::ProxyGone(home, pid) => self.proxy_gone(home, pid),
            Event::Request(machine) => self.request(machine),
            Event::ConnectionEnds { machine, pid, job, life } => self.connection_ends(machine, pid, job, life),
            Event::Breaks(fault) => self.breaks(fault),
            Event::Heals(fault) => self.heals(fault),
            Event::Calm => {
                self.calms();
                self.give_all_nodes();
                let last = self.first_apply();
                self.ask(last);
                self.resume_some();
            }
            Event::Settled => self.look_whether_settled(),
        }
    }

    /// The first thing that a person does is to apply a file, as soon as there is a node.
    fn person_begins(&mut self) {
        if self.committed.all::<lapstrake_core::cluster::state::Service>().next().is_some() {
            return self.person_acts();
        }
        self.queue.push(self.at + 1_000, Event::PersonActs);
        let command = self.first_apply();
        self.ask(command);
    }
}
