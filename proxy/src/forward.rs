//! One request: find its job, carry it there, carry the response back.
//!
//! # What may be sent twice
//! A request is tried at most `TRIES` times. It may go again when nothing of it was written (no connection came about,
//! or the kept-alive one was closed before it was used), whatever the method; and when it was written but no byte of a
//! response came, if the method says that twice is as good as once and no byte of a body was taken. Everything else is
//! the client's to repeat.

use crate::answer::{Answer, wants_json};
use crate::asked::{self, Asked};
use crate::body::{ClientBody, JobBody, ServedBody};
use crate::config::Limits;
use crate::switchboard::{NoWork, Switchboard, Work};
use crate::target::{MAX_IDLE_TIME, TargetKey};
use crate::upgrade;
use crate::upstream::Upstream;
use http::{Method, Request, Response, StatusCode, Version, request};
use hyper::body::Incoming;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio_util::task::TaskTracker;

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
    /// This worker's number, for the pools.
    pub worker: usize,
    /// The upgraded connections of this worker.
    pub upgraded: &'a TaskTracker,
}

/// A request on its way, with all that another try needs.
struct Draft {
    asked: Asked,
    head: request::Parts,
    body: ClientBody,
}

/// Why a try failed.
enum Failed {
    /// Another try may do.
    Again { text: String, elsewhere: bool },
    /// This is the end of it.
    Final(Answer),
}

impl Carrier<'_> {
    /// Answers one request of a client.
    pub async fn carry(&self, client: SocketAddr, mut request: Request<Incoming>) -> Response<ServedBody> {
        let began = Instant::now();
        let (method, uri, version) = (request.method().clone(), request.uri().clone(), request.version());
        let on_upgrade = hyper::upgrade::on(&mut request);
        let json = wants_json(request.headers());
        let outcome = match Asked::read(&request) {
            Ok(asked) => {
                let ends = asked::ends_connection(&asked, version);
                self.attempt(Draft::new(asked, request, client), on_upgrade).await.map(|mut response| {
                    if ends && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                        let close = http::HeaderValue::from_static("close");
                        response.headers_mut().insert(http::header::CONNECTION, close);
                    }
                    response
                })
            }
            Err(answer) => Err(answer),
        };
        let response = outcome.unwrap_or_else(|answer| {
            tracing::debug!(%client, %method, %uri, status = answer.status.as_u16(), reason = %answer.text, "answered by the proxy");
            answer.into_response(json)
        });
        tracing::debug!(%client, %method, %uri, status = response.status().as_u16(), took = ?began.elapsed(), "request");
        response
    }

    async fn attempt(
        &self,
        draft: Draft,
        on_upgrade: hyper::upgrade::OnUpgrade,
    ) -> Result<Response<ServedBody>, Answer> {
        let path = draft.head.uri.path().to_owned();
        let mut tried: Vec<TargetKey> = Vec::new();
        let mut said: Option<Answer> = None;
        // One kept-alive connection that was closed under us speaks for the others: the next try makes a new one.
        let mut kept_alive_allowed = true;
        for _ in 0..TRIES {
            let work = match self.switchboard.begin(&draft.asked.host, &path, &tried) {
                Ok(work) => work,
                Err(NoWork::AllTried) if said.is_some() => break,
                Err(reason) => return Err(Answer::no_work(reason, &draft.asked.host, &path)),
            };
            match self.try_once(&draft, &work, kept_alive_allowed).await {
                Ok((response, upstream)) => return self.respond(&draft, response, upstream, work, on_upgrade),
                Err(Failed::Final(answer)) => return Err(answer),
                Err(Failed::Again { text, elsewhere }) => {
                    if elsewhere {
                        work.target.avoid();
                        tried.push(work.target.key);
                    }
                    kept_alive_allowed = false;
                    said = Some(Answer::bad_gateway(&work.entry.name, &text));
                }
            }
        }
        Err(said.unwrap_or_else(|| Answer::unavailable("no job could be tried")))
    }

    async fn try_once(
        &self,
        draft: &Draft,
        work: &Work,
        kept_alive_allowed: bool,
    ) -> Result<(Response<Incoming>, Upstream), Failed> {
        let used_within = match (kept_alive_allowed, draft.may_repeat()) {
            (false, _) => Duration::ZERO,
            (true, false) => FRESH_ENOUGH,
            (true, true) => MAX_IDLE_TIME,
        };
        let mut upstream = match work.target.take_idle(self.worker, used_within) {
            Some(upstream) => upstream,
            None => Upstream::connect(work.target.key.address, self.limits.connect_timeout).await.map_err(|error| {
                Failed::Again { text: format!("the job did not answer: {}", plainly(&error)), elsewhere: true }
            })?,
        };
        let sent = self.await_head(draft, upstream.exchange(draft.request())).await;
        let service = &work.entry.name;
        match sent {
            Ok(Ok(response)) => Ok((response, upstream)),
            Ok(Err(broken)) => {
                let text = format!("the job broke off before it answered: {}", root(&broken.error));
                let again = !draft.body.is_taken() && (broken.unsent || broken.silent && draft.may_repeat());
                if again {
                    // A used connection says nothing about the job: it may have closed it for its age.
                    Err(Failed::Again { text, elsewhere: !upstream.is_used() })
                } else if broken.error.is_user() || body_broke(&broken.error, &draft.body) {
                    Err(Failed::Final(Answer::bad_request("the request's body broke off")))
                } else {
                    Err(Failed::Final(Answer::bad_gateway(service, &text)))
                }
            }
            Err(NothingMoved) if !draft.body.is_finished() => Err(Failed::Final(Answer {
                close: true,
                ..Answer::new(StatusCode::REQUEST_TIMEOUT, "the request's body did not come in time")
            })),
            Err(NothingMoved) => Err(Failed::Final(Answer::new(
                StatusCode::GATEWAY_TIMEOUT,
                format!("{service}: the job did not answer within {:?}", self.limits.first_byte_timeout),
            ))),
        }
    }

    /// Waits for the response's head as long as the request's body moves, and `first_byte_timeout` after it stopped.
    async fn await_head<T>(&self, draft: &Draft, exchange: impl Future<Output = T>) -> Result<T, NothingMoved> {
        let began = Instant::now();
        tokio::pin!(exchange);
        loop {
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
        mut response: Response<Incoming>,
        upstream: Upstream,
        work: Work,
        on_upgrade: hyper::upgrade::OnUpgrade,
    ) -> Result<Response<ServedBody>, Answer> {
        let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let agreed = asked::upgrade_of(response.headers());
        asked::strip_hop_by_hop(response.headers_mut());
        *response.version_mut() = Version::HTTP_11;
        if !switching {
            return Ok(response.map(|body| JobBody::new(body, self.worker, upstream, work).into()));
        }
        let offered = draft.asked.upgrade.as_ref();
        let Some(protocol) = agreed.filter(|agreed| offered.is_some_and(|offered| asked::takes(agreed, offered)))
        else {
            let text = "the job changed the protocol to one that it was not asked for";
            return Err(Answer::bad_gateway(&work.entry.name, text));
        };
        let headers = response.headers_mut();
        headers.insert(http::header::CONNECTION, http::HeaderValue::from_static("upgrade"));
        headers.insert(http::header::UPGRADE, protocol);
        let job = hyper::upgrade::on(&mut response);
        self.upgraded.spawn(upgrade::join(on_upgrade, job, work));
        Ok(response.map(|_| String::new().into()))
    }
}

/// Neither the client nor the job moved for as long as a first byte may take.
struct NothingMoved;

impl Draft {
    fn new(asked: Asked, request: Request<Incoming>, client: SocketAddr) -> Draft {
        let (mut head, body) = request.into_parts();
        asked.carry(&mut head.headers, client);
        head.uri = asked::origin_form(&head.uri);
        head.version = Version::HTTP_11;
        Draft { asked, head, body: ClientBody::new(body) }
    }

    fn request(&self) -> Request<ClientBody> {
        let mut request = Request::new(self.body.clone());
        *request.method_mut() = self.head.method.clone();
        *request.uri_mut() = self.head.uri.clone();
        *request.headers_mut() = self.head.headers.clone();
        request
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
