//! The agents' port: how machines become nodes and how nodes keep in touch.
//!
//! ```text
//! listener    accepts, shakes hands, sorts nodes from strangers
//! enrolment   Enrol, AskReturn for strangers, Renew for nodes -> hub, ca
//! pace        guessing, slowed
//! session     OpenSession: hello, welcome, words both ways -> hub; StreamLogs -> its reader;
//!             StreamTunnel <-> its operator
//! outbox      what waits for one agent: the newest of everything
//! hub         what the engine does for it; all decisions are behind that
//! ```
//!
//! Nothing here knows the store, and no generated type leaves this folder.

mod connection;
mod crowd;
mod enrolment;
mod hub;
mod listener;
mod logs;
mod outbox;
mod pace;
mod session;
mod sessions;
mod tunnels;

pub use hub::{Applicant, EnrolRefusal, Enrolled, HelloRefusal, Hub, Terms};
pub use logs::{Logs, NoLogs};
pub use outbox::{NotAsked, Outbox, SessionOver};
pub use sessions::Sessions;
pub use tunnels::{NoTunnel, Tunnel, TunnelPlace, TunnelWords};

use crate::ca::Ca;
use crate::vault::Vault;
use arc_swap::ArcSwap;
use connection::{AgentStream, Peer};
use enrolment::EnrolmentDesk;
use lapstrake::limits;
use lapstrake::v1::agent_service_server::AgentServiceServer;
use lapstrake::v1::enrolment_service_server::EnrolmentServiceServer;
use lapstrake_core::cluster::standing::HelloRefused;
use lapstrake_core::ids::{ClusterId, NodeId};
use lapstrake_core::time::Wall;
use listener::Ways;
use rustls::ServerConfig;
use session::AgentDesk;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Status};

/// Streams of one node's connection: its session, a renewal, the output of 64 jobs and 64 streams to jobs, with room to spare.
const STREAMS_OF_A_NODE: u32 = 144;
/// What waits of one stream that nobody reads.
const STREAM_WINDOW_BYTES: u32 = 64 << 10;
/// What waits of all of them. Streams without readers must not close the connection's window, or the heartbeats would
/// stand still behind somebody's logs.
const NODE_WINDOW_BYTES: u32 = STREAM_WINDOW_BYTES * (STREAMS_OF_A_NODE + 1);
/// All header fields of a request; ours have a few hundred bytes.
const HEADER_LIST_BYTES: u32 = 8 << 10;
/// Streams that a peer opened and reset before they were looked at: the "rapid reset" of CVE-2023-44487.
const PENDING_RESETS: usize = 20;
/// How often a silent connection is asked for a sign of life, and how long the answer may take.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TIME: Duration = Duration::from_secs(5);
/// How long open calls may take to end when the controller stops.
const STOP_TIME: Duration = Duration::from_secs(2);
/// Connections between the door and gRPC, which takes them at once.
const CONNECTIONS_ON_THE_WAY: usize = 16;

/// How much of everything the port bears.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Handshakes under way.
    pub handshakes: usize,
    /// From the connection to the end of the handshake.
    pub handshake_time: Duration,
    /// Connections without a certificate.
    pub strangers: usize,
    /// The life of a connection without a certificate: it has one call to make.
    pub stranger_time: Duration,
    /// Connections of one node: its session, the one that replaces it, a renewal, and one to spare.
    pub connections_of_a_node: usize,
    /// From the handshake, and again from the beginning of a call, to a node's first word.
    pub first_word_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            handshakes: 64,
            handshake_time: Duration::from_secs(5),
            strangers: 64,
            stranger_time: Duration::from_secs(20),
            connections_of_a_node: 4,
            first_word_time: Duration::from_secs(5),
        }
    }
}

/// What the port is served with.
pub struct Control<H> {
    /// The authority, for certificates.
    pub ca: Arc<Ca>,
    /// The newest TLS configuration: `LiveTls::control`.
    pub tls: Arc<ArcSwap<ServerConfig>>,
    /// The engine.
    pub hub: Arc<H>,
    /// The sessions, which the engine also has.
    pub sessions: Arc<Sessions>,
    /// How much of everything.
    pub limits: Limits,
    /// The master keys, for what is opened on its way to a node.
    pub vault: Arc<Vault>,
}

impl<H: Hub> Control<H> {
    /// Serves the port until the shutdown, then ends the sessions and returns.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) {
        let (nodes, from_nodes) = mpsc::channel(CONNECTIONS_ON_THE_WAY);
        let (strangers, from_strangers) = mpsc::channel(CONNECTIONS_ON_THE_WAY);
        let accepting = listener::accept(listener, self.tls.clone(), self.limits, Ways { nodes, strangers });
        let serving = async {
            tokio::join!(
                self.serve_nodes(from_nodes, shutdown.clone()),
                self.serve_strangers(from_strangers, shutdown.clone())
            )
        };
        let stopped = async {
            shutdown.cancelled().await;
            self.sessions.end_all();
            tokio::time::sleep(STOP_TIME).await;
        };
        tokio::select! {
            () = accepting => {}
            ((), ()) = serving => {}
            () = stopped => {}
        }
    }

    async fn serve_nodes(&self, connections: mpsc::Receiver<io::Result<AgentStream>>, shutdown: CancellationToken) {
        let desk = AgentDesk {
            ca: self.ca.clone(),
            hub: self.hub.clone(),
            sessions: self.sessions.clone(),
            limits: self.limits,
            vault: self.vault.clone(),
        };
        let served = server(STREAMS_OF_A_NODE, NODE_WINDOW_BYTES)
            .add_service(AgentServiceServer::new(desk).max_decoding_message_size(limits::CONTROLLER_DECODES_BYTES))
            .add_service(self.enrolment())
            .serve_with_incoming_shutdown(ReceiverStream::new(connections), shutdown.cancelled())
            .await;
        log_end(served);
    }

    async fn serve_strangers(&self, connections: mpsc::Receiver<io::Result<AgentStream>>, shutdown: CancellationToken) {
        let served = server(1, STREAM_WINDOW_BYTES)
            .add_service(self.enrolment())
            .serve_with_incoming_shutdown(ReceiverStream::new(connections), shutdown.cancelled())
            .await;
        log_end(served);
    }

    fn enrolment(&self) -> EnrolmentServiceServer<EnrolmentDesk<H>> {
        let desk = EnrolmentDesk {
            ca: self.ca.clone(),
            hub: self.hub.clone(),
            sessions: self.sessions.clone(),
            pace: Arc::default(),
        };
        EnrolmentServiceServer::new(desk).max_decoding_message_size(limits::ENROLMENT_DECODES_BYTES)
    }
}

fn server(streams: u32, connection_window_bytes: u32) -> Server {
    Server::builder()
        .max_concurrent_streams(streams)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(connection_window_bytes)
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIME))
        .http2_max_header_list_size(HEADER_LIST_BYTES)
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS))
        .http2_max_local_error_reset_streams(Some(PENDING_RESETS))
}

fn log_end(served: Result<(), tonic::transport::Error>) {
    if let Err(error) = served {
        tracing::error!(error = &error as &dyn std::error::Error, "the agents' port is not served any more");
    }
}

/// The node that calls, or why it may not: the certificate must be this cluster's, still count, and name a node that the
/// hub admits. `renewed` is until when a newer certificate of the node counts, for calls on a connection that is older.
fn caller<T, H: Hub>(
    request: &Request<T>,
    cluster: ClusterId,
    hub: &H,
    renewed: impl FnOnce(NodeId) -> Wall,
) -> Result<NodeId, Status> {
    let peer = request.extensions().get::<Peer>();
    let until = peer.and_then(|peer| peer.node).map_or(Wall(0), |(identity, _)| renewed(identity.node));
    let identity = peer
        .and_then(|peer| peer.node_until(until))
        .filter(|identity| identity.cluster == cluster)
        .ok_or_else(|| Status::unauthenticated("this call needs a node's certificate that has not expired"))?;
    match hub.refuses(identity.node) {
        Some(refused) => Err(status_of(refused)),
        None => Ok(identity.node),
    }
}

/// For calls that must show a certificate that counts by itself: what opens a session or gets another certificate.
fn not_renewed(_: NodeId) -> Wall {
    Wall(0)
}

fn status_of(refused: HelloRefused) -> Status {
    let said = refused.to_string();
    match refused {
        HelloRefused::UnknownNode | HelloRefused::Revoked => Status::unauthenticated(said),
        HelloRefused::OtherCluster { .. } => Status::permission_denied(said),
        HelloRefused::Twins => Status::failed_precondition(said),
        HelloRefused::NoCluster => Status::unavailable(said),
    }
}
