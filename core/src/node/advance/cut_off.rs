//! Losing the controller: nothing changes until the lease ends, and then only what the spec says (invariant 7).

use crate::assignment::RunSpec;
use crate::node::seen::Seen;
use crate::spec::WhenCutOff;
use crate::time::{Millis, Tick};

/// The lease of an agent that no controller has answered since it started: as long as the controller's default lease.
pub const LEASE_UNANSWERED: Millis = Millis(6_000);

/// When the lease ends, or ended.
pub fn lease_ends(seen: &Seen) -> Tick {
    seen.lease_ends.unwrap_or(seen.agent_started + LEASE_UNANSWERED)
}

/// Whether the spec wants this to stop now, because the controller's lease is over.
pub fn applies(run: &RunSpec, seen: &Seen, now: Tick) -> bool {
    match run.when_cut_off() {
        WhenCutOff::Keep => false,
        WhenCutOff::Stop => now >= lease_ends(seen),
    }
}

/// When it would apply, to be awake then.
pub fn deadline(run: &RunSpec, seen: &Seen, now: Tick) -> Option<Tick> {
    match run.when_cut_off() {
        WhenCutOff::Keep => None,
        WhenCutOff::Stop => Some(lease_ends(seen)).filter(|end| *end > now),
    }
}
