//! The machine was started anew: no process survived, and every tick of the ledger belongs to a clock that is gone.

use crate::node::advance::replacement;
use crate::node::images;
use crate::node::ledger::Ledger;
use crate::node::seen::Now;
use crate::report::JobPhase;
use crate::time::Tick;

/// Brings the ledger into this boot. Every wait restarts in full; what ran gets a new attempt, which is nobody's failure.
pub(super) fn rebase(ledger: &mut Ledger, now: Now) {
    if ledger.boot == now.boot {
        return;
    }
    ledger.boot = now.boot;
    ledger.strays.clear();
    images::rebase(ledger, now.tick);
    let slots: alloc::vec::Vec<_> = ledger.replacements.keys().cloned().collect();
    for slot in slots {
        replacement::restart_clocks(ledger, &slot, now);
    }
    let lasting: alloc::vec::Vec<_> =
        ledger.jobs.values().filter(|job| ledger.lasts(job)).map(|job| job.key().job).collect();
    for (id, job) in &mut ledger.jobs {
        rebase_tick(&mut job.drain_until, now.tick);
        job.retry_at = None;
        let lasts = lasting.contains(id) && job.drain_until.is_none();
        // Its container tells whether it had begun; it gets no other one. How it ended nobody can tell: an engine that is told
        // to end stops what runs, and many a process then exits with code 0.
        if job.assignment.once.is_some() {
            job.interrupted |= matches!(job.phase, JobPhase::Creating | JobPhase::Starting | JobPhase::Running);
            (job.since, job.came) = (now.tick, now.tick);
            continue;
        }
        match job.phase {
            JobPhase::Assigned | JobPhase::Pulling => job.since = now.tick,
            JobPhase::Creating | JobPhase::Starting | JobPhase::Running | JobPhase::Stopping if lasts => {
                job.next_attempt(None, now.tick);
            }
            JobPhase::Creating | JobPhase::Starting | JobPhase::Running | JobPhase::Stopping => {
                job.enter(JobPhase::Stopped, now.tick);
            }
            JobPhase::Stopped | JobPhase::Succeeded | JobPhase::Failed | JobPhase::Rejected => job.since = now.tick,
        }
    }
}

fn rebase_tick(tick: &mut Option<Tick>, now: Tick) {
    if tick.is_some() {
        *tick = Some(now);
    }
}
