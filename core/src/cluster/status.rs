//! What people are told of a service.

use crate::cluster::Cluster;
use crate::cluster::live::Live;
use crate::ids::{NodeId, ServiceId, SlotId};
use crate::report::{Failure, Health, JobPhase, ReplacementReport};
use crate::time::Tick;
use alloc::string::String;
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
        let _ = (live, service, now);
        None
    }

    /// Why a service is not simply as wanted: sentences, the most important first; one that says so if all is well.
    pub fn why(&self, live: &Live, service: ServiceId, now: Tick) -> Vec<String> {
        let _ = (live, service, now);
        Vec::new()
    }
}
