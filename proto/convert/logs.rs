//! A job's output. It is no decision, so core has no words for it; these are the edge's own.

use super::field::{self, Malformed, Why, id_bytes, list, sentence};
use super::spec::{mirror, value};
use crate::{limits, v1};
use lapstrake_core::ids::{JobId, RequestId};
use lapstrake_core::time::Wall;

/// One word about a job's output: one opening, any number of lines, one end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogsWord {
    /// First, once: which request of `SendLogs` this answers.
    Opening {
        /// The request.
        request: RequestId,
        /// Whose output.
        job: JobId,
    },
    /// Oldest first; at most [`limits::LOG_CHUNK_BYTES`] of text.
    Lines(Vec<LogLine>),
    /// Last, once.
    End(LogsEnd),
}

/// A line as the job wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Where it was written.
    pub source: LogSource,
    /// When the engine read it, by its clock: the same whenever the line is asked for.
    pub at: Wall,
    /// The bytes without the line's end, at most [`limits::LOG_LINE_BYTES`]; not always UTF-8.
    pub text: Vec<u8>,
}

/// Where a line was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogSource {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Why there are no more lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogsEnd {
    /// The reason.
    pub reason: LogsEndReason,
    /// What the engine said when it could not go on, else empty.
    pub said: String,
}

/// Why there are no more lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogsEndReason {
    /// All was sent: the job has ended, or the end was reached and nobody wanted to follow.
    Complete,
    /// The node has no container of this job (any more).
    UnknownJob,
    /// The engine did not give the output.
    CannotRead,
}

mirror!(LogSource { Stdout, Stderr });
mirror!(LogsEndReason { Complete, UnknownJob, CannotRead });

impl From<LogsWord> for v1::StreamLogsRequest {
    fn from(ours: LogsWord) -> Self {
        use v1::stream_logs_request::Word;
        let word = match ours {
            LogsWord::Opening { request, job } => {
                Word::Opening(v1::LogsOpening { request_id: id_bytes(request.0), job_id: id_bytes(job.0) })
            }
            LogsWord::Lines(lines) => Word::Lines(v1::LogLines { lines: lines.into_iter().map(Into::into).collect() }),
            LogsWord::End(end) => {
                Word::End(v1::LogsEnd { reason: v1::LogsEndReason::from(end.reason).into(), said: sentence(end.said) })
            }
        };
        v1::StreamLogsRequest { word: Some(word) }
    }
}

impl TryFrom<v1::StreamLogsRequest> for LogsWord {
    type Error = Malformed;
    fn try_from(wire: v1::StreamLogsRequest) -> Result<Self, Malformed> {
        use v1::stream_logs_request::Word;
        Ok(match wire.word.ok_or_else(|| Malformed::new("word", Why::Missing))? {
            Word::Opening(opening) => LogsWord::Opening {
                request: RequestId(field::id("opening.request_id", &opening.request_id)?),
                job: JobId(field::id("opening.job_id", &opening.job_id)?),
            },
            Word::Lines(wire) => LogsWord::Lines(lines(wire)?),
            Word::End(end) => {
                LogsWord::End(LogsEnd { reason: value("end.reason", end.reason)?, said: sentence(end.said) })
            }
        })
    }
}

fn lines(wire: v1::LogLines) -> Result<Vec<LogLine>, Malformed> {
    let lines: Vec<LogLine> = list("lines.lines", wire.lines, limits::LOG_LINES)?;
    field::length("lines", lines.iter().map(|line| line.text.len()).sum(), limits::LOG_CHUNK_BYTES)?;
    Ok(lines)
}

impl From<LogLine> for v1::LogLine {
    fn from(ours: LogLine) -> Self {
        v1::LogLine { source: v1::LogSource::from(ours.source).into(), at_ms: ours.at.0, text: ours.text }
    }
}

impl TryFrom<v1::LogLine> for LogLine {
    type Error = Malformed;
    fn try_from(wire: v1::LogLine) -> Result<Self, Malformed> {
        field::length("text", wire.text.len(), limits::LOG_LINE_BYTES)?;
        Ok(LogLine { source: value("source", wire.source)?, at: Wall(wire.at_ms), text: wire.text })
    }
}
