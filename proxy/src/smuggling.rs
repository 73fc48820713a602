//! Seeing what hyper hides: a request with both `Transfer-Encoding` and `Content-Length`.
//!
//! Two servers that read such a request differently see different requests after it, so it is refused (RFC 9112, 6.1).
//! hyper obeys the former and removes the latter before a service can see it. So the bytes of a head are kept until the
//! request's turn ends, and looked at when a request is chunked, which is seldom. What was sent ahead during another
//! request's turn is not kept; it does not need to be, because a chunked request always ends its connection.

use http::{HeaderMap, HeaderValue, header};
use std::sync::{Mutex, PoisonError};

/// Enough for any head that the limits allow by default; what comes later is not looked at.
const MAX_KEPT_BYTES: usize = 64 * 1024;

/// An idle connection keeps no more than this of the buffer: an ordinary head fits.
const IDLE_BYTES: usize = 1024;

/// The bytes of a connection since its last response.
#[derive(Debug, Default)]
pub struct HeadRecord(Mutex<Vec<u8>>);

impl HeadRecord {
    /// Keeps what was read.
    pub fn keep(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAX_KEPT_BYTES.saturating_sub(kept.len());
        kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Forgets it: a turn is over.
    pub fn forget(&self) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clear();
        kept.shrink_to(IDLE_BYTES);
    }

    /// Gives a chunked request the length back that its client sent, so that it is refused like any with both.
    pub fn restore_length(&self, headers: &mut HeaderMap) {
        if headers.contains_key(header::TRANSFER_ENCODING)
            && names_length(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
        {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
    }
}

/// Whether a line of the first head in these bytes begins with `Content-Length`.
fn names_length(bytes: &[u8]) -> bool {
    const NAME: &[u8] = b"content-length";
    bytes
        .split(|byte| *byte == b'\n')
        // A server may be sent empty lines before a request.
        .skip_while(|line| line.trim_ascii().is_empty())
        .take_while(|line| !line.trim_ascii().is_empty())
        .any(|line| {
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            name.trim_ascii().eq_ignore_ascii_case(NAME)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_found_in_the_head_and_not_in_the_body() {
        let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n";
        assert!(names_length(format!("{head}CONTENT-length: 3\r\n\r\n").as_bytes()));
        assert!(names_length(format!("\r\n{head}Content-Length: 3\r\n\r\n").as_bytes()));
        assert!(!names_length(format!("{head}\r\n20\r\nContent-Length: 3\r\n").as_bytes()));
        assert!(!names_length(format!("{head}X: content-length\r\n\r\n").as_bytes()));
    }
}
