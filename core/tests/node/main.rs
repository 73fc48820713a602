//! The agent's decisions against a model of a node: stories of one path each, then random worlds.

mod property;
mod stories;
mod world;
