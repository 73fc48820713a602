//! What is seen moves the ledger's phases forward.
//!
//! Each part looks at one kind of thing and says what comes next for it; the same answers give `plan` its reasons, so
//! that whatever does not move has a sentence why.

mod address;
pub(super) mod begin;
mod boot;
pub(crate) mod cut_off;
pub(super) mod job;
pub(super) mod once;
pub(super) mod replacement;
pub(super) mod room;
mod stray;

use crate::node::images;
use crate::node::ledger::Ledger;
use crate::node::routes;
use crate::node::seen::{NodeConfig, Now, Seen};
use crate::time::Tick;

pub(super) use address::unused_networks;
pub(super) use stray::{STRAY_GRACE, in_the_way, is_live, strays};

/// One instant may carry a slot through every phase (a worker whose image is there and whose old job is gone): ten
/// phases, each with a phase of a job. More passes than that mean that two parts undo each other.
const MOST_PASSES: u32 = 32;

/// Moves every phase as far as what is seen allows. Says whether the ledger changed and has to be written.
///
/// At the same instant, with the same things seen, a second call changes nothing.
pub fn advance(ledger: &mut Ledger, seen: &Seen, config: &NodeConfig, now: Now) -> bool {
    let before = ledger.clone();
    boot::rebase(ledger, now);
    for pass in 0..MOST_PASSES {
        let at_start = ledger.clone();
        begin::step(ledger, seen, config, now);
        once::begin(ledger, seen, config, now);
        replacement::step(ledger, seen, now);
        job::step(ledger, seen, now);
        address::step(ledger, seen, config);
        routes::renew(ledger, seen);
        // After the newest table is known: a container that nobody wants is in no table from that one on.
        stray::step(ledger, seen, now);
        job::forget(ledger, seen);
        if *ledger == at_start {
            break;
        }
        debug_assert!(pass + 1 < MOST_PASSES, "two parts of advance undo each other");
    }
    // Last: what a job needs that has just been forgotten, nothing needs.
    images::step(ledger, seen, now.tick);
    *ledger != before
}

/// What comes next for one thing: nothing, a wait, or a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next<Step> {
    /// It is as it should be.
    Rest,
    /// Not yet, for this reason; at this instant at the latest it is worth asking again.
    Wait(crate::node::reason::Reason, Option<Tick>),
    /// This.
    Go(Step),
}
