//! People: what they ask of the controller, and what they do with an answer or without one.

use crate::controller::Input;
use crate::controller::Reply;
use crate::event::{Event, MachineNumber};
use crate::specs;
use crate::world::World;
use lapstrake_core::access::{Author, Grant, Role, Scope};
use lapstrake_core::assignment::ServicePath;
use lapstrake_core::cluster::command::{
    Answer, Apply, ApplyEnvironment, ApplyService, Command, Enrol, NewJoinToken, NewOperatorToken, Which,
};
use lapstrake_core::cluster::running::RunOnce;
use lapstrake_core::cluster::state::{
    Environment, JoinToken, Node, OneOff, OperatorToken, Revision, Service, TokenScope, Wish,
};
use lapstrake_core::cluster::trial::Steer;
use lapstrake_core::cluster::values::{SetValue, ValueCommand};
use lapstrake_core::ids::{NodeId, TokenId, ValueId};
use lapstrake_core::time::{Millis, Wall};
use lapstrake_core::values::{Sealed, ValueKey, ValueKind};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

/// One thing that a person asked for.
pub type Ticket = u64;

/// What the name of the application is.
pub const APPLICATION: &str = "shop";
/// Its environments that are used: one that allows much and one that allows little.
const ENVIRONMENTS: [&str; 2] = ["production", "staging"];
const SERVICES: [&str; 3] = ["web", "api", "jobs"];
/// So long people wait for an answer.
const PATIENCE: u64 = 5_000;
/// So often a command is asked again when nobody knows what became of it.
const MOST_TRIES: u32 = 60;
/// Of an admin of the organization.
const ADA: TokenId = TokenId(0xada);
/// Where everybody asks from.
pub const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

struct Asked {
    command: Command,
    tries: u32,
    /// The machine that joins by it.
    machine: Option<MachineNumber>,
}

/// What people have in mind.
#[derive(Default)]
pub struct People {
    asked: BTreeMap<Ticket, Asked>,
    version: u64,
    /// Whether they label nodes and care where jobs run.
    zones: bool,
}

impl People {
    /// Those of every eighth world have zones; in the others nothing keeps a job from any node.
    pub fn of_seed(seed: u64) -> People {
        People { zones: seed % 8 == 6, ..People::default() }
    }
}

/// As `lap` and the simulator's table call it.
fn word(command: &Command) -> &'static str {
    match command {
        Command::CreateApplication { .. } => "create-application",
        Command::CreateEnvironment { .. } => "create-environment",
        Command::SetPolicy(_) => "set-policy",
        Command::AttachNode { .. } => "attach-node",
        Command::DetachNode { force: false, .. } => "detach-node",
        Command::DetachNode { force: true, .. } => "detach-node --force",
        Command::RemoveNode { force: false, .. } => "remove-node",
        Command::RemoveNode { force: true, .. } => "remove-node --force",
        Command::CordonNode { .. } => "cordon-node",
        Command::UncordonNode { .. } => "uncordon-node",
        Command::LabelNode { .. } => "label-node",
        Command::SetQuota { .. } => "set-quota",
        Command::Standing(_) => "standing",
        Command::Authority(_) => "authority",
        Command::Value(_) => "set-value",
        Command::Apply(_) => "apply",
        Command::Deploy { .. } => "deploy",
        Command::Redeploy { .. } => "redeploy",
        Command::Rollback { .. } => "rollback",
        Command::Scale { .. } => "scale",
        Command::Steer { .. } => "steer-deployment",
        Command::Pause { which: Which::Service(_), .. } => "pause",
        Command::Pause { which: Which::Environment { .. }, .. } => "pause-environment",
        Command::Resume { .. } => "resume",
        Command::SetRedeployable { .. } => "set-redeployable",
        Command::RemoveService { .. } => "remove-service",
        Command::Enter(_) => "enter",
        Command::Run(_) => "run",
        Command::EndRun { .. } => "end-run",
        Command::CreateJoinToken(_) => "create-join-token",
        Command::EnrolNode(_) => "enrol-node",
        Command::CreateOperatorToken(_) => "create-operator-token",
        Command::RemoveOperatorToken { .. } => "remove-operator-token",
    }
}

fn operator(number: u64) -> String {
    format!("grace-{number}")
}

/// Who asks for everything but to join.
pub fn ada() -> Author {
    Author::Operator { token: ADA, name: "ada".into(), address: ADDRESS }
}

/// What the store of a cluster that begins holds of her.
pub fn token_of_ada() -> OperatorToken {
    OperatorToken {
        id: ADA,
        hash: "0".into(),
        name: "ada".into(),
        created: Wall(0),
        by: "the first start".into(),
        role: Role::Admin,
        scope: TokenScope::Organization,
        expires: None,
    }
}

fn in_zone(node: String, zone: Option<&str>) -> Command {
    let key = || String::from(specs::ZONE);
    let set = zone.map(|zone| (key(), zone.to_owned())).into_iter().collect();
    let remove = if zone.is_none() { [key()].into() } else { BTreeSet::new() };
    Command::LabelNode { node, set, remove }
}

fn attach(environment: &str, node: String) -> Command {
    Command::AttachNode { application: APPLICATION.into(), environment: environment.into(), node }
}

impl World {
    /// Somebody asks for something.
    pub fn ask(&mut self, command: Command) {
        self.ask_for(command, None, 0);
    }

    fn ask_for(&mut self, command: Command, machine: Option<MachineNumber>, tries: u32) {
        let ticket = self.number();
        let delay = if tries == 0 { self.rng.between(1, 50) } else { self.rng.between(500, 2_000) };
        let pause = self.rng.between(0, 2_000);
        let truth = &self.committed;
        self.facts.may_undo(ticket, &command, |path| truth.service_at(path).ok().map(|service| service.id));
        self.people.asked.insert(ticket, Asked { command, tries, machine });
        self.queue.push(self.at + delay, Event::CommandArrives(ticket));
        self.queue.push(self.at + PATIENCE + pause, Event::PatienceEnds(ticket));
    }

    /// A command reaches the controller, if there is one.
    pub fn command_arrives(&mut self, ticket: Ticket) {
        let Some(asked) = self.people.asked.get(&ticket) else { return };
        let command = asked.command.clone();
        self.trace.line(self.at, format_args!("a person asks: {}", word(&command)));
        self.controller_takes(Input::Command(ticket, Box::new(command)));
    }

    /// The answer, unless it is lost on the way.
    pub fn person_hears(&mut self, ticket: Ticket, reply: Reply) {
        if !self.calm && self.rng.percent(4) {
            self.coverage.count("fault", "answer lost");
            return;
        }
        let Some(asked) = self.people.asked.remove(&ticket) else { return };
        self.coverage.count("command", word(&asked.command));
        match reply {
            Ok(outcome) => {
                self.trace.line(self.at, format_args!("acknowledged: {}", word(&asked.command)));
                self.facts.acknowledge(ticket, &asked.command, &outcome.answer);
                if let (Answer::Node(node), Some(machine), Command::EnrolNode(enrol)) =
                    (outcome.answer, asked.machine, &asked.command)
                {
                    self.joined(machine, node, &enrol.name);
                }
            }
            Err(refusals) => {
                self.facts.refuse(ticket);
                self.coverage.count("command", "refused");
                if refusals.iter().any(|refusal| refusal.sentence.is_empty()) {
                    self.broken(0, format!("{} is refused without a word", word(&asked.command)));
                }
                self.trace.line(self.at, format_args!("refused: {}", refusals[0].sentence));
                // Only somebody who asks again after a lost answer is told that the token was used.
                if let Some(machine) = asked.machine {
                    self.find_joined(machine, asked.command, asked.tries);
                }
            }
        }
    }

    /// Nothing was stored.
    pub fn person_waits_in_vain(&mut self, ticket: Ticket) {
        self.patience_ends(ticket);
    }

    /// Nobody knows what became of a command: it is asked again if it must be, and sometimes otherwise.
    pub fn patience_ends(&mut self, ticket: Ticket) {
        let again = self.rng.percent(40);
        let Some(asked) = self.people.asked.remove(&ticket) else { return };
        let needed = asked.machine.is_some() || self.at < 3_000;
        let set_up = matches!(
            asked.command,
            Command::CreateApplication { .. } | Command::AttachNode { .. } | Command::CreateJoinToken(_)
        );
        // With the last file everything must end well, so somebody insists on it.
        let last_word = self.calm && matches!(asked.command, Command::Apply(_));
        if (again || needed || set_up || last_word) && asked.tries < MOST_TRIES {
            self.ask_for(asked.command, asked.machine, asked.tries + 1);
        }
    }

    /// A machine is to become a node: a ticket, then its use.
    pub fn let_join(&mut self, number: MachineNumber) {
        let machine = &mut self.machines[number];
        machine.joins += 1;
        let name = match machine.joins {
            1 => format!("node-{number}"),
            again => format!("node-{number}-{again}"),
        };
        let capacity = machine.capacity;
        let (id, node) = (TokenId(self.rng.id()), NodeId(self.rng.id()));
        let known = self.committed.application_named(APPLICATION).is_ok();
        let environment = (known && self.rng.percent(30)).then(|| (APPLICATION.to_owned(), "production".to_owned()));
        let hash = format!("{:x}", self.rng.next());
        let lifetime = Millis::secs(3_600);
        let new = NewJoinToken { id, hash: hash.clone(), lifetime, environment, node_name: None, cidr: None };
        self.ask(Command::CreateJoinToken(new));
        let enrol = Enrol {
            token: id,
            hash,
            address_allowed: true,
            node,
            name,
            architecture: "amd64".into(),
            capacity,
            key: "1".into(),
        };
        self.ask_for(Command::EnrolNode(enrol), Some(number), 0);
    }

    /// An enrolment was refused: it was done before and its answer was lost, or its token is not recorded yet.
    fn find_joined(&mut self, machine: MachineNumber, command: Command, tries: u32) {
        let Command::EnrolNode(enrol) = &command else { return };
        let is_used = self.committed.get::<JoinToken>(&enrol.token).is_some_and(|token| token.used_by.is_some());
        let known = self.committed.node_named(&enrol.name).ok().map(|node| node.id);
        match known {
            Some(node) => self.joined(machine, node, &enrol.name.clone()),
            // It had joined, nobody heard of it, and it was removed meanwhile.
            None if is_used => self.let_join(machine),
            None if tries < MOST_TRIES => self.ask_for(command, Some(machine), tries + 1),
            None => {}
        }
    }

    fn joined(&mut self, number: MachineNumber, node: NodeId, name: &str) {
        let machine = &mut self.machines[number];
        if machine.node == Some(node) {
            return;
        }
        machine.node = Some(node);
        machine.config.name = name.to_owned();
        self.queue.push(self.at + 10, Event::AgentStarts(number));
        if self.people.zones {
            let zone = self.rng.pick(&specs::ZONES);
            self.ask(in_zone(name.to_owned(), Some(zone)));
        }
        for environment in ENVIRONMENTS {
            if environment == "production" || self.rng.percent(60) {
                self.ask(attach(environment, name.to_owned()));
            }
        }
    }

    /// One of the things that people do, at random, about what there is.
    pub fn person_acts(&mut self) {
        if self.calm {
            return;
        }
        let pause = self.rng.between(300, 5_000);
        self.queue.push(self.at + pause, Event::PersonActs);
        if self.people.zones && self.rng.percent(12) {
            if let Some(command) = self.a_label() {
                self.ask(command);
            }
            return;
        }
        let command = match self.rng.below(100) {
            0..22 => self.an_apply(),
            22..40 => self.a_deploy(),
            40..51 => self.of_service(|service| Command::Redeploy { service }),
            51..56 => self.a_run(),
            56..65 => self.a_rollback(),
            65..74 => self.a_scale(),
            74..77 => self.a_value(),
            77..81 => self.of_service(|service| Command::RemoveService { service }),
            81..85 => self.of_service(|service| Command::Pause { which: Which::Service(service), reason: None }),
            85..88 => self.of_service(|service| Command::Resume { which: Which::Service(service) }),
            88 => Some(Command::Pause { which: self.an_environment(), reason: Some("a test".into()) }),
            89 => Some(Command::Resume { which: self.an_environment() }),
            90..93 => self.a_steer(),
            93..96 => self.about_nodes(),
            96..98 => Some(Command::CreateEnvironment {
                application: APPLICATION.into(),
                name: format!("preview-{}", self.rng.below(4)),
            }),
            98 => Some(Command::CreateOperatorToken(self.new_operator())),
            _ => Some(Command::RemoveOperatorToken { token: operator(self.rng.below(4)) }),
        };
        if let Some(command) = command {
            self.ask(command);
        }
    }

    fn a_label(&mut self) -> Option<Command> {
        let nodes: Vec<String> = self.committed.all::<Node>().map(|node| node.name.clone()).collect();
        let node = nodes.get(self.rng.below(nodes.len() as u64) as usize).cloned()?;
        let zone = self.rng.percent(80).then(|| self.rng.pick(&specs::ZONES));
        Some(in_zone(node, zone))
    }

    /// A new version of a variable that every service inherits, or none of it any more.
    fn a_value(&mut self) -> Option<Command> {
        let at = self.rng.pick(&[APPLICATION, "shop/production"]);
        let (kind, name) = (ValueKind::Variable, String::from("LEVEL"));
        if self.rng.percent(20) {
            return Some(Command::Value(ValueCommand::Remove { at: at.into(), kind, name }));
        }
        let key = ValueKey { scope: self.committed.value_scope(at).ok()?, kind, name };
        let id = ValueId(self.rng.id());
        let body = Sealed::from(id.0.to_be_bytes().to_vec());
        Some(Command::Value(ValueCommand::Set(SetValue { at: at.into(), key, id, body })))
    }

    fn new_operator(&mut self) -> NewOperatorToken {
        NewOperatorToken {
            id: TokenId(self.rng.id()),
            hash: "0".into(),
            name: operator(self.rng.below(4)),
            grant: Grant { role: Role::Deployer, scope: Scope::Application(APPLICATION.into()) },
            lifetime: None,
        }
    }

    /// The file with which everything begins.
    pub fn first_apply(&mut self) -> Command {
        let spec = specs::good(&mut self.rng, "web", self.people.version);
        apply("production", vec![("web", spec)])
    }

    fn an_apply(&mut self) -> Option<Command> {
        let environment = self.rng.pick(&ENVIRONMENTS);
        let mut services = Vec::new();
        for name in SERVICES {
            if self.rng.percent(50) {
                self.people.version += 1;
                let version = self.people.version;
                let mut spec = specs::any(&mut self.rng, name, version);
                if self.people.zones {
                    spec.constraints = specs::constraints(&mut self.rng);
                }
                services.push((name, spec));
            }
        }
        (!services.is_empty()).then(|| apply(environment, services))
    }

    fn some_service(&mut self) -> Option<Service> {
        let services: Vec<Service> = self.committed.all::<Service>().cloned().collect();
        (!services.is_empty()).then(|| services[self.rng.below(services.len() as u64) as usize].clone())
    }

    fn of_service(&mut self, command: impl FnOnce(ServicePath) -> Command) -> Option<Command> {
        let service = self.some_service()?;
        Some(command(self.committed.path_of(&service)))
    }

    /// A command that runs once, or the end of one.
    fn a_run(&mut self) -> Option<Command> {
        let running = self.committed.all::<OneOff>().find(|one| one.is_under_way()).cloned();
        if let Some(one) = running.filter(|_| self.rng.percent(60)) {
            let service = self.committed.get::<Service>(&one.service)?;
            return Some(Command::EndRun { service: self.committed.path_of(service), job: one.job });
        }
        let (command, timeout) = (specs::once(&mut self.rng), Some(Millis(self.rng.between(1_000, 9_000))));
        self.of_service(|service| Command::Run(RunOnce { service, command, env: BTreeMap::new(), timeout }))
    }

    fn a_deploy(&mut self) -> Option<Command> {
        self.people.version += 1;
        let version = self.people.version;
        let service = self.some_service()?;
        let image = crate::images::Behaviour::any(&mut self.rng, 40).source(version, service.spec.image.pull);
        Some(Command::Deploy { service: self.committed.path_of(&service), image: image.reference })
    }

    fn an_environment(&mut self) -> Which {
        let environment = self.rng.pick(&ENVIRONMENTS).to_owned();
        Which::Environment { application: APPLICATION.into(), environment }
    }

    fn a_rollback(&mut self) -> Option<Command> {
        let service = self.some_service()?;
        let kept: Vec<u32> =
            self.committed.revisions_of(service.id).map(|revision: &Revision| revision.number).collect();
        let to = self.rng.percent(50).then(|| kept.first().copied()).flatten();
        Some(Command::Rollback { service: self.committed.path_of(&service), to })
    }

    /// Nobody holds a canary here: it would be held for ever.
    fn a_steer(&mut self) -> Option<Command> {
        let service = self.some_service()?;
        let how = self.rng.pick(&[Steer::Cancel, Steer::Cancel, Steer::Release, Steer::ReleaseAll]);
        Some(Command::Steer { service: self.committed.path_of(&service), number: service.last_deployment, how })
    }

    fn a_scale(&mut self) -> Option<Command> {
        let service = self.some_service()?;
        let scale = self.rng.between(1, 4) as u32;
        Some(Command::Scale { service: self.committed.path_of(&service), scale })
    }

    fn about_nodes(&mut self) -> Option<Command> {
        let nodes: Vec<(NodeId, String)> =
            self.committed.all::<Node>().map(|node| (node.id, node.name.clone())).collect();
        let (id, node) = nodes.get(self.rng.below(nodes.len() as u64) as usize).cloned()?;
        let environment = self.rng.pick(&ENVIRONMENTS).to_owned();
        let application = APPLICATION.to_owned();
        // A silent node is what force is for.
        let silent = self.heard.get(&id).is_none_or(|heard| self.at - heard > 7_000);
        let force = silent || self.rng.percent(10);
        Some(match self.rng.below(5) {
            0 | 1 => Command::AttachNode { application, environment, node },
            2 => Command::DetachNode { application, environment, node, force },
            3 if nodes.len() > 1 => Command::RemoveNode { node, force },
            _ if self.rng.percent(50) => Command::CordonNode { node, reason: None },
            _ => Command::UncordonNode { node },
        })
    }

    /// Nothing breaks any more: every environment that is used gets every node, and every zone has one, so that nothing has to
    /// wait for one.
    pub fn give_all_nodes(&mut self) {
        let nodes: Vec<(String, Wish)> =
            self.committed.all::<Node>().map(|node| (node.name.clone(), node.wish.clone())).collect();
        let environments: Vec<String> = self.committed.all::<Environment>().map(|it| it.name.clone()).collect();
        for (number, (node, wish)) in nodes.into_iter().enumerate() {
            if self.people.zones {
                let zone = specs::ZONES[number % specs::ZONES.len()];
                self.ask(in_zone(node.clone(), Some(zone)));
            }
            if wish != Wish::Open {
                self.ask(Command::UncordonNode { node: node.clone() });
            }
            for environment in environments.iter().filter(|name| ENVIRONMENTS.contains(&name.as_str())) {
                self.ask(attach(environment, node.clone()));
            }
        }
    }

    /// In every second world all that is paused runs in the end, in the others it stays paused; but a world in which nothing has
    /// been deployed yet would show nothing.
    pub fn resume_some(&mut self) {
        let every_second = self.rng.percent(50);
        if every_second || self.coverage.of("deployment", "rolling") == 0 {
            for environment in ENVIRONMENTS {
                let (application, environment) = (APPLICATION.into(), environment.into());
                self.ask(Command::Resume { which: Which::Environment { application, environment } });
            }
        }
    }

    /// Whether somebody still waits for an answer.
    pub fn somebody_waits(&self) -> bool {
        !self.people.asked.is_empty()
    }
}

fn apply(environment: &str, services: Vec<(&str, lapstrake_core::spec::ServiceSpec)>) -> Command {
    let services = services.into_iter().map(|(name, spec)| ApplyService { name: name.into(), spec }).collect();
    let environments = vec![ApplyEnvironment { name: environment.into(), services }];
    Command::Apply(Apply { application: APPLICATION.into(), environments })
}
