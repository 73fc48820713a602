//! Whether a new job finds room beside the jobs that are up.

use crate::ids::JobId;
use crate::node::ledger::{Job, Ledger};
use crate::node::seen::Seen;
use crate::report::{Capacity, ReplacementPhase};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// A new job holds room from the moment that its replacement leaves `Accepted` until its process has ended.
fn holds_room(ledger: &Ledger, job: &Job) -> bool {
    let id = job.assignment.job;
    let waits_for_room = ledger
        .under_way(&job.assignment.slot)
        .is_some_and(|one| one.phase == ReplacementPhase::Accepted && one.new == Some(id));
    !job.phase.is_final() && !waits_for_room
}

/// What is missing for this job, in words; none when it fits.
pub fn short_of(ledger: &Ledger, seen: &Seen, id: JobId) -> Option<String> {
    let wanted = &ledger.jobs.get(&id)?.assignment.run.spec.size;
    let up = ledger.jobs.values().filter(|job| job.assignment.job != id && holds_room(ledger, job));
    let free: Capacity = seen.capacity.minus(up.map(|job| &job.assignment.run.spec.size));
    if free.fits(wanted) {
        return None;
    }
    let mut short = Vec::new();
    if wanted.cpu_milli > free.cpu_milli {
        short.push(format!("{} cpu wanted, {} free", Cores(wanted.cpu_milli), Cores(free.cpu_milli)));
    }
    if wanted.memory_bytes > free.memory_bytes {
        let mib = |bytes: u64| bytes >> 20;
        short.push(format!("{} MiB memory wanted, {} MiB free", mib(wanted.memory_bytes), mib(free.memory_bytes)));
    }
    Some(short.join(" and "))
}

/// Thousandths of a core as people write them: `0.50`.
struct Cores(u32);

impl core::fmt::Display for Cores {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}.{:02}", self.0 / 1_000, self.0 % 1_000 / 10)
    }
}
