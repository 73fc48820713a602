//! A machine: its clocks, its disk, its container engine, its proxies, and the agent that runs on it or does not.

use crate::agent::Agent;
use crate::faults::Dies;
use crate::proxy::Proxy;
use crate::runtime::Engine;
use lapstrake_core::ids::{BootId, NodeId};
use lapstrake_core::node::seen::{NodeConfig, Now};
use lapstrake_core::report::Capacity;
use lapstrake_core::routes::RouteTable;
use lapstrake_core::time::{Millis, Tick, Wall};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// The clocks of one machine.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// When the machine was started.
    pub booted: u64,
    /// What its boot clock read then.
    pub offset: u64,
    /// How much faster than the world's its boot clock runs, in millionths.
    pub drift: i64,
    /// Its wall clock minus the world's time.
    pub wall: u64,
}

impl Clock {
    /// The boot clock.
    pub fn tick(&self, at: u64) -> Tick {
        let passed = at.saturating_sub(self.booted);
        let drifted = passed as i64 + passed as i64 * self.drift / 1_000_000;
        Tick(self.offset + drifted as u64)
    }

    /// When the boot clock will read this, or a little later.
    pub fn when(&self, tick: Tick) -> u64 {
        let passed = tick.0.saturating_sub(self.offset) as i64;
        self.booted + (passed - passed * self.drift / 1_000_000) as u64 + 1
    }

    /// The wall clock.
    pub fn wall(&self, at: u64) -> Wall {
        Wall(self.wall + at)
    }
}

/// What outlives the agent.
#[derive(Debug, Default)]
pub struct Disk {
    /// The ledger's file.
    pub ledger: Option<String>,
    /// The route table's file.
    pub table: Option<RouteTable>,
    /// Nothing can be written.
    pub full: bool,
}

/// A machine.
pub struct Machine {
    /// Which node it is, once it has joined.
    pub node: Option<NodeId>,
    /// How many times it has joined; part of its name.
    pub joins: u32,
    /// What the agent is told.
    pub config: NodeConfig,
    /// What it has to give.
    pub capacity: Capacity,
    /// Its clocks.
    pub clock: Clock,
    /// Which boot it is.
    pub boot: BootId,
    /// What is written.
    pub disk: Disk,
    /// Its container engine.
    pub engine: Engine,
    /// Its proxies by process id.
    pub proxies: BTreeMap<u32, Proxy>,
    /// The next process id.
    pub next_pid: u32,
    /// The agent.
    pub agent: Option<Agent>,
    /// Where the agent shall die next.
    pub dies: Option<Dies>,
    /// Whether nothing comes from the controller, and nothing goes there.
    pub cut: (bool, bool),
}

impl Machine {
    /// A machine that has not joined yet.
    pub fn new(number: usize, clock: Clock, boot: BootId, capacity: Capacity) -> Machine {
        let config = NodeConfig {
            name: format!("node-{number}"),
            pool: Ipv4Addr::new(10, 201, 0, 0),
            pool_prefix: 16,
            subnet_prefix: 24,
            keep_images: Millis(20_000),
        };
        Machine {
            node: None,
            joins: 0,
            config,
            capacity,
            clock,
            boot,
            disk: Disk::default(),
            engine: Engine::default(),
            proxies: BTreeMap::new(),
            next_pid: 100,
            agent: None,
            dies: None,
            cut: (false, false),
        }
    }

    /// The instant of a decision.
    pub fn now(&self, at: u64) -> Now {
        Now { tick: self.clock.tick(at), boot: self.boot, wall: self.clock.wall(at) }
    }
}
