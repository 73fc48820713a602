//! The bridges of environments and the rules that keep them apart.
//!
//! A bridge counts as standing only with its rules: without them no job is started on it.

mod bridge;
pub mod nft;

pub use bridge::{Bridge, Bridges, NotOurs};

use crate::observe::View;
use crate::runtime::{Runtime, RuntimeError};
use lapstrake_core::ids::EnvironmentId;
use lapstrake_core::node::action::Subnet;
use lapstrake_core::node::seen;
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
    async fn stand(&self, bridges: &BTreeSet<Bridge>) -> Result<(), NftError> {
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
            let bridge = self.runtime.ensure_network(environment, subnet).await.map_err(NetworkError::Bridge)?;
            let mut bridges = self.standing().await?.own;
            bridges.insert(environment, bridge);
            fence.stand(&bridges.into_values().collect()).await.map_err(NetworkError::Rules)
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
        // From now on no job is started on it; where it stays after all, the next look says so.
        self.view.change(|seen| seen.networks.remove(&environment));
        match self.runtime.remove_network(environment).await {
            Ok(()) | Err(RuntimeError::NotThere(_)) => {}
            Err(error) => return Err(NetworkError::Bridge(error)),
        }
        self.view.change(|seen| seen.network_trouble.remove(&environment).is_some());
        let bridges = self.standing().await?.own;
        fence.stand(&bridges.into_values().collect()).await.map_err(NetworkError::Rules)
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
        // Its jobs have no rules, and nobody but a person can tell what the bridge is.
        self.view.trouble("bridges", bridges.trouble());
        let outcome = fence.stand(&bridges.own.values().cloned().collect()).await.map_err(NetworkError::Rules);
        for bridge in bridges.own.values() {
            turn_hairpin_on(bridge);
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
    async fn standing(&self) -> Result<Bridges, NetworkError> {
        let standing = self.runtime.networks().await.map_err(NetworkError::Bridge)?;
        let bridges = Some(seen::Bridges { own: standing.subnets.clone(), others: standing.others.clone() });
        self.view.change(|seen| {
            let changed = seen.bridges != bridges;
            seen.bridges = bridges;
            changed
        });
        Ok(standing)
    }
}

/// A port in hairpin mode sends a frame back where it came from; without it a job cannot reach itself through an address
/// that the kernel leads back to it. Ports come with every container, so this is part of the audit.
fn turn_hairpin_on(bridge: &Bridge) {
    let ports = Path::new("/sys/class/net").join(bridge.name()).join("brif");
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
