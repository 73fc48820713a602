//! One request: find its job, carry it there, carry the response back.
//!
//! # What may be sent twice
//! A request is tried at most `TRIES` times. It may go again
//! - when nothing of it was written (no connection came about, or the kept-alive one was closed before it was used), or a job
//!   of HTTP/2 says that it did nothing with it (it refused the stream, or went away before it saw it): whatever the method;
//! - when it was written but no byte of a response came, if the method says that twice is as good as once and it has no body.
//!
//! Of a body, what a job of HTTP/2 was sent before its answer is kept for another try, up to a bound (see `body`); once more
//! than that was taken, or any of it by a job of HTTP/1.1, there is no other try. Everything else is the client's to repeat.

use crate::answer::{Answer, Form, is_grpc};
use crate::asked::{self, Asked};
use crate::body::{Carriage, ClientBody, JobBody, ServedBody, Source};
use crate::client::Client;
use crate::config::Limits;
use crate::headers;
use crate::record::{Ledger, Record};
use crate::switchboard::{NoWork, Switchboard, Work};
use crate::target::{MAX_IDLE_TIME, Place, TargetKey};
use crate::trunk::{Lost, Seat, Trunk};
use crate::upgrade;
use crate::upstream::Upstream;
use crate::worker::{Shared, Upgraded};
use h2::Reason;
use http::uri::{Authority, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, Version, request};
use hyper::upgrade::OnUpgrade;
use lapstrake_core::routes::Speaks;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::task::TaskTracker;

/// Connections that one request makes to a job before it gives up on places there.
const MOST_DIALS: usize = 8;

/// Two more than one: a kept-alive connection that was closed under us, then a job that is gone.
const TRIES: usize = 3;

/// A request that cannot be sent twice does not meet a kept-alive connection older than this, because the job may be
/// closing it. The shortest keep-alive among common servers is gunicorn's 2 s.
const FRESH_ENOUGH: Duration = Duration::from_secs(1);

/// What every request on one worker needs.
#[derive(Debug)]
pub struct Carrier<'a> {
    /// Where requests go.
    pub switchboard: &'a Switchboard,
    /// How long and how much.
    pub limits: &'a Limits,
    /// This worker's number, for the pools, and where it tells of requests.
    pub ledger: &'a Arc<Ledger>,
    /// The upgraded connections of this worker, and where they are counted.
    pub upgraded: &'a TaskTracker,
    /// What all workers share.
    pub shared: &'a Arc<Shared>,
}

/// A request on its way, with all that another try needs.
struct Draft {
    asked: Asked,
    head: request::Parts,
    body: ClientBody,
}

/// What came back of a try.
type Came = (Response<Source>, Carriage);

/// Why a try failed.
enum Failed {
    /// Another try may do.
    Again { text: String, elsewhere: bool },
    /// This is the end of it.
    Final(Answer),
    /// The job has reset the stream; the client's is reset too, if it is one.
    Reset(Reason),
}

impl Carrier<'_> {
    /// Answers one request of a client, or says with which word of HTTP/2 the job has reset it; that is said to clients of
    /// HTTP/2 alone.
    pub async fn carry(
        &self,
        client: &Client,
        request: Request<Source>,
        on_upgrade: Option<OnUpgrade>,
    ) -> Result<Response<ServedBody>, Reason> {
        let mut record = Record::new(self.ledger, client, &request);
        let (method, uri, version) = (request.method().clone(), request.uri().clone(), request.version());
        let form = Form::of(version, request.headers());
        let outcome = match Asked::read(&request) {
            Ok(asked) => {
                let ends = asked::ends_connection(&asked, version);
                let draft = Draft::new(asked, request, client);
                record.with_body(&draft.body);
                self.attempt(draft, on_upgrade, &mut record).await.map(|mut response| {
                    if ends && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                        let close = http::HeaderValue::from_static("close");
                        response.headers_mut().insert(http::header::CONNECTION, close);
                    }
                    response
                })
            }
            Err(answer) => Err(Failed::Final(answer)),
        };
        let mut response = match outcome {
            Ok(response) => {
                record.answered(response.status());
                response
            }
            Err(Failed::Reset(reason)) if version == Version::HTTP_2 => {
                tracing::debug!(client = %client.address, %method, %uri, %reason, "the job reset the stream");
                return Err(reason);
            }
            Err(failed) => {
                let answer = failed.into_answer();
                tracing::debug!(client = %client.address, %method, %uri, status = answer.status.as_u16(), reason = %answer.text, "answered by the proxy");
                record.answered(answer.status);
                answer.into_response(form)
            }
        };
        tracing::debug!(client = %client.address, %method, %uri, status = response.status().as_u16(), "request");
        response.body_mut().record = Some(record);
        Ok(response)
    }

    async fn attempt(
        &self,
        draft: Draft,
        on_upgrade: Option<OnUpgrade>,
        record: &mut Record,
    ) -> Result<Response<ServedBody>, Failed> {
        let path = draft.head.uri.path();
        let mut tried: Vec<TargetKey> = Vec::new();
        let mut said: Option<Answer> = None;
        // One kept-alive connection that was closed under us speaks for the others: the next try makes a new one.
        let mut kept_alive_allowed = true;
        for number in 0..TRIES {
            let work = match self.switchboard.begin(&draft.asked.host, path, &tried) {
                Ok(work) => work,
                Err(NoWork::AllTried) if said.is_some() => break,
                Err(reason) => {
                    if let Some(entry) = self.switchboard.entry(&draft.asked.host, path) {
                        record.of_service(&entry);
                    }
                    return Err(Failed::Final(Answer::no_work(reason, &draft.asked.host, path)));
                }
            };
            record.at_job(&work);
            if number > 0 {
                record.retried();
            }
            let tried_once = match work.target.speaks {
                Speaks::Http => self.try_alone(&draft, &work, kept_alive_allowed, record).await,
                Speaks::H2c => self.try_among(&draft, &work, record).await,
            };
            match tried_once {
                Ok((response, carriage)) => {
                    let answered = self.respond(&draft, response, carriage, work, on_upgrade);
                    return answered.map_err(Failed::Final);
                }
                Err(Failed::Again { text, elsewhere }) => {
                    if elsewhere {
                        work.target.avoid();
                        tried.push(work.target.key);
                    }
                    kept_alive_allowed = false;
                    said = Some(Answer::bad_gateway(&work.entry.name, &text));
                }
                Err(failed) => return Err(failed),
            }
        }
        Err(Failed::Final(said.unwrap_or_else(|| Answer::unavailable("no job could be tried"))))
    }

    /// A try on a connection of HTTP/1.1, which is this request's alone meanwhile.
    async fn try_alone(
        &self,
        draft: &Draft,
        work: &Work,
        kept_alive_allowed: bool,
        record: &Record,
    ) -> Result<Came, Failed> {
        let used_within = match (kept_alive_allowed, draft.may_repeat()) {
            (false, _) => Duration::ZERO,
            (true, false) => FRESH_ENOUGH,
            (true, true) => MAX_IDLE_TIME,
        };
        // An earlier try on a stream may have taken some of the body.
        draft.body.rewind();
        let mut upstream = match work.target.take_idle(self.ledger.worker, used_within) {
            Some(upstream) => upstream,
            None => Upstream::connect(work.target.key.address, self.limits.connect_timeout)
                .await
                .map_err(|error| unreachable_job(&error, record))?,
        };
        let sent = self.await_head(draft, false, upstream.exchange(draft.request())).await;
        match sent {
            Ok(Ok(response)) => Ok((response, Carriage::Alone(upstream))),
            Ok(Err(broken)) => {
                let text = format!("the job broke off before it answered: {}", root(&broken.error));
                let again = !draft.body.is_taken() && (broken.unsent || broken.silent && draft.may_repeat());
                if again {
                    // A used connection says nothing about the job: it may have closed it for its age.
                    Err(Failed::Again { text, elsewhere: !upstream.is_used() })
                } else if broken.error.is_user() || body_broke(&broken.error, &draft.body) {
                    Err(Failed::Final(Answer::bad_request("the request's body broke off")))
                } else {
                    Err(Failed::Final(Answer::bad_gateway(&work.entry.name, &text)))
                }
            }
            Err(NothingMoved) => Err(self.nothing_moved(draft, work)),
        }
    }

    /// A try on a stream of HTTP/2. It may go again whatever the method when the job says that it did nothing, and what it
    /// was sent of the body is still here.
    async fn try_among(&self, draft: &Draft, work: &Work, record: &Record) -> Result<Came, Failed> {
        draft.body.keep();
        let (trunk, seat) = self.seat(work, record).await?;
        let request = draft.request_http2().map_err(Failed::Final)?;
        let exchange = trunk.clone().exchange(seat, request, draft.body.clone());
        match self.await_head(draft, draft.is_call(), exchange).await {
            Ok(Ok((response, ride))) => {
                draft.body.forget();
                Ok((response.map(Source::Http2), Carriage::Among { _ride: ride }))
            }
            Ok(Err(lost)) => {
                let (again, error) = match lost {
                    Lost::Reset(reason) => return Err(Failed::Reset(reason)),
                    Lost::Refused(error) => (!draft.body.is_taken(), error),
                    Lost::Broken(error) => (!draft.body.is_taken() && draft.may_repeat(), error),
                };
                let text = format!("the job broke off before it answered: {}", root(&error));
                if again {
                    Err(Failed::Again { text, elsewhere: false })
                } else {
                    Err(Failed::Final(Answer::bad_gateway(&work.entry.name, &text)))
                }
            }
            Err(NothingMoved) => {
                // The others on it go on; the next request does not join them.
                trunk.close();
                Err(self.nothing_moved(draft, work))
            }
        }
    }

    /// A place on a trunk to the job, on a new one if the others are full.
    async fn seat(&self, work: &Work, record: &Record) -> Result<(Trunk, Seat), Failed> {
        let worker = self.ledger.worker;
        let dial = || Trunk::dial(work.target.key.address, self.limits.connect_timeout, self.limits.first_byte_timeout);
        // Those who waited with us may have taken every place on the new trunk, and a job may take few, or none at all.
        for _ in 0..MOST_DIALS {
            let dialing = match work.target.place(worker, dial) {
                Place::Here(trunk, seat) => return Ok((trunk, seat)),
                Place::Soon(dialing) => dialing,
            };
            let made = dialing.clone().await;
            // Its own task does this too, perhaps a moment later.
            work.target.dialed(worker, &dialing, made.as_ref().ok());
            let trunk = made.map_err(|error| unreachable_job(&error, record))?;
            if let Some(seat) = trunk.seat() {
                return Ok((trunk, seat));
            }
            if trunk.is_closed() {
                let text = "the job closed a new connection at once".to_owned();
                return Err(Failed::Again { text, elsewhere: true });
            }
        }
        let text = "the job takes no request on its new connections".to_owned();
        Err(Failed::Again { text, elsewhere: true })
    }

    fn nothing_moved(&self, draft: &Draft, work: &Work) -> Failed {
        if !draft.body.is_finished() {
            let answer = Answer::new(StatusCode::REQUEST_TIMEOUT, "the request's body did not come in time");
            return Failed::Final(Answer { close: true, ..answer });
        }
        let (service, limit) = (&work.entry.name, self.limits.first_byte_timeout);
        let text = format!("{service}: the job did not answer within {limit:?}");
        Failed::Final(Answer::new(StatusCode::GATEWAY_TIMEOUT, text))
    }

    /// Waits for the response's head as long as the request's body moves, and `first_byte_timeout` after it stopped. One that
    /// `may_be_silent` is waited for without a limit until its body has ended.
    async fn await_head<T>(
        &self,
        draft: &Draft,
        may_be_silent: bool,
        exchange: impl Future<Output = T>,
    ) -> Result<T, NothingMoved> {
        let began = Instant::now();
        tokio::pin!(exchange);
        loop {
            if may_be_silent && !draft.body.is_finished() {
                // A stream of gRPC may be silent both ways for as long as client and job like. A job of HTTP/1.1 has none.
                tokio::select! {
                    biased;
                    outcome = &mut exchange => return Ok(outcome),
                    () = tokio::time::sleep(self.limits.first_byte_timeout) => continue,
                }
            }
            let since = draft.body.moved().map_or(began, |moved| moved.max(began));
            let deadline = since + self.limits.first_byte_timeout;
            if Instant::now() >= deadline {
                return Err(NothingMoved);
            }
            if let Ok(outcome) = tokio::time::timeout_at(deadline.into(), &mut exchange).await {
                return Ok(outcome);
            }
        }
    }

    fn respond(
        &self,
        draft: &Draft,
        mut response: Response<Source>,
        carriage: Carriage,
        work: Work,
        on_upgrade: Option<OnUpgrade>,
    ) -> Result<Response<ServedBody>, Answer> {
        let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let agreed = switching.then(|| asked::upgrade_of(response.headers())).flatten();
        headers::strip_hop_by_hop(response.headers_mut());
        *response.version_mut() = Version::HTTP_11;
        if !switching {
            return Ok(response.map(|body| JobBody::new(body, self.ledger.worker, carriage, work).into()));
        }
        let offered = draft.asked.upgrade.as_ref();
        let agreed = agreed.filter(|agreed| offered.is_some_and(|offered| asked::takes(agreed, offered)));
        let (Some(protocol), Some(on_upgrade)) = (agreed, on_upgrade) else {
            let text = "the job changed the protocol to one that it was not asked for";
            return Err(Answer::bad_gateway(&work.entry.name, text));
        };
        let headers = response.headers_mut();
        headers.insert(http::header::CONNECTION, http::HeaderValue::from_static("upgrade"));
        headers.insert(http::header::UPGRADE, protocol);
        let job = hyper::upgrade::on(&mut response);
        let (worker, counted) = (self.ledger.worker, Upgraded::new(self.shared));
        self.upgraded.spawn(async move {
            upgrade::join(on_upgrade, job, work, worker).await;
            drop(counted);
        });
        Ok(response.map(|_| String::new().into()))
    }
}

impl Failed {
    /// What a client hears that no stream can be reset for.
    fn into_answer(self) -> Answer {
        match self {
            Failed::Final(answer) => answer,
            Failed::Again { text, .. } => Answer::new(StatusCode::BAD_GATEWAY, text),
            Failed::Reset(reason) => {
                Answer::new(StatusCode::BAD_GATEWAY, format!("the job reset the stream: {reason}"))
            }
        }
    }
}

fn unreachable_job(error: &std::io::Error, record: &Record) -> Failed {
    record.unreachable();
    Failed::Again { text: format!("the job did not answer: {}", plainly(error)), elsewhere: true }
}

/// Neither the client nor the job moved for as long as a first byte may take.
struct NothingMoved;

impl Draft {
    fn new(mut asked: Asked, request: Request<Source>, client: &Client) -> Draft {
        let (mut head, body) = request.into_parts();
        let body = ClientBody::new(body);
        if head.version == Version::HTTP_2 {
            // Its frames end a body, for which HTTP/1.1 needs a length or chunks.
            asked.chunked = !body.is_empty() && !head.headers.contains_key(http::header::CONTENT_LENGTH);
        }
        asked.carry(&mut head.headers, client);
        head.uri = asked::origin_form(&head.uri);
        head.version = Version::HTTP_11;
        Draft { asked, head, body }
    }

    fn request(&self) -> Request<ClientBody> {
        let mut request = Request::new(self.body.clone());
        *request.method_mut() = self.head.method.clone();
        *request.uri_mut() = self.head.uri.clone();
        *request.headers_mut() = self.head.headers.clone();
        request
    }

    /// The same for a job of HTTP/2, without the body.
    fn request_http2(&self) -> Result<Request<()>, Answer> {
        let authority = Authority::try_from(self.asked.authority.as_bytes());
        let authority = authority.map_err(|_| Answer::bad_request("the request's Host is not a host name"))?;
        let mut parts = self.head.uri.clone().into_parts();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(authority);
        let uri = Uri::from_parts(parts);
        let mut request = Request::new(());
        *request.uri_mut() = uri.map_err(|_| Answer::bad_request("the request's target cannot be carried"))?;
        *request.method_mut() = self.head.method.clone();
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = self.head.headers.clone();
        asked::for_http2(request.headers_mut(), self.asked.trailers);
        Ok(request)
    }

    /// Whether it is a call of gRPC, which may be a stream.
    fn is_call(&self) -> bool {
        self.asked.trailers && is_grpc(&self.head.headers)
    }

    /// Whether it may be sent again after it was written.
    fn may_repeat(&self) -> bool {
        let twice_is_once =
            matches!(self.head.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE);
        twice_is_once && self.body.is_empty()
    }
}

fn body_broke(error: &hyper::Error, body: &ClientBody) -> bool {
    error.is_body_write_aborted() && !body.is_finished()
}

/// The innermost cause: what the system said.
fn root(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// An error of connecting in plain words.
fn plainly(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        std::io::ErrorKind::HostUnreachable => "its address is unreachable".to_owned(),
        std::io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        _ => root(error),
    }
}
