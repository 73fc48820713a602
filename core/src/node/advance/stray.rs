//! Running containers with our labels that nobody wants: older attempts, jobs that ended, jobs of a lost ledger.

use crate::node::ledger::Ledger;
use crate::node::routes;
use crate::node::seen::{Attempt, Container, Now, Seen};
use crate::time::Millis;
use alloc::vec::Vec;

/// SIGTERM to SIGKILL for a container whose spec nobody knows any more; the spec's default `stop_grace`.
pub const STRAY_GRACE: Millis = Millis(10_000);

/// Whether this container is the one that its job has now.
pub fn is_live(ledger: &Ledger, attempt: Attempt) -> bool {
    ledger.jobs.get(&attempt.job).is_some_and(|job| job.attempt == attempt.number && !job.phase.is_final())
}

/// Decides the end of strays. A job that the ledger does not know is touched only when a controller that has read the
/// inventory says that absent slots shall stop, and when no proxy can still send it a request.
pub(super) fn step(ledger: &mut Ledger, seen: &Seen, now: Now) {
    let running = |attempt: &Attempt| matches!(seen.containers.get(attempt), Some(Container::Running { .. }));
    let is_over = |attempt: &Attempt| seen.engine_answers && !running(attempt) && !seen.unclear.contains_key(attempt);
    ledger.strays.retain(|attempt, _| !is_over(attempt));
    let may_stop_unknown = ledger.generation.is_some()
        && ledger.stop_absent
        && routes::not_obeyed(ledger.table.generation, seen).is_none();
    let wanted = |attempt: &Attempt| ledger.wanted.values().any(|one| one.job == attempt.job);
    let decided: Vec<Attempt> = seen
        .containers
        .keys()
        .filter(|attempt| running(attempt) && !is_live(ledger, **attempt) && !ledger.strays.contains_key(*attempt))
        .filter(|attempt| ledger.jobs.contains_key(&attempt.job) || (may_stop_unknown && !wanted(attempt)))
        .copied()
        .collect();
    ledger.strays.extend(decided.into_iter().map(|attempt| (attempt, now.tick)));
}
