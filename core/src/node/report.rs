//! The node's picture of itself, for the controller and for people.

use crate::node::ledger::Ledger;
use crate::node::seen::{NodeConfig, Now, Seen};
use crate::report::NodeReport;
use alloc::vec::Vec;

/// The whole picture.
pub fn report(ledger: &Ledger, seen: &Seen, _config: &NodeConfig, _now: Now) -> NodeReport {
    NodeReport {
        generation: ledger.generation,
        jobs: Vec::new(),
        replacements: Vec::new(),
        capacity: seen.capacity,
        troubles: Vec::new(),
    }
}
