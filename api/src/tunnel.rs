//! What goes over a WebSocket between an operator and a job.
//!
//! Messages of bytes are what is said, with where it belongs in the first byte: 0 for standard input, 1 for standard output (and
//! a connection), 2 for standard error. Messages of text are the words below, as JSON.

use serde::{Deserialize, Serialize};

/// The most bytes of what is said in one message, without its first byte.
pub const PIECE_BYTES: usize = 32 << 10;
/// The longest message of either kind. Words are short.
pub const MESSAGE_BYTES: usize = PIECE_BYTES + 1;

/// The first byte of what is said to the job.
pub const STDIN: u8 = 0;
/// The first byte of what the job says on standard output, or on its connection.
pub const STDOUT: u8 = 1;
/// The first byte of what the job says on standard error.
pub const STDERR: u8 = 2;

/// A side that hears nothing for so long takes the other for gone; each says something three times as often.
pub const SILENT_SECONDS: u64 = 45;

/// A word to the operator. After one of the last four there is no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum ToOperator {
    /// First: which job it is.
    Entered {
        /// The job's id.
        job: String,
        /// `web.1`.
        slot: String,
        /// The node's name.
        node: String,
        /// How many jobs of the service run, this one among them.
        running: u32,
    },
    /// The command was begun, or the connection is open.
    Started,
    /// The job says no more on its connection; it still hears.
    OutputEnd,
    /// The command has ended.
    Exited {
        /// Its exit code; 128 + the signal's number when killed.
        code: i64,
    },
    /// The command was not started.
    NotStarted {
        /// 127 when there is no such program, 126 when it cannot be run.
        code: i64,
        /// Why, as a sentence.
        said: String,
    },
    /// Both sides of the connection have said all.
    Closed,
    /// It did not work, or broke.
    Failed {
        /// Why, as a sentence.
        said: String,
    },
}

/// A word of the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum FromOperator {
    /// There is no more input; what the job says is still heard.
    InputEnd,
    /// The terminal has another size.
    Resize {
        /// Characters in a row.
        columns: u16,
        /// Rows.
        rows: u16,
    },
    /// A signal for the command.
    Signal {
        /// Which.
        signal: SignalWord,
    },
}

/// A signal for a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum SignalWord {
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
}
