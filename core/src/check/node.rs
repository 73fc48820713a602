//! The invariants of one node.
