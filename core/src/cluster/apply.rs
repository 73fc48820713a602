//! Applying a file: what it means, checked as a whole, and then recorded.
//!
//! `weigh` finds every mistake and says what would become of each service; `lap plan` shows that, and apply records it.
//! So the two cannot differ.

use crate::access::{Author, Grant};
use crate::assignment::ServicePath;
use crate::cluster::command::{Answer, Applied, Apply, ApplyEnvironment, ApplyService, Change, Outcome, Refusal};
use crate::cluster::event::EventKind;
use crate::cluster::queue::Order;
use crate::cluster::quotas::Asked;
use crate::cluster::redeployable::in_spite_of_mark;
use crate::cluster::state::*;
use crate::cluster::{Cluster, Context, Touched};
use crate::ids::{EnvironmentId, ServiceId};
use crate::image::may_move;
use crate::policy::{ApplicationKind, JOBS_PER_SERVICE, Policy, why_not_a_name};
use crate::quote::words;
use crate::spec::{ServiceSpec, Strategy};
use crate::time::{Millis, Wall};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

impl Cluster {
    /// What applying a file would do, if the author may. Makes the same checks and changes nothing.
    pub fn plan(&self, author: &Author, apply: &Apply, now: Wall) -> Result<Vec<Applied>, Vec<Refusal>> {
        self.permit_apply(author, apply, now)?;
        let grant = self.grant_of(author, now).map_err(|refusal| alloc::vec![refusal])?;
        self.plan_apply(apply, &grant)
    }

    fn plan_apply(&self, apply: &Apply, grant: &Grant) -> Result<Vec<Applied>, Vec<Refusal>> {
        let mut refusals = self.refuse_names(apply);
        refusals.extend(self.refuse_quota(apply));
        let mut claims = self.claims_beside(apply);
        let mut plan = Vec::new();
        for environment in &apply.environments {
            let Some((policy, existing)) = self.environment_for(apply, environment, &mut refusals) else { continue };
            for service in &environment.services {
                let path = path(apply, environment, service);
                let place = format!("environments.{}.services.{}", environment.name, service.name);
                refusals.extend(refuse_scale(&service.spec, policy, &environment.name, &place));
                refusals.extend(self.refuse_claims(&service.spec, &path, &place, &mut claims));
                let known = existing.and_then(|id| self.services_of(id).find(|known| known.name == service.name));
                let specs = (known.map(|known| &known.spec), &service.spec);
                refusals.extend(self.refuse_reserved(grant, policy, &path, specs));
                let change = self.change(known, &service.spec);
                let renews = matches!(change, Change::Replace { .. } | Change::Retry { .. } | Change::AtResume);
                let marked = known.filter(|_| renews).and_then(|it| self.why_not_redeployable(it, &path, grant));
                refusals.extend(marked.map(|refusal| refusal.at(&place)));
                if known.is_some_and(|known| known.deleting) {
                    refusals.push(being_removed(&path).at(&place));
                }
                plan.push(self.weigh(known, existing, path, &service.spec, change));
            }
        }
        if refusals.is_empty() { Ok(plan) } else { Err(refusals) }
    }

    /// Records what a file says.
    pub(crate) fn apply(&mut self, apply: &Apply, cx: &mut Context<'_>) -> Result<Outcome, Vec<Refusal>> {
        let mut plan = self.plan(&cx.author, apply, cx.wall)?;
        let mut created = None;
        if self.application_named(&apply.application).is_err() {
            self.create_application(&apply.application, cx).map_err(|refusal| alloc::vec![refusal])?;
            created = self.application_named(&apply.application).ok().map(|application| application.id);
        }
        let mut touched = Touched::new();
        for applied in &mut plan {
            let environment = self
                .environment_named(&applied.path.application, &applied.path.environment)
                .map_err(|refusal| alloc::vec![refusal])?
                .id;
            self.record_applied(applied, environment, cx);
            touched.extend(applied.service);
        }
        let warnings = plan.iter().flat_map(|applied| applied.warnings.clone()).collect();
        Ok(Outcome { answer: Answer::Applied { created, services: plan }, warnings, touched })
    }

    fn record_applied(&mut self, applied: &mut Applied, environment: EnvironmentId, cx: &mut Context<'_>) {
        let known = self.services_of(environment).find(|known| known.name == applied.path.service).cloned();
        let service = known.unwrap_or_else(|| self.create_service(applied, environment, cx));
        applied.service = Some(service.id);
        // Another number of jobs of the same; everything else is resolved anew.
        let mut same = None;
        let why = match applied.change {
            Change::None => {
                applied.deployment = service.unfinished;
                return;
            }
            Change::AtResume => {
                self.record_for_resume(&service, &applied.after, cx);
                return;
            }
            Change::Retry { failed } => format!("deployment {failed} did not come to its end and is tried again"),
            Change::Create { jobs } => format!("new service with {}", jobs_word(jobs)),
            Change::Scale { from, to } => {
                same = self.aim(&service);
                format!("scale {from} -> {to}")
            }
            Change::Replace { .. } => "the spec was changed".to_string(),
        };
        let is_held = !matches!(applied.change, Change::Scale { .. });
        let why = if is_held { in_spite_of_mark(&service, why) } else { why };
        let trigger = Trigger { kind: TriggerKind::Apply, by: cx.by(), why };
        let (revision, renew_from, bindings) =
            same.map_or((None, None, None), |same| (same.revision, same.renew_from, same.bindings));
        let order = Order { spec: applied.after.clone(), revision, renew_from, bindings, trigger };
        applied.deployment = Some(self.queue(service.id, order, cx));
    }

    fn create_service(&mut self, applied: &Applied, environment: EnvironmentId, cx: &mut Context<'_>) -> Service {
        let service = Service {
            id: ServiceId(cx.ids.mint()),
            environment,
            name: applied.path.service.clone(),
            spec: applied.after.clone(),
            spec_number: 0,
            active: None,
            unfinished: None,
            last_deployment: 0,
            last_revision: 0,
            last_one_off: 0,
            wanted: Wanted::Running,
            not_redeployable: None,
            deleting: false,
            created: cx.wall,
        };
        self.put(service.clone());
        self.tell(cx, EventKind::ServiceCreated, &applied.path, format!("{} created the service", cx.author));
        service
    }

    /// What a spec means for a service.
    fn weigh(
        &self,
        known: Option<&Service>,
        environment: Option<EnvironmentId>,
        path: ServicePath,
        spec: &ServiceSpec,
        change: Change,
    ) -> Applied {
        let mut warnings: Vec<String> = known.and_then(|known| Self::warn_of_pause(known, &path)).into_iter().collect();
        if let Some(mark) = known.and_then(|known| known.not_redeployable.as_ref()) {
            warnings.push(format!("{path} is {mark}"));
        }
        if environment.is_none_or(|id| self.nodes_of(id).next().is_none()) {
            let of = format!("{}/{}", path.application, path.environment);
            warnings
                .push(format!("no node is attached to {of}: {path} waits until `lap env attach-node` gives it one"));
        }
        if spec.scale == 1 && spec.deploy.overlap > Millis(0) {
            warnings.push(format!(
                "{path} has scale 1 and an overlap of {}: for that long two jobs of it are up",
                spec.deploy.overlap
            ));
        }
        warnings.extend(self.warn_of_down_time(known, spec).map(|said| format!("{path}: {said}")));
        let release = self.release_before(known, spec, change);
        if release.is_none() {
            warnings.extend(self.warn_of_release(known, spec, change).map(|said| format!("{path}: {said}")));
        }
        if let Some(of) = environment.and_then(|id| self.get::<Environment>(&id)) {
            warnings.extend(self.warn_of_values(known, of, spec).into_iter().map(|said| format!("{path}: {said}")));
            warnings.extend(self.warn_of_places(known, of, spec).into_iter().map(|said| format!("{path}: {said}")));
        }
        Applied {
            path,
            service: known.map(|known| known.id),
            before: known.map(|known| known.spec.clone()),
            after: spec.clone(),
            change,
            release,
            deployment: None,
            warnings,
        }
    }

    /// The release command that an applied spec runs before anything else. None of what is active already: it was prepared then.
    fn release_before(&self, known: Option<&Service>, spec: &ServiceSpec, change: Change) -> Option<Vec<String>> {
        let active = known.and_then(|known| self.get::<Revision>(&(known.id, known.active?.revision)));
        let is_due = match change {
            Change::None => false,
            Change::Create { .. } => true,
            Change::Retry { .. } | Change::AtResume | Change::Replace { .. } => {
                active.is_none_or(|active| !same_but_scale(&active.spec, spec))
            }
            // Another number of jobs of what is on its way, and not prepared yet.
            Change::Scale { .. } => {
                known.and_then(|known| Some((known, self.unfinished(known)?))).is_some_and(|(known, it)| {
                    let goes_on = |number| self.phase_with_image(known, it, number) == DeploymentPhase::Preparing;
                    it.phase < DeploymentPhase::Placing && it.revision.is_none_or(goes_on)
                })
            }
        };
        spec.deploy.release.as_ref().filter(|_| is_due).map(|release| release.command.clone())
    }

    /// What is active already and is applied once more brings another image if its tag has moved, which nobody knows before a node
    /// was asked.
    fn warn_of_release(&self, known: Option<&Service>, spec: &ServiceSpec, change: Change) -> Option<String> {
        let asks = match change {
            Change::Retry { .. } | Change::Replace { .. } => true,
            // The end of a pause deploys what is active once more only if there is another number of jobs.
            Change::AtResume => known.and_then(|known| known.active).is_some_and(|active| active.scale != spec.scale),
            Change::None | Change::Create { .. } | Change::Scale { .. } => false,
        };
        let release = spec.deploy.release.as_ref().filter(|_| asks && may_move(&spec.image))?;
        Some(format!(
            "if {} means another image by now than the one that is active, its release command runs first, once: {}",
            spec.image.reference,
            words(&release.command)
        ))
    }

    /// What is not there for a while when this spec takes the place of what runs: a deployment that ends jobs before it starts
    /// others announces that. Of a paused service nothing is there that could go.
    fn warn_of_down_time(&self, known: Option<&Service>, spec: &ServiceSpec) -> Option<String> {
        let active = known.filter(|known| known.wanted.pause().is_none())?.active?;
        let policy = &spec.deploy;
        let instead = match policy.strategy {
            Strategy::Recreate => policy.max_unavailable.max(1),
            Strategy::Rolling | Strategy::BlueGreen | Strategy::Canary => policy.max_unavailable,
        };
        if instead == 0 || matches!(self.change(known, spec), Change::None | Change::Scale { .. }) {
            return None;
        }
        let jobs = active.scale.min(spec.scale);
        let at_once = instead.min(jobs);
        let how_long = format!(
            "each ends first (its connections within {}, its process within {}), then its successor starts and has to be healthy \
             for {}",
            policy.drain, policy.stop_grace, policy.min_healthy
        );
        Some(match jobs - at_once {
            0 => format!("down-time: nothing answers while {} replaced: {how_long}", jobs_are(jobs)),
            left => format!("of {} only {left} serve at times: {how_long}", jobs_word(jobs)),
        })
    }

    fn change(&self, known: Option<&Service>, spec: &ServiceSpec) -> Change {
        let Some(known) = known else { return Change::Create { jobs: spec.scale } };
        if let Some(pause) = known.wanted.pause() {
            let is_known = known.spec == *spec && (pause.applied || self.is_active(known));
            return if is_known { Change::None } else { Change::AtResume };
        }
        let last = self.last_deployment(known);
        let failed = last.filter(|last| match last.phase {
            DeploymentPhase::Failed | DeploymentPhase::Cancelled | DeploymentPhase::Reverting => true,
            // The last one can only have been superseded by a pause.
            DeploymentPhase::Superseded => !self.is_active(known),
            DeploymentPhase::Queued
            | DeploymentPhase::Resolving
            | DeploymentPhase::Preparing
            | DeploymentPhase::Placing
            | DeploymentPhase::Rolling
            | DeploymentPhase::Complete => false,
        });
        let jobs = self.slots_of(known.id).filter(|slot| slot.job.is_some()).count() as u32;
        match failed {
            Some(failed) if known.spec == *spec => Change::Retry { failed: failed.number },
            None if known.spec == *spec && last.is_some() => Change::None,
            None if last.is_some() && same_but_scale(&known.spec, spec) => {
                Change::Scale { from: known.spec.scale, to: spec.scale }
            }
            Some(_) | None => Change::Replace { jobs: jobs.min(spec.scale), scale_from: jobs, scale_to: spec.scale },
        }
    }

    /// The environment's policy and, if it is there, its id. One that will come with the application counts as there.
    fn environment_for(
        &self,
        apply: &Apply,
        environment: &ApplyEnvironment,
        refusals: &mut Vec<Refusal>,
    ) -> Option<(Policy, Option<EnvironmentId>)> {
        if self.application_named(&apply.application).is_err() {
            let fresh = ApplicationKind::Project.environments();
            if let Some((_, policy)) = fresh.into_iter().find(|(name, _)| *name == environment.name) {
                return Some((policy, None));
            }
            refusals.push(
                Refusal::not_found(format!(
                    "{} is created as a project, with development, staging and production; {} is none of them",
                    apply.application, environment.name
                ))
                .at(format!("environments.{}", environment.name))
                .hint(format!(
                    "`lap app create {0}`, then `lap env create {0}/{1}`",
                    apply.application, environment.name
                )),
            );
            return None;
        }
        match self.environment_named(&apply.application, &environment.name) {
            Ok(found) => Some((found.policy, Some(found.id))),
            Err(refusal) => {
                refusals.push(refusal.at(format!("environments.{}", environment.name)));
                None
            }
        }
    }

    fn refuse_names(&self, apply: &Apply) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        if let Some(why) = why_not_a_name(&apply.application) {
            refusals.push(Refusal::invalid(why).at("application"));
        }
        if apply.environments.is_empty() {
            refusals.push(
                Refusal::invalid("the file names no environment")
                    .hint("name one in it, or on the command line with --env"),
            );
        }
        let mut seen = BTreeSet::new();
        for environment in &apply.environments {
            for service in &environment.services {
                let place = format!("environments.{}.services.{}", environment.name, service.name);
                if !seen.insert((&environment.name, &service.name)) {
                    refusals.push(Refusal::invalid(format!("{} is there twice", service.name)).at(&place));
                }
                refusals.extend(why_not_a_name(&service.name).map(|why| Refusal::invalid(why).at(&place)));
            }
        }
        refusals
    }

    fn refuse_quota(&self, apply: &Apply) -> Vec<Refusal> {
        let services = apply.environments.iter().flat_map(|environment| {
            environment.services.iter().map(|service| Asked {
                environment: &environment.name,
                service: &service.name,
                spec: &service.spec,
            })
        });
        self.refuse_quotas(&apply.application, &services.collect::<Vec<_>>())
    }

    pub(crate) fn domain(&self) -> &str {
        self.meta().map_or("internal", |meta| &meta.domain)
    }
}

/// Why an environment does not allow so many jobs.
pub(crate) fn refuse_scale(spec: &ServiceSpec, policy: Policy, environment: &str, place: &str) -> Option<Refusal> {
    let scale = spec.scale;
    let refusal = if scale == 0 {
        Refusal::invalid("a scale of 0 runs nothing")
            .hint("`lap pause` ends its jobs and keeps all else; `lap rm` removes it")
    } else if scale > JOBS_PER_SERVICE {
        Refusal::refused(format!("{scale} jobs are wanted; the quota of jobs per service is {JOBS_PER_SERVICE}"))
    } else if scale > policy.max_scale {
        let max = policy.max_scale;
        Refusal::refused(format!("{scale} jobs are wanted; the policy of {environment} allows a service {max}"))
    } else {
        return None;
    };
    Some(refusal.at(format!("{place}.scale")))
}

pub(crate) fn being_removed(path: &ServicePath) -> Refusal {
    Refusal::conflict(format!("{path} is being removed"))
        .hint("wait until it is gone; `lap why` says what it waits for")
}

/// Whether only the number of jobs differs.
pub(crate) fn same_but_scale(a: &ServiceSpec, b: &ServiceSpec) -> bool {
    a.scale == b.scale && a == b || ServiceSpec { scale: b.scale, ..a.clone() } == *b
}

fn path(apply: &Apply, environment: &ApplyEnvironment, service: &ApplyService) -> ServicePath {
    ServicePath {
        application: apply.application.clone(),
        environment: environment.name.clone(),
        service: service.name.clone(),
    }
}

/// `1 job is`, `3 jobs are`.
fn jobs_are(jobs: u32) -> String {
    format!("{} {}", jobs_word(jobs), if jobs == 1 { "is" } else { "are" })
}

/// `1 job`, `3 jobs`.
pub(crate) fn jobs_word(jobs: u32) -> String {
    if jobs == 1 { "1 job".into() } else { format!("{jobs} jobs") }
}
