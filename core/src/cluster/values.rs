//! Secrets and variables: set and removed by people, bound by deployments, given to nodes.
//!
//! A value belongs to the organization, an application, an environment or a service, and what lies nearer to a service
//! wins. A deployment binds versions; whatever is set later reaches no job before the next deployment. So a job that is
//! started again, here or on another node, has the same values as the jobs beside it.

use crate::access::Scope;
use crate::assignment::ServicePath;
use crate::cluster::command::{Answer, Outcome, Refusal};
use crate::cluster::event::{EventKind, ORGANIZATION};
use crate::cluster::live::Live;
use crate::cluster::state::*;
use crate::cluster::{Cluster, Context, Followup, Touched};
use crate::ids::{NodeId, ServiceId, ValueId};
use crate::policy::why_not_a_name;
use crate::quote::quoted;
use crate::reason::Reason;
use crate::spec::{Pull, ServiceSpec};
use crate::values::{
    AUTOMATIC, Body, Bound, GivenValue, JOB_VALUES, JOB_VALUES_BYTES, Place, Sealed, VALUE_BYTES, VALUES_PER_SCOPE,
    ValueKey, ValueKind, ValueScope,
};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// The longest name of a variable or a registry.
const LONGEST_NAME: usize = 256;
/// Services that one sentence names at most.
const NAMED_AT_MOST: usize = 10;
/// Records that the end of one deployment tidies up at most, so that it fits into a transaction of every store.
const TIDIED_AT_ONCE: usize = 20;

/// What is asked of values. Paths are as people write them: empty for the organization, `shop`, `shop/production`,
/// `shop/production/web`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueCommand {
    /// A new version of a value.
    Set(SetValue),
    /// No value of this name any more. Jobs that have it keep it.
    Remove {
        /// Where it belongs.
        at: String,
        /// What it is for.
        kind: ValueKind,
        /// Its name.
        name: String,
    },
    /// The same values under another key: what does not change is what they are.
    Reseal {
        /// Each version with its bytes before and after. One that is not as it was before is left alone.
        versions: Vec<Resealed>,
    },
}

/// A new version of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetValue {
    /// Where it belongs.
    pub at: String,
    /// What it is for, and its name, by the ids that the rim has sealed it for.
    pub key: ValueKey,
    /// The version, minted at the rim, which has sealed it for this id.
    pub id: ValueId,
    /// What it is.
    pub body: Sealed,
}

/// A version under another key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resealed {
    /// Whose.
    pub key: ValueKey,
    /// Which.
    pub id: ValueId,
    /// Under the old key.
    pub before: Sealed,
    /// Under the new one.
    pub after: Sealed,
}

/// A value as a service finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<'a> {
    /// The value.
    pub value: &'a Value,
    /// Its current version.
    pub version: &'a ValueVersion,
}

impl Found<'_> {
    fn bound(&self, place: Place) -> Bound {
        Bound { place, key: self.value.key.clone(), version: self.version.id }
    }
}

impl ValueCommand {
    /// Where its author needs the right to manage secrets.
    pub fn scope(&self) -> Scope {
        match self {
            ValueCommand::Set(SetValue { at, .. }) | ValueCommand::Remove { at, .. } => Scope::of_path(at),
            ValueCommand::Reseal { .. } => Scope::Organization,
        }
    }
}

impl Cluster {
    /// Sets, removes or reseals.
    pub(crate) fn change_values(&mut self, command: ValueCommand, cx: &mut Context<'_>) -> Result<Outcome, Refusal> {
        match command {
            ValueCommand::Set(set) => self.set_value(set, cx),
            ValueCommand::Remove { at, kind, name } => self.remove_value(&at, kind, &name, cx),
            ValueCommand::Reseal { versions } => Ok(self.reseal(&versions)),
        }
    }

    /// The scope of a path as people write it.
    pub fn value_scope(&self, path: &str) -> Result<ValueScope, Refusal> {
        let parts: Vec<&str> = if path.is_empty() { Vec::new() } else { path.split('/').collect() };
        match parts.as_slice() {
            [] => Ok(ValueScope::Organization),
            [application] => Ok(ValueScope::Application(self.application_named(application)?.id)),
            [application, environment] => {
                Ok(ValueScope::Environment(self.environment_named(application, environment)?.id))
            }
            [application, environment, service] => {
                let (application, environment) = (application.to_string(), environment.to_string());
                let path = ServicePath { application, environment, service: service.to_string() };
                Ok(ValueScope::Service(self.service_at(&path)?.id))
            }
            _ => {
                Err(Refusal::invalid(format!("{} is no path of an application, environment or service", quoted(path))))
            }
        }
    }

    /// The path of a scope, as people write it: empty for the organization, and for one that is gone.
    pub fn path_of_scope(&self, scope: ValueScope) -> String {
        if scope == ValueScope::Organization { String::new() } else { self.called(scope).unwrap_or_default() }
    }

    /// What people call a scope: `shop/production`, `the organization`. None for one that is gone.
    pub fn called(&self, scope: ValueScope) -> Option<String> {
        match scope {
            ValueScope::Organization => Some("the organization".into()),
            ValueScope::Application(id) => Some(self.get::<Application>(&id)?.name.clone()),
            ValueScope::Environment(id) => self.get::<Environment>(&id).map(|of| self.environment_path(of.id)),
            ValueScope::Service(id) => self.get::<Service>(&id).map(|of| self.path_of(of).to_string()),
        }
    }

    /// A value in a sentence: `the secret api-key of shop/production`.
    pub fn value_called(&self, key: &ValueKey) -> String {
        let of = self.called(key.scope).unwrap_or_else(|| "something that is gone".into());
        format!("{} {} of {of}", key.kind.noun(), key.name)
    }

    /// The values of a scope, by kind and name, also those that were removed and are still in use.
    pub fn values_in(&self, scope: ValueScope) -> impl Iterator<Item = &Value> {
        let first = ValueKey { scope, kind: ValueKind::Variable, name: String::new() };
        self.values.range(first..).map(|(_, value)| value).take_while(move |value| value.key.scope == scope)
    }

    /// The scopes that something of this scope inherits from, the farthest first and this one last.
    pub fn value_chain(&self, scope: ValueScope) -> Vec<ValueScope> {
        let mut chain = Vec::from([scope]);
        while let Some(around) = chain.last().and_then(|scope| self.around(*scope)) {
            chain.push(around);
        }
        chain.reverse();
        chain
    }

    fn around(&self, scope: ValueScope) -> Option<ValueScope> {
        match scope {
            ValueScope::Organization => None,
            ValueScope::Application(_) => Some(ValueScope::Organization),
            ValueScope::Environment(id) => Some(ValueScope::Application(self.get::<Environment>(&id)?.application)),
            ValueScope::Service(id) => Some(ValueScope::Environment(self.get::<Service>(&id)?.environment)),
        }
    }

    /// Every value of a kind that a scope has, its own or inherited, by name. What lies nearer hides what lies farther.
    pub fn values_for(&self, scope: ValueScope, kind: ValueKind) -> BTreeMap<&str, Found<'_>> {
        let chain = self.value_chain(scope);
        let values = chain.iter().flat_map(|scope| self.values_in(*scope)).filter(|value| value.key.kind == kind);
        values
            .filter_map(|value| {
                let version = value.version(value.current?)?;
                Some((value.key.name.as_str(), Found { value, version }))
            })
            .collect()
    }

    /// The services of a scope.
    pub fn services_below(&self, scope: ValueScope) -> impl Iterator<Item = &Service> {
        self.all::<Service>().filter(move |service| match scope {
            ValueScope::Organization => true,
            ValueScope::Application(id) => {
                self.get::<Environment>(&service.environment).is_some_and(|of| of.application == id)
            }
            ValueScope::Environment(id) => service.environment == id,
            ValueScope::Service(id) => service.id == id,
        })
    }

    /// What a service's jobs get when a deployment of this spec begins now, by place, and the names of secrets that are not
    /// there. What the spec itself says of a variable comes before what is inherited.
    pub fn bind(&self, service: &Service, spec: &ServiceSpec) -> (Vec<Bound>, BTreeSet<String>) {
        let scope = ValueScope::Service(service.id);
        let secrets = self.values_for(scope, ValueKind::Secret);
        let mut bound = Vec::new();
        let mut missing = BTreeSet::new();
        let mut name = |place: Place, secret: &String| match secrets.get(secret.as_str()) {
            Some(found) => bound.push(found.bound(place)),
            None => {
                missing.insert(secret.clone());
            }
        };
        for (variable, secret) in &spec.secrets {
            name(Place::Variable(variable.clone()), secret);
        }
        for (path, file) in &spec.files {
            name(Place::File { path: path.clone(), mode: file.mode }, &file.secret);
        }
        for (name, found) in self.values_for(scope, ValueKind::Variable) {
            if !spec.has_variable(name) {
                bound.push(found.bound(Place::Variable(name.into())));
            }
        }
        bound.sort();
        (bound, missing)
    }

    /// The credentials for the registry of a service's image, as they are now: they are no job's, so no deployment binds
    /// them, and a job that moves is pulled with what is good today.
    pub(crate) fn login_for(&self, service: &Service, spec: &ServiceSpec) -> Option<Bound> {
        if spec.image.pull != Pull::Registry {
            return None;
        }
        let host = registry_of(&spec.image.reference);
        let logins = self.values_for(ValueScope::Service(service.id), ValueKind::Registry);
        logins.get(host.as_str()).map(|found| found.bound(Place::Registry))
    }

    /// Queued: binds the values that are there now, or waits for those that are not. True if that changed anything.
    pub(crate) fn bind_values(
        &mut self,
        live: &mut Live,
        service: &Service,
        deployment: &Deployment,
        cx: &mut Context<'_>,
        follow: &mut Followup,
    ) -> bool {
        let (bound, missing) = self.bind(service, &deployment.spec);
        if !missing.is_empty() {
            let (secrets, environment) = (missing.into_iter().collect(), self.environment_path(service.environment));
            follow.wait(self.path_of(service), Reason::MissingSecrets { secrets, environment });
            // Somebody may be long in setting it: what is active is kept up meanwhile.
            let wanted = self.slots_to_keep(service);
            return self.retry(live, service, &wanted, cx, follow);
        }
        if let Some(said) = self.unfit(live, &bound) {
            return self.fail(service, deployment.number, DeploymentFailure::Values { said }, cx);
        }
        self.edit::<Deployment>(&(service.id, deployment.number), |deployment| deployment.bindings = Some(bound));
        true
    }

    /// Why no job can be given these values; none if one can.
    fn unfit(&self, live: &Live, bound: &[Bound]) -> Option<String> {
        let damaged = bound.iter().find_map(|one| Some((one, live.unreadable.get(&(one.key.clone(), one.version))?)));
        if let Some((one, said)) = damaged {
            return Some(format!("{} cannot be read: {said}; set it again", self.value_called(&one.key)));
        }
        if bound.len() > JOB_VALUES {
            return Some(format!("it has {} secrets and variables; a job gets at most {JOB_VALUES}", bound.len()));
        }
        let bytes: usize = bound.iter().filter_map(|one| self.version(one)).map(|version| version.body.0.len()).sum();
        (bytes > JOB_VALUES_BYTES).then(|| {
            format!("its secrets and variables are {bytes} bytes together; a job gets at most {JOB_VALUES_BYTES}")
        })
    }

    /// The values that the jobs of a deployment get; none of a deployment that is not kept.
    pub(crate) fn bindings_of(&self, service: ServiceId, number: u32) -> &[Bound] {
        let deployment = self.get::<Deployment>(&(service, number));
        deployment.and_then(|deployment| deployment.bindings.as_deref()).unwrap_or_default()
    }

    /// What the next deployment of a service will change of its jobs' values: what they have and what they would get,
    /// where that differs.
    pub fn undeployed(&self, service: &Service) -> BTreeSet<Bound> {
        let Some(active) = service.active else { return BTreeSet::new() };
        let Some(revision) = self.get::<Revision>(&(service.id, active.revision)) else { return BTreeSet::new() };
        // Of a secret that is gone the jobs have an older version, and nothing else will come of it.
        let (next, missing) = self.bind(service, &revision.spec);
        let next: BTreeSet<&Bound> = next.iter().collect();
        let have = self.bindings_of(service.id, active.deployment_number);
        let have: BTreeSet<&Bound> = have.iter().filter(|one| !missing.contains(&one.key.name)).collect();
        next.symmetric_difference(&have).map(|one| (*one).clone()).collect()
    }

    /// What is said of a service that has values which are not deployed; none of one that has none.
    pub(crate) fn say_undeployed(&self, service: &Service) -> Option<String> {
        let undeployed = self.undeployed(service);
        let names: BTreeSet<&str> = undeployed.iter().map(|one| one.place.name()).collect();
        let names: Vec<&str> = names.into_iter().collect();
        (!names.is_empty())
            .then(|| format!("not deployed yet: {}; `lap redeploy` gives it new jobs with them", names.join(", ")))
    }

    /// The version that was bound.
    pub(crate) fn version(&self, bound: &Bound) -> Option<&ValueVersion> {
        self.get::<Value>(&bound.key)?.version(bound.version)
    }

    /// The sealed value behind a binding, for its node.
    pub(crate) fn given(&self, bound: &Bound) -> GivenValue {
        let body = match self.version(bound) {
            Some(version) => {
                Body::Stored { key: bound.key.clone(), version: bound.version, sealed: version.body.clone() }
            }
            None => Body::Unreadable { said: "this version of it is not kept any more".into() },
        };
        GivenValue { called: self.value_called(&bound.key), body }
    }

    /// The credentials with which a deployment's image is looked for.
    pub(crate) fn login_of(&self, service: &Service, deployment: &Deployment) -> Option<(ValueId, GivenValue)> {
        let bound = self.login_for(service, &deployment.spec)?;
        Some((bound.binding().value, self.given(&bound)))
    }

    fn set_value(&mut self, set: SetValue, cx: &mut Context<'_>) -> Result<Outcome, Refusal> {
        let SetValue { at, key, id, body } = set;
        if let Some(why) = why_not_called(key.kind, &key.name) {
            return Err(Refusal::invalid(why).at("name"));
        }
        if self.value_scope(&at)? != key.scope {
            return Err(Refusal::conflict(format!("{at} is another one than a moment ago")).hint("try again"));
        }
        let known = self.get::<Value>(&key).cloned();
        let count = self.values_in(key.scope).filter(|it| it.key.kind == key.kind && it.current.is_some()).count();
        if known.as_ref().is_none_or(|known| known.current.is_none()) && count >= VALUES_PER_SCOPE {
            let of = self.called(key.scope).unwrap_or_default();
            return Err(Refusal::refused(format!(
                "{of} has {count} values of this kind; the quota is {VALUES_PER_SCOPE}"
            )));
        }
        let mut value = known.unwrap_or(Value { key: key.clone(), current: None, last: 0, versions: Vec::new() });
        value.last += 1;
        value.current = Some(id);
        value.versions.push(ValueVersion { id, number: value.last, body, at: cx.wall, by: cx.by() });
        let sentence = format!("{} set {} (v{})", cx.author, self.value_called(&key), value.last);
        self.tell(cx, EventKind::Value, told_at(&at), sentence);
        self.put(value);
        self.forget_versions(&key);
        if key.kind == ValueKind::Registry {
            self.tell_pulling(key.scope);
        }
        let warnings = self.hidden_by_specs(&key);
        Ok(Outcome { answer: Answer::Recorded, warnings, touched: self.waiting_below(key.scope) })
    }

    fn remove_value(
        &mut self,
        at: &str,
        kind: ValueKind,
        name: &str,
        cx: &mut Context<'_>,
    ) -> Result<Outcome, Refusal> {
        let key = ValueKey { scope: self.value_scope(at)?, kind, name: name.into() };
        let called = self.value_called(&key);
        let Some(value) = self.get::<Value>(&key).filter(|value| value.current.is_some()).cloned() else {
            let verb = if kind == ValueKind::Variable { "var" } else { "secret" };
            let of = self.called(key.scope).unwrap_or_default();
            let sentence = format!("{of} has no {} {} of its own", kind.word(), quoted(name));
            return Err(Refusal::not_found(sentence).hint(format!("`lap {verb} ls` lists them")));
        };
        self.put(Value { current: None, ..value });
        let users: Vec<String> = if kind == ValueKind::Secret {
            let names = |service: &&Service| service.spec.secrets_named().any(|secret| secret == name);
            let lacks = |service: &&Service| self.bind(service, &service.spec).1.contains(name);
            let below = self.services_below(key.scope).filter(names).filter(lacks);
            below.map(|service| self.path_of(service).to_string()).take(NAMED_AT_MOST).collect()
        } else {
            Vec::new()
        };
        if !users.is_empty() {
            // The caller takes the change back with the refusal.
            return Err(Refusal::conflict(format!("{called} is named by the spec of {}", users.join(", ")))
                .hint("apply a spec without it first"));
        }
        self.tell(cx, EventKind::Value, told_at(at), format!("{} removed {called}", cx.author));
        self.forget_versions(&key);
        Ok(Outcome { answer: Answer::Recorded, warnings: Vec::new(), touched: self.waiting_below(key.scope) })
    }

    fn reseal(&mut self, versions: &[Resealed]) -> Outcome {
        for Resealed { key, id, before, after } in versions {
            self.edit::<Value>(key, |value| {
                for version in value.versions.iter_mut().filter(|it| it.id == *id && it.body == *before) {
                    version.body = after.clone();
                }
            });
        }
        Outcome { answer: Answer::Recorded, warnings: Vec::new(), touched: Touched::new() }
    }

    /// Tells the nodes whose jobs are still on their way, or have failed, so that their next pull has the new credentials.
    fn tell_pulling(&mut self, scope: ValueScope) {
        let services: Vec<ServiceId> = self.services_below(scope).map(|service| service.id).collect();
        let slots = services.into_iter().flat_map(|service| self.slots_of(service));
        let nodes: BTreeSet<NodeId> =
            slots.filter(|slot| slot.outcome != Some(SlotOutcome::Settled)).map(|slot| slot.node).collect();
        for node in nodes {
            self.bump(node);
        }
    }

    /// The services whose deployments may go on now.
    fn waiting_below(&self, scope: ValueScope) -> Touched {
        self.services_below(scope).filter(|service| service.unfinished.is_some()).map(|service| service.id).collect()
    }

    /// Services that do not see a variable, because their specs have one of this name.
    fn hidden_by_specs(&self, key: &ValueKey) -> Vec<String> {
        let hides = |it: &&Service| key.kind == ValueKind::Variable && it.spec.has_variable(&key.name);
        let hidden = self.services_below(key.scope).filter(hides);
        hidden
            .take(NAMED_AT_MOST)
            .map(|it| {
                format!("the spec of {} has a variable {} of its own, which comes before", self.path_of(it), key.name)
            })
            .collect()
    }

    /// What is worth a word about the values of a spec that is applied.
    pub(crate) fn warn_of_values(
        &self,
        known: Option<&Service>,
        environment: &Environment,
        spec: &ServiceSpec,
    ) -> Vec<String> {
        let scope = known.map_or(ValueScope::Environment(environment.id), |known| ValueScope::Service(known.id));
        let secrets = self.values_for(scope, ValueKind::Secret);
        let is_missing = |name: &&String| !secrets.contains_key(name.as_str());
        let missing: BTreeSet<&String> = spec.secrets_named().filter(is_missing).collect();
        let of = self.environment_path(environment.id);
        let absent = missing
            .into_iter()
            .map(|name| format!("{of} has no secret {name}: it waits until `lap secret set {of} {name}`"));
        let stale = known.filter(|known| known.spec == *spec).and_then(|known| self.say_undeployed(known));
        absent.chain(stale).collect()
    }

    /// Forgets the values of a service that is gone.
    pub(crate) fn forget_values_of(&mut self, service: ServiceId) {
        let keys: Vec<ValueKey> = self.values_in(ValueScope::Service(service)).map(|value| value.key.clone()).collect();
        for key in keys {
            self.remove::<Value>(key);
        }
    }

    /// Forgets what no job of a service needs any more, in all that it inherits from.
    pub(crate) fn tidy_values(&mut self, service: ServiceId) {
        let chain = self.value_chain(ValueScope::Service(service));
        let old = |value: &&Value| value.current.is_none() || value.versions.len() > 1;
        let keys: Vec<ValueKey> = chain
            .into_iter()
            .flat_map(|scope| self.values_in(scope))
            .filter(old)
            .map(|value| value.key.clone())
            .collect();
        let mut tidied = 0;
        for key in keys {
            tidied += usize::from(tidied < TIDIED_AT_ONCE && self.forget_versions(&key));
        }
    }

    /// Forgets the versions of a value that nobody has and nobody will get. True if there were any.
    fn forget_versions(&mut self, key: &ValueKey) -> bool {
        let Some(value) = self.get::<Value>(key) else { return false };
        let mut used: BTreeSet<ValueId> = value.current.into_iter().collect();
        for service in self.services_below(key.scope) {
            let slots = self.slots_of(service.id).flat_map(|slot| slot.job.iter().chain(&slot.previous));
            let active = service.active.map(|active| active.deployment_number);
            let one_offs = self.one_offs_of(service.id).map(|one| one.bound_by);
            let numbers: BTreeSet<u32> =
                slots.map(|job| job.bound_by).chain(active).chain(service.unfinished).chain(one_offs).collect();
            let bound = numbers.into_iter().flat_map(|number| self.bindings_of(service.id, number));
            used.extend(bound.filter(|one| one.key == *key).map(|one| one.version));
        }
        let mut value = value.clone();
        let before = value.versions.len();
        value.versions.retain(|version| used.contains(&version.id));
        let forgot = value.versions.len() < before;
        if value.versions.is_empty() {
            self.remove::<Value>(key.clone());
        } else if forgot {
            self.put(value);
        }
        forgot
    }
}

/// The path of an event.
fn told_at(path: &str) -> &str {
    if path.is_empty() { ORGANIZATION } else { path }
}

/// A value as it is sealed, from what somebody said of it: of a registry the user's name, a line feed and the password.
pub fn value_text(kind: ValueKind, user: Option<&str>, value: &str) -> Result<String, Refusal> {
    let text = match (kind, user) {
        (ValueKind::Registry, Some(user)) if !user.is_empty() && !user.contains(['\n', ':']) => {
            format!("{user}\n{value}")
        }
        (ValueKind::Registry, _) => {
            return Err(Refusal::invalid("the credentials for a registry need a user without : in its name"));
        }
        (ValueKind::Secret | ValueKind::Variable, None) => value.into(),
        (ValueKind::Secret | ValueKind::Variable, Some(_)) => {
            return Err(Refusal::invalid("user is said of the credentials for a registry only"));
        }
    };
    if text.len() > VALUE_BYTES {
        let sentence = format!("the value has {} bytes; {VALUE_BYTES} are allowed", text.len());
        return Err(Refusal::invalid(sentence));
    }
    if text.contains('\0') {
        return Err(Refusal::invalid("the value has a NUL in it, which no process can be given"));
    }
    Ok(text)
}

/// Why a value cannot be called so; none if it can.
pub fn why_not_called(kind: ValueKind, name: &str) -> Option<String> {
    match kind {
        ValueKind::Secret => why_not_a_name(name),
        ValueKind::Variable => why_not_a_variable(name),
        ValueKind::Registry => {
            let legal =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | ':' | '[' | ']');
            (name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(legal)).then(|| {
                format!("{} is no registry's host in small letters, as in registry.example.com:5000", quoted(name))
            })
        }
    }
}

/// Why an environment variable cannot be called so; none if it can.
pub fn why_not_a_variable(name: &str) -> Option<String> {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.starts_with(AUTOMATIC) {
        Some(format!("the variable {} is given by Lapstrake itself, as all that begin with {AUTOMATIC}", quoted(name)))
    } else if name.len() > LONGEST_NAME || !name.starts_with(first) || !name.chars().all(legal) {
        Some(format!(
            "{} is no name of a variable: letters, digits and _ are, not beginning with a digit",
            quoted(name)
        ))
    } else {
        None
    }
}

/// The host of the registry that an image's name means, in small letters: what comes before the first `/`, if engines take
/// it for a host.
pub fn registry_of(reference: &str) -> String {
    const DEFAULT: &str = "docker.io";
    let is_host = |first: &str| {
        first.contains(['.', ':']) || first == "localhost" || first.contains(|c: char| c.is_ascii_uppercase())
    };
    match reference.split_once('/') {
        Some((host, _)) if is_host(host) && !host.eq_ignore_ascii_case("index.docker.io") => host.to_ascii_lowercase(),
        Some(_) | None => DEFAULT.into(),
    }
}
