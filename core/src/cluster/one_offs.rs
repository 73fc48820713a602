//! One-off jobs: their way from the record to the node and back, whoever asked for them.
//!
//! A one-off job is given to one node and never to another: its command may have had effects, and nobody but the node can
//! tell. So a node that is lost or taken away ends it, with that reason. What has ended stays in its node's set for a while,
//! because for as long as it is named there its container is kept for those who read its output.

use crate::assignment::{Assignment, Once, RunSpec};
use crate::cluster::event::EventKind;
use crate::cluster::live::Live;
use crate::cluster::paths::slot_word;
use crate::cluster::state::*;
use crate::cluster::{Cluster, Context, Followup};
use crate::ids::{DeploymentId, JobId, NodeId, ServiceId, ValueId};
use crate::liveness::Liveness;
use crate::quote::words;
use crate::report::{Failure, JobPhase, JobReport, NodeReport};
use crate::spec::{DEFAULT_DEPLOY, DeployPolicy, ServiceSpec};
use crate::time::{Millis, Tick, earlier};
use crate::values::{Bound, GivenValue};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// How long an ended job is still named to its node, and its output can be read there.
pub const ENDED_KEPT: Millis = Millis::secs(10 * 60);
/// So many ended jobs of a service are kept at once; the oldest go first.
pub const MOST_ENDED: usize = 16;
/// A node that has to tell the end of a release command, or what it has at all, gets so long besides all that it may take.
pub const TOLD_WITHIN: Millis = Millis::secs(60);

/// What a one-off job shall run, before it has a node.
#[derive(Debug, Clone)]
pub(crate) struct Errand {
    pub purpose: Purpose,
    pub by: String,
    pub deployment: DeploymentId,
    pub revision: u32,
    pub bound_by: u32,
    pub command: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub timeout: Millis,
}

impl Cluster {
    /// The one-off jobs of a service that are kept, oldest first.
    pub fn one_offs_of(&self, service: ServiceId) -> impl DoubleEndedIterator<Item = &OneOff> {
        self.one_offs.range((service, 0)..=(service, u32::MAX)).map(|(_, one)| one)
    }

    /// The one-off jobs on a node.
    pub fn one_offs_on(&self, node: NodeId) -> impl Iterator<Item = &OneOff> {
        self.one_offs.values().filter(move |one| one.node == node)
    }

    /// Gives an errand to a node.
    pub(crate) fn begin_one_off(
        &mut self,
        service: &Service,
        errand: Errand,
        node: NodeId,
        cx: &mut Context<'_>,
    ) -> OneOff {
        let number = self.get::<Service>(&service.id).map_or(0, |service| service.last_one_off) + 1;
        self.edit::<Service>(&service.id, |service| service.last_one_off = number);
        let generation = self.bump(node);
        let Errand { purpose, by, deployment, revision, bound_by, command, env, timeout } = errand;
        let one = OneOff {
            service: service.id,
            number,
            purpose,
            by,
            created: cx.wall,
            job: JobId(cx.ids.mint()),
            deployment,
            node,
            generation,
            revision,
            bound_by,
            command,
            env,
            timeout,
            stop: None,
            end: None,
        };
        self.put(one.clone());
        // What somebody types may hold what is nobody else's; a release command is everybody's, as the spec is.
        let command = match purpose {
            Purpose::Release { .. } => format!(": {}", words(&one.command)),
            Purpose::Run => String::new(),
        };
        let (slot, node, by) = (slot_word(&one.slot()), self.node_name(node), &one.by);
        self.tell_one_off(&one, format!("{slot} begins on {node} with r{revision}, for {by}{command}"), cx);
        one
    }

    pub(crate) fn tell_one_off(&mut self, one: &OneOff, sentence: String, cx: &Context<'_>) {
        let Some(service) = self.get::<Service>(&one.service).cloned() else { return };
        self.tell_of(cx, EventKind::OneOff, &service, sentence);
    }

    /// What the node is told of a one-off job, and the values that go with it. None where the node is not its environment's.
    pub(crate) fn one_off_assignment(
        &self,
        one: &OneOff,
        values: &mut BTreeMap<ValueId, GivenValue>,
    ) -> Option<Assignment> {
        let revision = self.get::<Revision>(&(one.service, one.revision))?;
        // What was said for this one job comes before what the service has.
        let has = |bound: &Bound| !is_variable_in(bound, &one.env);
        let run = self.run_on(one.node, revision, one.bound_by, has, values)?;
        let run = RunSpec { spec: spec_of(&revision.spec, one), hosts: Vec::new(), ..run };
        let once = Once {
            timeout: one.timeout,
            start_timeout: revision.spec.deploy.timeout,
            // A node that has forgotten what has ended would run it again.
            stop: one.stop.is_some() || one.end.is_some(),
        };
        Some(Assignment {
            slot: one.slot(),
            job: one.job,
            deployment: one.deployment,
            run,
            traffic: Default::default(),
            once: Some(once),
        })
    }

    /// Records how it went with a node's one-off jobs. Only what is said of the job itself is evidence: a node that lost its
    /// ledger may not know yet what it has.
    pub(crate) fn settle_one_offs(&mut self, node: NodeId, report: &NodeReport, cx: &Context<'_>) {
        // Of one that was given up with its node it is good to know still that it has ended well.
        let is_open = |one: &&OneOff| one.end.as_ref().is_none_or(OneOffEnd::is_unknown);
        let open: Vec<OneOff> = self.one_offs_on(node).filter(is_open).cloned().collect();
        for one in open {
            let told = report.jobs.iter().find(|told| told.job == one.job && told.slot == one.slot());
            match told.and_then(|told| ending(&one, told)) {
                Some(how) if one.is_under_way() || how == Ending::Succeeded => self.end_one_off(&one, how, cx),
                Some(_) | None => {}
            }
        }
    }

    fn end_one_off(&mut self, one: &OneOff, how: Ending, cx: &Context<'_>) {
        let (slot, node) = (slot_word(&one.slot()), self.node_name(one.node));
        self.tell_one_off(one, format!("{slot} on {node}: {how}"), cx);
        // From now on the node is told that it shall not run: one that does still stops it, one that forgot it does not begin it.
        let generation = self.bump(one.node);
        let end = Some(OneOffEnd { at: cx.wall, how });
        self.edit::<OneOff>(&(one.service, one.number), |one| (one.end, one.generation) = (end, generation));
    }

    /// Tells a node to stop a job, for this reason.
    pub(crate) fn stop_one_off(&mut self, one: &OneOff, why: String) {
        let generation = self.bump(one.node);
        self.edit::<OneOff>(&(one.service, one.number), |one| {
            (one.stop, one.generation) = (Some(why), generation);
        });
    }

    /// One look at a service's one-off jobs. True if anything changed.
    pub(crate) fn step_one_offs(
        &mut self,
        live: &mut Live,
        service: &Service,
        cx: &Context<'_>,
        follow: &mut Followup,
    ) -> bool {
        let all: Vec<OneOff> = self.one_offs_of(service.id).cloned().collect();
        let is_kept = |number: &u32| all.iter().any(|one| one.number == *number && one.end.is_some());
        live.one_offs_ended.retain(|(of, number), _| *of != service.id || is_kept(number));
        let is_open = |number: &u32| all.iter().any(|one| one.number == *number && one.is_under_way());
        live.one_offs_begun.retain(|(of, number), _| *of != service.id || is_open(number));
        let mut changed = false;
        for one in all.iter().filter(|one| one.is_under_way()) {
            let late = self.is_late_at(live, one, cx);
            follow.wake = earlier(follow.wake, late.filter(|late| *late > cx.tick));
            if let Some(said) = self.is_lost(live, service, one, late, cx) {
                self.end_one_off(one, Ending::Unknown { said }, cx);
                changed = true;
            } else if let Some(why) = self.is_needless(service, one).filter(|_| one.stop.is_none()) {
                self.stop_one_off(one, why);
                changed = true;
            }
        }
        self.forget_ended(live, service, &all, cx, follow) || changed
    }

    /// What has ended is forgotten after a while, or when there is too much of it: what ended first goes first. What somebody
    /// asks about still stays.
    fn forget_ended(
        &mut self,
        live: &mut Live,
        service: &Service,
        all: &[OneOff],
        cx: &Context<'_>,
        follow: &mut Followup,
    ) -> bool {
        let mut ended: Vec<(Tick, &OneOff)> = Vec::new();
        for one in all.iter().filter(|one| one.end.is_some()) {
            ended.push((*live.one_offs_ended.entry((one.service, one.number)).or_insert(cx.tick), one));
        }
        ended.sort_by_key(|(noticed, one)| (*noticed, one.number));
        let named = self.unfinished(service).and_then(|deployment| deployment.release);
        let is_needed = |one: &OneOff| named == Some(one.number) || self.may_run_still(live, one);
        let surplus = ended.len().saturating_sub(MOST_ENDED);
        let mut over: Vec<OneOff> = Vec::new();
        for (noticed, one) in ended.into_iter().filter(|(_, one)| !is_needed(one)) {
            let until = noticed + ENDED_KEPT;
            if over.len() < surplus || cx.tick >= until {
                over.push(one.clone());
            } else {
                follow.wake = earlier(follow.wake, Some(until));
            }
        }
        for one in &over {
            self.forget_one_off(one);
        }
        !over.is_empty()
    }

    /// Whether a command of which nobody knows how it ended may run still: its node has not said its end since, and may be
    /// there. A node that is removed or revoked is its operator's word that it does not.
    pub(crate) fn may_run_still(&self, live: &Live, one: &OneOff) -> bool {
        let Some(node) = self.get::<Node>(&one.node) else { return false };
        if !one.end.as_ref().is_some_and(OneOffEnd::is_unknown) || node.standing == Standing::Revoked {
            return false;
        }
        let Some(report) = live.report(one.node) else { return true };
        if let Some(told) = report.jobs.iter().find(|told| told.job == one.job) {
            return !told.phase.is_final();
        }
        // A node that was taken from the environment does not name it any more; its newest set tells it to have nothing of it.
        let environment = self.get::<Service>(&one.service).map(|service| service.environment);
        let is_named = environment.is_some_and(|environment| self.is_allotted(environment, one.node));
        let epoch = self.meta().map(|meta| meta.epoch);
        let has_newest =
            report.generation.is_some_and(|held| Some(held.epoch) == epoch && held.number >= one.generation);
        is_named || !has_newest
    }

    /// When a release command's node should have told its end, whatever came of it: an agent whose engine is dead lives, and
    /// cannot tell. None of what people run themselves: they can end it.
    fn is_late_at(&self, live: &mut Live, one: &OneOff, cx: &Context<'_>) -> Option<Tick> {
        let Purpose::Release { .. } = one.purpose else { return None };
        let deploy = &self.get::<Revision>(&(one.service, one.revision))?.spec.deploy;
        let begun = *live.one_offs_begun.entry((one.service, one.number)).or_insert(cx.tick);
        Some(begun + deploy.timeout + one.timeout + deploy.stop_grace + TOLD_WITHIN)
    }

    fn forget_one_off(&mut self, one: &OneOff) {
        self.remove::<OneOff>((one.service, one.number));
        self.bump(one.node);
    }

    /// Forgets all one-off jobs of a service that is gone.
    pub(crate) fn forget_one_offs_of(&mut self, service: ServiceId) {
        let all: Vec<OneOff> = self.one_offs_of(service).cloned().collect();
        for one in &all {
            self.forget_one_off(one);
        }
    }

    /// Why nobody can tell any more how it goes with a job; none while its node can.
    ///
    /// What people run goes on though its node is silent: the node tells its end when it is heard again, and is not told to
    /// stop a command that is well. A deployment does not wait for that, nor does what shall end anyway.
    fn is_lost(
        &self,
        live: &Live,
        service: &Service,
        one: &OneOff,
        late: Option<Tick>,
        cx: &Context<'_>,
    ) -> Option<String> {
        let waits = one.purpose == Purpose::Run && one.stop.is_none() && !service.deleting;
        let name = self.node_name(one.node);
        let unknown = "whether it came to its end is not known, and it is not repeated";
        if !self.nodes.contains_key(&one.node) {
            Some(format!("its node {name} was removed; {unknown}"))
        } else if !self.is_allotted(service.environment, one.node) {
            Some(format!("its node {name} was taken from the environment; {unknown}"))
        } else if live.liveness(one.node, cx.tick) == Liveness::Lost && !waits {
            Some(format!("its node {name} was lost; {unknown}"))
        } else if live.restored {
            Some(format!("the controller's store was restored while it ran on {name}; {unknown}"))
        } else if late.is_some_and(|late| cx.tick >= late) {
            Some(format!("its node {name} has not told its end in time; {unknown}"))
        } else {
            None
        }
    }

    /// Why a job is not wanted any more; none while it is.
    fn is_needless(&self, service: &Service, one: &OneOff) -> Option<String> {
        if service.deleting {
            return Some("the service is being removed".into());
        }
        let Purpose::Release { deployment } = one.purpose else { return None };
        let of = self.get::<Deployment>(&(service.id, deployment));
        match of.map(|of| of.phase) {
            Some(DeploymentPhase::Preparing) => None,
            Some(phase) => Some(format!("deployment {deployment} is {}", phase.word())),
            None => Some(format!("deployment {deployment} is gone")),
        }
    }
}

fn is_variable_in(bound: &Bound, env: &BTreeMap<String, String>) -> bool {
    matches!(&bound.place, crate::values::Place::Variable(name) if env.contains_key(name))
}

/// The revision's spec as one job of it gets it that runs once: another command, no ports and no checks. An agent of a
/// version that does not know such jobs takes it for one that never gets ready and has one attempt, which comes to the same:
/// it runs once, and its exit is told.
fn spec_of(spec: &ServiceSpec, one: &OneOff) -> ServiceSpec {
    let mut env = spec.env.clone();
    env.extend(one.env.clone());
    ServiceSpec {
        command: one.command.clone(),
        scale: 1,
        ports: Vec::new(),
        health: Vec::new(),
        env,
        deploy: DeployPolicy {
            stop_grace: spec.deploy.stop_grace,
            timeout: Millis(spec.deploy.timeout.0.saturating_add(one.timeout.0)),
            min_healthy: Millis(spec.deploy.timeout.0.saturating_add(one.timeout.0)),
            max_attempts: 1,
            ..DEFAULT_DEPLOY
        },
        ..spec.clone()
    }
}

/// What a report says of the end of a job; none while it has not ended.
fn ending(one: &OneOff, told: &JobReport) -> Option<Ending> {
    let failed = |failure: Failure| Some(Ending::Failed { failure });
    match (told.phase, &told.failure, &one.stop) {
        (JobPhase::Succeeded, _, _) | (JobPhase::Failed, Some(Failure::Exited { code: 0, .. }), _) => {
            Some(Ending::Succeeded)
        }
        (JobPhase::Failed | JobPhase::Rejected, Some(failure), _) => failed(failure.clone()),
        (JobPhase::Failed | JobPhase::Rejected | JobPhase::Stopped, _, Some(why)) => {
            Some(Ending::Stopped { why: why.clone() })
        }
        (JobPhase::Failed | JobPhase::Rejected | JobPhase::Stopped, _, None) => {
            failed(Failure::CannotStart { said: "it was stopped on its node, which does not say why".into() })
        }
        (
            JobPhase::Assigned
            | JobPhase::Pulling
            | JobPhase::Creating
            | JobPhase::Starting
            | JobPhase::Running
            | JobPhase::Stopping,
            _,
            _,
        ) => None,
    }
}
