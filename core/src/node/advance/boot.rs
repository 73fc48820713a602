//! The machine was started anew: no process survived, and every tick of the ledger belongs to a clock that is gone.

use crate::node::advance::replacement;
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
        match job.phase {
            JobPhase::Assigned | JobPhase::Pulling => job.since = now.tick,
            JobPhase::Creating | JobPhase::Starting | JobPhase::Running | JobPhase::Stopping if lasts => {
                job.next_attempt(None, now.tick);
            }
            JobPhase::Creating | JobPhase::Starting | JobPhase::Running | JobPhase::Stopping => {
                job.enter(JobPhase::Stopped, now.tick);
            }
            JobPhase::Stopped | JobPhase::Failed | JobPhase::Rejected => job.since = now.tick,
        }
    }
}

fn rebase_tick(tick: &mut Option<Tick>, now: Tick) {
    if tick.is_some() {
        *tick = Some(now);
    }
}
