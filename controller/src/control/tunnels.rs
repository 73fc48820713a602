//! Streams between operators and jobs, on the controller.
//!
//! As with logs, the operator asks, the agent is told to call `StreamTunnel`, and the call finds the operator by the request's
//! id, which nobody can guess and which counts for one call of one node about one job. Between the two wait a few words at
//! most in each direction; who does not read makes the other side wait.

use super::outbox::Outbox;
use crate::config::TunnelLimits;
use lapstrake::convert::{FromJob, ToJob, TunnelEnd, TunnelEndReason};
use lapstrake_core::ids::{JobId, NodeId, RequestId, TokenId};
use lapstrake_core::message::Way;
use lapstrake_pki::mint;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// Words between the call and the operator, in each direction: 64 KiB each way.
const WORDS: usize = 2;
/// From the question to the agent's call and its first word: a container engine under load takes some seconds to start a
/// command.
const OPENING_TIME: Duration = Duration::from_secs(30);

/// Why there is no stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoTunnel {
    /// The node is not connected.
    #[error("the node of this job has no session with the controller now")]
    NoSession,
    /// A limit is reached.
    #[error("{count} streams to jobs are open {whose}, which is the limit; close one and try again")]
    TooMany {
        /// How many.
        count: usize,
        /// `with this token`.
        whose: &'static str,
    },
}

/// The operators who wait for a call or have one.
#[derive(Default)]
pub(super) struct TunnelRequests {
    limits: TunnelLimits,
    waiting: Mutex<HashMap<RequestId, Waiting>>,
}

/// What a node's call gets: where its words go, and where the operator's come from.
type Ends = (mpsc::Sender<FromJob>, mpsc::Receiver<ToJob>);

struct Waiting {
    node: NodeId,
    job: JobId,
    token: TokenId,
    /// Gone when a call has taken them.
    ends: Option<Ends>,
}

/// A place for a stream that the node was not asked for yet. It is free again when it is dropped.
pub struct TunnelPlace(Tunnel);

/// An operator's end of a stream. Dropping its words ends the agent's call.
pub struct Tunnel {
    /// What the job says.
    pub words: TunnelWords,
    /// What is said to the job.
    pub asks: mpsc::Sender<ToJob>,
}

/// What the job says.
pub struct TunnelWords {
    request: RequestId,
    words: mpsc::Receiver<FromJob>,
    requests: Arc<TunnelRequests>,
    /// The way to the node, to say that nobody listens any more.
    outbox: Outbox,
    /// Until then the first word has to be there; none before the node was asked.
    opens_by: Option<Instant>,
    begun: bool,
    ended: bool,
}

impl TunnelRequests {
    pub(super) fn new(limits: TunnelLimits) -> TunnelRequests {
        TunnelRequests { limits, waiting: Mutex::default() }
    }

    pub(super) fn reserve(
        self: &Arc<Self>,
        node: NodeId,
        job: JobId,
        token: TokenId,
        outbox: Outbox,
    ) -> Result<TunnelPlace, NoTunnel> {
        let mut waiting = self.lock();
        let of_token = waiting.values().filter(|one| one.token == token).count();
        let of_node = waiting.values().filter(|one| one.node == node).count();
        let TunnelLimits { per_token, per_node, all, .. } = self.limits;
        for (count, limit, whose) in [
            (of_token, per_token, "with this token"),
            (of_node, per_node, "to this node"),
            (waiting.len(), all, "through this controller"),
        ] {
            if count >= limit {
                return Err(NoTunnel::TooMany { count, whose });
            }
        }
        let request = RequestId(mint::id());
        let (sender, words) = mpsc::channel(WORDS);
        let (asks, asked) = mpsc::channel(WORDS);
        waiting.insert(request, Waiting { node, job, token, ends: Some((sender, asked)) });
        let requests = self.clone();
        let words = TunnelWords { request, words, requests, outbox, opens_by: None, begun: false, ended: false };
        Ok(TunnelPlace(Tunnel { words, asks }))
    }

    /// Gives a node's call its ends, once.
    pub(super) fn answer(&self, request: RequestId, node: NodeId, job: JobId) -> Option<Ends> {
        let mut all = self.lock();
        let waiting = all.get_mut(&request).filter(|waiting| waiting.node == node && waiting.job == job)?;
        waiting.ends.take()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RequestId, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TunnelPlace {
    /// Asks the node for the stream. When its session has ended meanwhile, the stream says so.
    pub fn open(self, job: JobId, way: Way) -> Tunnel {
        let TunnelPlace(mut tunnel) = self;
        tunnel.words.opens_by = Some(Instant::now() + OPENING_TIME);
        tunnel.words.outbox.open_tunnel(tunnel.words.request, job, way);
        tunnel
    }
}

impl TunnelWords {
    /// The next word: a start, pieces, one end, then nothing. A stream that breaks ends with a sentence that says so. Waiting for
    /// it may be given up and begun anew; no word is lost.
    pub async fn next(&mut self) -> Option<FromJob> {
        if self.ended {
            return None;
        }
        let word = match self.opens_by.filter(|_| !self.begun) {
            None => self.words.recv().await,
            Some(opens_by) => tokio::select! {
                word = timeout_at(opens_by, self.words.recv()) => match word {
                    Ok(word) => word,
                    Err(_) => Some(broken("the node did not open the stream; is its agent an older version?")),
                },
                // Before the call there is nothing else that would notice: nobody is asked any more.
                _ = self.outbox.ended(), if !self.is_answered() => None,
            },
        };
        self.begun = true;
        let word = word.unwrap_or_else(|| broken("the stream from the node broke"));
        self.ended = matches!(word, FromJob::End(_));
        Some(word)
    }

    /// Whether the node's call has come.
    fn is_answered(&self) -> bool {
        self.requests.lock().get(&self.request).is_none_or(|waiting| waiting.ends.is_none())
    }
}

fn broken(said: &str) -> FromJob {
    FromJob::End(TunnelEnd { reason: TunnelEndReason::Failed, code: 0, said: said.to_owned() })
}

impl Drop for TunnelWords {
    fn drop(&mut self) {
        self.requests.lock().remove(&self.request);
        if !self.ended && self.opens_by.is_some() {
            // A session that is over ends all of its calls anyway.
            self.outbox.close_tunnel(self.request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::outbox::SessionOver;
    use super::*;

    fn requests(limits: TunnelLimits) -> Arc<TunnelRequests> {
        Arc::new(TunnelRequests::new(limits))
    }

    #[tokio::test]
    async fn a_stream_belongs_to_one_call_of_one_node_about_one_job() {
        let requests = requests(TunnelLimits::default());
        let (node, job, token) = (NodeId(1), JobId(2), TokenId(3));
        let tunnel = requests.reserve(node, job, token, Outbox::default()).expect("room");
        let request = tunnel.0.words.request;
        assert!(requests.answer(RequestId(request.0 + 1), node, job).is_none(), "another id");
        assert!(requests.answer(request, NodeId(9), job).is_none(), "another node");
        assert!(requests.answer(request, node, JobId(9)).is_none(), "another job");
        assert!(requests.answer(request, node, job).is_some());
        assert!(requests.answer(request, node, job).is_none(), "a second call");
        drop(tunnel);
        assert!(requests.lock().is_empty());
    }

    #[tokio::test]
    async fn a_stream_that_was_asked_for_when_its_session_was_over_says_so_at_once() {
        let requests = requests(TunnelLimits::default());
        let outbox = Outbox::default();
        let place = requests.reserve(NodeId(1), JobId(2), TokenId(3), outbox.clone()).expect("room");
        outbox.end(SessionOver::Gone);
        let mut tunnel = place.open(JobId(2), Way::Forward { port: 80 });
        let Some(FromJob::End(end)) = tunnel.words.next().await else { panic!("no end") };
        assert_eq!(end.said, "the stream from the node broke");
    }

    #[test]
    fn of_streams_there_are_so_many_for_a_token_for_a_node_and_in_all() {
        let limits = TunnelLimits { per_token: 2, per_node: 3, all: 4, ..TunnelLimits::default() };
        let requests = requests(limits);
        let open = |node, token| requests.reserve(NodeId(node), JobId(1), TokenId(token), Outbox::default());
        let refused = |whose| {
            Some(NoTunnel::TooMany {
                count: match whose {
                    "with this token" => 2,
                    "to this node" => 3,
                    _ => 4,
                },
                whose,
            })
        };
        let mut held = vec![open(1, 1).expect("room"), open(1, 1).expect("room")];
        assert_eq!(open(2, 1).err(), refused("with this token"));
        held.push(open(1, 2).expect("room"));
        assert_eq!(open(1, 2).err(), refused("to this node"));
        held.push(open(2, 2).expect("room"));
        assert_eq!(open(3, 3).err(), refused("through this controller"));
        held.pop();
        assert!(open(3, 3).is_ok(), "a place that is left is free again");
    }
}
