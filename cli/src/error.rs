//! How a command can end when it is not done, and the exit code of each end.

use crate::client::ClientError;
use crate::context::ContextError;
use std::io;

/// What scripts match on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It was tried and did not work.
    Failed = 1,
    /// The command line or the spec is wrong.
    Wrong = 2,
    /// It was understood, and may not or cannot be.
    Refused = 3,
    /// It did not happen in the time that was given.
    TimedOut = 4,
    /// `lap exec` itself failed: a code that few programs end with, as docker and kubectl have it.
    Exec = 125,
    /// Control-C, as shells count it: 128 + SIGINT.
    Interrupted = 130,
}

impl Exit {
    /// For an answer of the controller that is an error.
    pub fn of_status(status: u16) -> Exit {
        match status {
            400 | 405 | 413 | 415 | 422 => Exit::Wrong,
            401 | 403 | 404 | 409 | 412 => Exit::Refused,
            _ => Exit::Failed,
        }
    }
}

/// Why a command did not do what it should. Its `Display`, with its causes, is what people read.
#[derive(Debug, thiserror::Error)]
pub enum LapError {
    /// The command line says something that cannot be meant.
    #[error("{0}")]
    Wrong(String),
    /// A spec with mistakes, which are drawn already.
    #[error("{0}")]
    Spec(String),
    /// The deployment, or what else was waited for, did not work.
    #[error("{0}")]
    Failed(String),
    /// It was understood, and cannot be.
    #[error("{0}")]
    Refused(String),
    /// A port of this machine cannot be had.
    #[error("{address} cannot be listened on")]
    Listen {
        /// Which.
        address: std::net::SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What was waited for has not happened yet.
    #[error("{0}")]
    TimedOut(String),
    /// The person stopped waiting.
    #[error("{0}")]
    Interrupted(String),
    /// The command that was run in a job has ended with this code; there is nothing more to say.
    #[error("the command ended with code {0}")]
    Exited(u8),
    /// The controller was not reached, or answered with an error.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Nobody said which controller, or what is stored about it cannot be used.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// A file cannot be read.
    #[error("{file} cannot be read")]
    Unreadable {
        /// Which.
        file: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Our own output cannot be written.
    #[error("the output cannot be written")]
    Output(#[source] io::Error),
}

impl LapError {
    /// Its exit code.
    pub fn exit(&self) -> Exit {
        match self {
            LapError::Wrong(_) | LapError::Spec(_) | LapError::Unreadable { .. } => Exit::Wrong,
            LapError::Failed(_) | LapError::Output(_) | LapError::Listen { .. } => Exit::Failed,
            LapError::Refused(_) => Exit::Refused,
            LapError::TimedOut(_) => Exit::TimedOut,
            LapError::Interrupted(_) => Exit::Interrupted,
            LapError::Exited(_) => Exit::Failed,
            LapError::Client(error) => error.exit(),
            LapError::Context(error) => error.exit(),
        }
    }

    /// Whether the reader of our output went away, which is no failure (`lap events | head`).
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, LapError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_the_exit_code_of_its_kind() {
        for status in [400, 413, 422] {
            assert_eq!(Exit::of_status(status), Exit::Wrong, "{status}");
        }
        for status in [401, 403, 404, 409, 412] {
            assert_eq!(Exit::of_status(status), Exit::Refused, "{status}");
        }
        for status in [429, 500, 502, 503, 504] {
            assert_eq!(Exit::of_status(status), Exit::Failed, "{status}");
        }
    }

    #[test]
    fn the_codes_are_those_that_the_documentation_names() {
        assert_eq!(LapError::Failed(String::new()).exit() as u8, 1);
        assert_eq!(LapError::Wrong(String::new()).exit() as u8, 2);
        assert_eq!(LapError::Spec(String::new()).exit() as u8, 2);
        assert_eq!(LapError::Client(ClientError::refused_for_test()).exit() as u8, 3);
        assert_eq!(LapError::TimedOut(String::new()).exit() as u8, 4);
    }
}
