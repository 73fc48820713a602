//! What follows from the records for one node.

use crate::assignment::AssignmentSet;
use crate::cluster::Cluster;
use crate::cluster::live::Live;
use crate::ids::NodeId;
use crate::message::Elsewhere;
use alloc::vec::Vec;

impl Cluster {
    /// All that a node should run. None for a node that is not there. To be sent after `Welcome`, and whenever the node's
    /// `generation` has changed in a committed batch.
    pub fn assignments(&self, node: NodeId, stop_absent: bool) -> Option<AssignmentSet> {
        let _ = (node, stop_absent);
        None
    }

    /// Where else jobs of public services run, for the node's proxy to name.
    pub fn elsewhere(&self, live: &Live, node: NodeId) -> Vec<Elsewhere> {
        let _ = (live, node);
        Vec::new()
    }
}
