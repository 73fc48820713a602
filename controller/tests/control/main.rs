//! The agents' port with real TLS over loopback: the controller's side of the channel with an engine of a few lines, and
//! the real agent's side, or a peer that does not behave.

mod disowned;
mod door;
mod engine;
mod joining;
mod machine;
mod sessions;
mod stranger;
