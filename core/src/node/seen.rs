//! What the agent sees of its node: possibly old, possibly unknown, which is a value of its own.

use crate::ids::{BootId, EnvironmentId, JobId, SlotId};
use crate::node::action::Subnet;
use crate::node::disk::Disk;
use crate::node::images::{Brought, Listing};
use crate::report::Capacity;
use crate::time::{Millis, Tick, Wall};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use serde::{Deserialize, Serialize};

/// The instant of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For durations.
    pub tick: Tick,
    /// Which boot the tick belongs to.
    pub boot: BootId,
    /// For display only.
    pub wall: Wall,
}

/// One attempt of a job: the identity of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attempt {
    /// The job.
    pub job: JobId,
    /// From 1.
    pub number: u32,
}

/// The node, as last looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// Whether `containers` is a complete, recent list. While false, a container that is missing from it is unknown, not gone.
    pub engine_answers: bool,
    /// Why the engine does not answer, for people.
    pub engine_trouble: Option<String>,
    /// Containers that carry our cluster's labels, by the attempt that the labels name.
    pub containers: BTreeMap<Attempt, Container>,
    /// Containers that the engine lists and tells no more about, and why not: how they are is unknown, and they are not gone.
    /// What `containers` has of one is its last reading.
    pub unclear: BTreeMap<Attempt, String>,
    /// Attempts whose containers are being made or started just now: an engine that does not list one yet may list it in the
    /// next moment, so it is not gone.
    pub starting: BTreeSet<Attempt>,
    /// The static addresses of the containers, as far as they are known, so that a lost ledger finds them again.
    pub addresses: BTreeMap<Attempt, Ipv4Addr>,
    /// The slots that the containers' labels name, as far as they were read: of those that a lost ledger has forgotten nothing
    /// else tells which slot they fill.
    pub slots: BTreeMap<Attempt, SlotId>,
    /// When this agent process sent an attempt its stop signal: the grace until SIGKILL counts from here.
    pub terminated_at: BTreeMap<Attempt, Tick>,
    /// Images by `BoundImage::pinned`; one that is not named was not asked for since the agent started.
    pub images: BTreeMap<String, Image>,
    /// Images that this agent process has brought here, by `BoundImage::pinned`.
    pub brought: BTreeMap<String, Brought>,
    /// All images of the engine; none while they were not listed.
    pub listing: Option<Listing>,
    /// How full the disks are on which the node keeps something; none until they were looked at, and then no new job begins.
    pub disks: Option<Vec<Disk>>,
    /// Whether an image was removed since the disks were looked at: what they say is older than the room that it has left.
    pub freed: bool,
    /// Images that the engine refused to remove, by its ids, with what it said: it is not asked again until its list is another
    /// one.
    pub not_removed: BTreeMap<String, String>,
    /// Bridges of environments that stand with their rules, by environment.
    pub networks: BTreeSet<EnvironmentId>,
    /// All bridges of the engine, with and without rules; none while they were not listed.
    pub bridges: Option<Bridges>,
    /// Why an environment's bridge could not be made, for people.
    pub network_trouble: BTreeMap<EnvironmentId, String>,
    /// Readings of checks, per attempt, in the order of `spec.health` (or the one default check).
    pub checks: BTreeMap<Attempt, Vec<crate::probe::Reading>>,
    /// Every live proxy process that listens in the control folder.
    pub proxies: Vec<Proxy>,
    /// The generation of the route table in the file that a starting proxy reads. 0 without one.
    pub table_written: u64,
    /// What the machine offers to jobs.
    pub capacity: Capacity,
    /// When the lease that the controller gave ends; none while no session was ever answered since the agent started.
    pub lease_ends: Option<Tick>,
    /// When this agent process started: the lease of one that was never answered counts from here.
    pub agent_started: Tick,
    /// What else keeps the node from working, as sentences: the disk is full, the clock is off.
    pub troubles: Vec<String>,
}

impl Seen {
    /// The attempts of a job that have a container, or may have one in the next moment.
    pub fn attempts_of(&self, job: JobId) -> impl Iterator<Item = &Attempt> {
        self.containers
            .keys()
            .chain(self.unclear.keys())
            .chain(&self.starting)
            .filter(move |attempt| attempt.job == job)
    }
}

/// A container, as the engine tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Container {
    /// The engine was asked to make or start it and refused; there may be a corpse to remove.
    Refused {
        /// What it said.
        said: String,
        /// When.
        at: Tick,
    },
    /// Made, not started.
    Created,
    /// Its process runs.
    Running {
        /// Since when; of a container that an earlier agent process started, when it was adopted.
        since: Tick,
        /// Whether this agent process has sent it the stop signal.
        terminated: bool,
        /// Memory in bytes and thousandths of a core, from the cgroup files.
        memory_bytes: u64,
        /// Over the last reading's period.
        cpu_milli: u32,
    },
    /// Its process has ended.
    Exited {
        /// Exit code; 128 + the signal's number when killed.
        code: i64,
        /// Whether the kernel killed it at its memory limit.
        out_of_memory: bool,
        /// How long it ran.
        ran: Millis,
        /// The last lines that it wrote, oldest first, at most 20.
        last_lines: Vec<String>,
    },
}

/// An image on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Image {
    /// Being pulled.
    Pulling,
    /// The engine holds it.
    Present,
    /// The engine could not get it.
    Failed {
        /// What it said.
        said: String,
        /// When.
        at: Tick,
    },
}

/// The bridges of a container engine, which never overlap.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bridges {
    /// Of this node's environments.
    pub own: BTreeMap<EnvironmentId, Subnet>,
    /// Of everybody else: the engine's own, another product's, those of the node that this machine was before.
    pub others: BTreeSet<Subnet>,
}

/// A live proxy process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Its process id.
    pub pid: u32,
    /// The newest table that it acknowledged; 0 while it has acknowledged none or the connection to it is down.
    pub acknowledged: u64,
    /// Jobs that this table does not name and that still have open requests or connections.
    pub leaving: BTreeMap<JobId, u32>,
}

/// What the agent's configuration gives to the decisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// The node's name.
    pub name: String,
    /// The first address of the pool from which environments get their subnets, for example 10.201.0.0.
    pub pool: Ipv4Addr,
    /// The pool's prefix length, for example 16.
    pub pool_prefix: u8,
    /// The prefix length of one environment's subnet, for example 24.
    pub subnet_prefix: u8,
    /// How long an image stays that nothing needs any more, where there is room.
    pub keep_images: Millis,
}
