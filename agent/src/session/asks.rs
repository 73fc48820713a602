//! What the controller asks a node in a session: the meaning of an image, the output of a job. Each question is worked
//! on beside the session, in a bounded number, and dropped with it.

use super::host::Host;
use lapstrake::convert::{LogLine, LogsEnd, LogsEndReason, LogsWord};
use lapstrake::v1::agent_service_client::AgentServiceClient;
use lapstrake::{limits, v1};
use lapstrake_core::ids::{JobId, RequestId, ValueId};
use lapstrake_core::message::{AgentWord, LogRange};
use lapstrake_core::spec::ImageSource;
use lapstrake_core::values::GivenValue;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

/// Questions worked on at once. The controller has at most 64 waiting for a node; a registry that hangs must not hold
/// up the others, and more at once would only be more load on the same Docker.
pub(crate) const QUESTIONS: usize = 64;

/// Batches of lines between Docker and the wire. The reader's slowness goes back to Docker, which then waits too.
const BATCHES: usize = 2;

/// Whose output, and how much of it.
#[derive(Debug, Clone)]
pub(crate) struct LogsWish {
    pub request: RequestId,
    pub job: JobId,
    pub range: LogRange,
    pub grep: Option<String>,
}

/// The questions of one session.
pub(crate) struct Asks<H> {
    host: Arc<H>,
    client: AgentServiceClient<Channel>,
    answers: mpsc::Sender<AgentWord>,
    running: JoinSet<()>,
}

impl<H: Host> Asks<H> {
    pub(crate) fn new(host: Arc<H>, client: AgentServiceClient<Channel>, answers: mpsc::Sender<AgentWord>) -> Asks<H> {
        Asks { host, client, answers, running: JoinSet::new() }
    }

    /// Answers with `ImageResolved` when the meaning is known. Over the bound the question is left without an answer;
    /// the controller takes that for a no when its time is over.
    pub(crate) fn resolve(&mut self, request: RequestId, image: ImageSource, login: Option<(ValueId, GivenValue)>) {
        if !self.has_room() {
            tracing::warn!(%request, "too many questions at once; this one gets no answer");
            return;
        }
        let (host, answers) = (self.host.clone(), self.answers.clone());
        self.running.spawn(async move {
            let outcome = host.resolve_image(image, login).await;
            // A closed channel is a session that has ended, and the answer with it.
            let _ = answers.send(AgentWord::ImageResolved { request, outcome }).await;
        });
    }

    /// Opens a `StreamLogs` call. Over the bound no call is opened; the reader sees that and is told.
    pub(crate) fn send_logs(&mut self, wish: LogsWish) {
        if !self.has_room() {
            tracing::warn!(request = %wish.request, "too many questions at once; these logs are not sent");
            return;
        }
        let (host, client) = (self.host.clone(), self.client.clone());
        self.running.spawn(async move {
            let (request, job) = (wish.request, wish.job);
            if let Err(status) = stream_logs(host, client, wish).await {
                tracing::debug!(%request, %job, %status, "a log stream broke");
            }
        });
    }

    fn has_room(&mut self) -> bool {
        while let Some(ended) = self.running.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "a question of the controller failed");
            }
        }
        self.running.len() < QUESTIONS
    }
}

/// One call from its opening to its end, or until the controller wants no more.
async fn stream_logs<H: Host>(
    host: Arc<H>,
    mut client: AgentServiceClient<Channel>,
    wish: LogsWish,
) -> Result<(), tonic::Status> {
    let (words, outgoing) = mpsc::channel::<v1::StreamLogsRequest>(BATCHES);
    let reading = async move {
        let end = read_logs(host, wish, &words).await;
        let _ = words.send(LogsWord::End(end).into()).await;
        drop(words);
        // The answer ends the call.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = client.stream_logs(ReceiverStream::new(outgoing)) => answer.map(|_| ()),
        () = reading => Ok(()),
    }
}

async fn read_logs<H: Host>(host: Arc<H>, wish: LogsWish, words: &mpsc::Sender<v1::StreamLogsRequest>) -> LogsEnd {
    let left = LogsEnd { reason: LogsEndReason::Complete, said: String::new() };
    if words.send(LogsWord::Opening { request: wish.request, job: wish.job }.into()).await.is_err() {
        return left;
    }
    let (sender, mut lines) = mpsc::channel(BATCHES);
    let forward = async {
        while let Some(batch) = lines.recv().await {
            for chunk in chunks(batch) {
                if words.send(LogsWord::Lines(chunk).into()).await.is_err() {
                    return;
                }
            }
        }
    };
    // The sender is gone when the reading has ended, and then the forwarding ends after the last line.
    let (end, ()) = tokio::join!(host.logs(wish.job, wish.range, wish.grep, sender), forward);
    end
}

/// Cuts a batch at the limits of one message.
fn chunks(lines: Vec<LogLine>) -> Vec<Vec<LogLine>> {
    let mut chunks: Vec<Vec<LogLine>> = Vec::new();
    let mut bytes = 0;
    for line in lines {
        let room = chunks.last().is_some_and(|chunk| chunk.len() < limits::LOG_LINES)
            && bytes + line.text.len() <= limits::LOG_CHUNK_BYTES;
        if !room {
            chunks.push(Vec::new());
            bytes = 0;
        }
        bytes += line.text.len();
        if let Some(chunk) = chunks.last_mut() {
            chunk.push(line);
        }
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapstrake::convert::LogSource;
    use lapstrake_core::time::Wall;

    #[test]
    fn a_batch_of_lines_is_cut_at_the_limits_of_the_wire() {
        let line = |bytes| LogLine { source: LogSource::Stdout, at: Wall(0), text: vec![b'x'; bytes] };
        let sizes = |lines| chunks(lines).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(vec![line(limits::LOG_LINE_BYTES); 40]), [16, 16, 8]);
        assert_eq!(sizes(vec![line(0); limits::LOG_LINES + 1]), [limits::LOG_LINES, 1]);
        assert!(sizes(Vec::new()).is_empty());
    }
}
