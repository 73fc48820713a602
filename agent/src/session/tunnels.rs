//! The streams of one session between operators and jobs: each a call of its own, in a bounded number, dropped with the session.

use super::host::Host;
use crate::tunnel::Operator;
use lapstrake::convert::{FromJob, ToJob};
use lapstrake::v1;
use lapstrake::v1::agent_service_client::AgentServiceClient;
use lapstrake_core::ids::{JobId, RequestId};
use lapstrake_core::message::Way;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

/// Streams at once. The controller gives a node at most as many; this bears it out where a controller does not.
pub(crate) const TUNNELS: usize = 64;

/// Words between a job and the wire, in each direction. The rest waits where it comes from.
const WORDS: usize = 2;

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TunnelWish {
    pub request: RequestId,
    pub job: JobId,
    pub way: Way,
}

/// The streams of one session.
pub(crate) struct Tunnels<H> {
    host: Arc<H>,
    client: AgentServiceClient<Channel>,
    running: JoinSet<RequestId>,
    open: HashMap<RequestId, AbortHandle>,
}

impl<H: Host> Tunnels<H> {
    pub(crate) fn new(host: Arc<H>, client: AgentServiceClient<Channel>) -> Tunnels<H> {
        Tunnels { host, client, running: JoinSet::new(), open: HashMap::new() }
    }

    /// Opens a `StreamTunnel` call. Over the bound none is opened; the operator sees that and is told.
    pub(crate) fn open(&mut self, wish: TunnelWish) {
        while let Some(ended) = self.running.try_join_next() {
            match ended {
                Ok(request) => drop(self.open.remove(&request)),
                Err(error) if error.is_cancelled() => {}
                Err(error) => tracing::error!(%error, "a stream to a job failed"),
            }
        }
        self.open.retain(|_, call| !call.is_finished());
        if self.running.len() >= TUNNELS {
            tracing::warn!(request = %wish.request, "too many streams to jobs at once; this one is not opened");
            return;
        }
        let (host, client) = (self.host.clone(), self.client.clone());
        let (request, job) = (wish.request, wish.job);
        let call = self.running.spawn(async move {
            if let Err(status) = carry(host, client, wish).await {
                tracing::debug!(%request, %job, %status, "a stream to a job broke");
            }
            request
        });
        self.open.insert(request, call);
    }

    /// Ends a call, and with it what was begun for it.
    pub(crate) fn close(&mut self, request: RequestId) {
        if let Some(call) = self.open.remove(&request) {
            call.abort();
        }
    }
}

/// One call from its opening to its end, or until the controller wants no more.
async fn carry<H: Host>(
    host: Arc<H>,
    mut client: AgentServiceClient<Channel>,
    wish: TunnelWish,
) -> Result<(), tonic::Status> {
    let (sender, outgoing) = mpsc::channel::<v1::StreamTunnelRequest>(WORDS);
    let opening = FromJob::Opening { request: wish.request, job: wish.job };
    // There is room: it is the first.
    let _ = sender.try_send(opening.into());
    let mut heard = client.stream_tunnel(ReceiverStream::new(outgoing)).await?.into_inner();
    let (asks, asked) = mpsc::channel(WORDS);
    let (words, mut said) = mpsc::channel::<FromJob>(WORDS);
    let hearing = async move {
        loop {
            let word = match heard.message().await?.map(ToJob::try_from) {
                None => return Ok(()),
                Some(Err(error)) if error.is_unknown_word() => continue,
                Some(Err(error)) => return Err(tonic::Status::invalid_argument(error.to_string())),
                Some(Ok(word)) => word,
            };
            // When the job's side has ended, what is still said to it is not heard; its own last word is on its way.
            let _ = asks.send(word).await;
        }
    };
    let saying = async {
        let forward = async {
            while let Some(word) = said.recv().await {
                if sender.send(word.into()).await.is_err() {
                    return;
                }
            }
        };
        let (end, ()) = tokio::join!(host.tunnel(wish.job, wish.way, Operator { words, asked }), forward);
        let _ = sender.send(FromJob::End(end).into()).await;
        sender
    };
    tokio::pin!(hearing);
    tokio::select! {
        // The controller has ended it: whoever asked is gone, or may not go on.
        ended = &mut hearing => ended,
        sender = saying => {
            // The words are on their way; the controller ends the call when it has taken the last.
            drop(sender);
            hearing.await
        }
    }
}
