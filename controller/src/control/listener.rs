//! The door of the agents' port: accepts, shakes hands, and hands over who came.
//!
//! The loop never ends by an error of accepting (a process without free descriptors would otherwise be deaf for ever) and
//! never waits for a peer: a handshake is worked on beside it, has a time limit, and makes room when too many are under
//! way. Behind the door nodes and strangers go different ways, because a stranger has exactly one thing to ask.

use super::Limits;
use super::connection::{AgentStream, Peer};
use super::crowd::{Crowd, Place};
use arc_swap::ArcSwap;
use lapstrake_core::ids::NodeId;
use rustls::ServerConfig;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

/// How long to wait when no connection can be accepted, for example because all descriptors are in use.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where connections go after their handshake.
#[derive(Clone)]
pub(super) struct Ways {
    pub nodes: mpsc::Sender<io::Result<AgentStream>>,
    pub strangers: mpsc::Sender<io::Result<AgentStream>>,
}

/// The places that connections take.
struct Door {
    tls: Arc<ArcSwap<ServerConfig>>,
    limits: Limits,
    handshakes: Arc<Crowd>,
    strangers: Arc<Crowd>,
    nodes: Mutex<HashMap<NodeId, Arc<Crowd>>>,
    ways: Ways,
}

/// Accepts for ever.
pub(super) async fn accept(listener: TcpListener, tls: Arc<ArcSwap<ServerConfig>>, limits: Limits, ways: Ways) {
    let door = Arc::new(Door {
        tls,
        handshakes: Crowd::new(limits.handshakes),
        strangers: Crowd::new(limits.strangers),
        nodes: Mutex::default(),
        limits,
        ways,
    });
    loop {
        match listener.accept().await {
            Ok((tcp, address)) => {
                let place = door.handshakes.enter(address.ip());
                tokio::spawn(door.clone().let_in(tcp, address, place));
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "no connection of an agent can be accepted; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether only the connection that was to be accepted is at fault.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

impl Door {
    async fn let_in(self: Arc<Self>, tcp: TcpStream, address: SocketAddr, place: Place) {
        // Words are small and urgent.
        let _ = tcp.set_nodelay(true);
        let handshake = TlsAcceptor::from(self.tls.load_full()).accept(tcp);
        let shaken = tokio::select! {
            shaken = tokio::time::timeout(self.limits.handshake_time, handshake) => shaken,
            () = place.evicted() => return,
        };
        drop(place);
        match shaken {
            Ok(Ok(tls)) => self.hand_over(tls, address).await,
            Ok(Err(error)) => tracing::debug!(%address, %error, "a handshake failed"),
            Err(_) => tracing::debug!(%address, "a handshake took too long"),
        }
    }

    async fn hand_over(&self, tls: tokio_rustls::server::TlsStream<TcpStream>, address: SocketAddr) {
        let peer = Peer::of(&tls, address);
        let (crowd, silence, way) = match peer.node() {
            Some(identity) => (self.crowd_of(identity.node), self.limits.first_word_time, &self.ways.nodes),
            None => (self.strangers.clone(), self.limits.stranger_time, &self.ways.strangers),
        };
        let stream = AgentStream::new(tls, peer, silence, crowd.enter(address.ip()));
        // Nobody takes it when the controller stops.
        let _ = way.send(Ok(stream)).await;
    }

    /// The connections of one node. There are as many of these as nodes that ever came.
    fn crowd_of(&self, node: NodeId) -> Arc<Crowd> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.entry(node).or_insert_with(|| Crowd::new(self.limits.connections_of_a_node)).clone()
    }
}
