//! Which slots begin a replacement now, and what holds the others back.

use crate::ids::{JobId, SlotId};
use crate::node::action::Subnet;
use crate::node::advance::Next;
use crate::node::ledger::{Job, Ledger, Replacement};
use crate::node::reason::Reason;
use crate::node::seen::{Attempt, Container, NodeConfig, Now, Seen};
use crate::report::{Failure, JobPhase};
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

/// What a slot that has no replacement under way does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// Replaces the job that it has (if any) by this one.
    Replace(JobId),
    /// Ends the job that it has.
    Empty,
    /// Takes over the running container of a job that a lost ledger knew.
    Adopt(Attempt),
}

/// Supersedes, then begins, in the order of the slots.
pub(super) fn step(ledger: &mut Ledger, seen: &Seen, config: &NodeConfig, now: Now) {
    for slot in slots(ledger) {
        if is_superseded(ledger, &slot) {
            super::replacement::abandon(ledger, &slot, Failure::Superseded, now);
        }
        match next(ledger, seen, &slot) {
            Next::Rest | Next::Wait(..) => {}
            Next::Go(Begin::Replace(job)) => replace(ledger, seen, &slot, job, now),
            Next::Go(Begin::Empty) => empty(ledger, &slot, now),
            Next::Go(Begin::Adopt(attempt)) => adopt(ledger, seen, config, &slot, attempt, now),
        }
    }
}

/// Who shall have the slot: `Some(None)` nobody, `None` nothing is said about it.
fn desired(ledger: &Ledger, slot: &SlotId) -> Option<Option<JobId>> {
    match ledger.wanted.get(slot) {
        Some(assignment) => Some(Some(assignment.job)),
        None if ledger.stop_absent && ledger.generation.is_some() => Some(None),
        None => None,
    }
}

/// Whether the replacement under way was overtaken by a newer set before it switched.
fn is_superseded(ledger: &Ledger, slot: &SlotId) -> bool {
    let Some(one) = ledger.under_way(slot) else { return false };
    !one.phase.is_after_switch() && desired(ledger, slot).is_some_and(|desired| desired != one.new)
}

/// What a slot without a replacement under way does next.
pub fn next(ledger: &Ledger, seen: &Seen, slot: &SlotId) -> Next<Begin> {
    let Some(desired) = desired(ledger, slot) else { return Next::Rest };
    let current = ledger.current.get(slot).copied();
    if ledger.under_way(slot).is_some() || desired == current {
        return Next::Rest;
    }
    let Some(job) = desired else { return Next::Go(Begin::Empty) };
    let ended = ledger.replacements.get(slot).filter(|one| one.new == Some(job));
    if let Some(failure) = ended.and_then(|one| one.failure.clone()).filter(|failure| *failure != Failure::Superseded) {
        return Next::Wait(Reason::FailedHere { failure }, None);
    }
    if !seen.engine_answers {
        return Next::Wait(Reason::Engine { trouble: seen.engine_trouble.clone() }, None);
    }
    match ledger.jobs.get(&job) {
        Some(earlier) if !earlier.phase.is_final() => return Next::Wait(Reason::EarlierAttempt, None),
        Some(_) => {}
        None => {
            // It may run, and then it is taken over and not started beside itself.
            if let Some(said) = unclear(seen, job) {
                return Next::Wait(Reason::Unclear { said }, None);
            }
            let adoptable = adoptable(ledger, seen, job).filter(|_| current.is_none());
            if adoptable.is_some() && seen.bridges.is_none() {
                return Next::Wait(Reason::Network { trouble: None }, None);
            }
            if let Some(attempt) = adoptable {
                return Next::Go(Begin::Adopt(attempt));
            }
        }
    }
    match held_back(ledger, slot, current) {
        Some(reason) => Next::Wait(reason, None),
        None => Next::Go(Begin::Replace(job)),
    }
}

/// The pacing: a deployment that failed in one slot is not tried in the next, and at most `max_surge` slots of a service
/// are replaced at once. A slot that has no job yet has nothing to lose, so only the first rule holds it.
fn held_back(ledger: &Ledger, slot: &SlotId, current: Option<JobId>) -> Option<Reason> {
    let wanted = ledger.wanted.get(slot)?;
    let beside = || ledger.replacements.iter().filter(|(other, _)| other.service == slot.service && *other != slot);
    let failed = beside().find_map(|(other, one)| match &one.failure {
        Some(Failure::Superseded) | None => None,
        Some(failure) => (one.deployment == wanted.deployment).then(|| (other.clone(), failure.clone())),
    });
    if let Some((slot, failure)) = failed {
        return Some(Reason::FailedBeside { slot, failure });
    }
    let limit = wanted.run.spec.deploy.max_surge;
    let surging = beside().filter(|(_, one)| !one.phase.is_final() && one.old.is_some() && one.new.is_some()).count();
    (current.is_some() && surging >= limit as usize).then_some(Reason::Surge { limit })
}

fn replace(ledger: &mut Ledger, seen: &Seen, slot: &SlotId, job: JobId, now: Now) {
    let Some(assignment) = ledger.wanted.get(slot).cloned() else { return };
    let old = ledger.current.get(slot).copied();
    ledger.replacements.insert(slot.clone(), Replacement::new(assignment.deployment, old, Some(job), now));
    // A job that ended here before keeps counting its attempts: a container's name is never used twice.
    let earlier = ledger.jobs.get(&job).map(|job| (job.attempt, job.address, job.unrouted_at));
    let mut fresh = Job::new(assignment, now.tick);
    if let Some((attempt, address, unrouted_at)) = earlier {
        (fresh.attempt, fresh.address, fresh.unrouted_at) = (attempt + 1, address, unrouted_at);
    }
    // Nor is that of a container which a lost ledger has forgotten and which ends.
    let there = seen.attempts_of(job).map(|attempt| attempt.number + 1).max();
    fresh.attempt = fresh.attempt.max(there.unwrap_or(1));
    ledger.jobs.insert(job, fresh);
}

fn empty(ledger: &mut Ledger, slot: &SlotId, now: Now) {
    let Some(old) = ledger.current.get(slot).copied() else { return };
    let Some(deployment) = ledger.jobs.get(&old).map(|job| job.assignment.deployment) else { return };
    ledger.replacements.insert(slot.clone(), Replacement::new(deployment, Some(old), None, now));
}

/// Why the engine does not tell about a container of this job of which nothing is known.
fn unclear(seen: &Seen, job: JobId) -> Option<String> {
    let of_job = seen.unclear.iter().filter(|(attempt, _)| attempt.job == job);
    of_job.filter(|(attempt, _)| !seen.containers.contains_key(attempt)).map(|(_, said)| said.clone()).next()
}

/// The newest running container of a job that the ledger does not know. One whose end is decided is not taken back: it may
/// have got its stop signal.
fn adoptable(ledger: &Ledger, seen: &Seen, job: JobId) -> Option<Attempt> {
    let ends = |attempt: &Attempt| ledger.strays.contains_key(attempt);
    let known_address = |attempt: &&Attempt| seen.addresses.contains_key(*attempt);
    let of_job = seen.containers.iter().filter(|(attempt, _)| attempt.job == job);
    let running = of_job.filter(|(_, container)| matches!(container, Container::Running { .. }));
    running.map(|(attempt, _)| attempt).filter(|attempt| !ends(attempt)).rfind(known_address).copied()
}

/// A healthy container is never restarted because the ledger was lost (invariant 10).
fn adopt(ledger: &mut Ledger, seen: &Seen, config: &NodeConfig, slot: &SlotId, attempt: Attempt, now: Now) {
    let Some(assignment) = ledger.wanted.get(slot).cloned() else { return };
    let Some(address) = seen.addresses.get(&attempt).copied() else { return };
    let environment = assignment.run.environment;
    let stands = seen.bridges.as_ref().and_then(|bridges| bridges.own.get(&environment)).copied();
    let stands = stands.filter(|stands| stands.contains(address));
    let subnet = stands.unwrap_or_else(|| Subnet::around(address, config.subnet_prefix));
    ledger.subnets.entry(environment).or_insert(subnet);
    let mut job = Job::new(assignment, now.tick);
    job.attempt = attempt.number;
    job.address = Some(address);
    (job.was_healthy, job.was_good) = (true, true);
    job.enter(JobPhase::Running, now.tick);
    ledger.jobs.insert(attempt.job, job);
    ledger.current.insert(slot.clone(), attempt.job);
}

/// The slots that the ledger has anything to say about.
pub fn slots(ledger: &Ledger) -> Vec<SlotId> {
    let all = ledger.wanted.keys().chain(ledger.current.keys()).chain(ledger.replacements.keys());
    all.cloned().collect::<BTreeSet<_>>().into_iter().collect()
}
