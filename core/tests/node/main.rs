//! The agent's decisions against a model of a node: stories of one path each, then random worlds.

mod images;
mod once;
mod property;
mod stories;
mod strategies;
mod world;
