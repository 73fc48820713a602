//! From the written ledger and what is seen: what to do, when to wake, what waits and why.

use crate::node::action::Plan;
use crate::node::ledger::Ledger;
use crate::node::report::report;
use crate::node::seen::{NodeConfig, Now, Seen};
use alloc::vec::Vec;

/// What follows from the ledger as it is written and from what is seen.
pub fn plan(ledger: &Ledger, seen: &Seen, config: &NodeConfig, now: Now) -> Plan {
    Plan {
        actions: Vec::new(),
        wake: None,
        waits: Vec::new(),
        report: report(ledger, seen, config, now),
        watched: Vec::new(),
    }
}
