//! What is told of one request: to the metrics always, to the access log where there is one.
//!
//! A record is made when a request's head is whole and tells when it is dropped: when the last byte of the answer was
//! written, or the client or the job broke it off.

use crate::access_log::{AccessLog, Line, harmless};
use crate::body::ClientBody;
use crate::client::Client;
use crate::meters::ServiceMeters;
use crate::switchboard::Work;
use crate::table::{Entry, ServiceLoad};
use http::{Request, StatusCode};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where one worker's records go.
#[derive(Debug)]
pub struct Ledger {
    /// The worker's number.
    pub worker: usize,
    /// What is counted of requests that no service answers for.
    pub unrouted: ServiceMeters,
    /// The access log, if there is one.
    pub log: Option<Arc<AccessLog>>,
}

/// What is known of one request.
#[derive(Debug)]
pub struct Record {
    ledger: Arc<Ledger>,
    began: Instant,
    load: Option<Arc<ServiceLoad>>,
    status: Option<StatusCode>,
    body: Option<ClientBody>,
    sent: u64,
    retries: u32,
    /// Only where there is an access log.
    line: Option<Box<Line>>,
}

impl Record {
    /// A request whose head came just now.
    pub fn new<B>(ledger: &Arc<Ledger>, client: &Client, request: &Request<B>) -> Record {
        Record {
            ledger: Arc::clone(ledger),
            began: Instant::now(),
            load: None,
            status: None,
            body: None,
            sent: 0,
            retries: 0,
            line: ledger.log.is_some().then(|| Box::new(begun(client, request))),
        }
    }

    /// The service that it is for.
    pub fn of_service(&mut self, entry: &Entry) {
        if self.load.is_none() {
            self.load = Some(Arc::clone(&entry.load));
        }
        if let Some(line) = &mut self.line {
            line.service = Some(entry.name.clone());
        }
    }

    /// The job that is tried.
    pub fn at_job(&mut self, work: &Work) {
        self.of_service(&work.entry);
        if let Some(line) = &mut self.line {
            line.job = Some(work.target.key.job.to_string());
        }
    }

    /// What the client sends with it.
    pub fn with_body(&mut self, body: &ClientBody) {
        self.body = (!body.is_empty()).then(|| body.clone());
    }

    /// It is tried once more.
    pub fn retried(&mut self) {
        self.retries += 1;
    }

    /// The job could not be connected to.
    pub fn unreachable(&self) {
        self.meters().unreachable.add(1);
    }

    /// The head of its answer is known.
    pub fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
        if let Some(line) = &mut self.line {
            line.first_byte_us = Some(micros(self.began.elapsed()));
        }
    }

    /// Bytes of its answer's body went on.
    pub fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// Its answer broke off.
    pub fn broke(&mut self) {
        if let Some(line) = &mut self.line {
            line.broken = true;
        }
    }

    fn meters(&self) -> &ServiceMeters {
        self.load.as_ref().map_or(&self.ledger.unrouted, |load| load.meters(self.ledger.worker))
    }
}

/// What of a line is known at its beginning.
fn begun<B>(client: &Client, request: &Request<B>) -> Line {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Line {
        time: format!("{}.{:06}", now.as_secs(), now.subsec_micros()),
        service: None,
        job: None,
        method: harmless(request.method().as_str()),
        path: harmless(request.uri().path()),
        status: None,
        received: 0,
        sent: 0,
        duration_us: 0,
        first_byte_us: None,
        client: client.address.ip().to_canonical(),
        protocol: format!("{:?}", request.version()),
        retried: 0,
        broken: false,
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

impl Drop for Record {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        if let (Some(mut line), Some(log)) = (self.line.take(), &self.ledger.log) {
            line.status = self.status.map(|status| status.as_u16());
            line.received = self.body.as_ref().map_or(0, ClientBody::bytes);
            line.sent = self.sent;
            line.duration_us = micros(took);
            line.retried = self.retries;
            log.write(&line);
        }
        let meters = self.meters();
        meters.of(self.status).add(1);
        meters.spans.observe(took);
        meters.sent.add(self.sent);
        if let Some(body) = &self.body {
            meters.received.add(body.bytes());
        }
        if self.retries > 0 {
            meters.retries.add(u64::from(self.retries));
        }
    }
}
