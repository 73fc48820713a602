//! Lapstrake's controller: holds what people want, decides with `lapstrake_core::cluster`, and tells the agents.
//!
//! ```text
//! api      operators' HTTPS ─┐
//!                            ├─▶ engine ─▶ store
//! control  agents' gRPC ─────┘      │
//!    ▲                              │ newest assignment set
//!    └──────── outbox ◀─────────────┘
//! ```

pub mod api;
pub mod ca;
mod clock;
pub mod config;
pub mod control;
pub mod engine;
mod first;
mod hub;
pub mod store;

use api::Office;
use ca::{Ca, CaError, LiveTls};
use config::Config;
use control::{Control, Limits, Sessions};
use engine::{CommandError, Engine, StartError};
use lapstrake_core::cluster::One;
use lapstrake_core::cluster::state::Meta;
use lapstrake_core::ids::{ClusterId, EpochId};
use lapstrake_pki::mint;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use store::{Store, StoreError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Why the controller does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The state folder cannot be made or written.
    #[error("the state folder {path} cannot be used")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] StartError),
    /// The certificate authority.
    #[error("the certificate authority cannot be used")]
    Authority(#[from] CaError),
    /// The first operator's token.
    #[error("the first operator's token was not made")]
    FirstToken(#[source] CommandError),
    /// The engine's thread ended though nobody asked it to; the log says why.
    #[error("the engine has ended by itself; what was acknowledged is on disk, start the controller again")]
    EngineDied,
    /// A port.
    #[error("{what} cannot listen on {address}")]
    Listen {
        /// Which listener.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Where a running controller is reached, for who started it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// The operators' HTTPS.
    pub api: SocketAddr,
    /// The agents' gRPC.
    pub control: SocketAddr,
    /// The file with the first operator's token.
    pub first_token: PathBuf,
}

/// Runs until `shutdown`. `ready` is told the addresses once both listeners take connections.
pub async fn run(config: Config, shutdown: CancellationToken, ready: impl FnOnce(&Addresses)) -> Result<(), RunError> {
    first::make_folder(&config.state_dir)?;
    let store = Store::open(&config.state_dir.join("store.db"))?.keeping_events(config.events_kept);
    let event_log = store.event_log()?;
    let new_cluster = || Meta {
        cluster: ClusterId(mint::id()),
        epoch: EpochId(mint::id()),
        organization: config.organization.clone(),
        domain: config.domain.clone(),
    };
    let (engine, engine_thread) = Engine::start(store, new_cluster)?;
    let meta = engine.look(|look| look.cluster.get::<Meta>(&One).cloned()).await.map_err(RunError::FirstToken)?;
    let meta = meta.ok_or(RunError::FirstToken(CommandError::Stopping))?;
    let ca = Arc::new(Ca::open(&config.state_dir, meta.cluster)?);
    let names = first::own_names(&config);
    let tls = LiveTls::new(ca.clone(), names)?;
    let first_token = first::operator_token(&engine, &config.state_dir, meta.cluster, ca.fingerprint()).await?;

    let (api_listener, api) = listen("the operators' port", config.api_listen).await?;
    let (control_listener, control) = listen("the agents' port", config.control_listen).await?;
    let sessions = Sessions::new();
    let office = Arc::new(Office {
        engine: engine.clone(),
        event_log: Mutex::new(event_log),
        sessions: sessions.clone(),
        cluster: meta.cluster,
        organization: meta.organization,
        authority: ca.fingerprint(),
        control_address: config.control_address.clone().unwrap_or_else(|| first::own_address(control)),
        stopping: shutdown.clone(),
    });
    let control_port =
        Control { ca, tls: tls.control.clone(), hub: Arc::new(engine.clone()), sessions, limits: Limits::default() };
    let addresses = Addresses { api, control, first_token };
    tracing::info!(cluster = %meta.cluster, api = %addresses.api, control = %addresses.control, "the controller runs");
    ready(&addresses);
    let mut engine_end = tokio::task::spawn_blocking(move || engine_thread.join());
    let serving = async {
        tokio::join!(
            api::serve(api_listener, tls.api.clone(), api::router(office), shutdown.clone()),
            control_port.serve(control_listener, shutdown.clone()),
            tls.keep_fresh(shutdown.clone()),
        );
    };
    tokio::select! {
        () = serving => {}
        // Without its writer the controller can only refuse; whoever supervises it starts it again.
        _ = &mut engine_end => return Err(RunError::EngineDied),
    }
    // The last handle is gone with this one; the engine then ends, with everything that it answered on disk.
    drop(engine);
    match engine_end.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(RunError::EngineDied),
    }
}

async fn listen(what: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), RunError> {
    let refused = |source| RunError::Listen { what, address, source };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    Ok((listener, bound))
}
