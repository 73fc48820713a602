//! What people were told is recorded, and must be found in the store ever after (invariant 8).

use crate::people::Ticket;
use lapstrake_core::assignment::ServicePath;
use lapstrake_core::check::Violation;
use lapstrake_core::cluster::Cluster;
use lapstrake_core::cluster::command::{Answer, Command};
use lapstrake_core::cluster::state::{Allotment, Application, Environment, JoinToken, Node, OperatorToken, Service};
use lapstrake_core::ids::{ApplicationId, EnvironmentId, NodeId, ServiceId, TokenId};
use std::collections::BTreeMap;

/// Something that an answer has promised.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fact {
    Application(ApplicationId),
    Environment(EnvironmentId),
    Attached { application: String, environment: String, node: String },
    Node { id: NodeId, name: String },
    Deployment { service: ServiceId, number: u32 },
    BeingRemoved(ServiceId),
    JoinToken(TokenId),
    Operator { id: TokenId, name: String },
}

/// What a command on its way may undo.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Undo {
    Attached { application: String, environment: String, node: String },
    Node(String),
    Service(Option<ServiceId>),
    Operator(String),
}

/// All promises that still hold.
#[derive(Debug, Default)]
pub struct Facts {
    facts: Vec<Fact>,
    /// Commands that may undo something and were not answered: what they did is not known.
    undoing: BTreeMap<Ticket, Undo>,
}

impl Undo {
    fn of(command: &Command, service: impl Fn(&ServicePath) -> Option<ServiceId>) -> Option<Undo> {
        match command {
            Command::DetachNode { application, environment, node, .. } => {
                let (application, environment, node) = (application.clone(), environment.clone(), node.clone());
                Some(Undo::Attached { application, environment, node })
            }
            Command::RemoveNode { node, .. } => Some(Undo::Node(node.clone())),
            Command::RemoveService { service: path } => Some(Undo::Service(service(path))),
            Command::RemoveOperatorToken { token } => Some(Undo::Operator(token.clone())),
            _ => None,
        }
    }

    fn undoes(&self, fact: &Fact) -> bool {
        match (self, fact) {
            (
                Undo::Attached { application, environment, node },
                Fact::Attached { application: a, environment: e, node: n },
            ) => (a, e, n) == (application, environment, node),
            (Undo::Node(name), Fact::Attached { node, .. }) => node == name,
            (Undo::Node(gone), Fact::Node { name, .. }) => name == gone,
            (Undo::Operator(gone), Fact::Operator { name, .. }) => name == gone,
            (Undo::Service(gone), Fact::Deployment { service, .. }) => gone.is_none_or(|gone| gone == *service),
            _ => false,
        }
    }
}

impl Facts {
    /// How many.
    pub fn len(&self) -> usize {
        self.facts.len()
    }

    /// A command is on its way that may undo what was promised before; whether it arrives is not known.
    pub fn may_undo(&mut self, ticket: Ticket, command: &Command, service: impl Fn(&ServicePath) -> Option<ServiceId>) {
        if let Some(undo) = Undo::of(command, service) {
            self.facts.retain(|fact| !undo.undoes(fact));
            self.undoing.insert(ticket, undo);
        }
    }

    /// A command was refused.
    pub fn refuse(&mut self, ticket: Ticket) {
        self.undoing.remove(&ticket);
    }

    /// An answer was given.
    pub fn acknowledge(&mut self, ticket: Ticket, command: &Command, answer: &Answer) {
        if let (Some(Undo::Service(Some(gone))), Command::RemoveService { .. }) = (self.undoing.get(&ticket), command) {
            let gone = Fact::BeingRemoved(*gone);
            self.facts.push(gone);
        }
        if !matches!(command, Command::RemoveService { .. }) {
            // What was answered before in the same batch may still be undone by it, so it is only forgotten when it is
            // the last.
            self.undoing.remove(&ticket);
        }
        let fact = match (command, answer) {
            (_, Answer::Application(id)) => Fact::Application(*id),
            (_, Answer::Environment(id)) => Fact::Environment(*id),
            (Command::AttachNode { application, environment, node }, _) => Fact::Attached {
                application: application.clone(),
                environment: environment.clone(),
                node: node.clone(),
            },
            (Command::EnrolNode(enrol), Answer::Node(id)) => Fact::Node { id: *id, name: enrol.name.clone() },
            (Command::CreateJoinToken(new), _) => Fact::JoinToken(new.id),
            (Command::CreateOperatorToken(new), _) => Fact::Operator { id: new.id, name: new.name.clone() },
            (_, Answer::Deployment { service, number }) => Fact::Deployment { service: *service, number: *number },
            (_, Answer::Applied { services: applied, .. }) => {
                for one in applied {
                    let Some(service) = one.service else { continue };
                    self.hold(Fact::Deployment { service, number: one.deployment.unwrap_or_default() });
                }
                return;
            }
            (
                _,
                Answer::Recorded | Answer::Unchanged | Answer::Node(_) | Answer::Entrance(_) | Answer::OneOff { .. },
            ) => {
                return;
            }
        };
        self.hold(fact);
    }

    fn hold(&mut self, fact: Fact) {
        if !self.undoing.values().any(|undo| undo.undoes(&fact)) {
            self.facts.push(fact);
        }
    }

    /// What the cluster does not hold of it.
    pub fn missing(&self, cluster: &Cluster) -> Vec<Violation> {
        let lost = self.facts.iter().filter(|fact| !holds(fact, cluster));
        lost.map(|fact| Violation { invariant: 8, sentence: format!("acknowledged and lost: {fact:?}") }).collect()
    }
}

fn holds(fact: &Fact, cluster: &Cluster) -> bool {
    match fact {
        Fact::Application(id) => cluster.get::<Application>(id).is_some(),
        Fact::Environment(id) => cluster.get::<Environment>(id).is_some(),
        Fact::Attached { application, environment, node } => {
            let environment = cluster.environment_named(application, environment).map(|it| it.id);
            let node = cluster.node_named(node).map(|it| it.id);
            matches!((environment, node), (Ok(environment), Ok(node)) if cluster.get::<Allotment>(&(environment, node)).is_some())
        }
        Fact::Node { id, .. } => cluster.get::<Node>(id).is_some(),
        Fact::Deployment { service, number } => {
            cluster.get::<Service>(service).is_some_and(|service| service.last_deployment >= *number)
        }
        Fact::BeingRemoved(service) => cluster.get::<Service>(service).is_none_or(|service| service.deleting),
        Fact::JoinToken(id) => cluster.get::<JoinToken>(id).is_some(),
        Fact::Operator { id, .. } => cluster.get::<OperatorToken>(id).is_some(),
    }
}
