//! The loop over one node: what the agent decides, alone if need be.
//!
//! ```text
//! ledger.accept(set)              a newer assignment set came          (written before anything follows from it)
//! advance(ledger, seen, now)      what is seen moves phases forward    (written before anything follows from it)
//! plan(ledger, seen, config, now) what to do, when to wake, what waits and why
//! report(ledger, seen, now)       the picture for the controller and for people
//! ```
//!
//! No step runs before the ledger holds it: `advance` and `accept` change only the ledger, the rim writes it, and `plan`
//! derives the actions from the written ledger and from what is seen. A crash at any point therefore repeats at most an
//! action whose effect is already there, and every action is safe to repeat.

mod accept;
pub mod action;
pub(crate) mod advance;
pub mod disk;
pub mod health;
pub mod images;
pub mod ledger;
mod plan;
pub mod reason;
mod report;
pub mod routes;
pub mod seen;

pub use advance::advance;
pub use plan::plan;
pub use report::report;
