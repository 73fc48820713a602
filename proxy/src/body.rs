//! The bodies that pass through, frame by frame and never whole.

use crate::patience::Turn;
use crate::record::Record;
use crate::switchboard::Work;
use crate::trunk::Ride;
use crate::upstream::Upstream;
use bytes::Bytes;
use h2::{Reason, RecvStream};
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

/// How much of a request's body is kept until the job's answer begins, so that a job may refuse the stream and another one
/// be asked. An ordinary unary call fits; what is larger cannot be sent again.
const MAX_KEPT_BYTES: usize = 64 * 1024;

/// What a body comes from.
#[derive(Debug)]
pub enum Source {
    /// A connection of HTTP/1.1.
    Http1(Incoming),
    /// A stream of HTTP/2. Its sender may send on only as far as frames are taken from here.
    Http2(RecvStream),
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// On HTTP/1.1.
    #[error(transparent)]
    Http1(#[from] hyper::Error),
    /// On HTTP/2.
    #[error(transparent)]
    Http2(#[from] h2::Error),
}

impl BodyError {
    /// What the other side of an HTTP/2 stream is told.
    pub fn reason(&self) -> Reason {
        match self {
            BodyError::Http2(error) if error.is_reset() => error.reason().unwrap_or(Reason::INTERNAL_ERROR),
            BodyError::Http1(_) | BodyError::Http2(_) => Reason::INTERNAL_ERROR,
        }
    }
}

impl Body for Source {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Source::Http1(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::Http1),
            Source::Http2(stream) => Poll::Ready(match ready!(stream.poll_data(cx)) {
                Some(Ok(bytes)) => {
                    // A stream that has ended meanwhile needs no more room.
                    let _ = stream.flow_control().release_capacity(bytes.len());
                    Some(Ok(Frame::data(bytes)))
                }
                Some(Err(error)) => Some(Err(error.into())),
                None => ready!(stream.poll_trailers(cx))
                    .map_err(BodyError::Http2)
                    .transpose()
                    .map(|trailers| trailers.map(Frame::trailers)),
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Source::Http1(body) => body.is_end_stream(),
            Source::Http2(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Source::Http1(body) => body.size_hint(),
            Source::Http2(_) => SizeHint::default(),
        }
    }
}

/// A client's request body on its way to a job. Clones are the same body: a connection that breaks before it took
/// anything leaves the body for the next one.
#[derive(Debug, Clone)]
pub struct ClientBody {
    /// `None` when there is nothing to carry.
    carried: Option<Arc<Mutex<Carried>>>,
}

#[derive(Debug)]
struct Carried {
    body: Source,
    taken: bool,
    finished: bool,
    moved: Instant,
    bytes: u64,
    /// `None` when what is taken is gone.
    kept: Option<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    chunks: Vec<Bytes>,
    bytes: usize,
    /// How many of the chunks this try has taken.
    again: usize,
}

impl ClientBody {
    /// The body of a request.
    pub fn new(body: Source) -> ClientBody {
        if body.is_end_stream() {
            return ClientBody { carried: None };
        }
        let moved = Instant::now();
        let carried = Carried { body, taken: false, finished: false, moved, bytes: 0, kept: None };
        ClientBody { carried: Some(Arc::new(Mutex::new(carried))) }
    }

    fn lock(&self) -> Option<MutexGuard<'_, Carried>> {
        self.carried.as_ref().map(|carried| carried.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether there is a body at all.
    pub fn is_empty(&self) -> bool {
        self.carried.is_none()
    }

    /// Whether a connection took bytes of it, which are gone when that connection breaks.
    pub fn is_taken(&self) -> bool {
        self.lock().is_some_and(|carried| carried.taken && carried.kept.is_none())
    }

    /// Whether the client has sent all of it.
    pub fn is_finished(&self) -> bool {
        self.lock().is_none_or(|carried| carried.finished)
    }

    /// When bytes of it last moved on.
    pub fn moved(&self) -> Option<Instant> {
        self.lock().map(|carried| carried.moved)
    }

    /// How many bytes came.
    pub fn bytes(&self) -> u64 {
        self.lock().map_or(0, |carried| carried.bytes)
    }

    /// From here on what is taken is kept for another try, which begins with this call too. Nothing that is gone comes
    /// back by it.
    pub fn keep(&self) {
        let Some(mut carried) = self.lock() else { return };
        let taken = carried.taken;
        match &mut carried.kept {
            Some(kept) => kept.again = 0,
            none if !taken => *none = Some(Kept::default()),
            None => {}
        }
    }

    /// What was kept of it comes again, from its beginning.
    pub fn rewind(&self) {
        if let Some(mut carried) = self.lock()
            && let Some(kept) = &mut carried.kept
        {
            kept.again = 0;
        }
    }

    /// There will be no other try.
    pub fn forget(&self) {
        if let Some(mut carried) = self.lock()
            && let Some(kept) = &mut carried.kept
            && kept.again == kept.chunks.len()
        {
            carried.kept = None;
        }
    }
}

impl Carried {
    fn chunk_again(&mut self) -> Option<Bytes> {
        let kept = self.kept.as_mut()?;
        let chunk = kept.chunks.get(kept.again)?.clone();
        kept.again += 1;
        Some(chunk)
    }

    fn is_end_stream(&self) -> bool {
        self.kept.as_ref().is_none_or(|kept| kept.again == kept.chunks.len()) && self.body.is_end_stream()
    }

    fn keep(&mut self, bytes: &Bytes) {
        let Some(kept) = &mut self.kept else { return };
        kept.bytes += bytes.len();
        if kept.bytes > MAX_KEPT_BYTES {
            self.kept = None;
            return;
        }
        kept.chunks.push(bytes.clone());
        kept.again = kept.chunks.len();
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(mut carried) = self.lock() else { return Poll::Ready(None) };
        if let Some(chunk) = carried.chunk_again() {
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        let frame = ready!(Pin::new(&mut carried.body).poll_frame(cx));
        // A client's trailers end here (RFC 9110, 6.5.1): a job that merges them into the head would read claims about
        // who asks that this proxy did not write.
        let frame = frame.filter(|frame| !frame.as_ref().is_ok_and(Frame::is_trailers));
        carried.taken = true;
        carried.moved = Instant::now();
        carried.finished = frame.is_none() || carried.body.is_end_stream();
        if let Some(bytes) = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref) {
            carried.bytes += bytes.len() as u64;
            carried.keep(bytes);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.lock().is_none_or(|carried| carried.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().map_or(SizeHint::with_exact(0), |carried| carried.body.size_hint())
    }
}

/// What a client gets: our own few words or a job's response.
#[derive(Debug)]
pub struct ServedBody {
    content: Content,
    /// Ends when the response was written or dropped: from then on the client's next request is waited for.
    pub turn: Option<Turn>,
    /// Ends at the same time: what is told of the request.
    pub record: Option<Record>,
}

#[derive(Debug)]
enum Content {
    Ours(Full<Bytes>),
    Jobs(JobBody),
}

/// A job's response body on its way to a client. It keeps the request counted until hyper or h2 has written its last byte
/// into the client's connection or given up.
#[derive(Debug)]
pub struct JobBody {
    body: Source,
    worker: usize,
    carriage: Carriage,
    work: Work,
}

/// What a response comes over.
#[derive(Debug)]
pub enum Carriage {
    /// A connection of its own, which goes back to the target's idle ones when the body was read to its end, and is closed
    /// when this is dropped before.
    Alone(Upstream),
    /// One of a connection's streams, which is reset when this is dropped before its end.
    Among {
        /// Resets it when dropped.
        _ride: Ride,
    },
    /// Given back or given up.
    Left,
}

impl JobBody {
    /// The body of a response that came over `carriage`.
    pub fn new(body: Source, worker: usize, carriage: Carriage, work: Work) -> JobBody {
        let mut body = JobBody { body, worker, carriage, work };
        if body.body.is_end_stream() {
            body.rest();
        }
        body
    }

    fn rest(&mut self) {
        if let Carriage::Alone(upstream) = std::mem::replace(&mut self.carriage, Carriage::Left) {
            self.work.target.put_back(self.worker, upstream);
        }
    }
}

impl From<JobBody> for ServedBody {
    fn from(body: JobBody) -> ServedBody {
        ServedBody { content: Content::Jobs(body), turn: None, record: None }
    }
}

impl From<String> for ServedBody {
    fn from(text: String) -> ServedBody {
        ServedBody { content: Content::Ours(Full::from(text)), turn: None, record: None }
    }
}

impl Body for ServedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match &mut self.content {
            Content::Ours(text) => {
                let frame = ready!(Pin::new(text).poll_frame(cx));
                frame.map(|frame| frame.map_err(|never: Infallible| match never {}))
            }
            Content::Jobs(job) => {
                let frame = ready!(Pin::new(&mut job.body).poll_frame(cx));
                match &frame {
                    Some(Ok(_)) if !job.body.is_end_stream() => {}
                    Some(Ok(_)) | None => job.rest(),
                    Some(Err(_)) => job.carriage = Carriage::Left,
                }
                frame
            }
        };
        if let Some(record) = &mut self.record {
            match &frame {
                Some(Ok(frame)) => record.sent(frame.data_ref().map_or(0, Bytes::len)),
                Some(Err(_)) => record.broke(),
                None => {}
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Ours(text) => text.is_end_stream(),
            Content::Jobs(job) => job.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Ours(text) => text.size_hint(),
            Content::Jobs(job) => job.body.size_hint(),
        }
    }
}
