//! One request, and what its answer is worth.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use serde::Serialize;

use crate::connection::Connection;
use crate::schedule::Asks;

/// How much of a bad answer is kept for the report.
const FIRST_BYTES: usize = 200;
/// How much of a page is kept to find the version in it.
const PAGE_BYTES: usize = 4096;

/// What can go wrong. One word each, in reports and on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// No connection could be opened.
    Connect,
    /// The connection ended before a whole head of an answer had come.
    Reset,
    /// A status that is not 2xx.
    Status,
    /// The body ended before its own end: fewer bytes than its content-length, or no last chunk.
    LostBody,
    /// A whole body, of another length than asked for.
    WrongLength,
    /// A body of the right length with other bytes than it must have.
    WrongBytes,
    /// Neither a content-length nor chunks: whether the body is whole cannot be known.
    Unframed,
    /// A whole answer, but after the deadline.
    Late,
    /// No whole answer within twice the deadline.
    NoAnswer,
    /// A WebSocket could not be opened.
    WebsocketOpen,
    /// A WebSocket's echo was late or was not what had been sent.
    WebsocketEcho,
    /// A WebSocket ended without a close frame.
    WebsocketCut,
    /// The load generator's own fault: out of sockets, or more than a second behind its schedule.
    Generator,
}

/// A whole and right answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The `version` of its JSON, if it has one.
    pub version: Option<String>,
}

/// An answer that is not whole or not right, or none.
#[derive(Debug)]
pub struct Wrong {
    /// Which kind of wrong.
    pub kind: Kind,
    /// The status, if a head came.
    pub status: Option<u16>,
    /// The first bytes of the body, if any came.
    pub body: String,
    /// What exactly was wrong.
    pub detail: String,
}

impl Wrong {
    /// Something wrong before any answer.
    pub fn unanswered(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, status: None, body: String::new(), detail: detail.into() }
    }
}

/// Sends a request and judges its answer, when all of it is here.
pub async fn ask(connection: &mut Connection, host: &str, path: &str, asks: Asks) -> Result<Answer, Wrong> {
    let path = match asks {
        Asks::Page => path.to_owned(),
        Asks::Body(bytes) => format!("/body?bytes={bytes}"),
    };
    let request = Request::get(path)
        .header(HOST, host)
        .body(Empty::<Bytes>::new())
        .map_err(|error| Wrong::unanswered(Kind::Generator, format!("the request cannot be built: {error}")))?;
    match connection.requests.send_request(request).await {
        Ok(response) => judge(response, asks).await,
        Err(error) => Err(Wrong::unanswered(Kind::Reset, chain(&error))),
    }
}

async fn judge(response: Response<Incoming>, asks: Asks) -> Result<Answer, Wrong> {
    let (head, mut body) = response.into_parts();
    let mut judged = Body { asks, first: Vec::new(), length: 0, right: true };
    let ended = loop {
        match body.frame().await {
            Some(Ok(frame)) => frame.data_ref().into_iter().for_each(|bytes| judged.take(bytes)),
            Some(Err(error)) => break Err(error),
            None => break Ok(()),
        }
    };
    let wrong = |kind, detail: String| {
        let first = &judged.first[..judged.first.len().min(FIRST_BYTES)];
        let body = String::from_utf8_lossy(first).into_owned();
        Err(Wrong { kind, status: Some(head.status.as_u16()), body, detail })
    };
    if !head.status.is_success() {
        return wrong(Kind::Status, head.status.to_string());
    }
    if let Err(error) = ended {
        return wrong(Kind::LostBody, format!("after {} bytes of the body: {}", judged.length, chain(&error)));
    }
    if !is_framed(&head.headers) {
        return wrong(Kind::Unframed, "no content-length and no chunks".into());
    }
    match asks {
        Asks::Body(asked) if judged.length != asked => {
            wrong(Kind::WrongLength, format!("asked for {asked} bytes, got {}", judged.length))
        }
        Asks::Body(_) if !judged.right => wrong(Kind::WrongBytes, "the body is not what it must be".into()),
        Asks::Body(_) => Ok(Answer { version: None }),
        Asks::Page => Ok(Answer { version: version_of(&judged.first) }),
    }
}

/// What has come of a body.
struct Body {
    asks: Asks,
    first: Vec<u8>,
    length: u64,
    right: bool,
}

impl Body {
    fn take(&mut self, bytes: &[u8]) {
        let room = PAGE_BYTES - self.first.len();
        self.first.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if let Asks::Body(_) = self.asks {
            // The sample's `/body`: byte i is i modulo 251.
            let expected = (self.length..).map(|position| (position % 251) as u8);
            self.right &= bytes.iter().copied().zip(expected).all(|(is, must)| is == must);
        }
        self.length += bytes.len() as u64;
    }
}

/// Whether the answer itself says where its body ends.
fn is_framed(headers: &HeaderMap) -> bool {
    let chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    headers.contains_key(CONTENT_LENGTH) || headers.get(TRANSFER_ENCODING).is_some_and(chunked)
}

fn version_of(page: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Page {
        version: String,
    }
    serde_json::from_slice(page).ok().map(|page: Page| page.version)
}

/// An error with all its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swapped_piece_of_a_body_is_noticed() {
        let whole: Vec<u8> = (0..600_u64).map(|position| (position % 251) as u8).collect();
        let mut good = Body { asks: Asks::Body(600), first: Vec::new(), length: 0, right: true };
        good.take(&whole[..300]);
        good.take(&whole[300..]);
        assert!(good.right);

        let mut swapped = Body { asks: Asks::Body(600), first: Vec::new(), length: 0, right: true };
        swapped.take(&whole[300..]);
        swapped.take(&whole[..300]);
        assert!(!swapped.right);
    }

    #[test]
    fn the_version_is_read_from_the_page() {
        assert_eq!(version_of(br#"{"host":"a","version":"v2"}"#), Some("v2".into()));
        assert_eq!(version_of(b"<html>"), None);
    }
}
