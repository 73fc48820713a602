//! Jobs that run once: a deployment's release command, and what `lap run` asks for.
//!
//! Such a job has a slot of its own, which nothing replaces: no traffic, no checks, no successor. It is started at most
//! once. Its container is the mark that it began: one that is found, running or ended, is taken for it, so that neither a
//! new agent nor a lost ledger nor a new boot runs the command again; and it is kept for as long as the set names the job,
//! for those who read its output.

use crate::assignment::{Assignment, Once};
use crate::node::advance::begin::adopted;
use crate::node::advance::job::{self, JobStep};
use crate::node::advance::{Next, cut_off, room};
use crate::node::health::{Sight, exit_failure, sight};
use crate::node::ledger::{Job, Ledger};
use crate::node::reason::Reason;
use crate::node::seen::{Attempt, Container, NodeConfig, Now, Seen};
use crate::report::{Failure, JobPhase};
use crate::time::{Tick, earlier};
use alloc::string::String;
use alloc::vec::Vec;

/// What becomes of an assignment whose job the ledger does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeginOnce {
    /// Its job begins.
    Anew,
    /// A ledger that was lost had begun it: this is its container.
    Found(Attempt),
}

/// Takes in the jobs that the newest set wants to run once.
pub(super) fn begin(ledger: &mut Ledger, seen: &Seen, config: &NodeConfig, now: Now) {
    let known = |one: &&Assignment| ledger.jobs.contains_key(&one.job);
    let news: Vec<Assignment> =
        ledger.wanted.values().filter(|one| one.once.is_some() && !known(one)).cloned().collect();
    for one in news {
        let job = match next_begin(seen, &one) {
            Next::Go(BeginOnce::Anew) => Some(Job::new(one, now.tick)),
            Next::Go(BeginOnce::Found(attempt)) => found(ledger, seen, config, (one, attempt), now),
            Next::Rest | Next::Wait(..) => None,
        };
        if let Some(job) = job {
            ledger.jobs.insert(job.assignment.job, job);
        }
    }
}

/// What becomes of an assignment whose job the ledger does not know. An engine that does not answer may have its container.
pub fn next_begin(seen: &Seen, one: &Assignment) -> Next<BeginOnce> {
    if !seen.engine_answers {
        return Next::Wait(Reason::Engine { trouble: seen.engine_trouble.clone() }, None);
    }
    if let Some((_, said)) = seen.unclear.iter().find(|(attempt, _)| attempt.job == one.job) {
        return Next::Wait(Reason::Unclear { said: said.clone() }, None);
    }
    let mut of_job = seen.containers.iter().filter(|(attempt, _)| attempt.job == one.job);
    match of_job.next_back() {
        None | Some((_, Container::Created | Container::Refused { .. })) => Next::Go(BeginOnce::Anew),
        Some((attempt, Container::Exited { .. })) => Next::Go(BeginOnce::Found(*attempt)),
        Some((_, Container::Running { .. })) if seen.bridges.is_none() => {
            Next::Wait(Reason::Network { trouble: None }, None)
        }
        Some((attempt, Container::Running { .. })) if seen.addresses.contains_key(attempt) => {
            Next::Go(BeginOnce::Found(*attempt))
        }
        Some((_, Container::Running { .. })) => Next::Wait(Reason::Address, None),
    }
}

fn found(
    ledger: &mut Ledger,
    seen: &Seen,
    config: &NodeConfig,
    (one, attempt): (Assignment, Attempt),
    now: Now,
) -> Option<Job> {
    if matches!(seen.containers.get(&attempt), Some(Container::Running { .. })) {
        return adopted(ledger, seen, config, one, attempt, now);
    }
    let mut job = Job::new(one, now.tick);
    job.attempt = attempt.number;
    job.enter(JobPhase::Running, now.tick);
    Some(job)
}

/// What comes next for such a job.
pub(super) fn next(ledger: &Ledger, seen: &Seen, job: &Job, once: Once, now: Tick) -> Next<JobStep> {
    if job.phase.is_final() {
        return Next::Rest;
    }
    if let Some(next) = unclear_end(seen, job) {
        return next;
    }
    // What has ended has ended so, whatever is wanted of it by now.
    if let Sight::There(Container::Exited { code, out_of_memory, ran, last_lines }) = sight(job, seen) {
        let failure = exit_failure(job, *code, *out_of_memory, *ran, last_lines);
        return Next::Go(ended(job, failure, last_lines));
    }
    if job.phase == JobPhase::Stopping {
        // A container that is being made just now may run in the next moment; then it is stopped as well.
        let comes =
            seen.starting.contains(&job.key()) && !matches!(sight(job, seen), Sight::There(Container::Running { .. }));
        return if comes { Next::Wait(Reason::Container, None) } else { job::stopping(seen, job, now) };
    }
    if shall_end(ledger, job) || cut_off::applies(&job.assignment.run, seen, now) {
        return Next::Go(match job.phase < JobPhase::Creating {
            true => JobStep::End(JobPhase::Rejected, None),
            false => JobStep::Retire,
        });
    }
    let late = job.came + once.start_timeout;
    let wait = |next: Next<JobStep>| match next {
        Next::Wait(reason, wake) => Next::Wait(reason, earlier(wake, Some(late).filter(|late| *late > now))),
        other => other,
    };
    match job.phase {
        JobPhase::Assigned | JobPhase::Pulling if now >= late => Next::Go(never_began(ledger, seen, job, once)),
        JobPhase::Assigned => match room::short_of(ledger, seen, job.assignment.job) {
            Some(short) => wait(Next::Wait(Reason::Room { short }, None)),
            None => Next::Go(JobStep::Enter(JobPhase::Pulling)),
        },
        JobPhase::Pulling => wait(job::pulling_or_backing_off(ledger, seen, job, now)),
        // A container that is being made just now may run in the next moment.
        JobPhase::Creating | JobPhase::Starting if now >= late && seen.engine_answers && !may_start(seen, job) => {
            Next::Go(never_began(ledger, seen, job, once))
        }
        JobPhase::Creating | JobPhase::Starting => wait(job::starting(ledger, seen, job)),
        JobPhase::Running => running(ledger, seen, job, once, now),
        JobPhase::Stopping | JobPhase::Stopped | JobPhase::Succeeded | JobPhase::Failed | JobPhase::Rejected => {
            Next::Rest
        }
    }
}

/// What comes next for a job of which nobody can tell whether its command came to its end, or began. It is not begun again.
fn unclear_end(seen: &Seen, job: &Job) -> Option<Next<JobStep>> {
    let failed =
        |said: &str| Some(Next::Go(JobStep::End(JobPhase::Failed, Some(Failure::CannotStart { said: said.into() }))));
    let rebooted =
        "its machine was started again while it ran; whether it came to its end is not known, and it is not repeated";
    match (sight(job, seen), job.phase) {
        (Sight::Missing, JobPhase::Creating) if job.interrupted => Some(Next::Go(JobStep::Anew)),
        (Sight::Missing | Sight::There(Container::Created | Container::Exited { .. }), phase)
            if job.interrupted && phase != JobPhase::Stopping =>
        {
            failed(rebooted)
        }
        (Sight::Missing, JobPhase::Starting) if !seen.starting.contains(&job.key()) => {
            failed("somebody removed the container; whether its command began is not known, and it is not repeated")
        }
        _ => None,
    }
}

fn may_start(seen: &Seen, job: &Job) -> bool {
    seen.starting.contains(&job.key()) || matches!(sight(job, seen), Sight::There(Container::Running { .. }))
}

fn running(ledger: &Ledger, seen: &Seen, job: &Job, once: Once, now: Tick) -> Next<JobStep> {
    match sight(job, seen) {
        // It may have ended in time.
        Sight::There(Container::Running { .. }) if !seen.engine_answers => job::silent(seen, job),
        Sight::There(Container::Running { .. }) => {
            let end = job.since + once.timeout;
            match now >= end {
                true => Next::Go(JobStep::TimeOut(once.timeout)),
                false => Next::Wait(Reason::RunsOnce { left: end.since(now) }, Some(end)),
            }
        }
        Sight::Silent | Sight::Missing | Sight::There(_) => job::running(ledger, seen, job, now),
    }
}

/// The time until its process runs is over.
fn never_began(ledger: &Ledger, seen: &Seen, job: &Job, once: Once) -> JobStep {
    let short = room::short_of(ledger, seen, job.assignment.job).filter(|_| job.phase == JobPhase::Assigned);
    let failure = match (short, &job.failure) {
        (Some(short), _) => Failure::NoRoom { short },
        (None, Some(failure)) => failure.clone(),
        (None, None) => Failure::NotReadyInTime { timeout: once.start_timeout, answered: None },
    };
    let phase = if job.phase < JobPhase::Creating { JobPhase::Rejected } else { JobPhase::Failed };
    JobStep::End(phase, Some(failure))
}

/// How a job ended whose process exited so.
fn ended(job: &Job, exit: Failure, last_lines: &[String]) -> JobStep {
    match (&job.failure, job.phase, exit) {
        (Some(Failure::TimedOut { timeout, .. }), JobPhase::Stopping, _) => {
            let failure = Failure::TimedOut { timeout: *timeout, last_lines: last_lines.to_vec() };
            JobStep::End(JobPhase::Failed, Some(failure))
        }
        (_, JobPhase::Stopping, _) => JobStep::End(JobPhase::Stopped, None),
        (_, _, Failure::Exited { code: 0, .. }) => JobStep::End(JobPhase::Succeeded, None),
        (_, _, failure) => JobStep::End(JobPhase::Failed, Some(failure)),
    }
}

/// Whether such a job is to end: the set says so, or names it no more where that means something.
fn shall_end(ledger: &Ledger, job: &Job) -> bool {
    match ledger.wanted.get(&job.assignment.slot).filter(|one| one.job == job.assignment.job) {
        Some(one) => one.once.is_some_and(|once| once.stop),
        None => ledger.stop_absent && ledger.generation.is_some(),
    }
}

/// Whether an attempt's container is kept though it has ended: for as long as the set names its job. Before the first set
/// nobody can tell.
pub(in crate::node) fn is_kept(ledger: &Ledger, attempt: Attempt) -> bool {
    let Some(job) = ledger.jobs.get(&attempt.job) else { return ledger.generation.is_none() };
    let wanted = ledger.wanted.get(&job.assignment.slot).filter(|one| one.job == attempt.job);
    wanted.is_some_and(|one| one.once.is_some()) && job.attempt == attempt.number
}

/// What a slot waits for whose job runs once.
pub(in crate::node) fn wait_of(ledger: &Ledger, seen: &Seen, one: &Assignment, now: Tick) -> Option<Reason> {
    let next = match ledger.jobs.get(&one.job) {
        None => match next_begin(seen, one) {
            Next::Wait(reason, _) => return Some(reason),
            Next::Rest | Next::Go(_) => return None,
        },
        Some(job) => job::next(ledger, seen, job, now),
    };
    match next {
        Next::Wait(reason, _) => Some(reason),
        Next::Rest | Next::Go(_) => None,
    }
}
