//! What people are told of a service.

use crate::cluster::Cluster;
use crate::cluster::apply::jobs_word;
use crate::cluster::evidence::jobs_of;
use crate::cluster::live::Live;
use crate::cluster::paths::slot_word;
use crate::cluster::state::*;
use crate::ids::{NodeId, ServiceId, SlotId};
use crate::liveness::Liveness;
use crate::report::{Failure, Health, JobPhase, ReplacementReport};
use crate::time::Tick;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// How a service is: from the readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceState {
    /// Its first jobs are on their way.
    Starting,
    /// The wanted number runs and all checks answer.
    Healthy,
    /// What carries the traffic is impaired, or the latest deployment failed.
    Degraded,
    /// Nothing can serve.
    Unhealthy,
    /// Its slots are being emptied, for it is paused.
    Pausing,
    /// Nothing of it runs, until somebody resumes it.
    Paused,
    /// Its jobs are on their way again.
    Resuming,
    /// Its slots are being emptied.
    Deleting,
}

/// A service as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// In a word.
    pub state: ServiceState,
    /// In a sentence.
    pub message: String,
    /// How many jobs are healthy.
    pub healthy: u32,
    /// How many there should be.
    pub wanted: u32,
    /// The slots, by number.
    pub slots: Vec<SlotStatus>,
}

/// A slot as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotStatus {
    /// Which.
    pub slot: SlotId,
    /// On which node.
    pub node: NodeId,
    /// The revision of the job that shall fill it; none while it is emptied.
    pub revision: Option<u32>,
    /// The jobs that the node has for it, as last reported: usually one, two during a replacement.
    pub jobs: Vec<SlotJobStatus>,
    /// The replacement under way or last ended, as reported.
    pub replacement: Option<ReplacementReport>,
    /// What is wrong with it, as a sentence.
    pub trouble: Option<String>,
}

/// A job as last reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotJobStatus {
    /// The job.
    pub job: crate::ids::JobId,
    /// Which attempt.
    pub attempt: u32,
    /// Its phase.
    pub phase: JobPhase,
    /// Its health: unknown when the node is silent.
    pub health: Health,
    /// Why it is not healthy.
    pub failure: Option<Failure>,
    /// Its memory in bytes.
    pub memory_bytes: u64,
    /// Thousandths of a core.
    pub cpu_milli: u32,
    /// Its address in its environment's network.
    pub address: Option<core::net::IpAddr>,
}

impl Cluster {
    /// How a service is. None if it is not there.
    pub fn status(&self, live: &Live, service: ServiceId, now: Tick) -> Option<ServiceStatus> {
        let service = self.get::<Service>(&service)?;
        let slots: Vec<SlotStatus> = self.slots_of(service.id).map(|slot| self.slot_status(live, slot, now)).collect();
        let healthy = slots.iter().filter(|slot| slot.revision.is_some() && slot.is_healthy()).count() as u32;
        let wanted = self.wanted_jobs(service);
        let (state, message) = self.judge(service, &slots, healthy, wanted);
        Some(ServiceStatus { state, message, healthy, wanted, slots })
    }

    /// Why a service is not simply as wanted: sentences, the most important first; one that says so if all is well.
    pub fn why(&self, live: &Live, service: ServiceId, now: Tick) -> Vec<String> {
        let Some(record) = self.get::<Service>(&service) else { return Vec::new() };
        let Some(status) = self.status(live, service, now) else { return Vec::new() };
        let mut sentences = Vec::new();
        if record.wanted.pause().is_some() {
            sentences.push(format!("{}: {}", self.path_of(record), status.message));
        }
        let last = self.last_deployment(record);
        if let Some(last) = last
            && let Some(failure) = &last.failure
        {
            sentences.push(match failure {
                DeploymentFailure::Cancelled { by } if last.phase.is_final() => {
                    format!("deployment {} was cancelled by {by}", last.number)
                }
                _ => format!("deployment {} {}: {failure}", last.number, failed_word(last.phase)),
            });
        }
        sentences.extend(live.waits.get(&service).into_iter().flatten().map(|waiting| waiting.to_string()));
        for slot in &status.slots {
            if let Some(trouble) = &slot.trouble {
                let sentence = format!("{} on {}: {trouble}", slot_word(&slot.slot), self.node_name(slot.node));
                // The deployment's failure is one slot's trouble; it is said once.
                if !sentences.iter().any(|said| said.contains(&sentence)) {
                    sentences.push(sentence);
                }
            }
        }
        // One that is under way may be just that.
        sentences.extend(self.say_undeployed(record).filter(|_| record.unfinished.is_none()));
        let stays = |slot: &Slot| Some(self.why_it_stays(slot, &self.misplaced(slot)?));
        sentences.extend(self.slots_of(service).filter_map(stays));
        if sentences.is_empty() {
            sentences.push(format!("{}: {}", self.path_of(record), status.message));
        }
        sentences.extend(record.not_redeployable.as_ref().map(|mark| format!("{} is {mark}", self.path_of(record))));
        sentences
    }

    /// How many jobs there should be: what the deployment under way wants, or what the last completed one made.
    fn wanted_jobs(&self, service: &Service) -> u32 {
        match (service.deleting, self.unfinished(service), service.active) {
            (true, _, _) => 0,
            (false, _, _) if service.wanted.pause().is_some() => 0,
            (false, Some(deployment), _) if deployment.phase != DeploymentPhase::Reverting => deployment.spec.scale,
            (false, _, active) => active.map_or(0, |active| active.scale),
        }
    }

    /// The table of states, first match wins.
    fn judge(&self, service: &Service, slots: &[SlotStatus], healthy: u32, wanted: u32) -> (ServiceState, String) {
        if service.deleting {
            return (ServiceState::Deleting, format!("it is being removed; {} to empty", slots_word(slots.len())));
        }
        if let Some(pause) = service.wanted.pause() {
            return match slots.len() {
                0 => (ServiceState::Paused, format!("it is {pause}; `lap resume` starts it again")),
                left => (ServiceState::Pausing, format!("it is {pause}; {} to empty", slots_word(left))),
            };
        }
        let last = self.last_deployment(service);
        let failed = last.filter(|last| matches!(last.phase, DeploymentPhase::Failed | DeploymentPhase::Reverting));
        let failure = failed.and_then(|last| Some((last, last.failure.as_ref()?)));
        let trouble = slots.iter().find_map(|slot| Some((slot, slot.trouble.as_ref()?)));
        let serving = slots.iter().any(SlotStatus::is_healthy);
        let why_not = match (failure, trouble) {
            (Some((last, failure)), _) => {
                Some(format!("deployment {} {}: {failure}", last.number, failed_word(last.phase)))
            }
            (None, Some((slot, trouble))) => {
                Some(format!("{} on {}: {trouble}", slot_word(&slot.slot), self.node_name(slot.node)))
            }
            (None, None) => None,
        };
        let count = format!("{healthy} of {} healthy", jobs_word(wanted));
        if let Wanted::Resuming(resumption) = &service.wanted {
            return (ServiceState::Resuming, with(format!("resumed by {}: {count}", resumption.by), why_not));
        }
        match (service.active, serving, why_not) {
            (None, _, Some(why)) if failed.is_some() => (ServiceState::Unhealthy, why),
            (None, _, why) => (ServiceState::Starting, with(count, why)),
            (Some(_), true, None) if healthy >= wanted => (ServiceState::Healthy, count),
            // A deployment under way that takes nothing from the traffic impairs nothing.
            (Some(active), true, None) if healthy >= active.scale => (ServiceState::Healthy, count),
            (Some(_), true, why) => (ServiceState::Degraded, with(count, why)),
            (Some(_), false, why) => (ServiceState::Unhealthy, with(count, why)),
        }
    }

    fn slot_status(&self, live: &Live, slot: &Slot, now: Tick) -> SlotStatus {
        let fresh = live.liveness(slot.node, now) == Liveness::Ready;
        let report = live.report(slot.node);
        let jobs: Vec<SlotJobStatus> = report
            .into_iter()
            .flat_map(|report| jobs_of(report, slot))
            .map(|job| SlotJobStatus {
                job: job.job,
                attempt: job.attempt,
                phase: job.phase,
                health: if fresh { job.health } else { Health::Unknown },
                failure: job.failure.clone(),
                memory_bytes: job.memory_bytes,
                cpu_milli: job.cpu_milli,
                address: job.address,
            })
            .collect();
        let replacement = report.and_then(|report| report.replacements.iter().find(|it| it.slot == slot.id)).cloned();
        let trouble = self.slot_trouble(live, slot, &jobs, fresh, now);
        let revision = slot.job.map(|job| job.revision);
        SlotStatus { slot: slot.id.clone(), node: slot.node, revision, jobs, replacement, trouble }
    }

    fn slot_trouble(&self, live: &Live, slot: &Slot, jobs: &[SlotJobStatus], fresh: bool, now: Tick) -> Option<String> {
        let wanted = slot.job?;
        if !fresh {
            let silence = live.pulse(slot.node).silence(now);
            return Some(format!("its node has been silent for {silence}, so how it is is not known"));
        }
        if let Some(SlotOutcome::Failed { failure, .. }) = &slot.outcome {
            return Some(failure.to_string());
        }
        let own = jobs.iter().find(|job| job.job == wanted.job)?;
        let failure = own.failure.as_ref().filter(|_| own.health != Health::Healthy)?;
        match own.attempt {
            0 | 1 => Some(failure.to_string()),
            attempt => Some(format!("attempt {attempt} follows after {failure}")),
        }
    }
}

impl SlotStatus {
    /// Whether one of its jobs can serve.
    pub fn is_healthy(&self) -> bool {
        self.jobs.iter().any(|job| job.phase == JobPhase::Running && job.health == Health::Healthy)
    }
}

fn failed_word(phase: DeploymentPhase) -> &'static str {
    if phase == DeploymentPhase::Reverting { "is going back" } else { "failed" }
}

fn with(count: String, why: Option<String>) -> String {
    match why {
        Some(why) => format!("{count}; {why}"),
        None => count,
    }
}

fn slots_word(slots: usize) -> String {
    if slots == 1 { "1 slot is left".into() } else { format!("{slots} slots are left") }
}
