//! Which slots begin a replacement now, and what holds the others back.

use crate::assignment::{Assignment, Traffic};
use crate::ids::{JobId, SlotId};
use crate::node::action::Subnet;
use crate::node::advance::Next;
use crate::node::health::{health, runs};
use crate::node::ledger::{Job, Ledger, Manner, Replacement};
use crate::node::reason::Reason;
use crate::node::routes::is_good;
use crate::node::seen::{Attempt, Container, NodeConfig, Now, Seen};
use crate::report::{Failure, JobPhase, ReplacementPhase};
use crate::spec::Strategy;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

/// What a slot that has no replacement under way does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// Replaces the job that it has (if any) by this one.
    Replace(JobId, Manner),
    /// Ends the job that it has.
    Empty,
    /// Takes over the running container of a job that a lost ledger knew.
    Adopt(Attempt),
}

/// Supersedes, then begins, in the order of the slots.
pub(super) fn step(ledger: &mut Ledger, seen: &Seen, config: &NodeConfig, now: Now) {
    for slot in slots(ledger) {
        if is_superseded(ledger, seen, &slot) {
            super::replacement::abandon(ledger, &slot, Failure::Superseded, now);
        }
        match next(ledger, seen, &slot) {
            Next::Rest | Next::Wait(..) => {}
            Next::Go(Begin::Replace(job, manner)) => replace(ledger, seen, &slot, (job, manner), now),
            Next::Go(Begin::Empty) => empty(ledger, &slot, now),
            Next::Go(Begin::Adopt(attempt)) => adopt(ledger, seen, config, &slot, attempt, now),
        }
    }
}

/// Who shall have the slot: `Some(None)` nobody, `None` nothing is said about it.
fn desired(ledger: &Ledger, slot: &SlotId) -> Option<Option<JobId>> {
    match ledger.wanted.get(slot) {
        // What runs once replaces nothing and is replaced by nothing.
        Some(assignment) if assignment.once.is_some() => None,
        Some(assignment) => Some(Some(assignment.job)),
        None if ledger.stop_absent && ledger.generation.is_some() => Some(None),
        None => None,
    }
}

/// Whether the replacement under way was overtaken by a newer set before it switched.
fn is_superseded(ledger: &Ledger, seen: &Seen, slot: &SlotId) -> bool {
    let Some(one) = ledger.under_way(slot) else { return false };
    let is_overtaken = desired(ledger, slot).is_some_and(|desired| desired != one.new);
    is_overtaken && !one.phase.is_after_switch() && !serves_instead(ledger, seen, one)
}

/// Whether the new job has the slot already, and well, after the old one has ended for its sake: to give that up would leave the
/// slot with nobody. It takes the slot over, and the newest job comes in its place.
fn serves_instead(ledger: &Ledger, seen: &Seen, one: &Replacement) -> bool {
    let new = one.new.and_then(|new| ledger.jobs.get(&new));
    let is_well = |job: &Job| ledger.is_current(job) && runs(job, seen) && is_good(health(job, seen));
    one.manner == Manner::Instead && one.phase == ReplacementPhase::Ready && new.is_some_and(is_well)
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
    match manner(ledger, slot, current) {
        Err(reason) => Next::Wait(reason, None),
        Ok(manner) => Next::Go(Begin::Replace(job, manner)),
    }
}

/// The pacing: a deployment that failed in one slot is not tried in the next, and only so many slots of a service are
/// replaced at once. A slot that has no job yet has nothing to lose, so only the first rule holds it; nor does the second
/// hold what waits for the controller anyway, which has chosen how many that are.
fn manner(ledger: &Ledger, slot: &SlotId, current: Option<JobId>) -> Result<Manner, Reason> {
    let Some(wanted) = ledger.wanted.get(slot) else { return Ok(Manner::Beside) };
    let beside = || ledger.replacements.iter().filter(|(other, _)| other.service == slot.service && *other != slot);
    let failed = beside().find_map(|(other, one)| match &one.failure {
        Some(Failure::Superseded) | None => None,
        Some(failure) => (one.deployment == wanted.deployment).then(|| (other.clone(), failure.clone())),
    });
    if let Some((slot, failure)) = failed {
        return Err(Reason::FailedBeside { slot, failure });
    }
    let policy = &wanted.run.spec.deploy;
    let (surge, unavailable) = match policy.strategy {
        Strategy::Recreate => (0, policy.max_unavailable.max(1)),
        Strategy::BlueGreen | Strategy::Canary if wanted.traffic != Traffic::Full => return Ok(Manner::Beside),
        Strategy::Rolling | Strategy::BlueGreen | Strategy::Canary => (policy.max_surge, policy.max_unavailable),
    };
    if current.is_none() {
        return Ok(Manner::Beside);
    }
    let under_way = beside().filter(|(_, one)| !one.phase.is_final() && one.old.is_some() && one.new.is_some());
    let (beside, instead): (Vec<_>, Vec<_>) = under_way.partition(|(_, one)| one.manner == Manner::Beside);
    if beside.len() < surge as usize {
        Ok(Manner::Beside)
    } else if instead.len() < unavailable as usize {
        Ok(Manner::Instead)
    } else {
        Err(Reason::Surge { limit: surge.saturating_add(unavailable) })
    }
}

fn replace(ledger: &mut Ledger, seen: &Seen, slot: &SlotId, (job, manner): (JobId, Manner), now: Now) {
    let Some(assignment) = ledger.wanted.get(slot).cloned() else { return };
    let old = ledger.current.get(slot).copied();
    let one = Replacement { manner, ..Replacement::new(assignment.deployment, old, Some(job), now) };
    ledger.replacements.insert(slot.clone(), one);
    // A job that ended here before keeps counting its attempts: a container's name is never used twice.
    let earlier = ledger.jobs.get(&job).map(|job| (job.attempt, job.address, job.unrouted_at));
    let mut fresh = Job::new(assignment, now.tick);
    if let Some((attempt, address, unrouted_at)) = earlier {
        (fresh.attempt, fresh.address, fresh.unrouted_at) = (attempt + 1, address, unrouted_at);
    }
    // Nor is that of a container which a lost ledger has forgotten and which ends.
    let there = seen.attempts_of(job).map(|attempt| attempt.number + 1).max();
    fresh.attempt = fresh.attempt.max(there.unwrap_or(1));
    // Nobody has the slot, but a job that was given up may still be ending there.
    fresh.alone = manner == Manner::Instead || fresh.assignment.run.spec.deploy.is_alone();
    if let Some(old) = old.and_then(|old| ledger.jobs.get_mut(&old)) {
        old.alone = manner == Manner::Instead;
    }
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

/// A healthy container is never restarted because the ledger was lost (invariant 10). One that waits to be released goes on
/// waiting: beside whom was lost too, and is the controller's to say.
fn adopt(ledger: &mut Ledger, seen: &Seen, config: &NodeConfig, slot: &SlotId, attempt: Attempt, now: Now) {
    let Some(assignment) = ledger.wanted.get(slot).cloned() else { return };
    let Some(mut job) = adopted(ledger, seen, config, assignment, attempt, now) else { return };
    job.alone = job.assignment.run.spec.deploy.is_alone();
    if job.assignment.traffic == Traffic::Full {
        ledger.current.insert(slot.clone(), attempt.job);
    } else {
        let mut one = Replacement::new(job.assignment.deployment, None, Some(attempt.job), now);
        one.enter(ReplacementPhase::Ready, now.tick, now);
        ledger.replacements.insert(slot.clone(), one);
    }
    ledger.jobs.insert(attempt.job, job);
}

/// The job of a running container of which the ledger knows nothing, with the subnet that it lies in.
pub(super) fn adopted(
    ledger: &mut Ledger,
    seen: &Seen,
    config: &NodeConfig,
    assignment: Assignment,
    attempt: Attempt,
    now: Now,
) -> Option<Job> {
    let address = seen.addresses.get(&attempt).copied()?;
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
    Some(job)
}

/// The slots that the ledger has anything to say about.
pub fn slots(ledger: &Ledger) -> Vec<SlotId> {
    let all = ledger.wanted.keys().chain(ledger.current.keys()).chain(ledger.replacements.keys());
    all.cloned().collect::<BTreeSet<_>>().into_iter().collect()
}
