//! Commands that somebody runs in a container, as every engine gives them.

use super::RuntimeError;
use futures_util::stream::BoxStream;
use std::pin::Pin;
use tokio::io::{AsyncRead, AsyncWrite};

/// Names one command in a container, as long as the engine remembers it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecId(pub String);

/// A command that was started.
pub struct Running {
    /// Its standard input; none if it has none. Shut down, the command reads an end, unless it has a terminal.
    pub input: Option<Pin<Box<dyn AsyncWrite + Send>>>,
    /// What it writes. The stream ends when nobody can write any more; the command has ended then, or has closed its output.
    pub output: BoxStream<'static, Result<Piece, RuntimeError>>,
}

/// Bytes that a command wrote, at most [`PIECE_BYTES`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Whether they went to standard error. What goes to a terminal does not.
    pub to_stderr: bool,
    /// As they are.
    pub bytes: Vec<u8>,
}

/// What is read at once: as much as the wire takes in one word.
pub const PIECE_BYTES: usize = lapstrake::limits::TUNNEL_PIECE_BYTES;

/// What is to be done to a command and all that it has started in its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExecSignal {
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGHUP: whoever it spoke to is gone.
    HangUp,
    /// SIGKILL.
    Kill,
}

/// How a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecState {
    /// It runs, or has not begun yet.
    Running,
    /// It has ended.
    Exited {
        /// Its exit code; 128 + the signal's number when killed.
        code: i64,
    },
}

/// A connection to a port of a job.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}
