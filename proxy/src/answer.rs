//! What the proxy says itself: short, with the service's name and the reason.

use crate::body::ServedBody;
use crate::switchboard::NoWork;
use crate::table::Unknown;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version, header};

/// How much of a client's own words an answer repeats.
const MAX_REPEATED_CHARS: usize = 200;

/// An answer of our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// One line for people.
    pub text: String,
    /// Seconds after which it makes sense to ask again.
    pub retry_after: Option<u32>,
    /// Whether the connection ends with this answer.
    pub close: bool,
}

impl Answer {
    /// An answer that leaves the connection open.
    pub fn new(status: StatusCode, text: impl Into<String>) -> Answer {
        Answer { status, text: text.into(), retry_after: None, close: false }
    }

    /// 400: the request is not one that can be carried. The connection ends, because where the next request begins on it
    /// cannot be trusted.
    pub fn bad_request(text: impl Into<String>) -> Answer {
        Answer { close: true, ..Answer::new(StatusCode::BAD_REQUEST, text) }
    }

    /// 503: not now.
    pub fn unavailable(text: impl Into<String>) -> Answer {
        Answer { retry_after: Some(1), ..Answer::new(StatusCode::SERVICE_UNAVAILABLE, text) }
    }

    /// 502: the job is at fault.
    pub fn bad_gateway(service: &str, text: &str) -> Answer {
        Answer::new(StatusCode::BAD_GATEWAY, format!("{service}: {text}"))
    }

    /// Why a request cannot begin.
    pub fn no_work(reason: NoWork, host: &str, path: &str) -> Answer {
        match reason {
            NoWork::NoTable => Answer::unavailable("no routes yet: the agent of this node has not given any"),
            NoWork::Unknown(Unknown::Host) => {
                Answer::new(StatusCode::NOT_FOUND, format!("no service answers for host {}", shorten(host)))
            }
            NoWork::Unknown(Unknown::Path) => Answer::new(
                StatusCode::NOT_FOUND,
                format!("no service answers for {}", shorten(&format!("{host}{path}"))),
            ),
            NoWork::NoJob { service, node, elsewhere } => Answer::unavailable(no_job(&service, &node, &elsewhere)),
            // When it will go on nobody knows: no time is named after which to ask again.
            NoWork::Paused { service } => Answer::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{service} is paused; it answers when it is resumed"),
            ),
            NoWork::AllTried => Answer::unavailable("every job of the service was tried"),
            NoWork::Full { service, limit } => {
                Answer::unavailable(format!("{service}: {limit} requests are in flight already, which is the limit"))
            }
        }
    }

    /// In the form that the client understands.
    pub fn into_response(self, form: Form) -> Response<ServedBody> {
        let (kind, text) = match form {
            Form::Json => ("application/json", format!("{}\n", serde_json::json!({ "error": self.text }))),
            Form::Text => ("text/plain; charset=utf-8", format!("{}\n", self.text)),
            Form::Grpc => return self.into_grpc(),
        };
        let mut response = Response::new(ServedBody::from(text));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// A response that is its trailers alone, with the code that gRPC's libraries make of our status.
    fn into_grpc(self) -> Response<ServedBody> {
        let code = match self.status.as_u16() {
            400 => "13",
            404 => "12",
            429 | 502 | 503 | 504 => "14",
            _ => "2",
        };
        let mut response = Response::new(ServedBody::from(String::new()));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from_static(code));
        if let Ok(message) = HeaderValue::try_from(percent_encoded(&self.text)) {
            headers.insert("grpc-message", message);
        }
        response
    }
}

/// What gRPC allows in a header, and `%XX` for the rest.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'$' | b'&'..=b'~' => encoded.push(char::from(byte)),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

/// How an answer of our own is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// For a client that asks for JSON of any kind.
    Json,
    /// For a client of gRPC: in its own words, because its library shows nobody the text of an HTTP error.
    Grpc,
}

impl Form {
    /// What the client of this request understands.
    pub fn of(version: Version, asked: &HeaderMap) -> Form {
        const JSON: &[u8] = b"json";
        if version == Version::HTTP_2 && is_grpc(asked) {
            return Form::Grpc;
        }
        let mut accepted = asked.get_all(header::ACCEPT).iter();
        let json =
            accepted.any(|value| value.as_bytes().windows(JSON.len()).any(|part| part.eq_ignore_ascii_case(JSON)));
        if json { Form::Json } else { Form::Text }
    }
}

/// Whether a request is a call of gRPC.
pub fn is_grpc(asked: &HeaderMap) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    asked.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(GRPC))
}

fn no_job(service: &str, node: &str, elsewhere: &[String]) -> String {
    match elsewhere {
        [] => format!("no job of {service} on {node}, nor on another node"),
        [one] => format!("no job of {service} on {node}; {one} has some"),
        [most @ .., last] => format!("no job of {service} on {node}; {} and {last} have some", most.join(", ")),
    }
}

fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_REPEATED_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_without_jobs_here_names_the_nodes_that_have_some() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let text = |elsewhere: &[&str]| no_job("shop/production/web", "node-a", &names(elsewhere));
        assert_eq!(text(&[]), "no job of shop/production/web on node-a, nor on another node");
        assert_eq!(text(&["node-b"]), "no job of shop/production/web on node-a; node-b has some");
        assert_eq!(text(&["node-b", "node-c"]), "no job of shop/production/web on node-a; node-b and node-c have some");
    }

    #[test]
    fn an_answer_does_not_repeat_a_long_path_whole() {
        let answer = Answer::no_work(NoWork::Unknown(Unknown::Path), "a.example", &"/x".repeat(10_000));
        assert!(answer.text.len() < 300, "{}", answer.text.len());
    }
}
