//! Seeds that once broke a promise. Each stays here with a sentence about what was wrong.
//!
//! A change of the model gives every seed another world; then the sentence is what is left, and the mistake, made again on
//! purpose, finds the seed anew.

/// The seed, and what it found.
pub const SEEDS: &[(u64, &str)] = &[
    (39, "a job that was given up outside of a deployment was never tried again"),
    (82, "what a lost ledger had forgotten was told to stop while a proxy still sent it requests"),
    (96, "the address of a container that was just being started was given to another one"),
    (240, "after a batch was not stored, what agents had said was forgotten for good"),
    (260, "a job that an agent without its ledger gave up stayed settled in the controller's eyes"),
    (793, "a slot that was held back because another one had failed kept its deployment rolling for ever"),
    (1875, "a question about an image that nobody could answer any more was not asked again for a minute"),
    (3413, "an agent that had lost its ledger gave an address away before the engine had told which ones are taken"),
];
