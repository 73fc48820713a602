//! Output of jobs on its way from an agent to a reader.
//!
//! The reader asks, the agent is told to call `StreamLogs`, and the call finds the reader by the request's id. Between
//! the two wait a few messages at most; a reader who does not read stops the agent's reading of Docker.

use lapstrake::convert::{LogsEnd, LogsEndReason, LogsWord};
use lapstrake_core::ids::{JobId, NodeId, RequestId};
use lapstrake_pki::mint;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Readers at once. Each may hold three messages of 256 KiB: 192 MiB in the worst case.
const READERS: usize = 256;
/// Messages between the call and the reader.
const MESSAGES: usize = 2;
/// From the question to the agent's call.
const OPENING_TIME: Duration = Duration::from_secs(10);

/// Why there is no output to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoLogs {
    /// The node is not connected.
    #[error("the node of this job has no session with the controller now")]
    NoSession,
    /// A limit is reached.
    #[error("too many log streams are open; close one and try again")]
    Busy,
}

/// The readers who wait for a call or have one.
#[derive(Default)]
pub(super) struct LogRequests {
    waiting: Mutex<HashMap<RequestId, Waiting>>,
}

struct Waiting {
    node: NodeId,
    job: JobId,
    /// Gone when a call has taken it.
    words: Option<mpsc::Sender<LogsWord>>,
}

/// One reader's stream. Dropping it ends the agent's call.
pub struct Logs {
    request: RequestId,
    words: mpsc::Receiver<LogsWord>,
    requests: Arc<LogRequests>,
    begun: bool,
    ended: bool,
}

impl LogRequests {
    pub(super) fn open(self: &Arc<Self>, node: NodeId, job: JobId) -> Result<Logs, NoLogs> {
        let mut waiting = self.lock();
        if waiting.len() >= READERS {
            return Err(NoLogs::Busy);
        }
        let request = RequestId(mint::id());
        let (sender, words) = mpsc::channel(MESSAGES);
        waiting.insert(request, Waiting { node, job, words: Some(sender) });
        Ok(Logs { request, words, requests: self.clone(), begun: false, ended: false })
    }

    /// Gives a node's call the way to its reader, once.
    pub(super) fn answer(&self, request: RequestId, node: NodeId, job: JobId) -> Option<mpsc::Sender<LogsWord>> {
        let mut all = self.lock();
        let waiting = all.get_mut(&request).filter(|waiting| waiting.node == node && waiting.job == job)?;
        waiting.words.take()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RequestId, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Logs {
    pub(super) fn request(&self) -> RequestId {
        self.request
    }

    /// The next lines, then one end, then nothing. A stream that breaks ends with a sentence that says so.
    pub async fn next(&mut self) -> Option<LogsWord> {
        if self.ended {
            return None;
        }
        let word = if self.begun {
            self.words.recv().await
        } else {
            match timeout(OPENING_TIME, self.words.recv()).await {
                Ok(word) => word,
                Err(_) => Some(broken("the node did not begin to send the output")),
            }
        };
        self.begun = true;
        let word = word.unwrap_or_else(|| broken("the stream from the node broke"));
        self.ended = matches!(word, LogsWord::End(_));
        Some(word)
    }
}

fn broken(said: &str) -> LogsWord {
    LogsWord::End(LogsEnd { reason: LogsEndReason::CannotRead, said: said.to_owned() })
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.requests.lock().remove(&self.request);
    }
}
