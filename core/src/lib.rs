//! Lapstrake's decisions.
//!
//! Everything here is a pure function over what is wanted, what is seen and what time it is. The crate is `no_std`, so
//! that it cannot name a clock, a socket, a file or a map of random order: the same inputs give the same plan. Two loops
//! use it, one over a node (`node`, in the agent) and one over the cluster (`cluster`, in the controller); `check` holds
//! the invariants that tests, simulator and README share.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod access;
pub mod assignment;
pub mod audit;
pub mod check;
pub mod cluster;
pub mod ids;
pub mod image;
pub mod label;
pub mod liveness;
pub mod message;
pub mod node;
pub mod placement;
pub mod policy;
pub mod probe;
pub mod quota;
pub mod quote;
pub mod rate;
pub mod reason;
pub mod report;
pub mod restart;
pub mod root;
pub mod routes;
pub mod spec;
pub mod time;
pub mod values;
