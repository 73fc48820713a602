//! The whole on a real Docker engine: the real controller, agent and proxy with real images, judged by a client that
//! asks all the time, and by the engine's own words.

#[path = "../cluster/bench/mod.rs"]
mod bench;

mod asker;
mod full_disk;
mod hardening;
mod images;
mod machine;
mod registry;
mod versions;
