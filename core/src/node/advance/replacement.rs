//! One slot's way from its old job to its new one, and back while there is a way back.
//!
//! The point of no return is the old job's stop signal: until then a new job that fails gives the traffic back to the
//! old one, after it only restarts of the new job are left.

use crate::assignment::Traffic;
use crate::ids::SlotId;
use crate::node::advance::{Next, begin, cut_off, in_the_way, job, room};
use crate::node::health::{any_bad_answer, failed_check, good_since, health, is_gone, last_bad_answer, ready_at, runs};
use crate::node::ledger::{Job, Ledger, Manner, Replacement};
use crate::node::reason::Reason;
use crate::node::routes;
use crate::node::seen::{Now, Seen};
use crate::report::{Failure, JobPhase, ReplacementPhase};
use crate::time::{Millis, Tick, earlier};
use alloc::format;

/// One move of a replacement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Forward to this phase, which began by right at this instant.
    Enter(ReplacementPhase, Tick),
    /// The new job did not get ready: it ends, the old one keeps the slot.
    Abandon(Failure),
    /// The new job failed after the switch: the old one gets the traffic again.
    SwitchBack(Failure),
}

/// A replacement with its jobs, as the decisions look at it.
struct View<'a> {
    ledger: &'a Ledger,
    seen: &'a Seen,
    one: &'a Replacement,
    old: Option<&'a Job>,
    new: Option<&'a Job>,
    now: Tick,
}

/// Moves every replacement as far as it goes in this pass.
pub(super) fn step(ledger: &mut Ledger, seen: &Seen, now: Now) {
    for slot in begin::slots(ledger) {
        note_answers(ledger, seen, &slot, now);
        match next(ledger, seen, &slot, now.tick) {
            Next::Rest | Next::Wait(..) => {}
            Next::Go(Step::Enter(phase, since)) => enter(ledger, &slot, phase, since, now),
            Next::Go(Step::Abandon(failure)) => abandon(ledger, &slot, failure, now),
            Next::Go(Step::SwitchBack(failure)) => switch_back(ledger, &slot, failure, now),
        }
        note_stop(ledger, &slot, now);
    }
}

/// What comes next for this slot's replacement, if it has one.
pub fn next(ledger: &Ledger, seen: &Seen, slot: &SlotId, now: Tick) -> Next<Step> {
    let Some(one) = ledger.under_way(slot) else { return Next::Rest };
    let of = |id: Option<_>| id.and_then(|id| ledger.jobs.get(&id));
    let view = View { ledger, seen, one, old: of(one.old), new: of(one.new), now };
    if view.new.or(view.old).is_some_and(|job| cut_off::applies(&job.assignment.run, seen, now)) {
        return Next::Wait(Reason::CutOff, None);
    }
    match one.phase {
        ReplacementPhase::Accepted => view.accepted(),
        ReplacementPhase::Pulling => view.pulling(),
        ReplacementPhase::Emptying => view.until_old_is_gone(ReplacementPhase::Starting),
        ReplacementPhase::Starting => view.starting(),
        ReplacementPhase::Ready => view.ready(),
        ReplacementPhase::Switched => view.switched(),
        ReplacementPhase::Overlapping => view.overlapping(),
        ReplacementPhase::Draining => view.draining(),
        ReplacementPhase::Done | ReplacementPhase::Abandoned | ReplacementPhase::SwitchedBack => Next::Rest,
    }
}

impl View<'_> {
    fn go(&self, phase: ReplacementPhase) -> Next<Step> {
        Next::Go(Step::Enter(phase, self.now))
    }

    /// How long the old job takes to end is its own affair: where the new one has to wait for that, its time counts from its
    /// start. What was held and is released has its time again.
    fn deadline(&self) -> Option<Tick> {
        let new = self.new?;
        let waited = self.one.manner == Manner::Instead && self.one.phase >= ReplacementPhase::Starting;
        let is_released = self.one.phase == ReplacementPhase::Ready && self.ledger.traffic(new) == Traffic::Full;
        let from = if waited || is_released { self.one.since } else { self.one.accepted };
        Some(from + new.assignment.run.timeout())
    }

    fn is_too_late(&self) -> bool {
        self.deadline().is_some_and(|deadline| self.now >= deadline)
    }

    /// Waits until the deadline at the latest.
    fn wait(&self, reason: Reason, wake: Option<Tick>) -> Next<Step> {
        Next::Wait(reason, earlier(wake, self.deadline().filter(|deadline| *deadline > self.now)))
    }

    /// What its new job waits for is what it waits for.
    fn wait_for(&self, job: &Job) -> Next<Step> {
        match job::next(self.ledger, self.seen, job, self.now) {
            Next::Wait(reason, wake) => self.wait(reason, wake),
            Next::Rest | Next::Go(_) => self.wait(Reason::NextStep, None),
        }
    }

    /// Room first. Emptying a slot needs none, and nothing to start: its next table is all.
    fn accepted(&self) -> Next<Step> {
        let Some(new) = self.new else { return self.go(ReplacementPhase::Ready) };
        match room::short_of(self.ledger, self.seen, new.assignment.job) {
            None => self.go(ReplacementPhase::Pulling),
            Some(short) if self.is_too_late() => Next::Go(Step::Abandon(Failure::NoRoom { short })),
            Some(short) => self.wait(Reason::Room { short }, None),
        }
    }

    fn pulling(&self) -> Next<Step> {
        let Some(new) = self.new else { return self.go(ReplacementPhase::Ready) };
        match new.phase {
            // Pull first: an image that cannot be had stops nothing.
            JobPhase::Pulling if self.one.manner == Manner::Instead && job::has_image(self.seen, new) => {
                self.go(ReplacementPhase::Emptying)
            }
            JobPhase::Assigned | JobPhase::Pulling if self.is_too_late() => self.abandon_late(new),
            JobPhase::Assigned | JobPhase::Pulling => self.wait_for(new),
            JobPhase::Creating | JobPhase::Starting | JobPhase::Running | JobPhase::Stopping => {
                self.go(ReplacementPhase::Starting)
            }
            JobPhase::Stopped | JobPhase::Succeeded | JobPhase::Failed | JobPhase::Rejected => self.abandon_ended(new),
        }
    }

    /// Ready is asked before the deadline: a job that got healthy while the agent was away is not too late.
    fn starting(&self) -> Next<Step> {
        let Some(new) = self.new else { return self.go(ReplacementPhase::Ready) };
        if new.phase.is_final() {
            return self.abandon_ended(new);
        }
        match ready_at(new, self.seen) {
            Some(ready) if self.now >= ready => self.go(ReplacementPhase::Ready),
            Some(_) | None if !self.seen.engine_answers => {
                self.wait(Reason::Engine { trouble: self.seen.engine_trouble.clone() }, None)
            }
            Some(_) | None if self.is_too_late() => self.abandon_late(new),
            Some(ready) => self.wait(Reason::MinHealthy { left: ready.since(self.now) }, Some(ready)),
            None => self.wait_for(new),
        }
    }

    /// The table is on its way, or the new job is held back until it is released. After a new boot, or a time cut off, it
    /// has to get ready once more first.
    fn ready(&self) -> Next<Step> {
        if let Some(new) = self.new {
            if !self.ledger.is_current(new) {
                return match self.ledger.traffic(new) {
                    Traffic::Full => self.starting(),
                    Traffic::Held => self.held(new, Reason::Held),
                    Traffic::Share(percent) => self.held(new, Reason::Share { percent }),
                };
            }
            if let Some(failure) = self.failed_beside_running_old(new) {
                return Next::Go(Step::Abandon(failure));
            }
            if !routes::is_good(health(new, self.seen)) {
                return self.wait_for(new);
            }
        }
        match routes::not_obeyed(self.one.table, self.seen) {
            Some(reason) => Next::Wait(reason, None),
            None => self.go(ReplacementPhase::Switched),
        }
    }

    /// It is there to show whether it works: what is wrong with it ends it, and is not tried once more.
    fn held(&self, new: &Job, why: Reason) -> Next<Step> {
        if new.phase.is_final() {
            return self.abandon_ended(new);
        }
        if let Some(failure) = self.failure_of(new) {
            return Next::Go(Step::Abandon(failure));
        }
        if why != Reason::Held {
            return Next::Wait(why, None);
        }
        if self.is_too_late() {
            return Next::Go(Step::Abandon(Failure::NotReleased { timeout: new.assignment.run.timeout() }));
        }
        self.wait(why, None)
    }

    /// Without an old job there is nothing to overlap or to drain; an emptied slot has no overlap.
    fn switched(&self) -> Next<Step> {
        if self.one.manner == Manner::Instead {
            return self.go(ReplacementPhase::Done);
        }
        match self.new {
            Some(_) => Next::Go(Step::Enter(ReplacementPhase::Overlapping, self.one.since)),
            None => Next::Go(Step::Enter(ReplacementPhase::Draining, self.one.since)),
        }
    }

    fn overlapping(&self) -> Next<Step> {
        let old_is_up = self.old.is_some_and(|old| !old.phase.is_final());
        let (Some(new), true) = (self.new, old_is_up) else { return self.go(ReplacementPhase::Draining) };
        if let Some(failure) = self.failed_beside_running_old(new) {
            return Next::Go(Step::SwitchBack(failure));
        }
        // The drain begins when the overlap ends by right, however late the agent comes to see it.
        let end = self.one.since + new.assignment.run.spec.deploy.overlap;
        if self.now < end {
            return Next::Wait(Reason::Overlap { left: end.since(self.now) }, Some(end));
        }
        Next::Go(Step::Enter(ReplacementPhase::Draining, end))
    }

    fn draining(&self) -> Next<Step> {
        if let Some(failure) = self.new.and_then(|new| self.failed_beside_running_old(new)) {
            return Next::Go(Step::SwitchBack(failure));
        }
        self.until_old_is_gone(ReplacementPhase::Done)
    }

    /// To this phase when the old job has ended and nothing of it is left.
    fn until_old_is_gone(&self, then: ReplacementPhase) -> Next<Step> {
        let Some(old) = self.old else { return self.go(then) };
        match job::next(self.ledger, self.seen, old, self.now) {
            Next::Wait(reason, wake) => Next::Wait(reason, wake),
            Next::Go(_) => Next::Wait(Reason::NextStep, None),
            Next::Rest if is_gone(old, self.seen) => self.go(then),
            Next::Rest if !self.seen.engine_answers => {
                Next::Wait(Reason::Engine { trouble: self.seen.engine_trouble.clone() }, None)
            }
            Next::Rest => Next::Wait(Reason::Removal, None),
        }
    }

    /// Why the new job has failed, if the old one runs well beside it and was not told to stop.
    fn failed_beside_running_old(&self, new: &Job) -> Option<Failure> {
        let old = self.old?;
        if !runs(old, self.seen) || failed_check(old, self.seen).is_some() {
            return None;
        }
        self.failure_of(new)
    }

    /// What is wrong with a job that was ready once.
    fn failure_of(&self, new: &Job) -> Option<Failure> {
        match new.phase {
            JobPhase::Running => failed_check(new, self.seen),
            JobPhase::Assigned
            | JobPhase::Pulling
            | JobPhase::Creating
            | JobPhase::Starting
            | JobPhase::Stopping
            | JobPhase::Stopped
            | JobPhase::Succeeded
            | JobPhase::Failed
            | JobPhase::Rejected => new.failure.clone(),
        }
    }

    /// A new job that ended by itself will not get ready; one that was told to end (cut off) is about to come back.
    fn abandon_ended(&self, new: &Job) -> Next<Step> {
        match (&new.failure, new.drain_until) {
            (Some(failure), None) => Next::Go(Step::Abandon(failure.clone())),
            (Some(_), Some(_)) | (None, _) if !self.is_too_late() => self.wait_for(new),
            (Some(_), Some(_)) | (None, _) => self.abandon_late(new),
        }
    }

    /// The most telling reason: what kept it from starting, the last bad answer, else why the last attempt failed, else only that
    /// time is over.
    fn abandon_late(&self, new: &Job) -> Next<Step> {
        let timeout: Millis = new.assignment.run.timeout();
        if let Next::Wait(reason, _) = job::next(self.ledger, self.seen, new, self.now)
            && in_the_way(self.ledger, self.seen, new).as_ref() == Some(&reason)
        {
            let said = format!("after {timeout} it still {reason}");
            return Next::Go(Step::Abandon(Failure::CannotStart { said }));
        }
        let failure = match (last_bad_answer(new, self.seen), &new.failure) {
            (Some(answered), _) => Failure::NotReadyInTime { timeout, answered: Some(answered) },
            (None, Some(failure)) => failure.clone(),
            (None, None) => Failure::NotReadyInTime { timeout, answered: None },
        };
        Next::Go(Step::Abandon(failure))
    }
}

/// Enters a phase. At Ready the slot's traffic is the new job's: the routes follow in the same advance.
fn enter(ledger: &mut Ledger, slot: &SlotId, phase: ReplacementPhase, since: Tick, now: Now) {
    let Some(one) = ledger.replacements.get_mut(slot) else { return };
    one.enter(phase, since, now);
    let new = one.new.and_then(|new| ledger.jobs.get(&new));
    match (phase, new) {
        (ReplacementPhase::Ready, Some(new)) if ledger.traffic(new) == Traffic::Full => {
            ledger.current.insert(slot.clone(), new.assignment.job);
        }
        // It is held back: the old job keeps the slot.
        (ReplacementPhase::Ready, Some(_)) => {}
        (ReplacementPhase::Ready | ReplacementPhase::Emptying, _) => {
            ledger.current.remove(slot);
        }
        _ => {}
    }
}

/// Ends a replacement before its switch; the old job has the slot.
pub(super) fn abandon(ledger: &mut Ledger, slot: &SlotId, failure: Failure, now: Now) {
    end(ledger, slot, ReplacementPhase::Abandoned, failure, now);
}

fn switch_back(ledger: &mut Ledger, slot: &SlotId, failure: Failure, now: Now) {
    end(ledger, slot, ReplacementPhase::SwitchedBack, failure, now);
}

fn end(ledger: &mut Ledger, slot: &SlotId, phase: ReplacementPhase, failure: Failure, now: Now) {
    let Some(one) = ledger.replacements.get_mut(slot) else { return };
    one.enter(phase, now.tick, now);
    one.failure = Some(failure);
    give_to_old(ledger, slot);
}

fn give_to_old(ledger: &mut Ledger, slot: &SlotId) {
    let Some(one) = ledger.replacements.get(slot) else { return };
    match one.old.filter(|old| ledger.jobs.contains_key(old)) {
        Some(old) => ledger.current.insert(slot.clone(), old),
        None => ledger.current.remove(slot),
    };
}

/// Notes what the new job's checks have answered, once: when they are good, or when it is given up without that.
fn note_answers(ledger: &mut Ledger, seen: &Seen, slot: &SlotId, now: Now) {
    let Some(one) = ledger.replacements.get_mut(slot).filter(|one| one.good_at.is_none()) else { return };
    let Some(new) = one.new.and_then(|new| ledger.jobs.get(&new)) else { return };
    if one.phase == ReplacementPhase::Starting && good_since(new, seen).is_some() {
        one.good_at = Some(now.wall);
        one.bad_answer = any_bad_answer(new, seen);
    } else if one.phase == ReplacementPhase::Abandoned && one.bad_answer.is_none() {
        let told = one.failure.as_ref().and_then(Failure::answered);
        one.bad_answer = any_bad_answer(new, seen).or_else(|| told.cloned());
    }
}

/// Notes the moment of no return, once.
fn note_stop(ledger: &mut Ledger, slot: &SlotId, now: Now) {
    let Some(one) = ledger.replacements.get_mut(slot) else { return };
    let old = one.old.and_then(|old| ledger.jobs.get(&old));
    let told = one.phase >= one.old_ends_at()
        && !one.phase.is_final()
        && old.is_some_and(|old| old.phase == JobPhase::Stopping);
    if told && one.stopped_at.is_none() {
        one.stopped_at = Some(now.wall);
    }
}

/// After a new boot, or when a lease came back: the clocks of a replacement begin anew. One that had not switched gives
/// the slot back to the old job until the new one is ready once more.
pub(super) fn restart_clocks(ledger: &mut Ledger, slot: &SlotId, now: Now) {
    let Some(one) = ledger.replacements.get_mut(slot).filter(|one| !one.phase.is_final()) else { return };
    (one.since, one.accepted) = (now.tick, now.tick);
    if one.phase == ReplacementPhase::Ready && one.new.is_some() {
        one.table = 0;
        match one.manner {
            Manner::Beside => give_to_old(ledger, slot),
            // The old one has ended for the new one's sake: the slot has nobody until that is ready.
            Manner::Instead => {
                ledger.current.remove(slot);
            }
        }
    }
}
