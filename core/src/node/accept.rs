//! A newer word of the controller comes into the ledger.

use crate::assignment::AssignmentSet;
use crate::ids::{BootId, ClusterId, NodeId};
use crate::message::Elsewhere;
use crate::node::ledger::{LEDGER_FORMAT, Ledger, NotAccepted, Replacement};
use crate::node::seen::{NodeConfig, Now};
use crate::routes::{ROUTES_FORMAT, RouteTable};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

impl Ledger {
    /// The memory of a node that has just joined.
    pub fn new(cluster: ClusterId, node: NodeId, boot: BootId, config: &NodeConfig) -> Ledger {
        Ledger {
            format: LEDGER_FORMAT,
            cluster,
            node,
            boot,
            generation: None,
            stop_absent: false,
            wanted: BTreeMap::new(),
            jobs: BTreeMap::new(),
            current: BTreeMap::new(),
            replacements: BTreeMap::new(),
            subnets: BTreeMap::new(),
            table: RouteTable { format: ROUTES_FORMAT, generation: 0, node: config.name.clone(), routes: Vec::new() },
            elsewhere: Vec::new(),
            strays: BTreeMap::new(),
        }
    }

    /// Takes a newer set in. Nothing follows from it here: `advance` compares what is wanted with what is.
    ///
    /// An ended replacement is forgotten when the set no longer wants its new job: the controller has read of it, or has
    /// decided something newer. One that failed and is still wanted stays, so that the agent neither tries it again nor
    /// forgets to report it.
    pub fn accept(&mut self, set: AssignmentSet, _now: Now) -> Result<(), NotAccepted> {
        if !self.is_newer(&set) {
            return Err(NotAccepted::Older);
        }
        self.generation = Some(set.generation);
        self.stop_absent = set.stop_absent;
        self.wanted = set.assignments.into_iter().map(|one| (one.slot.clone(), one)).collect();
        let wanted = &self.wanted;
        self.replacements.retain(|slot, one| {
            let still_wanted = |one: &Replacement| one.new.is_some() && wanted.get(slot).map(|w| w.job) == one.new;
            !one.phase.is_final() || still_wanted(one)
        });
        Ok(())
    }

    /// Takes in where the jobs of other nodes run. Says whether that changed anything.
    pub fn set_elsewhere(&mut self, elsewhere: Vec<Elsewhere>) -> bool {
        let changed = self.elsewhere != elsewhere;
        self.elsewhere = elsewhere;
        changed
    }
}
