//! A connection that has to begin to speak.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// By so many bytes it is known whether the peer speaks HTTP/2, whose preface has as many; the shortest request with a
/// token has more. From there on HTTP's own deadlines count.
const FIRST_BYTES: usize = 24;

/// Reading fails when the first words do not come in time.
pub struct FirstWords<S> {
    stream: S,
    wanted: usize,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> FirstWords<S> {
    /// `patience` counts from now.
    pub fn within(patience: Duration, stream: S) -> FirstWords<S> {
        FirstWords { stream, wanted: FIRST_BYTES, deadline: Some(Box::pin(tokio::time::sleep(patience))) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FirstWords<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        let Some(deadline) = &mut this.deadline else { return read };
        this.wanted = this.wanted.saturating_sub(buf.filled().len() - before);
        if this.wanted == 0 {
            this.deadline = None;
        } else if read.is_pending() && deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "nothing was said for too long")));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FirstWords<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
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
