//! The bodies that pass through, frame by frame and never whole.

use crate::patience::Turn;
use crate::switchboard::Work;
use crate::upstream::Upstream;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

/// A client's request body on its way to a job. Clones are the same body: a connection that breaks before it took
/// anything leaves the body for the next one.
#[derive(Debug, Clone)]
pub struct ClientBody {
    /// `None` when there is nothing to carry.
    carried: Option<Arc<Mutex<Carried>>>,
}

#[derive(Debug)]
struct Carried {
    body: Incoming,
    taken: bool,
    finished: bool,
    moved: Instant,
}

impl ClientBody {
    /// The body of a request.
    pub fn new(body: Incoming) -> ClientBody {
        if body.is_end_stream() {
            return ClientBody { carried: None };
        }
        let carried = Carried { body, taken: false, finished: false, moved: Instant::now() };
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
        self.lock().is_some_and(|carried| carried.taken)
    }

    /// Whether the client has sent all of it.
    pub fn is_finished(&self) -> bool {
        self.lock().is_none_or(|carried| carried.finished)
    }

    /// When bytes of it last moved on.
    pub fn moved(&self) -> Option<Instant> {
        self.lock().map(|carried| carried.moved)
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(mut carried) = self.lock() else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(&mut carried.body).poll_frame(cx));
        // A client's trailers end here (RFC 9110, 6.5.1): a job that merges them into the head would read claims about
        // who asks that this proxy did not write.
        let frame = frame.filter(|frame| !frame.as_ref().is_ok_and(Frame::is_trailers));
        carried.taken = true;
        carried.moved = Instant::now();
        carried.finished = frame.is_none() || carried.body.is_end_stream();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.lock().is_none_or(|carried| carried.body.is_end_stream())
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
}

#[derive(Debug)]
enum Content {
    Ours(Full<Bytes>),
    Jobs(JobBody),
}

/// A job's response body on its way to a client. It keeps the request counted until hyper has written its last byte into
/// the client's connection or given up.
#[derive(Debug)]
pub struct JobBody {
    body: Incoming,
    worker: usize,
    /// Goes back to the target's idle ones when the body was read to its end; closed when this is dropped before.
    upstream: Option<Upstream>,
    work: Work,
}

impl JobBody {
    /// The body of a response that came over `upstream`.
    pub fn new(body: Incoming, worker: usize, upstream: Upstream, work: Work) -> JobBody {
        let mut body = JobBody { body, worker, upstream: Some(upstream), work };
        body.rest_at_end();
        body
    }

    fn rest_at_end(&mut self) {
        if self.body.is_end_stream()
            && let Some(upstream) = self.upstream.take()
        {
            self.work.target.put_back(self.worker, upstream);
        }
    }
}

impl From<JobBody> for ServedBody {
    fn from(body: JobBody) -> ServedBody {
        ServedBody { content: Content::Jobs(body), turn: None }
    }
}

impl From<String> for ServedBody {
    fn from(text: String) -> ServedBody {
        ServedBody { content: Content::Ours(Full::from(text)), turn: None }
    }
}

impl Body for ServedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.content {
            Content::Ours(text) => {
                let frame = ready!(Pin::new(text).poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(|never: Infallible| match never {})))
            }
            Content::Jobs(job) => {
                let frame = ready!(Pin::new(&mut job.body).poll_frame(cx));
                match &frame {
                    Some(Ok(_)) => job.rest_at_end(),
                    Some(Err(_)) => job.upstream = None,
                    None => {
                        if let Some(upstream) = job.upstream.take() {
                            job.work.target.put_back(job.worker, upstream);
                        }
                    }
                }
                Poll::Ready(frame)
            }
        }
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
