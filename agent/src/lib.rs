//! Lapstrake's agent: makes a node run what the controller assigned to it, alone if need be.
//!
//! `engine` is the loop. `observe`, `probe` and `proxies` tell it what is; the decisions are `lapstrake_core::node`'s;
//! `ledger` remembers them; `execute` carries them out through `runtime`, `network` and `proxies`. `link` is what a session
//! with the controller uses of all this; `tunnel` carries an operator's stream to a job. `vault` seals the values that jobs get; `given` opens them for one attempt.

pub mod clock;
pub mod config;
pub mod doctor;
mod durable;
pub mod engine;
pub mod execute;
mod given;
mod grep;
mod health;
pub mod identity;
pub mod join;
pub mod ledger;
pub mod link;
pub mod memory_files;
pub mod metrics;
pub mod network;
pub mod observe;
pub mod probe;
pub mod proxies;
pub mod runtime;
pub mod session;
pub mod tls;
pub mod tunnel;
pub mod vault;

use clock::{Clock, ClockError};
use config::Config;
use engine::{Engine, EngineError, Machine};
use identity::{Identity, IdentityError};
use lapstrake_metrics::{Endpoint, Listener};
use lapstrake_pki::names::NodeIdentity;
use lapstrake_unit::Pulses;
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
    /// The address at which Prometheus asks.
    #[error("the metrics cannot listen on {endpoint}")]
    Metrics {
        /// Where.
        endpoint: Endpoint,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The engine could not begin.
    #[error("the agent cannot begin")]
    Engine(#[from] EngineError),
}

/// Runs the agent of a joined node on its Docker engine until `shutdown`. The jobs keep running.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), RunError> {
    let identity = Identity::load(&config.state_dir)?;
    let owner = Owner { cluster: identity.cluster, node: identity.node };
    let machine = Machine {
        runtime: Arc::new(DockerRuntime::new(&config.docker_host, owner).keeping(config.logs.clone())),
        fence: Fence::Nftables(Nft::new(&config.network.nft_table)),
    };
    run_on(config, identity, machine, shutdown).await
}

fn metrics_listener(endpoint: &Endpoint) -> Result<Listener, RunError> {
    Listener::bind(endpoint).map_err(|source| RunError::Metrics { endpoint: endpoint.clone(), source })
}

/// Runs the agent on a machine of the caller's, for tests in one process.
pub async fn run_on(
    config: Config,
    identity: Identity,
    machine: Machine,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let pulses = Pulses::default();
    let engine = Engine::open(&config, &identity, machine)?.beating(pulses.of("the engine's loop"));
    let own = NodeIdentity { cluster: identity.cluster, node: identity.node };
    let node = Node {
        credentials: Arc::new(Credentials::load(&config.state_dir, own)?),
        clock: Clock::of_this_boot()?,
        host: Arc::new(engine.link()),
        identity,
    };
    let link = engine.link();
    let commands = link.commands.clone();
    let metrics_listener = config.metrics_listen.as_ref().map(metrics_listener).transpose()?;
    let view = link.view.clone();
    let telling = async { tokio::join!(health::tell(view), lapstrake_unit::watch(&pulses)) };
    let (metrics, credentials, clock) = (engine.metrics(), node.credentials.clone(), node.clock);
    let asked = async {
        let Some(listener) = metrics_listener else { return };
        listener.serve(move || metrics.render(&link, &credentials, clock.tick()), shutdown.clone()).await;
    };
    tokio::join!(engine.run(shutdown.clone()), session::run(node, shutdown.clone()), asked, async {
        shutdown.run_until_cancelled(telling).await;
        lapstrake_unit::stopping("the jobs keep running");
    });
    // The end of the session has dropped all streams to jobs; what was begun for them is not left behind.
    commands.ended().await;
    Ok(())
}
