//! The invariants that tests, simulator and README share. A violation is a sentence about the product that is not true.

use alloc::string::String;

pub mod cluster;
pub mod node;
mod one_offs;

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The invariant's number in `docs/ARCHITECTURE.md`; 0 for one that only the code's own order needs.
    pub invariant: u8,
    /// What is wrong, with names.
    pub sentence: String,
}
