//! How records are found: by the names that people use, and by what belongs together.

use crate::assignment::ServicePath;
use crate::cluster::command::Refusal;
use crate::cluster::event::{Event, EventKind};
use crate::cluster::state::*;
use crate::cluster::{Cluster, Context, One};
use crate::ids::{EnvironmentId, NodeId, ServiceId, SlotId};
use alloc::format;
use alloc::string::{String, ToString};

impl Cluster {
    /// The cluster's own record; none before the first start has written it.
    pub fn meta(&self) -> Option<&Meta> {
        self.get::<Meta>(&One)
    }

    /// An application by name.
    pub fn application_named(&self, name: &str) -> Result<&Application, Refusal> {
        self.all::<Application>().find(|application| application.name == name).ok_or_else(|| {
            Refusal::not_found(format!("there is no application {name}")).hint("`lap app ls` lists them")
        })
    }

    /// An environment by name.
    pub fn environment_named(&self, application: &str, name: &str) -> Result<&Environment, Refusal> {
        let of = self.application_named(application)?.id;
        self.all::<Environment>()
            .find(|environment| environment.application == of && environment.name == name)
            .ok_or_else(|| {
                Refusal::not_found(format!("{application} has no environment {name}"))
                    .hint(format!("`lap env create {application}/{name}` creates it"))
            })
    }

    /// A service by its path.
    pub fn service_at(&self, path: &ServicePath) -> Result<&Service, Refusal> {
        let environment = self.environment_named(&path.application, &path.environment)?.id;
        self.services_of(environment).find(|service| service.name == path.service).ok_or_else(|| {
            Refusal::not_found(format!("{}/{} has no service {}", path.application, path.environment, path.service))
                .hint("`lap ps` lists them")
        })
    }

    /// A node by name.
    pub fn node_named(&self, name: &str) -> Result<&Node, Refusal> {
        self.all::<Node>()
            .find(|node| node.name == name)
            .ok_or_else(|| Refusal::not_found(format!("there is no node {name}")).hint("`lap node ls` lists them"))
    }

    /// The services of an environment, by age.
    pub fn services_of(&self, environment: EnvironmentId) -> impl Iterator<Item = &Service> {
        self.all::<Service>().filter(move |service| service.environment == environment)
    }

    /// The slots of a service, by number.
    pub fn slots_of(&self, service: ServiceId) -> impl Iterator<Item = &Slot> {
        let first = SlotId { service, target: String::new(), number: 0 };
        self.slots.range(first..).map(|(_, slot)| slot).take_while(move |slot| slot.id.service == service)
    }

    /// The slots on a node.
    pub fn slots_on(&self, node: NodeId) -> impl Iterator<Item = &Slot> {
        self.slots_of_node.get(&node).into_iter().flatten().filter_map(|id| self.slots.get(id))
    }

    /// The kept revisions of a service, oldest first.
    pub fn revisions_of(&self, service: ServiceId) -> impl DoubleEndedIterator<Item = &Revision> {
        self.revisions.range((service, 0)..=(service, u32::MAX)).map(|(_, revision)| revision)
    }

    /// The kept deployments of a service, oldest first.
    pub fn deployments_of(&self, service: ServiceId) -> impl DoubleEndedIterator<Item = &Deployment> {
        self.deployments.range((service, 0)..=(service, u32::MAX)).map(|(_, deployment)| deployment)
    }

    /// The newest deployment of a service.
    pub fn last_deployment(&self, service: &Service) -> Option<&Deployment> {
        self.get::<Deployment>(&(service.id, service.last_deployment))
    }

    /// The nodes that are allotted to an environment and are there.
    pub fn nodes_of(&self, environment: EnvironmentId) -> impl Iterator<Item = &Node> {
        self.allotments
            .range((environment, NodeId(0))..=(environment, NodeId(u128::MAX)))
            .filter_map(|((_, node), _)| self.nodes.get(node))
    }

    /// Whether a node is allotted to an environment, and there.
    pub fn is_allotted(&self, environment: EnvironmentId, node: NodeId) -> bool {
        self.allotments.contains_key(&(environment, node)) && self.nodes.contains_key(&node)
    }

    /// A node's name; for one that was removed, its id.
    pub fn node_name(&self, node: NodeId) -> String {
        self.nodes.get(&node).map_or_else(|| node.to_string(), |node| node.name.clone())
    }

    /// `shop/production`.
    pub fn environment_path(&self, environment: EnvironmentId) -> String {
        let Some(environment) = self.environments.get(&environment) else { return environment.to_string() };
        match self.applications.get(&environment.application) {
            Some(application) => format!("{}/{}", application.name, environment.name),
            None => environment.name.clone(),
        }
    }

    /// `shop/production/web`, in its parts.
    pub fn path_of(&self, service: &Service) -> ServicePath {
        let environment = self.environments.get(&service.environment);
        let application = environment.and_then(|environment| self.applications.get(&environment.application));
        ServicePath {
            application: application.map_or_else(String::new, |application| application.name.clone()),
            environment: environment.map_or_else(String::new, |environment| environment.name.clone()),
            service: service.name.clone(),
        }
    }

    /// Adds to the log something that an operator did.
    pub(crate) fn tell(&mut self, cx: &Context<'_>, kind: EventKind, path: impl ToString, sentence: String) {
        let by = Some(cx.by());
        self.note(Event { kind, path: path.to_string(), sentence, wall: cx.wall, by });
    }

    /// Adds to the log something that came of a deployment or by itself.
    pub(crate) fn tell_of(&mut self, cx: &Context<'_>, kind: EventKind, service: &Service, sentence: String) {
        let path = self.path_of(service).to_string();
        self.note(Event { kind, path, sentence, wall: cx.wall, by: None });
    }
}

/// `web.1`: how people name a slot within its service.
pub fn slot_word(slot: &SlotId) -> String {
    format!("{}.{}", slot.target, slot.number)
}

/// The host of a service that names none.
pub fn default_host(path: &ServicePath, domain: &str) -> String {
    format!("{}-{}-{}.{domain}", path.service, path.environment, path.application)
}

/// The host that leads to each public port, in the order of the ports.
pub fn hosts_of(spec: &crate::spec::ServiceSpec, path: &ServicePath, domain: &str) -> alloc::vec::Vec<Option<String>> {
    spec.ports
        .iter()
        .map(|port| port.public.then(|| port.host.clone().unwrap_or_else(|| default_host(path, domain))))
        .collect()
}
