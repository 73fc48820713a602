//! Reports of a node.

use super::field::{self, Malformed, Why, id_bytes, list, optional, required, rising, sentence};
use super::spec::{mirror, value};
use crate::{limits, v1};
use lapstrake_core::ids::{DeploymentId, JobId};
use lapstrake_core::report::{
    Capacity, Failure, FullDisk, Health, JobPhase, JobReport, NodeReport, ReplacementPhase, ReplacementReport,
    StrayReport, Use,
};
use lapstrake_core::time::{Millis, Wall};
use std::net::IpAddr;

mirror!(JobPhase { Assigned, Pulling, Creating, Starting, Running, Stopping, Stopped, Failed, Rejected, Succeeded });
mirror!(Health { Unknown, Starting, Healthy, Unhealthy });
mirror!(ReplacementPhase {
    Accepted,
    Pulling,
    Starting,
    Ready,
    Switched,
    Overlapping,
    Draining,
    Done,
    Abandoned,
    SwitchedBack,
    Emptying,
});

impl From<NodeReport> for v1::NodeReport {
    fn from(core: NodeReport) -> Self {
        v1::NodeReport {
            generation: core.generation.map(Into::into),
            jobs: core.jobs.into_iter().map(Into::into).collect(),
            replacements: core.replacements.into_iter().map(Into::into).collect(),
            capacity: Some(core.capacity.into()),
            troubles: field::troubles(core.troubles),
            full_disk: core.full_disk.map(Into::into),
            strays: core.strays.into_iter().map(Into::into).collect(),
            strays_unclear: core.strays_unclear,
        }
    }
}

impl TryFrom<v1::NodeReport> for NodeReport {
    type Error = Malformed;
    fn try_from(wire: v1::NodeReport) -> Result<Self, Malformed> {
        let jobs = list("jobs", wire.jobs, limits::JOBS)?;
        rising("jobs", &jobs, |report: &JobReport| report.job)?;
        let strays = list("strays", wire.strays, limits::JOBS)?;
        rising("strays", &strays, |report: &StrayReport| report.job)?;
        Ok(NodeReport {
            generation: optional("generation", wire.generation)?,
            jobs,
            replacements: list("replacements", wire.replacements, limits::JOBS)?,
            capacity: required("capacity", wire.capacity)?,
            troubles: field::troubles(wire.troubles),
            full_disk: wire.full_disk.map(Into::into),
            strays,
            strays_unclear: wire.strays_unclear,
        })
    }
}

impl From<StrayReport> for v1::StrayReport {
    fn from(core: StrayReport) -> Self {
        v1::StrayReport { job_id: id_bytes(core.job.0), slot: Some(core.slot.into()) }
    }
}

impl TryFrom<v1::StrayReport> for StrayReport {
    type Error = Malformed;
    fn try_from(wire: v1::StrayReport) -> Result<Self, Malformed> {
        Ok(StrayReport { job: JobId(field::id("job_id", &wire.job_id)?), slot: required("slot", wire.slot)? })
    }
}

impl From<FullDisk> for v1::FullDisk {
    fn from(core: FullDisk) -> Self {
        v1::FullDisk { folder: sentence(core.folder), percent: core.mark_percent }
    }
}

impl From<v1::FullDisk> for FullDisk {
    fn from(wire: v1::FullDisk) -> Self {
        FullDisk { folder: sentence(wire.folder), mark_percent: wire.percent }
    }
}

impl From<Capacity> for v1::Capacity {
    fn from(core: Capacity) -> Self {
        v1::Capacity { cpu_milli: core.cpu_milli, memory_bytes: core.memory_bytes }
    }
}

impl TryFrom<v1::Capacity> for Capacity {
    type Error = Malformed;
    fn try_from(wire: v1::Capacity) -> Result<Self, Malformed> {
        Ok(Capacity { cpu_milli: wire.cpu_milli, memory_bytes: wire.memory_bytes })
    }
}

impl From<Use> for v1::Use {
    fn from(core: Use) -> Self {
        v1::Use {
            cpu_milli: core.cpu_milli,
            memory_bytes: core.memory_bytes,
            disk_used_bytes: core.disk_used_bytes,
            disk_total_bytes: core.disk_total_bytes,
        }
    }
}

impl TryFrom<v1::Use> for Use {
    type Error = Malformed;
    fn try_from(wire: v1::Use) -> Result<Self, Malformed> {
        Ok(Use {
            cpu_milli: wire.cpu_milli,
            memory_bytes: wire.memory_bytes,
            disk_used_bytes: wire.disk_used_bytes,
            disk_total_bytes: wire.disk_total_bytes,
        })
    }
}

impl From<JobReport> for v1::JobReport {
    fn from(core: JobReport) -> Self {
        v1::JobReport {
            job_id: id_bytes(core.job.0),
            slot: Some(core.slot.into()),
            attempt: core.attempt,
            phase: v1::JobPhase::from(core.phase).into(),
            health: v1::Health::from(core.health).into(),
            failure: core.failure.map(Into::into),
            address: core.address.map(address_bytes),
            memory_bytes: core.memory_bytes,
            cpu_milli: core.cpu_milli,
            waits_for: core.waits_for.map(sentence),
        }
    }
}

impl TryFrom<v1::JobReport> for JobReport {
    type Error = Malformed;
    fn try_from(wire: v1::JobReport) -> Result<Self, Malformed> {
        Ok(JobReport {
            job: JobId(field::id("job_id", &wire.job_id)?),
            slot: required("slot", wire.slot)?,
            attempt: wire.attempt,
            phase: value("phase", wire.phase)?,
            health: value("health", wire.health)?,
            failure: optional("failure", wire.failure)?,
            address: wire.address.map(|bytes| address("address", &bytes)).transpose()?,
            memory_bytes: wire.memory_bytes,
            cpu_milli: wire.cpu_milli,
            waits_for: wire.waits_for.map(sentence),
        })
    }
}

fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn address(name: &str, wire: &[u8]) -> Result<IpAddr, Malformed> {
    if let Ok(v4) = <[u8; 4]>::try_from(wire) {
        return Ok(IpAddr::from(v4));
    }
    let v6 = <[u8; 16]>::try_from(wire);
    v6.map(IpAddr::from).map_err(|_| Malformed::new(name, Why::NotAnAddress { bytes: wire.len() }))
}

impl From<ReplacementReport> for v1::ReplacementReport {
    fn from(core: ReplacementReport) -> Self {
        let reached = |(phase, at): (ReplacementPhase, Wall)| v1::PhaseReached {
            phase: v1::ReplacementPhase::from(phase).into(),
            at_ms: at.0,
        };
        v1::ReplacementReport {
            slot: Some(core.slot.into()),
            deployment_id: id_bytes(core.deployment.0),
            old_job_id: core.old.map(|job| id_bytes(job.0)),
            new_job_id: core.new.map(|job| id_bytes(job.0)),
            phase: v1::ReplacementPhase::from(core.phase).into(),
            reached: core.reached.into_iter().map(reached).collect(),
            stopped_at_ms: core.stopped_at.map(|at| at.0),
            failure: core.failure.map(Into::into),
            waits_for: core.waits_for.map(sentence),
            good_at_ms: core.good_at.map(|at| at.0),
            bad_answer: core.bad_answer.map(sentence),
        }
    }
}

impl TryFrom<v1::ReplacementReport> for ReplacementReport {
    type Error = Malformed;
    fn try_from(wire: v1::ReplacementReport) -> Result<Self, Malformed> {
        let job = |name: &str, wire: Option<Vec<u8>>| wire.map(|bytes| field::id(name, &bytes).map(JobId)).transpose();
        field::length("reached", wire.reached.len(), limits::PHASES)?;
        let reached =
            wire.reached.into_iter().map(|reached| Ok((value("reached", reached.phase)?, Wall(reached.at_ms))));
        Ok(ReplacementReport {
            slot: required("slot", wire.slot)?,
            deployment: DeploymentId(field::id("deployment_id", &wire.deployment_id)?),
            old: job("old_job_id", wire.old_job_id)?,
            new: job("new_job_id", wire.new_job_id)?,
            phase: value("phase", wire.phase)?,
            reached: reached.collect::<Result<_, Malformed>>()?,
            stopped_at: wire.stopped_at_ms.map(Wall),
            failure: optional("failure", wire.failure)?,
            waits_for: wire.waits_for.map(sentence),
            good_at: wire.good_at_ms.map(Wall),
            bad_answer: wire.bad_answer.map(sentence),
        })
    }
}

impl From<Failure> for v1::Failure {
    fn from(core: Failure) -> Self {
        use v1::failure as wire;
        use v1::failure::Kind;
        let kind = match core {
            Failure::CannotPull { image, said } => {
                Kind::CannotPull(wire::CannotPull { image: sentence(image), said: sentence(said) })
            }
            Failure::CannotStart { said } => Kind::CannotStart(wire::CannotStart { said: sentence(said) }),
            Failure::Exited { code, after, last_lines } => {
                Kind::Exited(wire::Exited { code, after_ms: after.0, last_lines: field::last_lines(last_lines) })
            }
            Failure::OutOfMemory { limit_bytes, after } => {
                Kind::OutOfMemory(wire::OutOfMemory { limit_bytes, after_ms: after.0 })
            }
            Failure::CheckFailed { check, answered, times } => {
                Kind::CheckFailed(wire::CheckFailed { check: sentence(check), answered: sentence(answered), times })
            }
            Failure::NotReadyInTime { timeout, answered } => {
                Kind::NotReadyInTime(wire::NotReadyInTime { timeout_ms: timeout.0, answered: answered.map(sentence) })
            }
            Failure::NoRoom { short } => Kind::NoRoom(wire::NoRoom { short: sentence(short) }),
            Failure::NotReleased { timeout } => Kind::NotReleased(wire::NotReleased { timeout_ms: timeout.0 }),
            Failure::Superseded => Kind::Superseded(wire::Superseded {}),
            Failure::TimedOut { timeout, last_lines } => {
                Kind::TimedOut(wire::TimedOut { timeout_ms: timeout.0, last_lines: field::last_lines(last_lines) })
            }
        };
        v1::Failure { kind: Some(kind) }
    }
}

impl TryFrom<v1::Failure> for Failure {
    type Error = Malformed;
    fn try_from(wire: v1::Failure) -> Result<Self, Malformed> {
        use v1::failure::Kind;
        Ok(match wire.kind.ok_or_else(|| Malformed::new("kind", Why::Missing))? {
            Kind::CannotPull(it) => Failure::CannotPull { image: sentence(it.image), said: sentence(it.said) },
            Kind::CannotStart(it) => Failure::CannotStart { said: sentence(it.said) },
            Kind::Exited(it) => Failure::Exited {
                code: it.code,
                after: Millis(it.after_ms),
                last_lines: field::last_lines(it.last_lines),
            },
            Kind::OutOfMemory(it) => Failure::OutOfMemory { limit_bytes: it.limit_bytes, after: Millis(it.after_ms) },
            Kind::CheckFailed(it) => {
                Failure::CheckFailed { check: sentence(it.check), answered: sentence(it.answered), times: it.times }
            }
            Kind::NotReadyInTime(it) => {
                Failure::NotReadyInTime { timeout: Millis(it.timeout_ms), answered: it.answered.map(sentence) }
            }
            Kind::NoRoom(it) => Failure::NoRoom { short: sentence(it.short) },
            Kind::NotReleased(it) => Failure::NotReleased { timeout: Millis(it.timeout_ms) },
            Kind::Superseded(_) => Failure::Superseded,
            Kind::TimedOut(it) => {
                Failure::TimedOut { timeout: Millis(it.timeout_ms), last_lines: field::last_lines(it.last_lines) }
            }
        })
    }
}
