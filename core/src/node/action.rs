//! What the agent's rim is asked to do. Every action is safe to repeat, and is repeated until what is seen shows its
//! effect; the rim leaves out one that is still under way.

use crate::assignment::{BoundImage, RunSpec};
use crate::ids::{EnvironmentId, SlotId, ValueId};
use crate::node::images::Garbage;
use crate::node::reason::Reason;
use crate::node::seen::Attempt;
use crate::report::NodeReport;
use crate::spec::Check;
use crate::time::Tick;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use serde::{Deserialize, Serialize};

/// The subnet of an environment's bridge on this node. The first host address is the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Subnet {
    /// The network's address.
    pub base: Ipv4Addr,
    /// The prefix length.
    pub prefix: u8,
}

/// One step at the rim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make the environment's bridge with its rules, if it does not stand. Then `Seen::networks` names it.
    EnsureNetwork {
        /// Whose.
        environment: EnvironmentId,
        /// Which addresses.
        subnet: Subnet,
    },
    /// Remove the environment's bridge and rules; no job is left on it.
    RemoveNetwork {
        /// Whose.
        environment: EnvironmentId,
    },
    /// Get the image. Then `Seen::images` tells how it went.
    Pull {
        /// Which.
        image: BoundImage,
        /// The credentials for its registry, among the ledger's values.
        login: Option<ValueId>,
    },
    /// Take away a name of an image that this agent has brought and that nothing needs, and the image with it if it has no
    /// other. Then `Seen::listing` does not have it.
    RemoveImage {
        /// What it was got as, as `BoundImage::pinned`.
        pinned: String,
        /// What the engine calls it.
        name: String,
        /// The engine's id of the image.
        id: String,
        /// Why, for people.
        why: Garbage,
    },
    /// Make the container, unless it is there, and start it. Then `Seen::containers` tells how it went. On a name that is
    /// taken, a corpse of our own is removed and the call repeated.
    Run {
        /// Which container.
        attempt: Attempt,
        /// For labels.
        slot: SlotId,
        /// Its static address.
        address: Ipv4Addr,
        /// The subnet that it lies in.
        subnet: Subnet,
        /// What runs.
        run: Box<RunSpec>,
    },
    /// Ask the checks of a running attempt, from now until `Unwatch`; readings go to `Seen::checks`.
    Watch {
        /// Which container.
        attempt: Attempt,
        /// Where it listens.
        address: Ipv4Addr,
        /// What to ask.
        checks: Vec<Check>,
        /// Whether they were all good once: then the grace time after the start is over, whoever asks now.
        was_good: bool,
    },
    /// Stop asking and forget the readings.
    Unwatch {
        /// Which container.
        attempt: Attempt,
    },
    /// Send the image's stop signal. Then `terminated` is seen.
    Terminate {
        /// Which container.
        attempt: Attempt,
    },
    /// Send SIGKILL.
    Kill {
        /// Which container.
        attempt: Attempt,
    },
    /// Remove a container that does not run, with its anonymous volumes.
    Remove {
        /// Which container.
        attempt: Attempt,
    },
    /// Write `Ledger::table` to the file and send it to every proxy that has not acknowledged it.
    PublishTable,
}

impl Action {
    /// The word that the simulator counts.
    pub const fn word(&self) -> &'static str {
        match self {
            Action::EnsureNetwork { .. } => "ensure-network",
            Action::RemoveNetwork { .. } => "remove-network",
            Action::Pull { .. } => "pull",
            Action::RemoveImage { .. } => "remove-image",
            Action::Run { .. } => "run",
            Action::Watch { .. } => "watch",
            Action::Unwatch { .. } => "unwatch",
            Action::Terminate { .. } => "terminate",
            Action::Kill { .. } => "kill",
            Action::Remove { .. } => "remove",
            Action::PublishTable => "publish-table",
        }
    }
}

/// What follows from a ledger and what is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What to do, in this order where it matters.
    pub actions: Vec<Action>,
    /// When to decide again even if nothing changes.
    pub wake: Option<Tick>,
    /// What waits, and why.
    pub waits: Vec<(SlotId, Reason)>,
    /// The picture for the controller.
    pub report: NodeReport,
}
