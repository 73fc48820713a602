//! The cluster's decisions with model agents: what the product promises, as sentences.

mod agent;
mod applying;
mod claims;
mod deploying;
mod failing;
mod hostile;
mod losing;
mod membership;
mod permitting;
mod policies;
mod random;
mod requests;
mod standing;
mod storing;
mod valuing;
mod wishing;
mod world;
