//! Which HTTP a client speaks on a connection that has not agreed on one beforehand (RFC 9113, 3.3): HTTP/2 begins with
//! bytes that are no request of HTTP/1.1.

use bytes::{Bytes, BytesMut};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::sync::CancellationToken;

/// What every HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// An ordinary head fits, so that one read is enough for it as it was before anybody looked.
const FIRST_READ_BYTES: usize = 4096;

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoken {
    /// HTTP/1.1 or 1.0.
    Http1,
    /// HTTP/2.
    Http2,
}

/// A client that has just connected may say something so long after the stop: its first request may be on its way.
const FIRST_WORD_AFTER_STOP: Duration = Duration::from_secs(1);

/// Reads until it is clear what is spoken. Returns that and the bytes that were read, which belong to the conversation.
/// What ends early is left to HTTP/1.1 to complain about. Who says too little to tell, is waited for no longer than a moment
/// after the stop.
pub async fn listen(stream: &mut (impl AsyncRead + Unpin), stop: &CancellationToken) -> io::Result<(Spoken, Bytes)> {
    let stopped = async {
        stop.cancelled().await;
        tokio::time::sleep(FIRST_WORD_AFTER_STOP).await;
    };
    tokio::select! {
        biased;
        heard = hear(stream) => heard,
        () = stopped => Err(io::Error::new(io::ErrorKind::TimedOut, "it said nothing, and the proxy stops")),
    }
}

async fn hear(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(Spoken, Bytes)> {
    let mut read = BytesMut::with_capacity(FIRST_READ_BYTES);
    loop {
        let ended = stream.read_buf(&mut read).await? == 0;
        let compared = read.len().min(PREFACE.len());
        if ended || read[..compared] != PREFACE[..compared] {
            return Ok((Spoken::Http1, read.freeze()));
        }
        if compared == PREFACE.len() {
            return Ok((Spoken::Http2, read.freeze()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    async fn spoken(parts: &[&[u8]]) -> (Spoken, Vec<u8>) {
        let (mut ours, mut theirs) = tokio::io::duplex(1);
        let parts: Vec<Vec<u8>> = parts.iter().map(|part| part.to_vec()).collect();
        let writing = tokio::spawn(async move {
            for part in parts {
                // Nobody reads on once it is clear.
                let _ = theirs.write_all(&part).await;
            }
        });
        let (spoken, read) = listen(&mut ours, &CancellationToken::new()).await.unwrap();
        drop(ours);
        writing.await.unwrap();
        (spoken, read.to_vec())
    }

    #[tokio::test]
    async fn a_stop_is_heard_by_who_waits_for_a_first_word() {
        let stop = CancellationToken::new();
        let (mut ours, mut theirs) = tokio::io::duplex(64);
        stop.cancel();
        theirs.write_all(b"GET").await.unwrap();
        assert_eq!(listen(&mut ours, &stop).await.unwrap().0, Spoken::Http1, "what is there already is heard");
        let silent = tokio::time::timeout(10 * FIRST_WORD_AFTER_STOP, listen(&mut ours, &stop)).await;
        silent.expect("it is not waited for").unwrap_err();
    }

    #[tokio::test]
    async fn http2_is_told_by_its_preface_and_everything_else_is_http1() {
        assert_eq!(spoken(&[PREFACE, b"more"]).await, (Spoken::Http2, PREFACE.to_vec()));
        assert_eq!(spoken(&[b"PUT / HTTP/1.1\r\n"]).await, (Spoken::Http1, b"PU".to_vec()));
        assert_eq!(spoken(&[b"PRI * HTTP/2.0\r\n\r\nGET"]).await.0, Spoken::Http1);
        assert_eq!(spoken(&[b"PRI"]).await, (Spoken::Http1, b"PRI".to_vec()));
        assert_eq!(spoken(&[]).await, (Spoken::Http1, Vec::new()));
    }
}
