//! A stream between an operator and a job. Like a job's output it is no decision, so its words are the edge's own.

use super::field::{self, Malformed, Why, id_bytes, sentence, texts};
use super::logs::LogSource;
use super::spec::{mirror, value};
use crate::{limits, v1};
use lapstrake_core::cluster::enter::COMMAND_WORDS;
use lapstrake_core::ids::{JobId, RequestId};
use lapstrake_core::message::{ControllerWord, Exec, TerminalSize, Way};

/// One word from a job to the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromJob {
    /// First, once: which request of `OpenTunnel` this answers.
    Opening {
        /// The request.
        request: RequestId,
        /// Which job.
        job: JobId,
    },
    /// The command runs, or the connection is open.
    Started,
    /// Bytes, at most [`limits::TUNNEL_PIECE_BYTES`].
    Output {
        /// Where they were written.
        source: LogSource,
        /// As they are.
        piece: Vec<u8>,
    },
    /// The job's side says no more; it still hears.
    OutputEnd,
    /// Last, once.
    End(TunnelEnd),
}

/// One word from the operator to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToJob {
    /// Bytes, at most [`limits::TUNNEL_PIECE_BYTES`].
    Input(Vec<u8>),
    /// The operator's side says no more; it still hears.
    InputEnd,
    /// The operator's terminal has another size.
    Resize(TerminalSize),
    /// To be sent to the command.
    Signal(SignalKind),
}

/// A signal that people send to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalKind {
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

/// How a stream to a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelEnd {
    /// The reason.
    pub reason: TunnelEndReason,
    /// The command's exit code, where there is one.
    pub code: i64,
    /// What was said when it did not work, else empty.
    pub said: String,
}

/// How a stream to a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelEndReason {
    /// The command has ended.
    Exited,
    /// The command was not started.
    NotStarted,
    /// Both sides of the connection have said all.
    Closed,
    /// The node has no running container of this job.
    UnknownJob,
    /// It did not work, or broke.
    Failed,
}

mirror!(SignalKind { Interrupt, Terminate });
mirror!(TunnelEndReason { Exited, NotStarted, Closed, UnknownJob, Failed });

impl From<TerminalSize> for v1::TerminalSize {
    fn from(ours: TerminalSize) -> Self {
        v1::TerminalSize { columns: ours.columns.into(), rows: ours.rows.into() }
    }
}

impl TryFrom<v1::TerminalSize> for TerminalSize {
    type Error = Malformed;
    fn try_from(wire: v1::TerminalSize) -> Result<Self, Malformed> {
        let fit = |name: &str, wire: u32| {
            let out = Why::OutOfBounds { is: wire.into(), least: 0, most: u16::MAX.into() };
            u16::try_from(wire).map_err(|_| Malformed::new(name, out))
        };
        Ok(TerminalSize { columns: fit("columns", wire.columns)?, rows: fit("rows", wire.rows)? })
    }
}

pub(super) fn wish(request: RequestId, job: JobId, way: Way) -> v1::OpenTunnel {
    use v1::open_tunnel::Way as Wire;
    let way = match way {
        Way::Exec(Exec { command, input, terminal }) => {
            Wire::Exec(v1::ExecWish { command, input, terminal: terminal.map(Into::into) })
        }
        Way::Forward { port } => Wire::Forward(v1::ForwardWish { port: port.into() }),
    };
    v1::OpenTunnel { request_id: id_bytes(request.0), job_id: id_bytes(job.0), way: Some(way) }
}

pub(super) fn wished(wire: v1::OpenTunnel) -> Result<ControllerWord, Malformed> {
    use v1::open_tunnel::Way as Wire;
    let way = match wire.way.ok_or_else(|| Malformed::new("way", Why::Missing))? {
        Wire::Exec(exec) => {
            if exec.command.is_empty() {
                return Err(Malformed::new("exec.command", Why::Empty));
            }
            Way::Exec(Exec {
                command: texts("exec.command", exec.command, COMMAND_WORDS, field::argument)?,
                input: exec.input,
                terminal: field::optional("exec.terminal", exec.terminal)?,
            })
        }
        Wire::Forward(forward) => Way::Forward { port: field::port("forward.port", forward.port)? },
    };
    Ok(ControllerWord::OpenTunnel {
        request: RequestId(field::id("request_id", &wire.request_id)?),
        job: JobId(field::id("job_id", &wire.job_id)?),
        way,
    })
}

fn piece(field: &str, wire: Vec<u8>) -> Result<Vec<u8>, Malformed> {
    field::length(field, wire.len(), limits::TUNNEL_PIECE_BYTES)?;
    Ok(wire)
}

impl From<FromJob> for v1::StreamTunnelRequest {
    fn from(ours: FromJob) -> Self {
        use v1::stream_tunnel_request::Word;
        let word = match ours {
            FromJob::Opening { request, job } => {
                Word::Opening(v1::TunnelOpening { request_id: id_bytes(request.0), job_id: id_bytes(job.0) })
            }
            FromJob::Started => Word::Started(v1::TunnelStarted {}),
            FromJob::Output { source, piece } => {
                Word::Output(v1::TunnelOutput { source: v1::LogSource::from(source).into(), piece })
            }
            FromJob::OutputEnd => Word::OutputEnd(v1::TunnelOutputEnd {}),
            FromJob::End(TunnelEnd { reason, code, said }) => Word::End(v1::TunnelEnd {
                reason: v1::TunnelEndReason::from(reason).into(),
                code,
                said: sentence(said),
            }),
        };
        v1::StreamTunnelRequest { word: Some(word) }
    }
}

impl TryFrom<v1::StreamTunnelRequest> for FromJob {
    type Error = Malformed;
    fn try_from(wire: v1::StreamTunnelRequest) -> Result<Self, Malformed> {
        use v1::stream_tunnel_request::Word;
        Ok(match wire.word.ok_or_else(|| Malformed::new("word", Why::Missing))? {
            Word::Opening(opening) => FromJob::Opening {
                request: RequestId(field::id("opening.request_id", &opening.request_id)?),
                job: JobId(field::id("opening.job_id", &opening.job_id)?),
            },
            Word::Started(v1::TunnelStarted {}) => FromJob::Started,
            Word::Output(output) => FromJob::Output {
                source: value("output.source", output.source)?,
                piece: piece("output.piece", output.piece)?,
            },
            Word::OutputEnd(v1::TunnelOutputEnd {}) => FromJob::OutputEnd,
            Word::End(end) => FromJob::End(TunnelEnd {
                reason: value("end.reason", end.reason)?,
                code: end.code,
                said: sentence(end.said),
            }),
        })
    }
}

impl From<ToJob> for v1::StreamTunnelResponse {
    fn from(ours: ToJob) -> Self {
        use v1::stream_tunnel_response::Word;
        let word = match ours {
            ToJob::Input(piece) => Word::Input(v1::TunnelInput { piece }),
            ToJob::InputEnd => Word::InputEnd(v1::TunnelInputEnd {}),
            ToJob::Resize(size) => Word::Resize(size.into()),
            ToJob::Signal(kind) => Word::Signal(v1::TunnelSignal { kind: v1::SignalKind::from(kind).into() }),
        };
        v1::StreamTunnelResponse { word: Some(word) }
    }
}

impl TryFrom<v1::StreamTunnelResponse> for ToJob {
    type Error = Malformed;
    fn try_from(wire: v1::StreamTunnelResponse) -> Result<Self, Malformed> {
        use v1::stream_tunnel_response::Word;
        Ok(match wire.word.ok_or_else(|| Malformed::new("word", Why::Missing))? {
            Word::Input(input) => ToJob::Input(piece("input.piece", input.piece)?),
            Word::InputEnd(v1::TunnelInputEnd {}) => ToJob::InputEnd,
            Word::Resize(size) => ToJob::Resize(field::required("resize", Some(size))?),
            Word::Signal(signal) => ToJob::Signal(value("signal.kind", signal.kind)?),
        })
    }
}
