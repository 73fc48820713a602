//! A controller's decisions and a few model agents, in one thread and without a clock. The invariants are checked after
//! every input, and the store is kept as JSON, as the rim would.

use crate::access::{Author, Role};
use crate::assignment::ServicePath;
use crate::check::cluster as check;
use crate::cluster::command::*;
use crate::cluster::event::Event;
use crate::cluster::live::Live;
use crate::cluster::rotation::AuthorityCommand;
use crate::cluster::standing::{HelloRefused, StandingCommand};
use crate::cluster::state::*;
pub use crate::cluster::tests::agent::Agent;
use crate::cluster::*;
use crate::ids::*;
use crate::liveness::Liveness;
use crate::message::{ControllerWord, Hello, ResolvedImage};
use crate::report::*;
use crate::spec::*;
use crate::time::{Millis, Tick, Wall};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

pub const MIB: u64 = 1 << 20;
pub const START: Tick = Tick(10_000_000);

/// The token of an admin of the organization.
pub const ADA: TokenId = TokenId(0xada);

/// Its holder.
pub fn ada() -> Author {
    holder(ADA, "ada")
}

/// Somebody who asks with a token.
pub fn holder(token: TokenId, name: &str) -> Author {
    Author::Operator { token, name: name.into(), address: ADDRESS }
}

const ADDRESS: core::net::IpAddr = core::net::IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, 7));

pub struct World {
    pub cluster: Cluster,
    pub live: Live,
    pub ids: Ids,
    pub tick: Tick,
    pub agents: BTreeMap<NodeId, Agent>,
    pub events: Vec<Event>,
    /// The committed records, as text.
    pub store: BTreeMap<String, String>,
    /// The change number of each of them.
    numbers: BTreeMap<Key, u64>,
    pub queue: Touched,
    pub wakes: BTreeMap<ServiceId, Tick>,
    /// Images that the agents can find, and what they are now.
    pub images: BTreeMap<String, Result<String, String>>,
    /// Pinned images whose jobs do not get ready.
    pub broken: BTreeSet<String>,
    /// The credentials with which nodes were asked for images.
    pub logins: Vec<ValueId>,
    before: Cluster,
    asks: Vec<(NodeId, RequestId, ImageSource)>,
}

pub fn web(image: &str, scale: u32) -> ServiceSpec {
    ServiceSpec {
        service_type: ServiceType::Web,
        image: ImageSource { reference: image.into(), pull: Pull::Registry },
        command: vec![],
        size: Size { cpu_milli: 100, memory_bytes: 64 * MIB, pids: 512 },
        scale,
        ports: vec![Port { port: 8080, protocol: Protocol::Http, path: Some("/".into()), public: true, host: None }],
        health: vec![],
        deploy: DeployPolicy {
            strategy: Strategy::Rolling,
            overlap: Millis(0),
            drain: Millis::secs(10),
            stop_grace: Millis::secs(10),
            min_healthy: Millis::secs(2),
            timeout: Millis::secs(300),
            max_surge: 1,
            max_unavailable: 0,
            steps: Vec::new(),
            max_attempts: 3,
            release: None,
        },
        env: BTreeMap::new(),
        secrets: BTreeMap::new(),
        files: BTreeMap::new(),
        replace_after: Millis(0),
        when_cut_off: WhenCutOff::Keep,
        init: true,
        read_only: false,
        constraints: Vec::new(),
    }
}

pub fn path(text: &str) -> ServicePath {
    let mut parts = text.split('/').map(String::from);
    let mut next = || parts.next().unwrap();
    ServicePath { application: next(), environment: next(), service: next() }
}

/// A file with these services in one environment of `shop`.
pub fn file(environment: &str, services: &[(&str, ServiceSpec)]) -> Apply {
    let services =
        services.iter().map(|(name, spec)| ApplyService { name: (*name).into(), spec: spec.clone() }).collect();
    Apply { application: "shop".into(), environments: vec![ApplyEnvironment { name: environment.into(), services }] }
}

impl World {
    /// A cluster with so many nodes, given to `shop/production`, and the image `hello:1`.
    pub fn with_nodes(nodes: u128) -> World {
        let mut world = World::empty();
        world.run(Command::CreateApplication { name: "shop".into() }).unwrap();
        for number in 1..=nodes {
            world.join(number);
            world.attach(number);
        }
        world
    }

    /// Two nodes of which each is a zone of its own: `a` and `b`.
    pub fn with_zones() -> World {
        let mut world = World::with_nodes(2);
        for (number, zone) in [(1, "a"), (2, "b")] {
            let set = [(String::from("zone"), String::from(zone))].into();
            world.run(Command::LabelNode { node: format!("node-{number}"), set, remove: BTreeSet::new() }).unwrap();
        }
        world
    }

    pub fn empty() -> World {
        let mut cluster = Cluster::default();
        cluster.put(Meta {
            cluster: ClusterId(1),
            epoch: EpochId(7),
            organization: "acme".into(),
            domain: "apps.test".into(),
        });
        cluster.put(OperatorToken {
            id: ADA,
            hash: "good".into(),
            name: "ada".into(),
            created: Wall(0),
            by: "the first start".into(),
            role: Role::Admin,
            scope: TokenScope::Organization,
            expires: None,
        });
        let mut world = World {
            before: cluster.clone(),
            cluster,
            live: Live::new(START),
            ids: Ids::from_base(1_000),
            tick: START,
            agents: BTreeMap::new(),
            events: vec![],
            store: BTreeMap::new(),
            numbers: BTreeMap::new(),
            queue: Touched::new(),
            wakes: BTreeMap::new(),
            images: BTreeMap::new(),
            broken: BTreeSet::new(),
            asks: vec![],
            logins: vec![],
        };
        for tag in 1..=9 {
            world.images.insert(format!("hello:{tag}"), Ok(format!("hello@sha256:{tag}")));
        }
        world.commit();
        world
    }

    pub fn cx<'a>(ids: &'a mut Ids, tick: Tick) -> Context<'a> {
        Context { tick, wall: Wall(1_700_000_000_000 + tick.0), author: ada(), ids }
    }

    pub fn wall(&self) -> Wall {
        Wall(1_700_000_000_000 + self.tick.0)
    }

    /// Ada commands; a machine enrols itself.
    pub fn run(&mut self, command: Command) -> Result<Outcome, Vec<Refusal>> {
        let author = match command {
            Command::EnrolNode(_) | Command::Standing(StandingCommand::AskReturn(_)) => {
                Author::Applicant { address: ADDRESS }
            }
            Command::Authority(AuthorityCommand::Adopt(_)) => Author::FirstStart,
            _ => ada(),
        };
        self.run_as(author, command)
    }

    pub fn run_as(&mut self, author: Author, command: Command) -> Result<Outcome, Vec<Refusal>> {
        let mut cx = Context { author, ..Self::cx(&mut self.ids, self.tick) };
        let result = self.cluster.command(&self.live, command, &mut cx);
        if let Ok(outcome) = &result {
            self.queue.extend(&outcome.touched);
        } else {
            assert!(self.cluster.take_changes().is_empty(), "a refused command changes nothing");
        }
        self.commit();
        result
    }

    pub fn apply(&mut self, environment: &str, services: &[(&str, ServiceSpec)]) -> Vec<Applied> {
        match self.run(Command::Apply(file(environment, services))).unwrap().answer {
            Answer::Applied { services, .. } => services,
            other => panic!("{other:?}"),
        }
    }

    pub fn join(&mut self, number: u128) {
        self.join_without_session(number);
        let agent = Agent::new(number, Capacity { cpu_milli: 4000, memory_bytes: 1024 * MIB });
        self.agents.insert(NodeId(number), agent);
        self.connect(number);
    }

    /// A machine joins and is not heard of.
    pub fn join_without_session(&mut self, number: u128) {
        let id = TokenId(number);
        let new = NewJoinToken {
            id,
            hash: "good".into(),
            lifetime: Millis::secs(3600),
            environment: None,
            node_name: None,
            cidr: None,
        };
        self.run(Command::CreateJoinToken(new)).unwrap();
        let enrol = enrol(number);
        self.run(Command::EnrolNode(enrol)).unwrap();
    }

    pub fn attach(&mut self, number: u128) {
        let (application, environment) = ("shop".into(), "production".into());
        self.run(Command::AttachNode { application, environment, node: format!("node-{number}") }).unwrap();
    }

    pub fn connect(&mut self, number: u128) {
        self.try_connect(number).unwrap();
    }

    /// The node's agent opens a session, or is refused one.
    pub fn try_connect(&mut self, number: u128) -> Result<(), HelloRefused> {
        let id = NodeId(number);
        let session = SessionId(self.ids.mint());
        let agent = self.agents.get_mut(&id).unwrap();
        (agent.connected, agent.session) = (true, session);
        let hello = Hello {
            cluster: ClusterId(1),
            node: id,
            boot: agent.boot,
            version: "0.1.0".into(),
            architecture: "amd64".into(),
            wall: Wall(1_700_000_000_000 + self.tick.0),
            report: agent.report(),
        };
        let mut cx = Self::cx(&mut self.ids, self.tick);
        let decided = self.cluster.hello(&mut self.live, session, hello, &mut cx);
        self.agents.get_mut(&id).unwrap().connected = decided.is_ok();
        let refused = decided.map(|touched| self.queue.extend(touched));
        self.pass_time();
        self.deliver(id);
        refused
    }

    /// The node's machine loses its network: its agent goes on alone.
    pub fn cut(&mut self, number: u128) {
        let agent = self.agents.get_mut(&NodeId(number)).unwrap();
        agent.connected = false;
        self.asks.retain(|(node, ..)| *node != NodeId(number));
        let touched = self.cluster.session_ended(&mut self.live, NodeId(number), agent.session);
        self.queue.extend(touched);
        self.commit();
    }

    /// The node's agent dies and its ledger is lost; its jobs run on, and it comes back if it was there.
    pub fn lose_ledger(&mut self, number: u128) {
        let agent = self.agents.get_mut(&NodeId(number)).unwrap();
        agent.lose_ledger();
        if agent.connected {
            self.cut(number);
            self.connect(number);
        }
    }

    /// The controller dies and is started again with what it has stored.
    pub fn restart_controller(&mut self) {
        let records = self.store.iter().map(|(key, json)| (key.parse().unwrap(), serde_json::from_str(json).unwrap()));
        self.cluster = Cluster::load(records).unwrap();
        let newest = self.numbers.values().max().copied().unwrap_or(0);
        self.cluster.number(self.numbers.clone(), newest);
        self.before = self.cluster.clone();
        self.live = self.cluster.unheard(self.tick);
        (self.asks, self.wakes) = (vec![], BTreeMap::new());
        self.queue = self.cluster.all::<Service>().map(|service| service.id).collect();
        self.pass_time();
        for number in 1..=self.agents.len() as u128 {
            if self.agents[&NodeId(number)].connected {
                self.connect(number);
            }
        }
    }

    /// The records are those of an earlier batch again, because the ones after it were not stored.
    pub fn take_pictures_again(&mut self) {
        self.before = self.cluster.clone();
        let cx = Self::cx(&mut self.ids, self.tick);
        self.cluster.take_pictures_again(&mut self.live, &cx);
        self.queue = self.cluster.all::<Service>().map(|service| service.id).collect();
        self.commit();
    }

    /// Time passes; connected agents give their signs of life.
    pub fn wait(&mut self, span: Millis) {
        let end = self.tick + span;
        while self.tick < end {
            self.tick = self.tick + Millis(1_000);
            for (id, agent) in self.agents.iter().filter(|(_, agent)| agent.connected) {
                assert!(self.live.heartbeat(*id, agent.session, Use::default(), self.tick));
            }
            self.pass_time();
            let due: Vec<ServiceId> = self.wakes.iter().filter(|it| *it.1 <= self.tick).map(|it| *it.0).collect();
            self.queue.extend(due);
            self.turn();
        }
    }

    pub fn pass_time(&mut self) {
        self.live.attend(self.tick);
        let touched = self.cluster.pass_time(&mut self.live, &mut Self::cx(&mut self.ids, self.tick));
        self.queue.extend(touched);
        self.commit();
    }

    /// Decides, sends, and lets every agent take one step. False when nobody had anything to do.
    pub fn turn(&mut self) -> bool {
        let mut busy = !self.queue.is_empty();
        while let Some(service) = self.queue.pop_first() {
            self.look(service);
        }
        busy |= self.answer();
        let nodes: Vec<NodeId> = self.agents.keys().copied().collect();
        for id in nodes {
            busy |= self.deliver(id);
            let wall = self.wall();
            let broken = self.broken.clone();
            let agent = self.agents.get_mut(&id).unwrap();
            if agent.step(&broken, wall) {
                busy = true;
                self.report(id);
            }
        }
        busy
    }

    /// Lets everything happen that does not need time to pass.
    pub fn settle(&mut self) {
        for _ in 0..2_000 {
            if !self.turn() {
                let seen = check::of_a_second_look(&self.cluster, &self.live, self.tick);
                assert!(seen.is_empty(), "{seen:?}");
                return;
            }
        }
        panic!("it does not come to rest: {:?}", self.live.waits);
    }

    pub fn look(&mut self, service: ServiceId) {
        let follow = self.cluster.reconcile(&mut self.live, service, &mut Self::cx(&mut self.ids, self.tick));
        match follow.wake {
            Some(wake) => self.wakes.insert(service, wake),
            None => self.wakes.remove(&service),
        };
        for (node, word) in follow.asks {
            if let ControllerWord::ResolveImage { request, image, login } = word {
                self.logins.extend(login.map(|(id, _)| id));
                self.asks.push((node, request, image));
            }
        }
        self.queue.extend(follow.touched);
        self.commit();
    }

    /// Questions get lost on their way.
    pub fn lose_questions(&mut self) {
        self.asks.clear();
    }

    /// The agents answer the questions about images.
    pub fn answer(&mut self) -> bool {
        let asks = core::mem::take(&mut self.asks);
        let busy = !asks.is_empty();
        for (node, request, image) in asks {
            let here = self.agents[&node].images_here.get(&image.reference).cloned();
            let found = match image.pull {
                Pull::Registry => self.images.get(&image.reference).cloned().unwrap_or(Err("manifest unknown".into())),
                Pull::Local => here.ok_or("there is no such image here".to_string()),
            };
            let outcome = found.map(|pinned| ResolvedImage { pinned });
            let touched = self.cluster.image_resolved(&mut self.live, node, request, outcome);
            self.queue.extend(touched);
        }
        busy
    }

    /// Sends a connected agent its newest set. True if it was news.
    pub fn deliver(&mut self, id: NodeId) -> bool {
        let Some(set) = self.cluster.assignments(id, true) else { return false };
        let wall = self.wall();
        let agent = self.agents.get_mut(&id).unwrap();
        let news = agent.connected && agent.accept(set, wall);
        if news {
            self.report(id);
        }
        news
    }

    pub fn report(&mut self, id: NodeId) {
        let agent = &self.agents[&id];
        if agent.connected {
            let (session, report) = (agent.session, agent.report());
            self.take_report(id, session, report);
        }
    }

    pub fn take_report(&mut self, id: NodeId, session: SessionId, report: NodeReport) {
        let mut cx = Self::cx(&mut self.ids, self.tick);
        let touched = self.cluster.report(&mut self.live, id, session, report, &mut cx);
        self.queue.extend(touched);
        self.commit();
    }

    /// Commits the batch and checks the invariants.
    pub fn commit(&mut self) {
        let changes = self.cluster.take_changes();
        assert!(changes.len() <= MOST_CHANGES, "{} changes in one batch", changes.len());
        for (key, record) in changes {
            match record {
                Some(_) => self.numbers.insert(key.clone(), self.cluster.newest_number()),
                None => self.numbers.remove(&key),
            };
            match record {
                Some(record) => self.store.insert(key.to_string(), serde_json::to_string(&record).unwrap()),
                None => self.store.remove(&key.to_string()),
            };
        }
        self.events.extend(self.cluster.take_events());
        let mut violations = check::of_state(&self.cluster);
        violations.extend(check::of_change(&self.before, &self.cluster));
        assert!(violations.is_empty(), "{violations:#?}");
        self.judge_fills();
        self.before = self.cluster.clone();
    }

    /// A slot that is to be alone came to a node only when nothing of it ran on another one of its environment's that was heard,
    /// whatever those had told.
    fn judge_fills(&self) {
        for slot in self.cluster.all::<Slot>() {
            let (Some(job), Some(service)) = (slot.job, self.cluster.get::<Service>(&slot.id.service)) else {
                continue;
            };
            let revision = self.cluster.get::<Revision>(&(service.id, job.revision));
            let is_alone = revision.is_some_and(|it| it.spec.deploy.strategy == Strategy::Recreate);
            let before = self.before.get::<Slot>(&slot.id);
            if !is_alone || before.is_some_and(|before| before.node == slot.node && before.job.is_some()) {
                continue;
            }
            for (id, agent) in self.agents.iter().filter(|(id, agent)| **id != slot.node && agent.connected) {
                let is_heard = self.live.liveness(*id, self.tick) == Liveness::Ready;
                let counts = is_heard && self.cluster.is_allotted(service.environment, *id);
                let there = agent.runs_in(&slot.id);
                assert!(!counts || there.is_empty(), "{} came to {} while {id} runs {there:?}", slot.id, slot.node);
            }
        }
    }

    pub fn service(&self, text: &str) -> &Service {
        self.cluster.service_at(&path(text)).unwrap()
    }

    pub fn last_deployment(&self, text: &str) -> &Deployment {
        self.cluster.last_deployment(self.service(text)).unwrap()
    }

    pub fn why(&self, text: &str) -> Vec<String> {
        self.cluster.why(&self.live, self.service(text).id, self.tick)
    }

    pub fn status(&self, text: &str) -> status::ServiceStatus {
        self.cluster.status(&self.live, self.service(text).id, self.tick).unwrap()
    }

    /// `node-1: web.1=r2`, from what really runs on the agents.
    pub fn running(&self) -> Vec<String> {
        let mut lines = vec![];
        for (id, agent) in &self.agents {
            for (slot, job) in &agent.current {
                let service = self.cluster.get::<Service>(&slot.service).map_or("?", |service| &service.name);
                lines.push(format!("node-{}: {service}.{}=r{}", id.0, slot.number, agent.runs[job].0));
            }
        }
        lines
    }

    pub fn sentences(&self) -> Vec<&str> {
        self.events.iter().map(|event| event.sentence.as_str()).collect()
    }
}

pub fn enrol(number: u128) -> Enrol {
    Enrol {
        token: TokenId(number),
        hash: "good".into(),
        address_allowed: true,
        node: NodeId(number),
        name: format!("node-{number}"),
        architecture: "amd64".into(),
        capacity: Capacity { cpu_milli: 4000, memory_bytes: 1024 * MIB },
        key: format!("{number:x}"),
    }
}
