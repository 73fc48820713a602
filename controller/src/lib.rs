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
pub mod metrics;
pub mod store;
pub mod vault;

use api::Office;
use ca::{Ca, CaError, LiveTls, OwnFiles};
use config::Config;
use control::{Control, Limits, Sessions};
use engine::{CommandError, Engine, StartError};
use lapstrake_core::access::Author;
use lapstrake_core::cluster::One;
use lapstrake_core::cluster::command::Command;
use lapstrake_core::cluster::rotation::AuthorityCommand;
use lapstrake_core::cluster::state::Meta;
use lapstrake_core::ids::{ClusterId, EpochId};
use lapstrake_metrics::{Endpoint, Listener};
use lapstrake_pki::authority::{CLOCK_SKEW, Life};
use lapstrake_pki::mint;
use lapstrake_unit::Pulses;
use metrics::Metrics;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use store::{Store, StoreError};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use vault::{Vault, VaultError};

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
    /// The master keys.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The address at which Prometheus asks.
    #[error("the metrics cannot listen on {endpoint}")]
    Metrics {
        /// Where.
        endpoint: Endpoint,
        /// Why.
        #[source]
        source: std::io::Error,
    },
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
    /// Where Prometheus asks, if that is a loopback address.
    pub metrics: Option<SocketAddr>,
    /// The file with the first operator's token.
    pub first_token: PathBuf,
}

/// The store of a controller that is configured so.
pub fn store_file(config: &Config) -> PathBuf {
    config.state_dir.join("store.db")
}

/// Runs until `shutdown`. `ready` is told the addresses once both listeners take connections.
pub async fn run(config: Config, shutdown: CancellationToken, ready: impl FnOnce(&Addresses)) -> Result<(), RunError> {
    run_with_reload(config, shutdown, Arc::new(Notify::new()), ready).await
}

/// The same; each notification of `reload` reads the operators' own certificate again.
pub async fn run_with_reload(
    config: Config,
    shutdown: CancellationToken,
    reload: Arc<Notify>,
    ready: impl FnOnce(&Addresses),
) -> Result<(), RunError> {
    first::make_folder(&config.state_dir)?;
    let store = Store::open(&store_file(&config))?.keeping_events(config.events_kept);
    if store.is_restored() {
        tracing::warn!(
            "the store was restored: nodes go on running what it does not know, and stop nothing that is taken away, until \
             `lapstrake-controller accept-restored`"
        );
    }
    let event_log = store.event_log()?;
    let pulses = Pulses::default();
    let counted = Arc::new(Metrics::default());
    let new_cluster = || Meta {
        cluster: ClusterId(mint::id()),
        epoch: EpochId(mint::id()),
        organization: config.organization.clone(),
        domain: config.domain.clone(),
    };
    let (engine, engine_thread) = Engine::start(store, new_cluster, pulses.of("the single writer"), counted.clone())?;
    let meta = engine.look(|look| look.cluster.get::<Meta>(&One).cloned()).await.map_err(RunError::FirstToken)?;
    let meta = meta.ok_or(RunError::FirstToken(CommandError::Stopping))?;
    let ca = Arc::new(authority(&engine, &config, meta.cluster).await?);
    let vault = Arc::new(Vault::open(&config.state_dir, config.master_keys.as_deref(), meta.cluster)?);
    // What runs has its values already, and a value that cannot be sealed anew can still be opened.
    if let Err(error) = vault.begin(&engine).await {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "the master key's rotation was not ended; the next start tries again"
        );
    }
    let tls = LiveTls::with_own(ca.clone(), first::own_names(&config), own_files(&config))?;
    let first_token = first::operator_token(&engine, &config.state_dir, meta.cluster, ca.fingerprint()).await?;

    let (api_listener, api) = listen("the operators' port", config.api_listen).await?;
    let (control_listener, control) = listen("the agents' port", config.control_listen).await?;
    let metrics_listener = config.metrics_listen.as_ref().map(metrics_listener).transpose()?;
    let sessions = Sessions::new(config.tunnels);
    let office = Arc::new(Office {
        engine: engine.clone(),
        event_log: Mutex::new(event_log),
        sessions: sessions.clone(),
        cluster: meta.cluster,
        organization: meta.organization,
        ca: ca.clone(),
        control_address: config.control_address.clone().unwrap_or_else(|| first::own_address(control)),
        stopping: shutdown.clone(),
        rate: api::RateLimit::new(&config.rate),
        tunnel_idle_seconds: config.tunnels.idle_seconds,
        vault: vault.clone(),
        metrics: counted.clone(),
    });
    let control_port = Control {
        ca: ca.clone(),
        tls: tls.control.clone(),
        hub: Arc::new(engine.clone()),
        sessions: sessions.clone(),
        limits: Limits::default(),
        vault,
    };
    let addresses =
        Addresses { api, control, metrics: metrics_listener.as_ref().and_then(Listener::address), first_token };
    tracing::info!(cluster = %meta.cluster, api = %addresses.api, control = %addresses.control, "the controller runs");
    let status = format!("operators on {}, agents on {}", addresses.api, addresses.control);
    ready(&addresses);
    lapstrake_unit::ready(&status);
    let record = engine.authority();
    let mut engine_end = tokio::task::spawn_blocking(move || engine_thread.join());
    let serving = async {
        tokio::join!(
            api::serve(api_listener, tls.api.clone(), api::router(office), shutdown.clone()),
            control_port.serve(control_listener, shutdown.clone()),
            tls.keep_fresh(shutdown.clone()),
            shutdown.run_until_cancelled(follow_authority(&ca, &tls, &sessions, record)),
            shutdown.run_until_cancelled(reload_own(&tls, &reload, &status)),
            shutdown.run_until_cancelled(lapstrake_unit::watch(&pulses)),
            tell_metrics(metrics_listener, &counted, &engine, &ca, &tls, &shutdown),
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

fn metrics_listener(endpoint: &Endpoint) -> Result<Listener, RunError> {
    Listener::bind(endpoint).map_err(|source| RunError::Metrics { endpoint: endpoint.clone(), source })
}

async fn tell_metrics(
    listener: Option<Listener>,
    counted: &Arc<Metrics>,
    engine: &Engine,
    ca: &Ca,
    tls: &LiveTls,
    shutdown: &CancellationToken,
) {
    let Some(listener) = listener else { return };
    let rendered = counted.clone();
    tokio::join!(
        listener.serve(move || rendered.render(), shutdown.clone()),
        shutdown.run_until_cancelled(counted.keep_picture(engine, ca, tls)),
    );
}

/// The authority that the store names, or that of the first start.
async fn authority(engine: &Engine, config: &Config, cluster: ClusterId) -> Result<Ca, RunError> {
    let record = engine.authority().borrow().clone();
    let ca = match record {
        Some(record) => Ca::load(&config.state_dir, cluster, &record)?,
        None => {
            let ca = Ca::open(&config.state_dir, cluster)?;
            let adopt = Command::Authority(AuthorityCommand::Adopt(ca.root()?));
            engine.command(adopt, Author::FirstStart).await.map_err(RunError::FirstToken)?;
            ca
        }
    };
    let node_life = Life { back: CLOCK_SKEW, ahead: config.node_certificate_life() };
    Ok(ca.with_node_life(node_life))
}

fn own_files(config: &Config) -> Option<OwnFiles> {
    Some(OwnFiles { certificate: config.api_certificate.clone()?, key: config.api_key.clone()? })
}

/// Is what the store says of the authority: keys, certificates of the listeners, and what nodes are told to trust.
async fn follow_authority(
    ca: &Ca,
    tls: &LiveTls,
    sessions: &Sessions,
    mut record: watch::Receiver<Option<lapstrake_core::cluster::state::Authority>>,
) {
    while record.changed().await.is_ok() {
        let Some(now) = record.borrow_and_update().clone() else { continue };
        if let Err(error) = ca.follow(&now).and_then(|()| tls.renew()) {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the authority is not what the store says; start the controller again once that is mended"
            );
            continue;
        }
        sessions.tell_trust(&ca.trust_pem(), ca.signing());
        tracing::info!(root = %now.root.id, stage = now.rotation.map_or("one root", |it| it.stage.word()), "the authority");
    }
}

async fn reload_own(tls: &LiveTls, reload: &Notify, status: &str) {
    loop {
        reload.notified().await;
        lapstrake_unit::reloading();
        match tls.reload_own() {
            Ok(()) => tracing::info!("SIGHUP: the operators' own certificate was read again"),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "SIGHUP: nothing was changed; the certificate from before serves on"
                );
            }
        }
        lapstrake_unit::ready(status);
    }
}

async fn listen(what: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), RunError> {
    let refused = |source| RunError::Listen { what, address, source };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    Ok((listener, bound))
}
