//! One look at one service: from what is, a step towards what is wanted.

use crate::cluster::live::Live;
use crate::cluster::{Cluster, Context, Followup};
use crate::ids::ServiceId;

impl Cluster {
    /// Goes as far as it can. A second look at the same instant changes nothing.
    pub fn reconcile(&mut self, live: &mut Live, service: ServiceId, cx: &mut Context<'_>) -> Followup {
        let _ = (live, service, cx);
        Followup::default()
    }
}
