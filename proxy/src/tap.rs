//! A stream with somebody who hears what is read from it.
//!
//! Towards a job that is a count, which tells whether a byte of a response came and so whether a request may be sent
//! again. Towards a client it is its `Patience`, which tells whether a request has begun.

use bytes::Bytes;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Hears what is read from a stream.
pub trait Ear {
    /// These bytes came.
    fn hear(&self, bytes: &[u8]);
}

impl Ear for AtomicU64 {
    fn hear(&self, bytes: &[u8]) {
        self.fetch_add(bytes.len() as u64, Ordering::AcqRel);
    }
}

/// A stream and who hears what is read from it.
#[derive(Debug)]
pub struct Tap<S, E> {
    stream: S,
    ear: Arc<E>,
    /// What was read from the stream already, and comes first.
    first: Bytes,
}

impl<S, E: Ear> Tap<S, E> {
    /// Lets `ear` hear what is read from `stream`.
    pub fn new(stream: S, ear: Arc<E>) -> Tap<S, E> {
        Tap::resumed(stream, ear, Bytes::new())
    }

    /// The same for a stream of which these bytes were read before.
    pub fn resumed(stream: S, ear: Arc<E>, first: Bytes) -> Tap<S, E> {
        Tap { stream, ear, first }
    }
}

impl<S: AsyncRead + Unpin, E: Ear> AsyncRead for Tap<S, E> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let count = self.first.len().min(buf.remaining());
            let bytes = self.first.split_to(count);
            self.ear.hear(&bytes);
            buf.put_slice(&bytes);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.ear.hear(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin, E> AsyncWrite for Tap<S, E> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
