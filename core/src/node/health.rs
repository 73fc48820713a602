//! How a job is: readings, which may be unknown, and never phases.

use crate::node::ledger::Job;
use crate::node::seen::{Container, Seen};
use crate::probe::{Reading, checks_of};
use crate::report::{Failure, Health, JobPhase};
use crate::time::{Millis, Tick};
use alloc::string::{String, ToString};

/// What is seen of an attempt's container. Not seen is not gone while the engine is silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight<'a> {
    /// The engine does not answer, or not about this one, and nothing is known.
    Silent,
    /// The engine answers, and has none.
    Missing,
    /// There it is, as last seen.
    There(&'a Container),
}

/// Looks for the container of the job's attempt.
pub fn sight<'a>(job: &Job, seen: &'a Seen) -> Sight<'a> {
    match seen.containers.get(&job.key()) {
        Some(container) => Sight::There(container),
        None if seen.unclear.contains_key(&job.key()) => Sight::Silent,
        None if seen.engine_answers => Sight::Missing,
        None => Sight::Silent,
    }
}

/// Whether no container of any attempt of this job is left.
pub fn is_gone(job: &Job, seen: &Seen) -> bool {
    seen.engine_answers && seen.attempts_of(job.assignment.job).next().is_none()
}

/// Whether its process runs as far as anybody knows: an engine that falls silent stops nothing.
pub fn runs(job: &Job, seen: &Seen) -> bool {
    job.phase == JobPhase::Running
        && match sight(job, seen) {
            Sight::Silent | Sight::There(Container::Running { .. }) => true,
            Sight::Missing
            | Sight::There(Container::Refused { .. } | Container::Created | Container::Exited { .. }) => false,
        }
}

/// The reading of a job's health.
pub fn health(job: &Job, seen: &Seen) -> Health {
    match job.phase {
        JobPhase::Assigned | JobPhase::Pulling | JobPhase::Creating | JobPhase::Starting => {
            if job.was_healthy || job.failures > 0 { Health::Unhealthy } else { Health::Starting }
        }
        JobPhase::Running | JobPhase::Stopping => match sight(job, seen) {
            Sight::Silent => Health::Unknown,
            Sight::There(Container::Running { .. }) => of_readings(job, seen),
            Sight::Missing
            | Sight::There(Container::Refused { .. } | Container::Created | Container::Exited { .. }) => {
                Health::Unhealthy
            }
        },
        JobPhase::Stopped | JobPhase::Succeeded => Health::Unknown,
        JobPhase::Failed | JobPhase::Rejected => Health::Unhealthy,
    }
}

/// The readings of the attempt's checks, if there is one for each.
fn readings<'a>(job: &Job, seen: &'a Seen) -> Option<&'a [Reading]> {
    let readings = seen.checks.get(&job.key())?;
    (readings.len() == checks_of(&job.assignment.run.spec).len()).then_some(readings)
}

fn of_readings(job: &Job, seen: &Seen) -> Health {
    let checks = checks_of(&job.assignment.run.spec);
    if checks.is_empty() {
        return Health::Healthy;
    }
    let Some(readings) = readings(job, seen) else {
        return if job.was_good { Health::Unknown } else { Health::Starting };
    };
    if readings.iter().zip(&checks).any(|(reading, check)| reading.has_failed(check)) {
        Health::Unhealthy
    } else if readings.iter().all(|reading| reading.good_since.is_some()) {
        Health::Healthy
    } else if !job.was_good && !readings.iter().all(|reading| reading.was_good) {
        Health::Starting
    } else if readings.iter().any(|reading| reading.asked == 0) {
        Health::Unknown
    } else {
        // A bad answer or two: not yet `restart_after` in a row.
        Health::Healthy
    }
}

/// Since when every check has been good without a break; of a job without checks, since when it runs, which only an engine
/// that answers can tell.
pub fn good_since(job: &Job, seen: &Seen) -> Option<Tick> {
    let Sight::There(Container::Running { since, .. }) = sight(job, seen) else { return None };
    if job.phase != JobPhase::Running {
        return None;
    }
    if checks_of(&job.assignment.run.spec).is_empty() {
        return seen.engine_answers.then_some(*since);
    }
    let readings = readings(job, seen)?;
    readings.iter().try_fold(*since, |latest, reading| Some(reading.good_since?.max(latest)))
}

/// When the job counts as ready if nothing happens until then: it was healthy for `min_healthy`.
pub fn ready_at(job: &Job, seen: &Seen) -> Option<Tick> {
    Some(good_since(job, seen)? + job.assignment.run.spec.deploy.min_healthy)
}

/// The check that has failed so often in a row that a new attempt is due.
pub fn failed_check(job: &Job, seen: &Seen) -> Option<Failure> {
    let checks = checks_of(&job.assignment.run.spec);
    let failed = readings(job, seen)?.iter().zip(&checks).find(|(reading, check)| reading.has_failed(check));
    failed.map(|(reading, check)| Failure::CheckFailed {
        check: check.to_string(),
        answered: reading.last_bad.clone().unwrap_or_default(),
        times: reading.bad_in_a_row,
    })
}

/// The last bad answer of a check that is not good now.
pub fn last_bad_answer(job: &Job, seen: &Seen) -> Option<String> {
    let not_good = readings(job, seen)?.iter().filter(|reading| reading.good_since.is_none());
    not_good.filter_map(|reading| reading.last_bad.clone()).next()
}

/// The last bad answer of any check of the attempt, however it answers now.
pub fn any_bad_answer(job: &Job, seen: &Seen) -> Option<String> {
    readings(job, seen)?.iter().find_map(|reading| reading.last_bad.clone())
}

/// Why a process that has ended did so.
pub fn exit_failure(job: &Job, code: i64, out_of_memory: bool, ran: Millis, last_lines: &[String]) -> Failure {
    if out_of_memory {
        let limit_bytes = job.assignment.run.spec.size.memory_bytes;
        return Failure::OutOfMemory { limit_bytes, after: ran };
    }
    Failure::Exited { code, after: ran, last_lines: last_lines.to_vec() }
}
