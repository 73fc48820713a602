//! Seeds that once broke a promise. Each stays here with a sentence about what was wrong.

/// The seed, and what it found.
pub const SEEDS: &[(u64, &str)] = &[];
