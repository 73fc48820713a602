//! A machine's container engine, with the processes that it runs. It outlives every agent.

use crate::images::Behaviour;
use lapstrake_core::assignment::RunSpec;
use lapstrake_core::ids::{EnvironmentId, JobId, NodeId, SlotId};
use lapstrake_core::node::action::Subnet;
use lapstrake_core::node::images::{HeldImage, Listing};
use lapstrake_core::node::seen::{Attempt, Bridges};
use lapstrake_core::time::Tick;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// Who ended a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It ended by itself, as its image does or as a fault wanted.
    Itself,
    /// It was told to.
    Told,
    /// Its machine was restarted.
    Machine,
}

/// How a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Made, not started.
    Created,
    /// Its process runs.
    Running,
    /// Its process has ended.
    Exited {
        /// With this code.
        code: i64,
        /// Whether at its memory limit.
        out_of_memory: bool,
        /// By whom.
        cause: Cause,
        /// When.
        at: u64,
    },
}

/// A container, as this engine has it. The name `Container` is what an agent sees of it.
#[derive(Debug, Clone)]
pub struct Vessel {
    /// How it is.
    pub state: State,
    /// Which slot its labels name.
    pub slot: SlotId,
    /// Which node they name: a machine that joined again is another one.
    pub owner: Option<NodeId>,
    /// Its address.
    pub address: Ipv4Addr,
    /// What it runs.
    pub run: RunSpec,
    /// What its process is like.
    pub behaviour: Behaviour,
    /// Different for every start, so that an end that was planned for one process does not end another.
    pub life: u64,
    /// When it was started.
    pub started: u64,
    /// When it begins to listen.
    pub listens: u64,
    /// From when it is sick, and until when.
    pub sick: Option<(u64, u64)>,
    /// When it first got its stop signal, in ticks of its machine.
    pub terminated: Option<u64>,
    /// Whether somebody started it again when it had ended.
    pub by_hand: bool,
    /// Whether its stop signal was the end of a job in good health: then nobody may send it a request any more.
    pub ended_in_health: bool,
}

impl Vessel {
    /// Whether its process runs.
    pub fn runs(&self) -> bool {
        self.state == State::Running
    }

    /// Whether it would answer its check.
    pub fn answers(&self, at: u64) -> bool {
        self.runs() && at >= self.listens && !self.is_sick(at)
    }

    /// Whether it is sick now.
    pub fn is_sick(&self, at: u64) -> bool {
        self.behaviour == Behaviour::Sick || self.sick.is_some_and(|(from, until)| at >= from && at < until)
    }

    /// Whether it ever was sick.
    pub fn was_sick(&self, at: u64) -> bool {
        self.behaviour == Behaviour::Sick || self.sick.is_some_and(|(from, _)| at >= from)
    }
}

/// The engine.
#[derive(Debug, Default)]
pub struct Engine {
    /// Whether it answers nobody.
    pub silent: bool,
    /// What it has.
    pub containers: BTreeMap<Attempt, Vessel>,
    /// Bridges, by the node that made them: a machine that joined again is another node. They outlive reboots.
    pub networks: BTreeMap<(NodeId, EnvironmentId), Subnet>,
    /// Images by the name that it is asked for.
    pub images: BTreeSet<String>,
}

impl Engine {
    /// Whether another running container has this one's address; only somebody's hand brings that about.
    pub fn address_in_use(&self, attempt: Attempt) -> bool {
        let Some(this) = self.containers.get(&attempt) else { return false };
        let mut others = self.containers.iter().filter(|(other, one)| **other != attempt && one.runs());
        others.any(|(_, one)| one.address == this.address && (one.by_hand || this.by_hand))
    }

    /// Whether a container is made of this image.
    pub fn is_used(&self, pinned: &str) -> bool {
        self.containers.values().any(|one| one.run.image.pinned() == pinned)
    }

    /// All images, each the only name of itself.
    pub fn list_images(&self, asked: Tick) -> Listing {
        let held = |pinned: &String| {
            let names = BTreeSet::from([pinned.clone()]);
            (pinned.clone(), HeldImage { names, in_use: self.is_used(pinned) })
        };
        Listing { asked, images: self.images.iter().map(held).collect() }
    }

    /// The bridges as a node sees them.
    pub fn bridges(&self, node: NodeId) -> Bridges {
        let mut bridges = Bridges::default();
        for ((owner, environment), subnet) in &self.networks {
            if *owner == node {
                bridges.own.insert(*environment, *subnet);
            } else {
                bridges.others.insert(*subnet);
            }
        }
        bridges
    }

    /// Makes a bridge, unless it stands; false when another one is in the way.
    pub fn make_bridge(&mut self, node: NodeId, environment: EnvironmentId, subnet: Subnet) -> bool {
        let key = (node, environment);
        let is_free = !self.networks.iter().any(|(other, stands)| *other != key && stands.overlaps(subnet));
        is_free && *self.networks.entry(key).or_insert(subnet) == subnet
    }

    /// The running container of a job.
    pub fn running(&self, job: JobId) -> Option<(&Attempt, &Vessel)> {
        self.of_job(job).find(|(_, one)| one.runs())
    }

    /// What runs in a slot by a node's doing, and not by somebody's hand.
    pub fn of_slot(&self, slot: &SlotId, node: Option<NodeId>) -> impl Iterator<Item = (&Attempt, &Vessel)> {
        self.containers
            .iter()
            .filter(move |(_, one)| one.slot == *slot && one.owner == node && one.runs() && !one.by_hand)
    }

    /// All containers of a job, oldest attempt first.
    pub fn of_job(&self, job: JobId) -> impl DoubleEndedIterator<Item = (&Attempt, &Vessel)> {
        self.containers.range(Attempt { job, number: 0 }..=Attempt { job, number: u32::MAX })
    }
}
