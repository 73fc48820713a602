//! The bridges of environments and the rules that keep them apart.
//!
//! A bridge counts as standing only with its rules: without them no job is started on it.

pub mod nft;

use crate::observe::View;
use crate::runtime::{Runtime, RuntimeError, Standing};
use lapstrake_core::ids::{EnvironmentId, NodeId};
use lapstrake_core::node::action::Subnet;
use lapstrake_core::node::seen::Bridges;
use nft::{Nft, NftError};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::MissedTickBehavior;

/// Between two audits. Somebody who flushes all rules opens the fence for so long at most.
const AUDIT_PERIOD: Duration = Duration::from_secs(10);

/// After the engine failed. A restarting engine is back within a few seconds.
const PAUSE: Duration = Duration::from_secs(1);

/// Why an environment has no network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The bridge.
    #[error("the bridge cannot be made: {0}")]
    Bridge(#[source] RuntimeError),
    /// The rules.
    #[error("the rules that keep environments apart cannot be set: {0}")]
    Rules(#[source] NftError),
}

/// What keeps environments apart.
pub enum Fence {
    /// A table of nftables.
    Nftables(Nft),
    /// Nothing: for a runtime whose jobs have no network.
    Open,
}

impl Fence {
    async fn stand(&self, bridges: &BTreeSet<String>) -> Result<(), NftError> {
        match self {
            Fence::Nftables(nft) => nft.stand(bridges).await,
            Fence::Open => Ok(()),
        }
    }
}

/// Bridges and rules of one node.
pub struct Networks {
    runtime: Arc<dyn Runtime>,
    view: View,
    /// One at a time, from the list of bridges to the picture: rules made from an older list would leave a newer bridge
    /// open.
    fence: Mutex<Fence>,
}

impl Networks {
    /// Bridges of this runtime behind this fence.
    pub fn new(runtime: Arc<dyn Runtime>, view: View, fence: Fence) -> Self {
        Networks { runtime, view, fence: Mutex::new(fence) }
    }

    /// The bridge stands with its rules, and the picture says so; or it says why not.
    pub async fn ensure(&self, environment: EnvironmentId, subnet: Subnet) -> Result<(), NetworkError> {
        let fence = self.fence.lock().await;
        let made = async {
            let interface = self.runtime.ensure_network(environment, subnet).await.map_err(NetworkError::Bridge)?;
            let mut interfaces = interfaces(&self.standing().await?);
            interfaces.insert(interface);
            fence.stand(&interfaces).await.map_err(NetworkError::Rules)
        };
        let outcome = made.await;
        if outcome.is_err() {
            // What is in the way may have come since the last look; with it in the picture another subnet can be chosen. An
            // engine that does not answer is told by the observer of containers.
            let _ = self.standing().await;
        }
        self.view.change(|seen| match &outcome {
            Ok(()) => {
                seen.network_trouble.remove(&environment);
                seen.networks.insert(environment)
            }
            Err(error) => {
                let said = error.to_string();
                seen.networks.remove(&environment)
                    | (seen.network_trouble.insert(environment, said.clone()) != Some(said))
            }
        });
        outcome
    }

    /// The bridge is gone, and with it its rules.
    pub async fn remove(&self, environment: EnvironmentId) -> Result<(), NetworkError> {
        let fence = self.fence.lock().await;
        match self.runtime.remove_network(environment).await {
            Ok(()) | Err(RuntimeError::NotThere(_)) => {}
            Err(error) => return Err(NetworkError::Bridge(error)),
        }
        self.view.change(|seen| {
            seen.network_trouble.remove(&environment);
            seen.networks.remove(&environment)
        });
        let standing = self.standing().await?;
        fence.stand(&interfaces(&standing)).await.map_err(NetworkError::Rules)
    }

    /// Compares bridges and rules with what they should be and repairs the rules, until it is dropped.
    pub async fn watch(&self) {
        let mut period = tokio::time::interval(AUDIT_PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            period.tick().await;
            match self.audit().await {
                Ok(()) => self.view.trouble("rules", None),
                // The engine's silence is told by the observer of containers. No subnet is chosen before it has told the
                // bridges, so it is asked again soon.
                Err(NetworkError::Bridge(_)) => period.reset_after(PAUSE),
                Err(error @ NetworkError::Rules(_)) => self.view.trouble("rules", Some(error.to_string())),
            }
        }
    }

    async fn audit(&self) -> Result<(), NetworkError> {
        let fence = self.fence.lock().await;
        let bridges = self.standing().await?;
        let outcome = fence.stand(&interfaces(&bridges)).await.map_err(NetworkError::Rules);
        for bridge in bridges.own.values() {
            turn_hairpin_on(&bridge.interface);
        }
        let standing: BTreeSet<EnvironmentId> =
            if outcome.is_ok() { bridges.own.into_keys().collect() } else { BTreeSet::new() };
        self.view.change(|seen| {
            let changed = seen.networks != standing;
            seen.networks = standing;
            changed
        });
        outcome
    }

    /// The bridges that stand, which the picture learns too.
    async fn standing(&self) -> Result<Standing, NetworkError> {
        let standing = self.runtime.networks().await.map_err(NetworkError::Bridge)?;
        let own = standing.own.iter().filter_map(|(environment, bridge)| Some((*environment, bridge.subnet?)));
        let bridges = Some(Bridges { own: own.collect(), others: standing.others.clone() });
        self.view.change(|seen| {
            let changed = seen.bridges != bridges;
            seen.bridges = bridges;
            changed
        });
        Ok(standing)
    }
}

fn interfaces(standing: &Standing) -> BTreeSet<String> {
    standing.own.values().map(|bridge| bridge.interface.clone()).collect()
}

/// The interface of an environment's bridge. The kernel allows 15 bytes. Ids begin with the time of their birth, which
/// environments made together share, so the name comes from their random ends; the node is in it because several agents
/// may share a kernel.
pub fn bridge_name(node: NodeId, environment: EnvironmentId) -> String {
    const KEPT: usize = 11;
    let text = EnvironmentId(node.0 ^ environment.0).to_string();
    format!("lap{}", &text[text.len() - KEPT..])
}

/// A port in hairpin mode sends a frame back where it came from; without it a job cannot reach itself through an address
/// that the kernel leads back to it. Ports come with every container, so this is part of the audit.
fn turn_hairpin_on(bridge: &str) {
    let ports = Path::new("/sys/class/net").join(bridge).join("brif");
    let Ok(entries) = std::fs::read_dir(&ports) else { return };
    for entry in entries.flatten() {
        let switch = entry.path().join("hairpin_mode");
        if std::fs::read_to_string(&switch).is_ok_and(|mode| mode.trim() == "0")
            && let Err(error) = std::fs::write(&switch, "1")
        {
            tracing::debug!(%error, path = %switch.display(), "hairpin mode cannot be set");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environments_that_were_made_in_the_same_millisecond_get_bridges_of_their_own() {
        let time = 0x0193_4c5a_0000_u128 << 80;
        let names: BTreeSet<String> =
            (1..=3).map(|n| bridge_name(NodeId(time | 99), EnvironmentId(time | n))).collect();
        assert_eq!(names.len(), 3);
        assert!(names.iter().all(|name| name.len() <= 15));
    }
}
