//! One accepted connection: who it is, how long it may be silent, and its place among the others.

use super::crowd::{Place, Suspect};
use lapstrake_core::time::Wall;
use lapstrake_pki::mint;
use lapstrake_pki::names::{NodeIdentity, Validity};
use lapstrake_pki::returning::{Binding, EXPORTER_LABEL};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

/// Who is at the other end, as the handshake proved it. tonic puts it into every request's extensions.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// From where it came.
    pub address: SocketAddr,
    /// The node and the end of its certificate; `None` without a certificate.
    pub node: Option<(NodeIdentity, Wall)>,
    /// What only the two ends of this connection can know; `None` when TLS gives none.
    pub binding: Option<Binding>,
    /// To be marked when it guesses.
    pub suspect: Suspect,
}

impl Peer {
    /// Reads the chain that the handshake has verified. An authority's certificate that names no node counts as none.
    pub(super) fn of(tls: &TlsStream<TcpStream>, address: SocketAddr) -> Peer {
        let leaf = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let node =
            leaf.and_then(|leaf| Some((NodeIdentity::from_certificate(leaf).ok()?, Validity::of(leaf)?.not_after)));
        let binding = tls.get_ref().1.export_keying_material(Binding::default(), EXPORTER_LABEL, None).ok();
        Peer { address, node, binding, suspect: Suspect::default() }
    }

    /// The node, as long as its certificate counts: a connection may be older.
    pub(super) fn node(&self) -> Option<NodeIdentity> {
        self.node_until(Wall(0))
    }

    /// The same for a node that has renewed its certificate since it opened the connection, until then.
    pub(super) fn node_until(&self, renewed: Wall) -> Option<NodeIdentity> {
        self.node.filter(|(_, until)| mint::wall() < (*until).max(renewed)).map(|(identity, _)| identity)
    }
}

/// A connection after its handshake. Reading from it fails when it was silent too long or had to make room.
pub(super) struct AgentStream {
    tls: TlsStream<TcpStream>,
    peer: Peer,
    /// A node's: until its first byte. Another one's: for its whole life, because it has one call to make.
    deadline: Option<Pin<Box<Sleep>>>,
    evicted: Pin<Box<WaitForCancellationFutureOwned>>,
    _place: Place,
}

impl AgentStream {
    pub(super) fn new(tls: TlsStream<TcpStream>, mut peer: Peer, silence: Duration, place: Place) -> AgentStream {
        peer.suspect = place.suspect();
        let evicted = Box::pin(place.evicted());
        AgentStream { tls, peer, deadline: Some(Box::pin(tokio::time::sleep(silence))), evicted, _place: place }
    }
}

impl Connected for AgentStream {
    type ConnectInfo = Peer;
    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for AgentStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.evicted.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "a newer connection took its place",
            )));
        }
        if let Some(deadline) = &mut this.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer was silent for too long")));
        }
        let read = Pin::new(&mut this.tls).poll_read(cx, buf);
        if read.is_ready() && this.peer.node.is_some() {
            this.deadline = None;
        }
        read
    }
}

impl AsyncWrite for AgentStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, bytes)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(cx, bytes)
    }
    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}
