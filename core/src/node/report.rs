//! The node's picture of itself, for the controller and for people.

use crate::ids::SlotId;
use crate::node::advance::strays;
use crate::node::disk::Disk;
use crate::node::health::{failed_check, health};
use crate::node::images;
use crate::node::ledger::{Job, Ledger};
use crate::node::plan::waits;
use crate::node::reason::Reason;
use crate::node::routes::all_bad;
use crate::node::seen::{Attempt, Container, Now, Seen};
use crate::report::{Health, JobReport, NodeReport, ReplacementReport, StrayReport, trouble_with_container};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;

/// The whole picture.
pub fn report(ledger: &Ledger, seen: &Seen, now: Now) -> NodeReport {
    let waits: BTreeMap<SlotId, Reason> = waits(ledger, seen, now.tick).into_iter().collect();
    let strays = strays(ledger, seen);
    NodeReport {
        generation: ledger.generation,
        jobs: ledger.jobs.values().map(|job| job_report(job, seen, &waits)).collect(),
        replacements: replacements(ledger, &waits),
        capacity: seen.capacity,
        troubles: troubles(ledger, seen),
        full_disk: seen.disks.iter().flatten().find_map(Disk::full),
        strays_unclear: !seen.engine_answers || strays.iter().any(|attempt| !seen.slots.contains_key(attempt)),
        strays: stray_reports(&strays, seen),
    }
}

/// Each job once, whatever it has of containers.
fn stray_reports(strays: &BTreeSet<Attempt>, seen: &Seen) -> Vec<StrayReport> {
    let of = |attempt: &Attempt| Some(StrayReport { job: attempt.job, slot: seen.slots.get(attempt)?.clone() });
    let mut reports: Vec<StrayReport> = strays.iter().filter_map(of).collect();
    reports.dedup_by_key(|report| report.job);
    reports
}

fn job_report(job: &Job, seen: &Seen, waits: &BTreeMap<SlotId, Reason>) -> JobReport {
    let (memory_bytes, cpu_milli) = match seen.containers.get(&job.key()) {
        Some(Container::Running { memory_bytes, cpu_milli, .. }) => (*memory_bytes, *cpu_milli),
        Some(Container::Refused { .. } | Container::Created | Container::Exited { .. }) | None => (0, 0),
    };
    let health = health(job, seen);
    let failure = match health {
        Health::Healthy => None,
        Health::Unknown | Health::Starting | Health::Unhealthy => {
            failed_check(job, seen).or_else(|| job.failure.clone())
        }
    };
    JobReport {
        job: job.assignment.job,
        slot: job.assignment.slot.clone(),
        attempt: job.attempt,
        phase: job.phase,
        health,
        failure,
        address: job.address.map(IpAddr::V4),
        memory_bytes,
        cpu_milli,
        waits_for: waits.get(&job.assignment.slot).filter(|_| job.assignment.once.is_some()).map(Reason::to_string),
    }
}

fn replacements(ledger: &Ledger, waits: &BTreeMap<SlotId, Reason>) -> Vec<ReplacementReport> {
    let of = |(slot, one): (&SlotId, &crate::node::ledger::Replacement)| ReplacementReport {
        slot: slot.clone(),
        deployment: one.deployment,
        old: one.old,
        new: one.new,
        phase: one.phase,
        reached: one.reached.clone(),
        stopped_at: one.stopped_at,
        good_at: one.good_at,
        bad_answer: one.bad_answer.clone(),
        failure: one.failure.clone(),
        waits_for: waits.get(slot).filter(|_| !one.phase.is_final()).map(Reason::to_string),
    };
    ledger.replacements.iter().map(of).collect()
}

fn troubles(ledger: &Ledger, seen: &Seen) -> Vec<String> {
    let mut troubles = Vec::new();
    if !seen.engine_answers {
        troubles.push(Reason::Engine { trouble: seen.engine_trouble.clone() }.to_string());
    }
    let unclear = seen.unclear.iter().filter(|_| seen.engine_answers);
    troubles.extend(unclear.map(|(attempt, said)| alloc::format!("{}: {said}", trouble_with_container(attempt.job))));
    troubles.extend(seen.troubles.iter().cloned());
    troubles.extend(seen.disks.iter().flatten().filter_map(Disk::trouble));
    troubles.extend(images::troubles(ledger, seen));
    troubles.extend(all_bad(ledger, seen));
    troubles
}
