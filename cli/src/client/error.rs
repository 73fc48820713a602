//! What can go wrong between `lap` and the controller, each with what to do next.

use crate::error::Exit;
use lapstrake_api::view::Problem;
use std::error::Error;
use std::io;
use std::time::Duration;

/// Why a request has no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The name has no address.
    #[error("the name {host} cannot be looked up; is it spelled right? --url or LAP_URL names another controller")]
    NoSuchHost {
        /// The name.
        host: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nothing listens there, or no way leads there.
    #[error("no controller answers at {url}; does it run there? --url or LAP_URL names another")]
    NotReached {
        /// Where.
        url: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It took too long to get there.
    #[error(
        "no controller answers at {url} within {seconds} s; is the address right, and does a firewall let it through?"
    )]
    NotReachedInTime {
        /// Where.
        url: String,
        /// How long.
        seconds: u64,
    },
    /// Another controller, or somebody in between.
    #[error(
        "{url} is not the controller that this token is for, so the token was not sent: it has another certificate \
         authority; use that controller's own token, or check who answers there. If its root was replaced, `lap login --fingerprint` \
         names the new one; if something with a certificate of its own stands before it, `lap login --ca-file` does"
    )]
    OtherAuthority {
        /// Where.
        url: String,
    },
    /// A good certificate of somebody else.
    #[error(
        "the certificate at {url} is not for {host} but for {names}, so the token was not sent; write the address with a name \
         that the certificate has, or have it made for {host} too"
    )]
    OtherName {
        /// Where.
        url: String,
        /// What the address names.
        host: String,
        /// What the certificate names, made harmless.
        names: String,
    },
    /// A certificate that the roots do not lead to.
    #[error(
        "the certificate at {url} was not made by any root of {roots}, so the token was not sent; `lap login --ca-file` names \
         the right roots, and without it lap recognises the controller by its own authority"
    )]
    OtherIssuer {
        /// Where.
        url: String,
        /// Whose roots were tried.
        roots: String,
    },
    /// TLS does not come about for another reason.
    #[error(
        "{url} cannot be trusted, so the token was not sent; is it a Lapstrake controller, and are both clocks right?"
    )]
    NotTrusted {
        /// Where.
        url: String,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The connection ended before the answer.
    #[error("{url} ended the connection before it answered; try again")]
    CutOff {
        /// Where.
        url: String,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// No answer in time.
    #[error("{url} took the request and does not answer; `lap events` shows whether it was carried out")]
    Silent {
        /// Where.
        url: String,
    },
    /// The controller says what is wrong.
    #[error("{}", said(.problem))]
    Problem {
        /// The HTTP status.
        status: u16,
        /// Its words.
        problem: Box<Problem>,
        /// How long to wait before it is asked again, if it says so.
        wait: Option<Duration>,
    },
    /// An error without our words: something else answers there.
    #[error("{url} answered {status} without saying why; is it a Lapstrake controller?")]
    Unexplained {
        /// Where.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// An answer that is not what it should be.
    #[error("the controller's answer cannot be understood; do `lap version`'s two versions fit?")]
    NotUnderstood(#[source] serde_json::Error),
    /// An answer that agrees to something else than was asked for.
    #[error("{url} did not open a stream; does something between here and the controller not let WebSockets through?")]
    NoStream {
        /// Where.
        url: String,
    },
    /// A request that cannot be made.
    #[error("this cannot be asked")]
    NotARequest(#[source] http::Error),
}

fn said(problem: &Problem) -> String {
    if problem.status == 401 {
        return format!("{}; `lap login` stores another", problem.detail);
    }
    problem.detail.clone()
}

impl ClientError {
    /// Its exit code.
    pub fn exit(&self) -> Exit {
        match self {
            ClientError::Problem { status, .. } => Exit::of_status(*status),
            // It was understood, by us, that this must not be.
            ClientError::OtherAuthority { .. } | ClientError::OtherName { .. } | ClientError::OtherIssuer { .. } => {
                Exit::Refused
            }
            ClientError::NotARequest(_) => Exit::Wrong,
            ClientError::NoSuchHost { .. }
            | ClientError::NotReached { .. }
            | ClientError::NotReachedInTime { .. }
            | ClientError::NotTrusted { .. }
            | ClientError::CutOff { .. }
            | ClientError::Silent { .. }
            | ClientError::Unexplained { .. }
            | ClientError::NoStream { .. }
            | ClientError::NotUnderstood(_) => Exit::Failed,
        }
    }

    /// Whether the controller may just be starting again, so that somebody who waits goes on waiting.
    pub fn may_pass(&self) -> bool {
        match self {
            ClientError::Problem { status, .. } | ClientError::Unexplained { status, .. } => {
                matches!(status, 429 | 500 | 502 | 503 | 504)
            }
            ClientError::NotReached { .. }
            | ClientError::NotReachedInTime { .. }
            | ClientError::CutOff { .. }
            | ClientError::Silent { .. } => true,
            ClientError::NoSuchHost { .. }
            | ClientError::OtherAuthority { .. }
            | ClientError::OtherName { .. }
            | ClientError::OtherIssuer { .. }
            | ClientError::NotTrusted { .. }
            | ClientError::NoStream { .. }
            | ClientError::NotUnderstood(_)
            | ClientError::NotARequest(_) => false,
        }
    }

    /// Whether the same request may succeed if it is asked again at once: the connection broke under it, the store or the
    /// rate did not take it now. Nobody at the address is only worth it for who was answered there before.
    pub fn is_worth_another_try(&self, reached_before: bool) -> bool {
        match self {
            ClientError::CutOff { .. } => true,
            ClientError::NotReached { .. } => reached_before,
            ClientError::Problem { status, .. } => matches!(status, 429 | 503),
            _ => false,
        }
    }

    /// How long the controller says to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            ClientError::Problem { wait, .. } => *wait,
            _ => None,
        }
    }

    /// Whether there is no such thing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, ClientError::Problem { status: 404, .. })
    }

    #[cfg(test)]
    pub fn refused_for_test() -> ClientError {
        let problem = Problem {
            type_uri: String::new(),
            title: String::new(),
            status: 409,
            detail: String::new(),
            instance: String::new(),
            mistakes: Vec::new(),
        };
        ClientError::Problem { status: 409, problem: Box::new(problem), wait: None }
    }
}
