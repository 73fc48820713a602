//! Recording a deployment: the one place where one comes to be.

use crate::cluster::command::{Answer, Outcome, Refusal};
use crate::cluster::event::EventKind;
use crate::cluster::state::*;
use crate::cluster::{Cluster, Context};
use crate::ids::{DeploymentId, ServiceId};
use crate::spec::ServiceSpec;
use crate::values::Bound;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// What a new deployment shall bring about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    /// What shall run, and how many.
    pub spec: ServiceSpec,
    /// The revision, if no image has to be resolved.
    pub revision: Option<u32>,
    /// As `Deployment::renew_from`.
    pub renew_from: Option<u32>,
    /// As `Deployment::bindings`: none to bind what is there when it begins.
    pub bindings: Option<Vec<Bound>>,
    /// Why.
    pub trigger: Trigger,
}

/// What a service is on its way to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Aim {
    /// With the scale.
    pub spec: ServiceSpec,
    /// None while its image is being resolved.
    pub revision: Option<u32>,
    /// From which deployment on jobs are new enough, if a redeploy is under way.
    pub renew_from: Option<u32>,
    /// The values that its jobs get; none while they are not bound.
    pub bindings: Option<Vec<Bound>>,
}

impl Cluster {
    /// Records a deployment, which supersedes the unfinished one, and what it asks for as the service's spec.
    pub(crate) fn queue(&mut self, id: ServiceId, order: Order, cx: &mut Context<'_>) -> u32 {
        let Some(mut service) = self.get::<Service>(&id).cloned() else { return 0 };
        let number = service.last_deployment + 1;
        if let Some(older) = service.unfinished {
            self.end_superseded(&service, older, &format!(" by deployment {number}"), cx);
        }
        if service.spec != order.spec || service.spec_number == 0 {
            service.spec = order.spec.clone();
            service.spec_number += 1;
        }
        let why = order.trigger.why.clone();
        let deployment = Deployment {
            id: DeploymentId(cx.ids.mint()),
            service: id,
            number,
            trigger: order.trigger,
            spec: order.spec,
            revision: order.revision,
            renew_from: order.renew_from,
            from: service.active.map(|active| active.revision),
            phase: DeploymentPhase::Queued,
            reached: vec![(DeploymentPhase::Queued, cx.wall)],
            failure: None,
            outcomes: Vec::new(),
            bindings: order.bindings,
            trial: None,
            release: None,
        };
        let sentence = format!(
            "deployment {number} is queued: {} by {}, {why}",
            deployment.trigger.kind.word(),
            deployment.trigger.by
        );
        service.last_deployment = number;
        service.unfinished = Some(number);
        self.put(deployment);
        self.put(service.clone());
        self.tell_of(cx, EventKind::Deployment, &service, sentence);
        number
    }

    /// Ends an unfinished deployment in favour of something newer: ` by deployment 4`, `: the service is paused`.
    pub(crate) fn end_superseded(&mut self, service: &Service, older: u32, why: &str, cx: &Context<'_>) {
        self.edit::<Deployment>(&(service.id, older), |deployment| {
            deployment.phase = DeploymentPhase::Superseded;
            deployment.reached.push((DeploymentPhase::Superseded, cx.wall));
        });
        let sentence = format!("deployment {older} is superseded{why}");
        self.tell_of(cx, EventKind::Deployment, service, sentence);
    }

    /// What the service is on its way to, or else has. A deployment that reverts is on its way back to what is active.
    /// None if nothing ever ran and nothing is on its way.
    pub(crate) fn aim(&self, service: &Service) -> Option<Aim> {
        let forward = self.unfinished(service).filter(|it| it.phase != DeploymentPhase::Reverting);
        if let Some(deployment) = forward {
            let Deployment { spec, revision, renew_from, bindings, .. } = deployment.clone();
            return Some(Aim { spec, revision, renew_from, bindings });
        }
        let active = service.active?;
        let revision = self.get::<Revision>(&(service.id, active.revision))?;
        let spec = ServiceSpec { scale: active.scale, ..revision.spec.clone() };
        let bindings = self.bindings_of(service.id, active.deployment_number).to_vec();
        Some(Aim { spec, revision: Some(active.revision), renew_from: None, bindings: Some(bindings) })
    }

    /// The deployments with which this one goes on, newest first: it wants only another number of the jobs that they were bringing
    /// when they were superseded.
    pub(crate) fn goes_on_with<'a>(
        &'a self,
        deployment: &'a Deployment,
        revision: u32,
    ) -> impl Iterator<Item = &'a Deployment> {
        let what = |it: &Deployment| (it.revision, it.renew_from, it.bindings.clone());
        let wanted = (Some(revision), deployment.renew_from, deployment.bindings.clone());
        let mut newer = deployment;
        (1..deployment.number).rev().map_while(move |number| {
            let goes_on = matches!(newer.trigger.kind, TriggerKind::Scale | TriggerKind::Apply);
            let older = self.get::<Deployment>(&(deployment.service, number)).filter(|_| goes_on)?;
            let is_cut_short =
                older.phase == DeploymentPhase::Superseded && !older.has_reached(DeploymentPhase::Reverting);
            newer = older;
            (is_cut_short && what(older) == wanted).then_some(older)
        })
    }

    /// The deployment under way.
    pub fn unfinished(&self, service: &Service) -> Option<&Deployment> {
        self.get::<Deployment>(&(service.id, service.unfinished?))
    }

    /// Records a deployment for one service and answers with it. Refused: what would outgrow a quota.
    pub(crate) fn queue_one(
        &mut self,
        id: ServiceId,
        order: Order,
        cx: &mut Context<'_>,
    ) -> Result<Outcome, Vec<Refusal>> {
        let path = self.get::<Service>(&id).map(|service| self.path_of(service));
        let refusals = path.map(|path| self.refuse_growth(&path, &order.spec)).unwrap_or_default();
        if !refusals.is_empty() {
            return Err(refusals);
        }
        let number = self.queue(id, order, cx);
        Ok(Outcome { answer: Answer::Deployment { service: id, number }, warnings: Vec::new(), touched: [id].into() })
    }
}

/// A trigger by whoever asks now.
pub(crate) fn trigger(kind: TriggerKind, why: String, cx: &Context<'_>) -> Trigger {
    Trigger { kind, by: cx.by(), why }
}

/// What stands against a deployment of a service that has never run.
pub(crate) fn never_ran(path: &crate::assignment::ServicePath) -> Refusal {
    Refusal::conflict(format!("no deployment of {path} has been completed yet"))
        .hint("`lap why` says what the last one waits for or why it failed; `lap deploy` tries another image")
}
