//! Who has a session now: at most one for each node.

use super::logs::{LogRequests, Logs, NoLogs};
use super::outbox::{Outbox, SessionOver};
use super::tunnels::{NoTunnel, TunnelPlace, TunnelRequests};
use crate::config::TunnelLimits;
use lapstrake_core::ids::{JobId, NodeId, SessionId, TokenId};
use lapstrake_core::message::LogRange;
use lapstrake_core::root::RootId;
use lapstrake_core::time::Wall;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OwnedMutexGuard;

/// The sessions of all nodes. Made before the engine and the listener, and given to both.
#[derive(Default)]
pub struct Sessions {
    seats: Mutex<HashMap<NodeId, Arc<Seat>>>,
    pub(super) logs: Arc<LogRequests>,
    pub(super) tunnels: Arc<TunnelRequests>,
}

/// A node's place. It stays when the session ends; there are as many as nodes that ever had a session with this process.
#[derive(Default)]
struct Seat {
    /// Held from a hello to its answer, so that of two hellos of one node the one that the hub answered last is the one
    /// that stays.
    order: Arc<tokio::sync::Mutex<()>>,
    live: Mutex<Option<(SessionId, Outbox)>>,
    /// The end of the newest certificate that this process gave the node.
    certified: Mutex<Wall>,
}

/// A node's turn to open a session.
pub(super) struct Turn {
    seat: Arc<Seat>,
    _order: OwnedMutexGuard<()>,
}

impl Sessions {
    /// None yet.
    pub fn new(tunnels: TunnelLimits) -> Arc<Sessions> {
        Arc::new(Sessions { tunnels: Arc::new(TunnelRequests::new(tunnels)), ..Sessions::default() })
    }

    /// Asks a node for the output of one of its jobs.
    pub fn logs(&self, node: NodeId, job: JobId, range: LogRange, grep: Option<String>) -> Result<Logs, NoLogs> {
        let (_, outbox) =
            self.seat(node).live().filter(|(_, outbox)| outbox.over().is_none()).ok_or(NoLogs::NoSession)?;
        let logs = self.logs.open(node, job)?;
        outbox.send_logs(logs.request(), job, range, grep).map_err(|_| NoLogs::Busy)?;
        Ok(logs)
    }

    /// A place for a stream to one of a node's jobs, for the holder of a token. The node is asked when the place is used.
    pub fn tunnel(&self, node: NodeId, job: JobId, token: TokenId) -> Result<TunnelPlace, NoTunnel> {
        let (_, outbox) =
            self.seat(node).live().filter(|(_, outbox)| outbox.over().is_none()).ok_or(NoTunnel::NoSession)?;
        self.tunnels.reserve(node, job, token, outbox)
    }

    /// Tells every node whom to trust from now on.
    pub fn tell_trust(&self, trust: &str, issuer: RootId) {
        for (_, outbox) in self.all().iter().filter_map(|seat| seat.live()) {
            outbox.trust(trust.to_owned(), issuer);
        }
    }

    /// A node was given a certificate that ends then. Its open session may last as long.
    pub(super) fn certify(&self, node: NodeId, until: Wall) {
        let seat = self.seat(node);
        let mut certified = seat.certified.lock().unwrap_or_else(PoisonError::into_inner);
        *certified = (*certified).max(until);
    }

    /// When the newest certificate ends that this process gave a node; long ago when it gave none.
    pub(super) fn certified_until(&self, node: NodeId) -> Wall {
        *self.seat(node).certified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session that a node has now.
    pub(super) fn of(&self, node: NodeId) -> Option<Outbox> {
        self.seat(node).live().map(|(_, outbox)| outbox)
    }

    /// Ends all sessions, because the controller stops.
    pub(super) fn end_all(&self) {
        for (_, outbox) in self.all().iter().filter_map(|seat| seat.live()) {
            outbox.end(SessionOver::Stopping);
        }
    }

    pub(super) async fn turn(&self, node: NodeId) -> Turn {
        let seat = self.seat(node);
        let order = seat.order.clone().lock_owned().await;
        Turn { seat, _order: order }
    }

    /// Forgets a session that has ended, if it is still the node's.
    pub(super) fn leave(&self, node: NodeId, session: SessionId) {
        let seat = self.seat(node);
        let mut live = seat.live.lock().unwrap_or_else(PoisonError::into_inner);
        if live.as_ref().is_some_and(|(present, _)| *present == session) {
            *live = None;
        }
    }

    fn all(&self) -> Vec<Arc<Seat>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn seat(&self, node: NodeId) -> Arc<Seat> {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        seats.entry(node).or_default().clone()
    }
}

impl Seat {
    fn live(&self) -> Option<(SessionId, Outbox)> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Turn {
    /// Makes this session the node's, and ends the one before.
    pub(super) fn take(self, session: SessionId, outbox: Outbox) {
        let earlier = self.seat.live.lock().unwrap_or_else(PoisonError::into_inner).replace((session, outbox));
        if let Some((_, earlier)) = earlier {
            earlier.end(SessionOver::Superseded);
        }
    }
}
