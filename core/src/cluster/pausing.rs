//! Pausing: a service without jobs that keeps everything else, until somebody resumes it.
//!
//! Paused, a service keeps its spec, its revisions, its values, its hosts and its share of quotas; its nodes' room is free
//! for others. Its slots are emptied as those of a removed service are: out of the tables, drained, stopped. Nothing
//! starts it again but a person: while it is paused no look at it gives a job to a slot. Its slots' nodes are remembered,
//! so that a resume begins where the image is already, if the node still fits.

use crate::assignment::{ServicePath, Traffic};
use crate::cluster::command::{Answer, Outcome, Refusal, Which};
use crate::cluster::event::EventKind;
use crate::cluster::live::Live;
use crate::cluster::queue::{Aim, Order, trigger};
use crate::cluster::state::*;
use crate::cluster::wishes::reason_of;
use crate::cluster::{Cluster, Context, Followup, Touched};
use crate::ids::NodeId;
use crate::spec::ServiceSpec;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

impl Cluster {
    /// Pauses one service, or all of an environment. A deployment under way ends: what it has begun is emptied too. Done
    /// twice, nothing more happens; another reason takes the place of the first.
    pub(crate) fn pause(
        &mut self,
        which: &Which,
        reason: Option<&str>,
        cx: &mut Context<'_>,
    ) -> Result<Outcome, Vec<Refusal>> {
        let reason = reason_of(reason).map_err(|refusal| Vec::from([refusal]))?;
        let services = self.meant(which)?;
        let refusals: Vec<Refusal> = services
            .iter()
            .filter(|service| service.wanted.pause().is_none())
            .filter_map(|service| self.refuse_new_jobs(service, &self.path_of(service), cx).err())
            .collect();
        if !refusals.is_empty() {
            return Err(refusals);
        }
        let mut touched = Touched::new();
        for service in services {
            if self.pause_one(&service, reason.as_ref(), cx) {
                touched.insert(service.id);
            }
        }
        Ok(outcome(touched))
    }

    /// True if that changed anything.
    fn pause_one(&mut self, service: &Service, reason: Option<&String>, cx: &mut Context<'_>) -> bool {
        let (by, since) = (cx.by(), cx.wall);
        let mut service = service.clone();
        let pause = match service.wanted {
            Wanted::Paused(ref pause) if reason.is_none() || pause.reason.as_ref() == reason => return false,
            Wanted::Paused(ref pause) => Pause { by, since, reason: reason.cloned(), ..pause.clone() },
            Wanted::Running | Wanted::Resuming(_) => {
                let homes = self.homes(&service);
                Pause { by, since, reason: reason.cloned(), homes, applied: false }
            }
        };
        if let Some(number) = service.unfinished.take() {
            self.end_superseded(&service, number, ": the service is paused", cx);
        }
        let sentence = format!("the service is {pause}");
        service.wanted = Wanted::Paused(pause);
        let path = self.path_of(&service);
        self.put(service);
        self.tell(cx, EventKind::ServiceWish, &path, sentence);
        true
    }

    /// Where a service's slots are, or were before a pause that has just ended.
    fn homes(&self, service: &Service) -> Vec<(u32, NodeId)> {
        let mut homes: BTreeMap<u32, NodeId> = service.wanted.homes().iter().copied().collect();
        let filled = self.slots_of(service.id).filter(|slot| slot.job.is_some());
        homes.extend(filled.map(|slot| (slot.id.number, slot.node)));
        homes.into_iter().collect()
    }

    /// Ends the pause of one service, or of all of an environment: the active revision starts with the values that it has,
    /// or the spec that was applied meanwhile is deployed. Of one that is not paused nothing happens.
    pub(crate) fn resume(&mut self, which: &Which, cx: &mut Context<'_>) -> Result<Outcome, Vec<Refusal>> {
        let mut touched = Touched::new();
        for mut service in self.meant(which)? {
            let Wanted::Paused(pause) = service.wanted.clone() else { continue };
            let (path, is_active) = (self.path_of(&service), self.is_active(&service));
            let (by, homes) = (cx.by(), pause.homes);
            service.wanted = Wanted::Resuming(Resumption { by, since: cx.wall, homes });
            let (id, spec) = (service.id, service.spec.clone());
            let deploys = service.active.is_none() || (pause.applied && !is_active);
            self.put(service.clone());
            self.tell(cx, EventKind::ServiceWish, &path, format!("{} resumed the service", cx.author));
            if deploys {
                let why =
                    if pause.applied { "the spec that was applied during the pause" } else { "nothing ran before" };
                let trigger = trigger(TriggerKind::Resume, why.into(), cx);
                self.queue(id, Order { spec, revision: None, renew_from: None, bindings: None, trigger }, cx);
            } else if self.has_begun_another(&service)
                && let Some(Aim { spec, revision, renew_from, bindings }) = self.aim(&service)
            {
                let trigger = trigger(TriggerKind::Resume, "what the pause has interrupted goes back".into(), cx);
                self.queue(id, Order { spec, revision, renew_from, bindings, trigger }, cx);
            }
            touched.insert(id);
        }
        Ok(outcome(touched))
    }

    /// Whether a slot still has a job of a deployment that a pause has ended, and not of what is active: one that was resumed
    /// before its slots were told.
    fn has_begun_another(&self, service: &Service) -> bool {
        let Some(active) = service.active else { return false };
        let has = self.bindings_of(service.id, active.deployment_number);
        if self.slots_of(service.id).any(|slot| slot.job.is_some() && slot.traffic != Traffic::Full) {
            return true;
        }
        let jobs = self.slots_of(service.id).filter_map(|slot| slot.job);
        jobs.into_iter().any(|job| job.revision != active.revision || self.bindings_of(service.id, job.bound_by) != has)
    }

    /// The services that are meant. Of an environment all but those that are being removed.
    fn meant(&self, which: &Which) -> Result<Vec<Service>, Vec<Refusal>> {
        let one = |refusal: Refusal| Vec::from([refusal]);
        match which {
            Which::Service(path) => Ok(Vec::from([self.staying(path).map_err(one)?])),
            Which::Environment { application, environment } => {
                let id = self.environment_named(application, environment).map_err(one)?.id;
                Ok(self.services_of(id).filter(|service| !service.deleting).cloned().collect())
            }
        }
    }

    /// Paused: every slot is emptied, and none is filled. True if anything changed.
    pub(crate) fn keep_paused(
        &mut self,
        live: &Live,
        service: &Service,
        cx: &Context<'_>,
        follow: &mut Followup,
    ) -> bool {
        let slots: Vec<Slot> = self.slots_of(service.id).cloned().collect();
        let slots: Vec<&Slot> = slots.iter().collect();
        self.empty(live, service, &slots, cx, follow)
    }

    /// Ends `Resuming` when it is known of each slot how it went. True if it did.
    pub(crate) fn end_resuming(&mut self, service: &Service, cx: &Context<'_>) -> bool {
        if !matches!(service.wanted, Wanted::Resuming(_)) || service.unfinished.is_some() {
            return false;
        }
        let outcomes = self.slots_to_keep(service);
        let outcomes = outcomes.iter().map(|id| self.get::<Slot>(id).and_then(|slot| slot.outcome.as_ref()));
        let outcomes: Vec<&SlotOutcome> = match outcomes.collect::<Option<Vec<_>>>() {
            Some(known) => known,
            None => return false,
        };
        let all_run = !outcomes.is_empty() && outcomes.iter().all(|outcome| **outcome == SlotOutcome::Settled);
        let sentence =
            if all_run { "the service runs again" } else { "the service is resumed, and not all of it runs" };
        self.edit::<Service>(&service.id, |service| service.wanted = Wanted::Running);
        self.tell_of(cx, EventKind::ServiceWish, service, sentence.into());
        true
    }

    /// Whether what was asked for last is what the active revision is.
    pub(crate) fn is_active(&self, service: &Service) -> bool {
        service.active.is_some_and(|active| {
            let revision = self.get::<Revision>(&(service.id, active.revision));
            revision
                .is_some_and(|revision| ServiceSpec { scale: active.scale, ..revision.spec.clone() } == service.spec)
        })
    }

    /// Records the spec of an applied file for a paused service. Its deployment comes with the end of the pause.
    pub(crate) fn record_for_resume(&mut self, service: &Service, spec: &ServiceSpec, cx: &Context<'_>) {
        let mut service = service.clone();
        let Wanted::Paused(pause) = &mut service.wanted else { return };
        pause.applied = true;
        if service.spec != *spec {
            service.spec = spec.clone();
            service.spec_number += 1;
        }
        let path = self.path_of(&service);
        self.put(service);
        let sentence = format!("{} applied a spec; it takes effect when the service is resumed", cx.author);
        self.tell(cx, EventKind::ServiceWish, &path, sentence);
    }

    /// What applying a spec to a paused service is worth saying; none of one that is not paused.
    pub(crate) fn warn_of_pause(service: &Service, path: &ServicePath) -> Option<String> {
        let pause = service.wanted.pause()?;
        Some(format!("{path} is {pause}; what is applied takes effect with `lap resume {path}`"))
    }
}

/// What stands against new jobs of a paused service.
pub(crate) fn paused(path: &ServicePath, pause: &Pause) -> Refusal {
    Refusal::conflict(format!("{path} is {pause}")).hint(format!("`lap resume {path}` starts it again"))
}

fn outcome(touched: Touched) -> Outcome {
    let answer = if touched.is_empty() { Answer::Unchanged } else { Answer::Recorded };
    Outcome { answer, warnings: Vec::<String>::new(), touched }
}
