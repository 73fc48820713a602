//! The loop over the cluster: what the controller decides.
//!
//! ```text
//! cluster.command(live, command, context)        an operator or a joining node asks      -> answer, or refusals
//! cluster.request(live, command, request, …)     the same, once, and if nothing changed   -> the same
//! cluster.hello / report / image_resolved / …    an agent says something                 -> services to look at
//! cluster.pass_time(live, context)               silence may mean something              -> services to look at
//! cluster.reconcile(live, service, context)      one service, towards what is wanted     -> questions, wake, waits
//! cluster.assignments(node)                      what follows for a node
//! ```
//!
//! All of them change only the records and the readings in memory. The rim takes `take_changes` and `take_events`, commits
//! them in one transaction, and only then answers and sends. When that fails it loads the store again.

mod alone;
mod apply;
mod assignments;
mod claims;
pub mod command;
mod deployment;
pub mod enter;
pub mod event;
mod evidence;
mod kept;
pub mod live;
mod membership;
mod moves;
pub mod one_offs;
mod operate;
pub mod paths;
mod pausing;
mod permit;
mod policies;
mod preparing;
mod queue;
mod quotas;
mod reconcile;
mod redeployable;
pub mod request;
mod resolve;
mod retry;
mod revert;
mod room;
pub mod rotation;
pub mod running;
mod sessions;
mod slots;
pub mod standing;
pub mod state;
pub mod status;
pub mod table;
pub mod tag;
#[cfg(test)]
mod tests;
mod tokens;
pub mod trial;
pub mod values;
mod wishes;

pub use assignments::Sent;
pub use permit::{At, Need, Needs};
pub use table::{Cluster, Key, One, Record, Stored};

use crate::access::Author;
use crate::assignment::ServicePath;
use crate::ids::{NodeId, ServiceId, SlotId};
use crate::message::ControllerWord;
use crate::reason::{Reason, Waiting};
use crate::time::{Tick, Wall};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// The instant and the author of a decision, and the ids that it may use.
#[derive(Debug)]
pub struct Context<'a> {
    /// For durations.
    pub tick: Tick,
    /// For tokens, certificates and display.
    pub wall: Wall,
    /// Who asked.
    pub author: Author,
    /// Where new ids come from.
    pub ids: &'a mut Ids,
}

impl Context<'_> {
    /// The name that the author goes by.
    pub fn by(&self) -> String {
        self.author.name().into()
    }
}

/// Ids that were minted at the rim: a row of them from one base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    next: u128,
}

impl Ids {
    /// The base is minted as an id is: 48 bits of milliseconds, then random bits. A rim that mints one base at its start
    /// and one now and then keeps ids sorted by age.
    pub const fn from_base(base: u128) -> Ids {
        Ids { next: base }
    }

    /// The next id's value.
    pub fn mint(&mut self) -> u128 {
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        id
    }
}

/// What follows from one look at one service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Followup {
    /// Words to send to nodes once the batch is committed: questions about images.
    pub asks: Vec<(NodeId, ControllerWord)>,
    /// When to look again even if nothing is heard.
    pub wake: Option<Tick>,
    /// What waits, and why.
    pub waits: Vec<Waiting>,
    /// Services that wait and may find room now, because this one has left some. To be looked at next.
    pub touched: Touched,
}

impl Followup {
    fn wait(&mut self, service: ServicePath, reason: Reason) {
        self.waits.push(Waiting { what: service.to_string(), reason });
    }

    fn wait_slot(&mut self, service: ServicePath, slot: &SlotId, reason: Reason) {
        self.waits.push(Waiting { what: format!("{service}: {}", paths::slot_word(slot)), reason });
    }
}

/// The services that a change touches, each once, in the order of their ids.
pub type Touched = alloc::collections::BTreeSet<ServiceId>;
