//! Applications and environments, and the nodes that are given to them.

use crate::access::same_hash;
use crate::cluster::command::{Answer, Enrol, NewJoinToken, Outcome, Refusal};
use crate::cluster::event::{Event, EventKind};
use crate::cluster::live::Live;
use crate::cluster::paths::slot_word;
use crate::cluster::state::*;
use crate::cluster::{Cluster, Context, One, Touched};
use crate::ids::{ApplicationId, EnvironmentId, NodeId, TokenId};
use crate::liveness::Liveness;
use crate::policy::{ApplicationKind, LONGEST_JOIN_TOKEN_LIFE, Policy, why_not_a_name};
use crate::quota::Quota;
use crate::time::{Millis, Wall};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// A join token is forgotten this long after its end.
const JOIN_TOKEN_KEPT: Millis = Millis::secs(7 * 24 * 3600);
/// So many at once, far below what a batch of changes takes.
const DROPPED_AT_ONCE: usize = 20;

fn outcome(answer: Answer) -> Outcome {
    Outcome { answer, warnings: Vec::new(), touched: Touched::new() }
}

impl Cluster {
    /// What the configuration says at a start. Revisions that are there keep the hosts that they were made with.
    pub fn take_domain(&mut self, domain: &str, wall: Wall) {
        let Some(before) = self.meta().map(|meta| meta.domain.clone()).filter(|before| before != domain) else {
            return;
        };
        self.edit::<Meta>(&One, |meta| meta.domain = domain.into());
        let sentence = format!(
            "default hosts lie under {domain} now, before under {before}: a service gets its new one with its next revision"
        );
        let kind = EventKind::DomainChanged;
        self.note(Event { kind, path: "organization".into(), sentence, wall, by: None });
    }

    pub(crate) fn create_application(&mut self, name: &str, cx: &mut Context<'_>) -> Result<Outcome, Refusal> {
        if let Some(why) = why_not_a_name(name) {
            return Err(Refusal::invalid(why).at("application"));
        }
        if self.application_named(name).is_ok() {
            return Err(Refusal::conflict(format!("there is an application {name} already")));
        }
        let id = ApplicationId(cx.ids.mint());
        let kind = ApplicationKind::Project;
        self.put(Application { id, name: name.into(), kind, quota: Quota::default(), created: cx.wall });
        self.tell(cx, EventKind::ApplicationCreated, name, format!("{} created the application", cx.author));
        for (environment, policy) in kind.environments() {
            self.add_environment(id, environment, policy, cx);
        }
        Ok(outcome(Answer::Application(id)))
    }

    pub(crate) fn create_environment(
        &mut self,
        application: &str,
        name: &str,
        cx: &mut Context<'_>,
    ) -> Result<Outcome, Refusal> {
        let of = self.application_named(application)?.id;
        if let Some(why) = why_not_a_name(name) {
            return Err(Refusal::invalid(why));
        }
        if self.environment_named(application, name).is_ok() {
            return Err(Refusal::conflict(format!("{application} has an environment {name} already")));
        }
        Ok(outcome(Answer::Environment(self.add_environment(of, name, Policy::default_of(name), cx))))
    }

    fn add_environment(
        &mut self,
        of: ApplicationId,
        name: &str,
        policy: Policy,
        cx: &mut Context<'_>,
    ) -> EnvironmentId {
        let id = EnvironmentId(cx.ids.mint());
        let quota = Quota::default();
        self.put(Environment { id, application: of, name: name.into(), policy, quota, created: cx.wall });
        let sentence = format!("{} created the environment", cx.author);
        self.tell(cx, EventKind::EnvironmentCreated, self.environment_path(id), sentence);
        id
    }

    pub(crate) fn attach_node(&mut self, of: (&str, &str), node: &str, cx: &Context<'_>) -> Result<Outcome, Refusal> {
        let environment = self.environment_named(of.0, of.1)?.id;
        let node = self.node_named(node)?.id;
        if self.allotments.contains_key(&(environment, node)) {
            return Ok(outcome(Answer::Unchanged));
        }
        Ok(Outcome { touched: self.allot(environment, node, cx), ..outcome(Answer::Recorded) })
    }

    fn allot(&mut self, environment: EnvironmentId, node: NodeId, cx: &Context<'_>) -> Touched {
        self.put(Allotment { environment, node, created: cx.wall });
        // Slots that were left on it when it was taken away by force are named in its set again.
        self.edit::<Node>(&node, |node| node.generation += 1);
        let sentence = format!("{} gave it the node {}", cx.author, self.node_name(node));
        self.tell(cx, EventKind::Allotment, self.environment_path(environment), sentence);
        self.services_of(environment).map(|service| service.id).collect()
    }

    pub(crate) fn detach_node(
        &mut self,
        live: &Live,
        of: (&str, &str),
        node: &str,
        force: bool,
        cx: &Context<'_>,
    ) -> Result<Outcome, Refusal> {
        let environment = self.environment_named(of.0, of.1)?.id;
        let node = self.node_named(node)?.clone();
        if !self.allotments.contains_key(&(environment, node.id)) {
            return Err(Refusal::conflict(format!("{} is not attached to {}/{}", node.name, of.0, of.1)));
        }
        self.refuse_while_used(live, &node, Some(environment), force, cx)?;
        self.remove::<Allotment>((environment, node.id));
        // What the node should run has changed: jobs of this environment are not named in its set any more.
        self.edit::<Node>(&node.id, |node| node.generation += 1);
        let sentence = format!("{} took the node {} back", cx.author, node.name);
        self.tell(cx, EventKind::Allotment, self.environment_path(environment), sentence);
        let touched = self.services_of(environment).map(|service| service.id).collect();
        Ok(Outcome { touched, ..outcome(Answer::Recorded) })
    }

    pub(crate) fn remove_node(
        &mut self,
        live: &Live,
        name: &str,
        force: bool,
        cx: &Context<'_>,
    ) -> Result<Outcome, Refusal> {
        let node = self.node_named(name)?.clone();
        self.refuse_while_used(live, &node, None, force, cx)?;
        // Also of those that wait for what it has of them.
        let touched = self.touched_by_node(live, node.id);
        let given: Vec<_> = self.all::<Allotment>().filter(|it| it.node == node.id).map(|it| it.environment).collect();
        for environment in given {
            self.remove::<Allotment>((environment, node.id));
        }
        self.remove::<Node>(node.id);
        self.tell(cx, EventKind::NodeRemoved, format!("node/{name}"), format!("{} removed the node", cx.author));
        Ok(Outcome { touched, ..outcome(Answer::Recorded) })
    }

    /// Jobs run on a node, for one environment or any: it is not taken away, unless by force from a Lost one.
    fn refuse_while_used(
        &self,
        live: &Live,
        node: &Node,
        environment: Option<EnvironmentId>,
        force: bool,
        cx: &Context<'_>,
    ) -> Result<(), Refusal> {
        let one_offs = self.one_offs_on(node.id).filter(|one| one.is_under_way()).map(OneOff::slot);
        let jobs: Vec<String> = self
            .slots_on(node.id)
            .map(|slot| slot.id.clone())
            .chain(one_offs)
            .filter_map(|slot| Some((self.services.get(&slot.service)?, slot)))
            .filter(|(service, _)| environment.is_none_or(|environment| service.environment == environment))
            .map(|(service, slot)| {
                let path = self.path_of(service);
                format!("{}/{}/{} ({})", path.application, path.environment, path.service, slot_word(&slot))
            })
            .collect();
        if jobs.is_empty() {
            return Ok(());
        }
        let name = &node.name;
        let sentence = format!("jobs run on {name}: {}", jobs.join(", "));
        match live.liveness(node.id, cx.tick) {
            Liveness::Lost if force => Ok(()),
            Liveness::Lost => Err(Refusal::refused(sentence).hint("the node is lost: --force starts them elsewhere")),
            Liveness::Ready | Liveness::Suspect if force => {
                Err(Refusal::refused(format!("{sentence}, and {name} is not lost, so --force does not apply"))
                    .hint(MAKE_EMPTY))
            }
            Liveness::Ready | Liveness::Suspect => Err(Refusal::refused(sentence).hint(MAKE_EMPTY)),
        }
    }

    pub(crate) fn create_join_token(&mut self, new: NewJoinToken, cx: &Context<'_>) -> Result<Outcome, Refusal> {
        let environment = match &new.environment {
            Some((application, environment)) => Some(self.environment_named(application, environment)?.id),
            None => None,
        };
        if let Some(why) = new.node_name.as_deref().and_then(why_not_a_name) {
            return Err(Refusal::invalid(why));
        }
        if new.lifetime > LONGEST_JOIN_TOKEN_LIFE || new.lifetime == Millis(0) {
            let most = LONGEST_JOIN_TOKEN_LIFE.0 / 1_000;
            let said = format!("ttl_seconds must be between 1 and {most}: a join token is good for a week at most");
            return Err(Refusal::invalid(said).at("ttl_seconds"));
        }
        let expires = cx.wall + new.lifetime;
        self.put(JoinToken {
            id: new.id,
            hash: new.hash,
            created: cx.wall,
            by: cx.by(),
            expires,
            environment,
            node_name: new.node_name,
            cidr: new.cidr,
            used_by: None,
        });
        let sentence = format!("{} created a join token, good for one node and {}", cx.author, new.lifetime);
        self.tell(cx, EventKind::JoinTokenCreated, format!("node-token/{}", new.id), sentence);
        Ok(outcome(Answer::Recorded))
    }

    /// A node joins with a ticket, which is used up by that in the same change.
    pub(crate) fn enrol(&mut self, enrol: Enrol, cx: &Context<'_>) -> Result<Outcome, Refusal> {
        let token = self.good_token(&enrol, cx.wall)?;
        if let Some(node) = token.used_by {
            // Its own key again: the answer got lost on its way.
            return Ok(outcome(Answer::Node(node)));
        }
        if let Some(why) = why_not_a_name(&enrol.name) {
            return Err(Refusal::invalid(why).hint("set the node's name in the agent's configuration"));
        }
        if self.node_named(&enrol.name).is_ok() {
            return Err(Refusal::conflict(format!("there is a node {} already", enrol.name))
                .hint("set another name in the agent's configuration, or remove the old node with `lap node rm`"));
        }
        self.put(Node {
            id: enrol.node,
            name: enrol.name.clone(),
            architecture: enrol.architecture,
            labels: BTreeMap::new(),
            wish: Wish::Open,
            joined: cx.wall,
            boot: None,
            capacity: enrol.capacity,
            generation: 1,
            key: enrol.key,
            standing: Standing::Good,
            boots: Vec::new(),
            returning: None,
        });
        let sentence = format!("the node joined with a token of {}", token.by);
        self.tell(cx, EventKind::NodeJoined, format!("node/{}", enrol.name), sentence);
        let touched = match token.environment.filter(|id| self.environments.contains_key(id)) {
            Some(environment) => self.allot(environment, enrol.node, cx),
            None => Touched::new(),
        };
        self.put(JoinToken { used_by: Some(enrol.node), ..token });
        Ok(Outcome { touched, ..outcome(Answer::Node(enrol.node)) })
    }

    /// Join tokens are of no use after their end. They stay a while, so that whoever shows one late is told why it is
    /// refused, and go a few at a time.
    pub(crate) fn drop_old_join_tokens(&mut self, now: Wall) {
        let is_old = |token: &&JoinToken| token.expires + JOIN_TOKEN_KEPT <= now;
        let old: Vec<TokenId> =
            self.all::<JoinToken>().filter(is_old).take(DROPPED_AT_ONCE).map(|token| token.id).collect();
        for id in old {
            self.remove::<JoinToken>(id);
        }
    }

    fn good_token(&self, enrol: &Enrol, now: Wall) -> Result<JoinToken, Refusal> {
        let unknown = || Refusal::refused("this join token is not one of this cluster's").hint(NEW_TOKEN);
        let token = self.get::<JoinToken>(&enrol.token).ok_or_else(unknown)?;
        // A wrong secret and an unknown id are answered alike: who guesses learns nothing.
        if !same_hash(&token.hash, &enrol.hash) {
            return Err(unknown());
        }
        let joined_with_this_key = |node: &Node| node.key == enrol.key;
        if let Some(node) = token.used_by
            && !self.get::<Node>(&node).is_some_and(joined_with_this_key)
        {
            let sentence = format!("this join token was used already, by {}", self.node_name(node));
            return Err(Refusal::refused(sentence).hint(NEW_TOKEN));
        }
        if now >= token.expires {
            return Err(Refusal::refused("this join token has expired").hint(NEW_TOKEN));
        }
        if !enrol.address_allowed {
            let cidr = token.cidr.as_deref().unwrap_or("another network");
            return Err(Refusal::refused(format!("this join token is only for nodes in {cidr}")));
        }
        if let Some(name) = token.node_name.as_ref().filter(|name| **name != enrol.name) {
            return Err(Refusal::refused(format!(
                "this join token is only for the node {name}, not for {}",
                enrol.name
            )));
        }
        Ok(token.clone())
    }
}

/// A node is emptied by its services; the cordon keeps what is scaled elsewhere from coming back to it.
const MAKE_EMPTY: &str = "keep new jobs from it with `lap node cordon`, then remove or scale down these services";
const NEW_TOKEN: &str = "`lap node token create` makes a new one";
