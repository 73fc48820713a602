//! What operators do to one service: another image, new jobs, an older revision, another number, an end.

use crate::assignment::ServicePath;
use crate::cluster::apply::{being_removed, refuse_scale};
use crate::cluster::command::{Answer, Outcome, Refusal};
use crate::cluster::event::EventKind;
use crate::cluster::pausing::paused;
use crate::cluster::queue::{Aim, Order, never_ran, trigger};
use crate::cluster::redeployable::in_spite_of_mark;
use crate::cluster::state::*;
use crate::cluster::{Cluster, Context};
use crate::quote::{is_acting, quoted};
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

impl Cluster {
    /// Another image: resolved anew even if its name is the same, as a tag may have moved.
    pub(crate) fn deploy(
        &mut self,
        path: &ServicePath,
        image: &str,
        cx: &mut Context<'_>,
    ) -> Result<Outcome, Vec<Refusal>> {
        let service = self.operable(path)?;
        self.refuse_new_jobs(&service, path, cx)?;
        if image.is_empty() || image.contains(char::is_whitespace) || image.contains(is_acting) {
            return Err(Refusal::invalid(format!("{} is not the name of an image", quoted(image))).into());
        }
        let mut spec = service.spec.clone();
        let why = if spec.image.reference == image {
            format!("image {image}, looked up again")
        } else {
            format!("image {} -> {image}", spec.image.reference)
        };
        spec.image.reference = image.to_string();
        let trigger = trigger(TriggerKind::Deploy, in_spite_of_mark(&service, why), cx);
        self.queue_one(service.id, Order { spec, revision: None, renew_from: None, bindings: None, trigger }, cx)
    }

    /// New jobs of what runs or is on its way.
    pub(crate) fn redeploy(&mut self, path: &ServicePath, cx: &mut Context<'_>) -> Result<Outcome, Vec<Refusal>> {
        let service = self.operable(path)?;
        self.refuse_new_jobs(&service, path, cx)?;
        let renew_from = Some(service.last_deployment + 1);
        let Aim { spec, revision, .. } = self.aim(&service).ok_or_else(|| never_ran(path))?;
        let why = revision.map_or("new jobs".to_string(), |number| format!("new jobs of r{number}"));
        let trigger = trigger(TriggerKind::Redeploy, in_spite_of_mark(&service, why), cx);
        self.queue_one(service.id, Order { spec, revision, renew_from, bindings: None, trigger }, cx)
    }

    /// An older revision, as many jobs as now.
    pub(crate) fn rollback(
        &mut self,
        path: &ServicePath,
        to: Option<u32>,
        cx: &mut Context<'_>,
    ) -> Result<Outcome, Vec<Refusal>> {
        let service = self.operable(path)?;
        self.refuse_new_jobs(&service, path, cx)?;
        let active = service.active.ok_or_else(|| never_ran(path))?;
        let to = match to {
            Some(to) => to,
            None if service.unfinished.is_some() => active.revision,
            None => self.revision_before(&service, active.revision).ok_or_else(|| {
                Refusal::conflict(format!("{path} has no completed revision before r{}", active.revision))
                    .hint("name one with --to; `lap deployments` lists them")
            })?,
        };
        if to == active.revision && service.unfinished.is_none() {
            return Err(Refusal::conflict(format!("{path} runs r{to} already"))
                .hint("`lap redeploy` gives it new jobs of the same revision")
                .into());
        }
        let revision = self.kept_revision(&service, to)?;
        if let Some(refusal) = self.refuse_old_claims(&service, path, revision) {
            return Err(refusal.into());
        }
        let scale = self.aim(&service).map_or(active.scale, |aim| aim.spec.scale);
        let spec = crate::spec::ServiceSpec { scale, ..revision.spec.clone() };
        self.refuse_reserved_change(path, &service, &spec, cx)?;
        // Back to what is active is back to the values that it has: those of the deployment under way may be what is wrong.
        let bindings = (to == active.revision).then(|| self.bindings_of(service.id, active.deployment_number).to_vec());
        let why = in_spite_of_mark(&service, format!("back from r{} to r{to}", active.revision));
        let trigger = trigger(TriggerKind::Rollback, why, cx);
        self.queue_one(service.id, Order { spec, revision: Some(to), renew_from: None, bindings, trigger }, cx)
    }

    /// Another number of jobs of what runs or is on its way. No job that stays is replaced.
    pub(crate) fn scale(
        &mut self,
        path: &ServicePath,
        scale: u32,
        cx: &mut Context<'_>,
    ) -> Result<Outcome, Vec<Refusal>> {
        let service = self.operable(path)?;
        let Aim { spec: current, revision, renew_from, bindings } =
            self.aim(&service).ok_or_else(|| never_ran(path))?;
        let from = current.scale;
        let policy = self.get::<Environment>(&service.environment).map(|environment| environment.policy);
        let spec = crate::spec::ServiceSpec { scale, ..current };
        if let Some(policy) = policy
            && let Some(refusal) = refuse_scale(&spec, policy, &path.environment, &format!("services.{}", path.service))
        {
            return Err(refusal.into());
        }
        if scale == from {
            return Ok(Outcome { answer: Answer::Unchanged, warnings: Vec::new(), touched: [].into() });
        }
        let trigger = trigger(TriggerKind::Scale, format!("scale {from} -> {scale}"), cx);
        self.queue_one(service.id, Order { spec, revision, renew_from, bindings, trigger }, cx)
    }

    /// Ends a service: its slots are emptied, then it is gone. Asked twice, nothing more happens.
    pub(crate) fn remove_service(&mut self, path: &ServicePath, cx: &mut Context<'_>) -> Result<Outcome, Refusal> {
        let mut service = self.service_at(path)?.clone();
        let touched = [service.id].into();
        if service.deleting {
            return Ok(Outcome { answer: Answer::Unchanged, warnings: Vec::new(), touched });
        }
        if let Some(number) = service.unfinished.take() {
            self.end_superseded(&service, number, ": the service is being removed", cx);
        }
        service.deleting = true;
        self.put(service);
        self.tell(cx, EventKind::ServiceRemoving, path, format!("{} removes the service", cx.author));
        Ok(Outcome { answer: Answer::Recorded, warnings: Vec::new(), touched })
    }

    /// An older revision may have been made by an operator, or before a field was reserved.
    fn refuse_reserved_change(
        &self,
        path: &ServicePath,
        service: &Service,
        spec: &crate::spec::ServiceSpec,
        cx: &Context<'_>,
    ) -> Result<(), Refusal> {
        let Some(environment) = self.get::<Environment>(&service.environment) else { return Ok(()) };
        let grant = self.grant_of(&cx.author, cx.wall)?;
        let specs = (Some(&service.spec), spec);
        self.refuse_reserved(&grant, environment.policy, path, specs).into_iter().next().map_or(Ok(()), Err)
    }

    /// A service that can have a deployment: one that is neither being removed nor paused.
    fn operable(&self, path: &ServicePath) -> Result<Service, Refusal> {
        let service = self.staying(path)?;
        service.wanted.pause().map_or(Ok(()), |pause| Err(paused(path, pause)))?;
        Ok(service)
    }

    /// A service that is not being removed.
    pub(crate) fn staying(&self, path: &ServicePath) -> Result<Service, Refusal> {
        let service = self.service_at(path)?;
        if service.deleting { Err(being_removed(path)) } else { Ok(service.clone()) }
    }

    fn kept_revision(&self, service: &Service, number: u32) -> Result<&Revision, Refusal> {
        self.get::<Revision>(&(service.id, number)).ok_or_else(|| {
            let kept: Vec<_> = self.revisions_of(service.id).map(|revision| format!("r{}", revision.number)).collect();
            let path = self.path_of(service);
            Refusal::not_found(format!("{path} has no revision r{number}"))
                .hint(format!("kept are {}", kept.join(", ")))
        })
    }

    /// The newest kept revision before this one that a deployment has completed.
    fn revision_before(&self, service: &Service, active: u32) -> Option<u32> {
        let before = self.revisions_of(service.id).filter(|it| it.number < active && it.completed);
        before.map(|it| it.number).max()
    }
}
