//! A stream with somebody who hears what is read from it.
//!
//! Towards a job that is a count, which tells whether a byte of a response came and so whether a request may be sent
//! again. Towards a client it is its `Patience`, which tells whether a request has begun.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

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

/// A TCP stream and who hears what is read from it.
#[derive(Debug)]
pub struct Tap<E> {
    stream: TcpStream,
    ear: Arc<E>,
}

impl<E: Ear> Tap<E> {
    /// Lets `ear` hear what is read from `stream`.
    pub fn new(stream: TcpStream, ear: Arc<E>) -> Tap<E> {
        Tap { stream, ear }
    }
}

impl<E: Ear> AsyncRead for Tap<E> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.ear.hear(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<E> AsyncWrite for Tap<E> {
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
