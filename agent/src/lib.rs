//! Lapstrake's agent: makes a node run what the controller assigned to it, alone if need be.
//!
//! `engine` is the loop. `observe`, `probe` and `proxies` tell it what is; the decisions are `lapstrake_core::node`'s;
//! `ledger` remembers them; `execute` carries them out through `runtime`, `network` and `proxies`. `link` is what a session
//! with the controller uses of all this. `vault` seals the values that jobs get; `given` opens them for one attempt.

pub mod clock;
pub mod config;
mod durable;
pub mod engine;
pub mod execute;
mod given;
pub mod identity;
pub mod join;
pub mod ledger;
pub mod link;
pub mod memory_files;
pub mod network;
pub mod observe;
pub mod probe;
pub mod proxies;
pub mod runtime;
pub mod session;
pub mod tls;
pub mod vault;

use clock::{Clock, ClockError};
use config::Config;
use engine::{Engine, EngineError, Machine};
use identity::{Identity, IdentityError};
use lapstrake_pki::names::NodeIdentity;
use network::{Fence, nft::Nft};
use runtime::{Owner, docker::DockerRuntime};
use session::Node;
use std::sync::Arc;
use tls::{Credentials, CredentialsError};
use tokio_util::sync::CancellationToken;

/// Why the agent ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The node does not know who it is.
    #[error("this node's identity is not known")]
    Identity(#[from] IdentityError),
    /// The key and the certificate that joining wrote.
    #[error("this node's key and certificate cannot be used")]
    Credentials(#[from] CredentialsError),
    /// The machine's clocks.
    #[error("the machine has no clock")]
    Clock(#[from] ClockError),
    /// The engine could not begin.
    #[error("the agent cannot begin")]
    Engine(#[from] EngineError),
}

/// Runs the agent of a joined node on its Docker engine until `shutdown`. The jobs keep running.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), RunError> {
    let identity = Identity::load(&config.state_dir)?;
    let owner = Owner { cluster: identity.cluster, node: identity.node };
    let machine = Machine {
        runtime: Arc::new(DockerRuntime::new(&config.docker_host, owner)),
        fence: Fence::Nftables(Nft::new(&config.network.nft_table)),
    };
    run_on(config, identity, machine, shutdown).await
}

/// Runs the agent on a machine of the caller's, for tests in one process.
pub async fn run_on(
    config: Config,
    identity: Identity,
    machine: Machine,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let engine = Engine::open(&config, &identity, machine)?;
    let own = NodeIdentity { cluster: identity.cluster, node: identity.node };
    let node = Node {
        credentials: Arc::new(Credentials::load(&config.state_dir, own)?),
        clock: Clock::of_this_boot()?,
        host: Arc::new(engine.link()),
        identity,
    };
    // A unit that waits for the agent may go on; without systemd nobody listens.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tokio::join!(engine.run(shutdown.clone()), session::run(node, shutdown));
    Ok(())
}
