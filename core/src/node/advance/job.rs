//! One job: its attempts, one after the other, and its end.

use crate::ids::JobId;
use crate::node::advance::{Next, cut_off, once, replacement, stray};
use crate::node::health::{Sight, exit_failure, failed_check, good_since, is_gone, last_bad_answer, ready_at, sight};
use crate::node::ledger::{Job, Ledger, Manner, Replacement};
use crate::node::reason::Reason;
use crate::node::routes;
use crate::node::seen::{Attempt, Container, Image, Now, Seen};
use crate::probe::checks_of;
use crate::report::{Failure, JobPhase, ReplacementPhase};
use crate::restart;
use crate::spec::{DEFAULT_DEPLOY, DeployPolicy};
use crate::time::{Millis, Tick};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// One move of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobStep {
    /// Forward within the attempt.
    Enter(JobPhase),
    /// The image could not be got; the same attempt tries again later.
    FailPull(Failure, Tick),
    /// The delay after a failed pull is over.
    PullAgain,
    /// The attempt failed by itself.
    Fail(Failure),
    /// The attempt is stopped for the next one.
    StopAttempt(Failure),
    /// The process of a stopped attempt has ended.
    Over,
    /// All checks are good, for the first time in this attempt.
    Good,
    /// It was healthy for `min_healthy`, for the first time.
    Stay,
    /// It was healthy for so long that its failures are forgotten.
    Forgive,
    /// It shall end: no new requests from now on.
    Retire,
    /// It shall be up after all.
    Revive,
    /// It was to run once, and nothing was made of this attempt before the machine was started anew.
    Anew,
    /// It was to run once, and that is over: the phase, and why it is not `Succeeded`.
    End(JobPhase, Option<Failure>),
    /// It was to run once, and its time is over.
    TimeOut(Millis),
}

/// Moves every job as far as it goes in this pass.
pub(super) fn step(ledger: &mut Ledger, seen: &Seen, now: Now) {
    let ids: Vec<JobId> = ledger.jobs.keys().copied().collect();
    for id in ids {
        let Some(job) = ledger.jobs.get(&id) else { continue };
        match next(ledger, seen, job, now.tick) {
            Next::Rest | Next::Wait(..) => {}
            Next::Go(step) => apply(ledger, id, step, now),
        }
    }
}

/// What comes next for this job.
pub fn next(ledger: &Ledger, seen: &Seen, job: &Job, now: Tick) -> Next<JobStep> {
    if let Some(once) = job.assignment.once {
        return once::next(ledger, seen, job, once, now);
    }
    let is_cut_off = cut_off::applies(&job.assignment.run, seen, now);
    match (ledger.shall_be_up(job) && !is_cut_off, job.phase.is_final(), job.drain_until) {
        (true, true, _) => revived_or_ended(ledger, job),
        (true, false, Some(_)) if job.phase != JobPhase::Stopping => Next::Go(JobStep::Revive),
        (true, false, _) => living(ledger, seen, job, now),
        (false, false, None) => retiring(ledger, seen, job),
        (false, false, Some(by)) => ending(ledger, seen, job, by, now),
        (false, true, _) if is_cut_off && ledger.lasts(job) => Next::Wait(Reason::CutOff, None),
        (false, true, _) => Next::Rest,
    }
}

/// A job that shall be up and has ended. The one that has the traffic always comes back; a new one only if it was told to
/// end (cut off) and not if it failed, which its replacement has to tell; an old one that died beside its successor never.
fn revived_or_ended(ledger: &Ledger, job: &Job) -> Next<JobStep> {
    let was_told = ledger.lasts(job) && job.drain_until.is_some();
    if was_told || ledger.is_current(job) { Next::Go(JobStep::Revive) } else { Next::Rest }
}

/// A job that shall end. The drain of one that makes way for another begins when nobody sends it anything new: until then its
/// time would run while it is still asked. (Behind a switch that is so already.)
fn retiring(ledger: &Ledger, seen: &Seen, job: &Job) -> Next<JobStep> {
    let makes_way = |one: &&Replacement| one.phase == ReplacementPhase::Emptying && one.old == Some(job.assignment.job);
    let reason =
        ledger.under_way(&job.assignment.slot).filter(makes_way).and_then(|_| routes::not_released(job, ledger, seen));
    reason.map_or(Next::Go(JobStep::Retire), |reason| Next::Wait(reason, None))
}

/// A job that shall be up.
fn living(ledger: &Ledger, seen: &Seen, job: &Job, now: Tick) -> Next<JobStep> {
    match job.phase {
        JobPhase::Assigned if waits_for_room(ledger, job) => Next::Rest,
        JobPhase::Assigned | JobPhase::Pulling if job.retry_at.is_some_and(|at| now < at) => back_off(job, now),
        JobPhase::Assigned => Next::Go(JobStep::Enter(JobPhase::Pulling)),
        JobPhase::Pulling => pulling(ledger, seen, job),
        JobPhase::Creating | JobPhase::Starting => starting(ledger, seen, job),
        JobPhase::Running => running(ledger, seen, job, now),
        JobPhase::Stopping => stopping(seen, job, now),
        JobPhase::Stopped | JobPhase::Succeeded | JobPhase::Failed | JobPhase::Rejected => Next::Rest,
    }
}

fn waits_for_room(ledger: &Ledger, job: &Job) -> bool {
    let slot = ledger.under_way(&job.assignment.slot);
    slot.is_some_and(|one| one.phase == ReplacementPhase::Accepted && one.new == Some(job.assignment.job))
}

fn back_off(job: &Job, now: Tick) -> Next<JobStep> {
    let Some(at) = job.retry_at else { return Next::Rest };
    Next::Wait(Reason::BackOff { left: at.since(now), after: job.failure.clone() }, Some(at))
}

/// Whether the node holds the job's image.
pub fn has_image(seen: &Seen, job: &Job) -> bool {
    matches!(seen.images.get(job.assignment.run.image.pinned()), Some(Image::Present))
}

/// What of its slot has to end first, where two of its jobs cannot be up together. A job that only waits for its own turn is
/// not in the way: an old job that dies meanwhile is started again.
fn not_alone(ledger: &Ledger, seen: &Seen, job: &Job) -> Option<Reason> {
    let (slot, id) = (&job.assignment.slot, job.assignment.job);
    let is_new = |one: &&Replacement| one.manner == Manner::Instead && one.new == Some(id);
    let is_early = |one: &Replacement| one.phase < ReplacementPhase::Starting;
    let others = || ledger.jobs.values().filter(|other| other.assignment.slot == *slot && other.assignment.job != id);
    let is_over = |other: &Job| other.phase.is_final() && is_gone(other, seen);
    let must_wait = ledger.under_way(slot).filter(is_new).is_some_and(is_early)
        || others().any(|other| (other.alone || job.alone) && !(ledger.shall_be_up(other) || is_over(other)));
    if must_wait { Some(Reason::OtherJob) } else { stray::in_the_way(ledger, seen, job) }
}

/// A job that gets its image, or waits until it asks for it again.
pub(super) fn pulling_or_backing_off(ledger: &Ledger, seen: &Seen, job: &Job, now: Tick) -> Next<JobStep> {
    if job.retry_at.is_some_and(|at| now < at) { back_off(job, now) } else { pulling(ledger, seen, job) }
}

fn pulling(ledger: &Ledger, seen: &Seen, job: &Job) -> Next<JobStep> {
    if job.retry_at.is_some() {
        return Next::Go(JobStep::PullAgain);
    }
    let image = &job.assignment.run.image;
    match seen.images.get(image.pinned()) {
        Some(Image::Present) => match not_alone(ledger, seen, job) {
            Some(reason) => Next::Wait(reason, None),
            None => Next::Go(JobStep::Enter(JobPhase::Creating)),
        },
        Some(Image::Failed { said, at }) if *at >= job.since => {
            let failure = Failure::CannotPull { image: image.reference().to_string(), said: said.clone() };
            Next::Go(JobStep::FailPull(failure, *at))
        }
        Some(Image::Failed { .. } | Image::Pulling) | None => {
            Next::Wait(Reason::Image { reference: image.reference().to_string() }, None)
        }
    }
}

pub(super) fn starting(ledger: &Ledger, seen: &Seen, job: &Job) -> Next<JobStep> {
    match sight(job, seen) {
        Sight::Silent => silent(seen, job),
        Sight::Missing => Next::Wait(what_the_container_needs(ledger, seen, job), None),
        Sight::There(Container::Refused { said, .. }) => {
            Next::Go(JobStep::Fail(Failure::CannotStart { said: said.clone() }))
        }
        Sight::There(Container::Created) if job.phase == JobPhase::Creating => {
            Next::Go(JobStep::Enter(JobPhase::Starting))
        }
        Sight::There(Container::Created) => Next::Wait(what_the_container_needs(ledger, seen, job), None),
        Sight::There(Container::Running { .. }) => Next::Go(JobStep::Enter(JobPhase::Running)),
        Sight::There(Container::Exited { code, out_of_memory, ran, last_lines }) => {
            Next::Go(JobStep::Fail(exit_failure(job, *code, *out_of_memory, *ran, last_lines)))
        }
    }
}

fn what_the_container_needs(ledger: &Ledger, seen: &Seen, job: &Job) -> Reason {
    let environment = job.assignment.run.environment;
    let has_older_container = seen.attempts_of(job.assignment.job).any(|one| *one != job.key());
    if job.address.is_none() && seen.bridges.is_none() {
        Reason::Network { trouble: None }
    } else if job.address.is_none() {
        routes::not_forgotten(ledger, seen).unwrap_or(Reason::Address)
    } else if !seen.networks.contains(&environment) {
        Reason::Network { trouble: seen.network_trouble.get(&environment).cloned() }
    } else if has_older_container {
        Reason::EarlierAttempt
    } else {
        stray::in_the_way(ledger, seen, job).unwrap_or(Reason::Container)
    }
}

pub(super) fn running(ledger: &Ledger, seen: &Seen, job: &Job, now: Tick) -> Next<JobStep> {
    match sight(job, seen) {
        Sight::Silent => silent(seen, job),
        Sight::Missing => {
            Next::Go(JobStep::Fail(Failure::CannotStart { said: String::from("somebody removed the container") }))
        }
        Sight::There(Container::Created) => {
            Next::Go(JobStep::Fail(Failure::CannotStart { said: String::from("somebody made the container anew") }))
        }
        Sight::There(Container::Refused { said, .. }) => {
            Next::Go(JobStep::Fail(Failure::CannotStart { said: said.clone() }))
        }
        Sight::There(Container::Exited { code, out_of_memory, ran, last_lines }) => {
            Next::Go(JobStep::Fail(exit_failure(job, *code, *out_of_memory, *ran, last_lines)))
        }
        Sight::There(Container::Running { .. }) => running_well(ledger, seen, job, now),
    }
}

/// Bad checks start a new attempt of a job that lasts, as soon as those that can stand in for it have its requests. An old
/// job in its overlap keeps what it has open instead.
fn running_well(ledger: &Ledger, seen: &Seen, job: &Job, now: Tick) -> Next<JobStep> {
    if let Some(failure) = failed_check(job, seen).filter(|_| ledger.lasts(job)) {
        return match routes::not_relieved(job, ledger, seen) {
            Some(reason) => Next::Wait(reason, None),
            None => Next::Go(JobStep::StopAttempt(failure)),
        };
    }
    let (Some(good), Some(ready)) = (good_since(job, seen), ready_at(job, seen)) else {
        let answered = last_bad_answer(job, seen);
        let has_checks = !checks_of(&job.assignment.run.spec).is_empty();
        return if has_checks { Next::Wait(Reason::Checks { answered }, None) } else { silent(seen, job) };
    };
    let forgiven = good + restart::FORGIVEN_AFTER;
    if !job.was_good {
        Next::Go(JobStep::Good)
    } else if !job.was_healthy && now >= ready {
        Next::Go(JobStep::Stay)
    } else if job.failures > 0 && now >= forgiven {
        Next::Go(JobStep::Forgive)
    } else if !job.was_healthy {
        Next::Wait(Reason::MinHealthy { left: ready.since(now) }, Some(ready))
    } else {
        Next::Rest
    }
}

pub(super) fn stopping(seen: &Seen, job: &Job, now: Tick) -> Next<JobStep> {
    match sight(job, seen) {
        Sight::Silent => silent(seen, job),
        Sight::Missing | Sight::There(Container::Refused { .. } | Container::Created | Container::Exited { .. }) => {
            Next::Go(JobStep::Over)
        }
        Sight::There(Container::Running { .. }) if !seen.engine_answers => silent(seen, job),
        Sight::There(Container::Running { .. }) => {
            let kill = kill_at(job, seen);
            Next::Wait(Reason::StopGrace { left: kill.since(now) }, Some(kill).filter(|kill| *kill > now))
        }
    }
}

/// When a stopping job is killed.
pub fn kill_at(job: &Job, seen: &Seen) -> Tick {
    end_of_grace(job.key(), job.since, policy(job).stop_grace, seen)
}

/// The grace counts from when the stop signal was sent, which an engine that was silent may have delayed. An agent that
/// died may have sent it or not; the next one sends it again, and the grace counts from its start at the earliest: nothing
/// is killed without having had all of it.
pub fn end_of_grace(attempt: Attempt, decided: Tick, grace: Millis, seen: &Seen) -> Tick {
    let sent = seen.terminated_at.get(&attempt).copied().unwrap_or(decided);
    sent.max(decided).max(seen.agent_started) + grace
}

pub(super) fn silent(seen: &Seen, job: &Job) -> Next<JobStep> {
    if let Some(said) = seen.unclear.get(&job.key()).filter(|_| seen.engine_answers) {
        return Next::Wait(Reason::Unclear { said: said.clone() }, None);
    }
    Next::Wait(Reason::Engine { trouble: seen.engine_trouble.clone() }, None)
}

/// A job that shall end: out of every table first, then until its connections are closed or its time is over, then its
/// stop signal (invariant 2).
fn ending(ledger: &Ledger, seen: &Seen, job: &Job, by: Tick, now: Tick) -> Next<JobStep> {
    match job.phase {
        JobPhase::Stopping => return stopping(seen, job, now),
        JobPhase::Assigned | JobPhase::Pulling => return Next::Go(JobStep::Over),
        JobPhase::Creating | JobPhase::Starting => {}
        JobPhase::Running => {
            if let Sight::There(Container::Exited { code, out_of_memory, ran, last_lines }) = sight(job, seen) {
                return Next::Go(JobStep::Fail(exit_failure(job, *code, *out_of_memory, *ran, last_lines)));
            }
        }
        JobPhase::Stopped | JobPhase::Succeeded | JobPhase::Failed | JobPhase::Rejected => return Next::Rest,
    }
    if let Some(reason) = routes::not_released(job, ledger, seen) {
        return Next::Wait(reason, None);
    }
    let open = routes::open_connections(job.assignment.job, seen);
    if open > 0 && now < by {
        return Next::Wait(Reason::Connections { open, left: by.since(now) }, Some(by));
    }
    Next::Go(JobStep::Enter(JobPhase::Stopping))
}

fn apply(ledger: &mut Ledger, id: JobId, step: JobStep, now: Now) {
    let Some(job) = ledger.jobs.get(&id) else { return };
    let lasts = ledger.lasts(job);
    let retire_by = retire_by(ledger, job, now.tick);
    let is_once = job.assignment.once.is_some();
    let slot = job.assignment.slot.clone();
    let Some(job) = ledger.jobs.get_mut(&id) else { return };
    match step {
        JobStep::Enter(phase) => {
            job.retry_at = None;
            job.interrupted = false;
            job.enter(phase, now.tick);
        }
        JobStep::FailPull(failure, at) => {
            job.failure = Some(failure);
            job.failures += 1;
            job.retry_at = Some(at + restart::delay(job.failures));
            if is_exhausted(job) {
                job.enter(JobPhase::Rejected, now.tick);
            }
        }
        JobStep::PullAgain => {
            job.retry_at = None;
            job.enter(JobPhase::Pulling, now.tick);
        }
        JobStep::Fail(failure) => {
            job.failure = Some(failure);
            attempt_failed(job, lasts, now.tick);
        }
        JobStep::Anew => {
            job.interrupted = false;
            job.next_attempt(None, now.tick);
        }
        JobStep::End(phase, failure) => {
            job.failure = failure;
            job.enter(phase, now.tick);
        }
        JobStep::TimeOut(timeout) => {
            job.failure = Some(Failure::TimedOut { timeout, last_lines: Vec::new() });
            job.drain_until = Some(now.tick);
            job.enter(JobPhase::Stopping, now.tick);
        }
        JobStep::StopAttempt(failure) => {
            job.failure = Some(failure);
            job.was_good = false;
            job.enter(JobPhase::Stopping, now.tick);
        }
        // There is nothing left that could tell how it ended.
        JobStep::Over if is_once => {
            let phase = if job.failure.is_some() { JobPhase::Failed } else { JobPhase::Stopped };
            job.enter(phase, now.tick);
        }
        JobStep::Over => over(job, lasts, now.tick),
        JobStep::Good => {
            job.was_good = true;
            // It is over, and is not to be taken for what ends a later attempt.
            job.failure = None;
        }
        JobStep::Stay => job.was_healthy = true,
        JobStep::Forgive => job.failures = 0,
        // Nobody sends it anything: it has nothing to drain.
        JobStep::Retire if is_once => {
            (job.failure, job.drain_until) = (None, Some(now.tick));
            job.enter(JobPhase::Stopping, now.tick);
        }
        JobStep::Retire => job.drain_until = Some(retire_by),
        JobStep::Revive => {
            job.drain_until = None;
            if job.phase.is_final() {
                job.next_attempt(None, now.tick);
            }
            replacement::restart_clocks(ledger, &slot, now);
        }
    }
}

/// Until when a job that ends may keep its connections. An old job's drain counts from the end of the overlap and lasts
/// as long as the new revision says; any other's begins now and is its own.
fn retire_by(ledger: &Ledger, job: &Job, now: Tick) -> Tick {
    let replacement = ledger
        .under_way(&job.assignment.slot)
        .filter(|one| one.phase == one.old_ends_at() && one.old == Some(job.assignment.job));
    let Some(one) = replacement else { return now + policy(job).drain };
    let successor = one.new.and_then(|new| ledger.jobs.get(&new)).unwrap_or(job);
    let from = if one.phase == ReplacementPhase::Emptying { now } else { one.since };
    from + policy(successor).drain
}

const fn policy(job: &Job) -> &DeployPolicy {
    &job.assignment.run.spec.deploy
}

fn is_exhausted(job: &Job) -> bool {
    // What runs once is started once; how often it asks for its image is another matter.
    let most = if job.assignment.once.is_some() { DEFAULT_DEPLOY.max_attempts } else { policy(job).max_attempts };
    !job.was_healthy && job.failures >= most
}

/// The attempt ended by itself: the next one follows after a delay, if there is to be one.
fn attempt_failed(job: &mut Job, lasts: bool, now: Tick) {
    job.failures += 1;
    if lasts && job.drain_until.is_none() && !is_exhausted(job) {
        let wait: Millis = restart::delay(job.failures);
        job.next_attempt(Some(now + wait), now);
    } else {
        job.enter(JobPhase::Failed, now);
    }
}

/// The process of a stopped attempt has ended, or there never was one.
fn over(job: &mut Job, lasts: bool, now: Tick) {
    match (job.drain_until, job.phase) {
        (None, _) => attempt_failed(job, lasts, now),
        (Some(_), JobPhase::Assigned | JobPhase::Pulling) if job.attempt == 1 => job.enter(JobPhase::Rejected, now),
        (Some(_), _) => job.enter(JobPhase::Stopped, now),
    }
}

/// Forgets jobs that have ended, whose container and address are gone, and that nobody asks about any more: the record of
/// their slot's replacement does not name them, and no set wants them.
pub(super) fn forget(ledger: &mut Ledger, seen: &Seen) {
    let is_told = |job: &Job| {
        let record = ledger.replacements.get(&job.assignment.slot);
        let id = Some(job.assignment.job);
        let is_wanted = ledger.wanted.get(&job.assignment.slot).is_some_and(|one| Some(one.job) == id);
        is_wanted || record.is_some_and(|one| one.old == id || one.new == id) || ledger.is_current(job)
    };
    let over = |job: &Job| job.phase.is_final() && job.address.is_none() && is_gone(job, seen) && !is_told(job);
    let forgotten: Vec<JobId> = ledger.jobs.values().filter(|job| over(job)).map(|job| job.assignment.job).collect();
    for id in &forgotten {
        ledger.jobs.remove(id);
    }
    if !forgotten.is_empty() {
        ledger.forget_values();
    }
}
