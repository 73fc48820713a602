//! Whether a new job finds room beside the jobs that are up.

use crate::ids::JobId;
use crate::node::disk::Disk;
use crate::node::images;
use crate::node::ledger::{Job, Ledger, Manner};
use crate::node::seen::Seen;
use crate::report::{Capacity, JobPhase, ReplacementPhase};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// A new job holds room from the moment that its replacement leaves `Accepted` until its process has ended.
fn holds_room(ledger: &Ledger, job: &Job) -> bool {
    let id = job.assignment.job;
    let waits_for_room = ledger
        .under_way(&job.assignment.slot)
        .is_some_and(|one| one.phase == ReplacementPhase::Accepted && one.new == Some(id));
    let waits_for_room = waits_for_room || (job.assignment.once.is_some() && job.phase == JobPhase::Assigned);
    !job.phase.is_final() && !waits_for_room
}

/// Whether a disk has to have room for this job. It has not, where the job takes the place of another one and its image is
/// here: the way back, to what ran before, takes nothing of a disk that it does not give back.
fn fills_disk(ledger: &Ledger, seen: &Seen, id: JobId) -> bool {
    let Some(job) = ledger.jobs.get(&id) else { return true };
    let takes_a_place = ledger.under_way(&job.assignment.slot).is_some_and(|one| one.old.is_some());
    !(takes_a_place && images::is_here(seen, job.assignment.run.image.pinned()))
}

/// The disks that are full, in words, or that nobody has looked at yet.
fn disks_in_the_way(seen: &Seen) -> Vec<String> {
    match &seen.disks {
        Some(disks) => disks.iter().filter_map(Disk::full).map(|disk| disk.to_string()).collect(),
        None => Vec::from(["how full the disks are is not known yet".to_string()]),
    }
}

/// What is missing for this job, in words; none when it fits.
pub fn short_of(ledger: &Ledger, seen: &Seen, id: JobId) -> Option<String> {
    let wanted = &ledger.jobs.get(&id)?.assignment.run.spec.size;
    // A job that ends before this one starts leaves it its room.
    let makes_way = ledger
        .under_way(&ledger.jobs.get(&id)?.assignment.slot)
        .and_then(|one| one.old.filter(|_| one.new == Some(id) && one.manner == Manner::Instead));
    let others = ledger.jobs.values().filter(|job| job.assignment.job != id && Some(job.assignment.job) != makes_way);
    let up = others.filter(|job| holds_room(ledger, job));
    let free: Capacity = seen.capacity.minus(up.map(|job| &job.assignment.run.spec.size));
    let mut short = if fills_disk(ledger, seen, id) { disks_in_the_way(seen) } else { Vec::new() };
    if free.fits(wanted) && short.is_empty() {
        return None;
    }
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
