//! The cluster's decisions with model agents: what the product promises, as sentences.

mod agent;
mod alone;
mod applying;
mod claims;
mod deploying;
mod entering;
mod failing;
mod hostile;
mod keeping;
mod losing;
mod membership;
mod pausing;
mod permitting;
mod policies;
mod preparing;
mod random;
mod requests;
mod running;
mod standing;
mod steering;
mod storing;
mod valuing;
mod wishing;
mod world;
