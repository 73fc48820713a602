//! The streams of one session between operators and jobs: each a call of its own, in a bounded number, dropped with the session.

use super::host::Host;
use crate::tunnel::Operator;
use lapstrake::convert::{FromJob, ToJob};
use lapstrake::v1::agent_service_client::AgentServiceClient;
use lapstrake::{limits, v1};
use lapstrake_core::ids::{JobId, RequestId};
use lapstrake_core::message::Way;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

/// Streams at once: more than a controller gives a node, and a bound where a controller knows none. A stream's place at the
/// controller is free as soon as that has heard its end, and its next one may be asked for while the call still ends here.
pub(crate) const TUNNELS: usize = limits::TUNNELS + limits::TUNNELS / 4;

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
    calls: Calls,
}

/// Calls in a bounded number.
#[derive(Default)]
struct Calls {
    running: JoinSet<RequestId>,
    open: HashMap<RequestId, AbortHandle>,
}

impl<H: Host> Tunnels<H> {
    pub(crate) fn new(host: Arc<H>, client: AgentServiceClient<Channel>) -> Tunnels<H> {
        Tunnels { host, client, calls: Calls::default() }
    }

    /// Opens a `StreamTunnel` call. Over the bound none is opened; the operator sees that and is told.
    pub(crate) fn open(&mut self, wish: TunnelWish) {
        let (host, client) = (self.host.clone(), self.client.clone());
        let (request, job) = (wish.request, wish.job);
        let is_opened = self.calls.begin(request, async move {
            if let Err(status) = carry(host, client, wish).await {
                tracing::debug!(%request, %job, %status, "a stream to a job broke");
            }
        });
        if !is_opened {
            tracing::warn!(%request, "too many streams to jobs at once; this one is not opened");
        }
    }

    /// Ends a call, and with it what was begun for it.
    pub(crate) fn close(&mut self, request: RequestId) {
        self.calls.end(request);
    }
}

impl Calls {
    /// Carries a call out, if there is a place for it.
    fn begin(&mut self, request: RequestId, call: impl Future<Output = ()> + Send + 'static) -> bool {
        while let Some(ended) = self.running.try_join_next() {
            match ended {
                Ok(request) => drop(self.open.remove(&request)),
                Err(error) if error.is_cancelled() => {}
                Err(error) => tracing::error!(%error, "a stream to a job failed"),
            }
        }
        self.open.retain(|_, call| !call.is_finished());
        // One that was told to end is not open any more, though it may be dropped a moment later.
        if self.open.len() >= TUNNELS {
            return false;
        }
        let call = self.running.spawn(async move {
            call.await;
            request
        });
        self.open.insert(request, call);
        true
    }

    fn end(&mut self, request: RequestId) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    #[tokio::test]
    async fn a_place_is_free_as_soon_as_its_stream_is_told_to_end() {
        let mut calls = Calls::default();
        let all = || (1..=TUNNELS as u128).map(RequestId);
        assert!(all().all(|request| calls.begin(request, pending())));
        assert!(!calls.begin(RequestId(0), pending()), "no place is left");
        // Words of the controller that came together: nothing is waited for between them.
        all().for_each(|request| calls.end(request));
        assert!(all().all(|request| calls.begin(RequestId(request.0 + 1000), pending())));
    }

    #[tokio::test]
    async fn a_stream_that_the_controller_lets_in_has_a_place_while_those_before_it_still_end() {
        let mut calls = Calls::default();
        // Those of one operator have ended for the controller, and their calls have not.
        let let_in = (limits::TUNNELS + 16) as u128;
        assert!((1..=let_in).all(|request| calls.begin(RequestId(request), pending())));
    }
}
