//! Server-sent events, read as they come.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use std::time::Duration;

/// The controller sends a comment every 15 s; after three of them missing, the stream is dead.
const SILENT_FOR: Duration = Duration::from_secs(45);

/// The longest line that is kept: larger than any event of ours.
const MAX_LINE_BYTES: usize = 1 << 20;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SseEvent {
    /// What a reader that comes back names as the last that it has.
    pub id: Option<String>,
    /// Its kind; `message` when it names none.
    pub kind: String,
    /// Its text.
    pub text: String,
}

/// An open stream.
pub struct SseStream {
    body: Incoming,
    parser: Parser,
    /// Dropping it would close the connection.
    _connection: Option<SendRequest<Full<Bytes>>>,
}

impl SseStream {
    /// Reads a response's body.
    pub fn new(body: Incoming, connection: Option<SendRequest<Full<Bytes>>>) -> SseStream {
        SseStream { body, parser: Parser::default(), _connection: connection }
    }

    /// The next event; none when the stream ended or broke, which only its reader can tell apart.
    pub async fn next(&mut self) -> Option<SseEvent> {
        loop {
            if let Some(event) = self.parser.next() {
                return Some(event);
            }
            let frame = tokio::time::timeout(SILENT_FOR, self.body.frame()).await.ok()??.ok()?;
            if let Ok(bytes) = frame.into_data() {
                self.parser.feed(&bytes)?;
            }
        }
    }
}

/// Bytes in, events out, wherever the bytes were cut.
#[derive(Debug, Default)]
struct Parser {
    unread: Vec<u8>,
    id: Option<String>,
    kind: Option<String>,
    text: Option<String>,
}

impl Parser {
    /// Takes bytes; none when a line never ends.
    fn feed(&mut self, bytes: &[u8]) -> Option<()> {
        self.unread.extend_from_slice(bytes);
        let endless = self.unread.len() > MAX_LINE_BYTES && !self.unread.contains(&b'\n');
        (!endless).then_some(())
    }

    fn next(&mut self) -> Option<SseEvent> {
        while let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.unread.drain(..=end).collect();
            let line = line.strip_suffix(b"\n").unwrap_or(&line);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if let Some(event) = self.line(&String::from_utf8_lossy(line)) {
                return Some(event);
            }
        }
        None
    }

    fn line(&mut self, line: &str) -> Option<SseEvent> {
        if line.is_empty() {
            let kind = self.kind.take();
            let text = self.text.take()?;
            return Some(SseEvent { id: self.id.clone(), kind: kind.unwrap_or_else(|| "message".into()), text });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.id = Some(value.to_owned()),
            "event" => self.kind = Some(value.to_owned()),
            "data" => match &mut self.text {
                Some(text) => {
                    text.push('\n');
                    text.push_str(value);
                }
                None => self.text = Some(value.to_owned()),
            },
            // A comment (an empty field), or a field of a later version.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_wherever_their_bytes_were_cut() {
        let stream =
            b": hello\n\nid: 7\r\nevent: line\r\ndata: {\"a\":\ndata: 1}\n\nretry: 5\ndata: x\n\ndata: unfinished";
        for cut in 0..stream.len() {
            let mut parser = Parser::default();
            let mut events = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                parser.feed(part).expect("short lines");
                events.extend(std::iter::from_fn(|| parser.next()));
            }
            let first = SseEvent { id: Some("7".into()), kind: "line".into(), text: "{\"a\":\n1}".into() };
            let second = SseEvent { id: Some("7".into()), kind: "message".into(), text: "x".into() };
            assert_eq!(events, [first, second], "cut at {cut}");
        }
    }

    #[test]
    fn a_line_that_never_ends_ends_the_stream() {
        let mut parser = Parser::default();
        assert_eq!(parser.feed(&vec![b'x'; MAX_LINE_BYTES + 1]), None);
    }
}
