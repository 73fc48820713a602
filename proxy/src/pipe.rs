//! A body into a stream of HTTP/2: a chunk is taken from the body only when the one before it has found room, so that a
//! reader who takes nothing slows the writer down, and what waits here is one chunk.

use crate::body::BodyError;
use bytes::Bytes;
use h2::{Reason, SendStream};
use hyper::body::{Body, Frame};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::timeout;

/// Why a body did not get to its end.
#[derive(Debug)]
pub enum Stopped {
    /// The reader has reset the stream, or its connection is gone.
    ByReader,
    /// The reader took nothing for as long as it may.
    Stalled,
    /// The body itself broke off.
    Body(BodyError),
}

/// Sends a body to its end, trailers too. The reader may take nothing for `patience` at most. What stops it is not told to
/// the reader here.
pub async fn send<B>(mut body: B, stream: &mut SendStream<Bytes>, patience: Option<Duration>) -> Result<(), Stopped>
where
    B: Body<Data = Bytes, Error = BodyError> + Unpin,
{
    loop {
        let frame = poll_fn(|cx| match reset(stream, cx) {
            Poll::Ready(()) => Poll::Ready(Err(Stopped::ByReader)),
            Poll::Pending => Pin::new(&mut body).poll_frame(cx).map(Ok),
        });
        let Some(frame) = frame.await? else {
            return stream.send_data(Bytes::new(), true).map_err(|_| Stopped::ByReader);
        };
        let mut chunk = match frame.map_err(Stopped::Body)?.into_data() {
            Ok(chunk) => chunk,
            Err(frame) => return send_trailers(frame, stream),
        };
        while !chunk.is_empty() {
            stream.reserve_capacity(chunk.len());
            let room = match patience {
                Some(patience) => timeout(patience, room(stream)).await.map_err(|_| Stopped::Stalled)??,
                None => room(stream).await?,
            };
            let part = chunk.split_to(room.min(chunk.len()));
            let last = chunk.is_empty() && body.is_end_stream();
            stream.send_data(part, last).map_err(|_| Stopped::ByReader)?;
            if last {
                return Ok(());
            }
        }
    }
}

fn send_trailers(frame: Frame<Bytes>, stream: &mut SendStream<Bytes>) -> Result<(), Stopped> {
    let trailers = frame.into_trailers().unwrap_or_default();
    stream.send_trailers(trailers).map_err(|_| Stopped::ByReader)
}

/// Waits until the reader takes something.
async fn room(stream: &mut SendStream<Bytes>) -> Result<usize, Stopped> {
    poll_fn(|cx| {
        loop {
            if stream.capacity() > 0 {
                return Poll::Ready(Ok(stream.capacity()));
            }
            if reset(stream, cx).is_ready() {
                return Poll::Ready(Err(Stopped::ByReader));
            }
            match stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Err(Stopped::ByReader)),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

fn reset(stream: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> Poll<()> {
    stream.poll_reset(cx).map(|_: Result<Reason, h2::Error>| ())
}
