//! One session of a node, controller's side, and the calls for logs and for streams to jobs.

use super::hub::{HelloRefusal, Hub};
use super::outbox::{Outbox, SessionOver};
use super::sessions::Sessions;
use super::{Limits, caller, not_renewed};
use crate::ca::Ca;
use crate::vault::Vault;
use lapstrake::convert::{FromJob, LogsWord, Malformed, ToJob};
use lapstrake::v1;
use lapstrake::v1::agent_service_server::AgentService;
use lapstrake_core::ids::{JobId, NodeId, RequestId, SessionId};
use lapstrake_core::message::{AgentWord, ControllerWord, Hello, ResolvedImage};
use lapstrake_core::report::NodeReport;
use lapstrake_core::time::{Millis, Wall};
use lapstrake_pki::mint;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

/// Answers to questions on their way to the hub. A node has at most as many questions.
const ANSWERS: usize = 64;
/// The controller counts a lease a second longer than the agent, who counts from sending.
const GRACE: Duration = Duration::from_secs(1);
/// The wall clock may be set: it is looked at this often.
const LONGEST_NAP: Millis = Millis::secs(60);

/// Serves nodes.
pub(super) struct AgentDesk<H> {
    pub ca: Arc<Ca>,
    pub hub: Arc<H>,
    pub sessions: Arc<Sessions>,
    pub limits: Limits,
    pub vault: Arc<Vault>,
}

type Words = Pin<Box<dyn Stream<Item = Result<v1::OpenSessionResponse, Status>> + Send>>;
type Asked = Pin<Box<dyn Stream<Item = Result<v1::StreamTunnelResponse, Status>> + Send>>;

#[tonic::async_trait]
impl<H: Hub> AgentService for AgentDesk<H> {
    type OpenSessionStream = Outgoing;
    type StreamTunnelStream = Asked;

    async fn open_session(
        &self,
        request: Request<Streaming<v1::OpenSessionRequest>>,
    ) -> Result<Response<Outgoing>, Status> {
        let node = caller(&request, self.ca.cluster(), &*self.hub, not_renewed)?;
        let peer = request.extensions().get::<super::connection::Peer>();
        let peer = peer.and_then(|peer| Some((peer.address.ip(), peer.node?.1)));
        let (address, until) = peer.ok_or_else(|| Status::internal("the connection is not known"))?;
        let mut heard = request.into_inner();
        let hello = self.hello(node, &mut heard).await?;
        let session = SessionId(mint::id());
        let outbox = Outbox::default();
        let lease = self.welcome(node, session, hello, address, &outbox).await?;
        let listener = Listener {
            hub: self.hub.clone(),
            sessions: self.sessions.clone(),
            node,
            session,
            outbox: outbox.clone(),
            silence: lease.std() + GRACE,
            until,
        };
        tokio::spawn(listener.listen(heard));
        Ok(Response::new(Outgoing::new(outbox, self.vault.clone())))
    }

    async fn stream_logs(
        &self,
        request: Request<Streaming<v1::StreamLogsRequest>>,
    ) -> Result<Response<v1::StreamLogsResponse>, Status> {
        let Opened { node, session, request, job, heard } = self.opened::<_, LogsWord>(request).await?;
        let reader = self.sessions.logs.answer(request, node, job);
        let reader = reader.ok_or_else(|| Status::not_found("nobody waits for this output"))?;
        tokio::select! {
            passed = pass_on(request, heard, reader) => passed?,
            // Whatever cuts the node's session cuts what belongs to it.
            over = session.ended() => return Err(closing(&over)),
        }
        Ok(Response::new(v1::StreamLogsResponse {}))
    }

    async fn stream_tunnel(
        &self,
        request: Request<Streaming<v1::StreamTunnelRequest>>,
    ) -> Result<Response<Asked>, Status> {
        let Opened { node, session, request, job, heard } = self.opened::<_, FromJob>(request).await?;
        let ends = self.sessions.tunnels.answer(request, node, job);
        let (words, asked) = ends.ok_or_else(|| Status::not_found("nobody waits for this stream"))?;
        let (tell, ended) = oneshot::channel();
        tokio::spawn(async move {
            let end = tokio::select! {
                passed = pass_on(request, heard, words) => passed,
                // Whatever cuts the node's session cuts what belongs to it.
                over = session.ended() => Err(closing(&over)),
            };
            let _ = tell.send(end);
        });
        Ok(Response::new(answers(asked, ended)))
    }
}

/// A node's word about one request: an opening, what there is to say, an end.
trait OfRequest: Sized {
    /// The request and the job, if it is an opening.
    fn opening(&self) -> Option<(RequestId, JobId)>;
    fn is_last(&self) -> bool;
}

impl OfRequest for FromJob {
    fn opening(&self) -> Option<(RequestId, JobId)> {
        if let FromJob::Opening { request, job } = self { Some((*request, *job)) } else { None }
    }
    fn is_last(&self) -> bool {
        matches!(self, FromJob::End(_))
    }
}

impl OfRequest for LogsWord {
    fn opening(&self) -> Option<(RequestId, JobId)> {
        if let LogsWord::Opening { request, job } = self { Some((*request, *job)) } else { None }
    }
    fn is_last(&self) -> bool {
        matches!(self, LogsWord::End(_))
    }
}

/// Carries words to whoever asked until the end, or until they have gone.
async fn pass_on<T, W>(request: RequestId, mut heard: Streaming<T>, asker: mpsc::Sender<W>) -> Result<(), Status>
where
    W: OfRequest + TryFrom<T, Error = Malformed>,
{
    loop {
        let word = tokio::select! {
            word = heard.message() => word?,
            () = asker.closed() => return Ok(()),
        };
        let word = match word.map(W::try_from) {
            None => return Ok(()),
            Some(Err(error)) if error.is_unknown_word() => continue,
            Some(Err(error)) => return Err(malformed(error)),
            Some(Ok(word)) if word.opening().is_some() => {
                return Err(Status::invalid_argument(format!("the request {request} was opened twice")));
            }
            Some(Ok(word)) => word,
        };
        let last = word.is_last();
        if asker.send(word).await.is_err() || last {
            return Ok(());
        }
    }
}

/// What the operator says, on its way to the job, until one of the two has ended.
fn answers(asked: mpsc::Receiver<ToJob>, ended: oneshot::Receiver<Result<(), Status>>) -> Asked {
    let words = futures_util::stream::unfold(Some((asked, ended)), async |ends| {
        let (mut asked, mut ended) = ends?;
        tokio::select! {
            biased;
            end = &mut ended => end.ok()?.err().map(|status| (Err(status), None)),
            word = asked.recv() => word.map(|word| (Ok(word.into()), Some((asked, ended)))),
        }
    });
    Box::pin(words)
}

/// A node's call about one request, after its first word.
struct Opened<T> {
    node: NodeId,
    session: Outbox,
    request: RequestId,
    job: JobId,
    heard: Streaming<T>,
}

impl<H: Hub> AgentDesk<H> {
    /// Hears the first word of a call about a request, of a node that has a session.
    async fn opened<T, W>(&self, call: Request<Streaming<T>>) -> Result<Opened<T>, Status>
    where
        W: OfRequest + TryFrom<T, Error = Malformed>,
    {
        let renewed = |node| self.sessions.certified_until(node);
        let node = caller(&call, self.ca.cluster(), &*self.hub, renewed)?;
        let session = self.sessions.of(node).ok_or_else(|| Status::not_found("this node has no session"))?;
        let mut heard = call.into_inner();
        let first = timeout(self.limits.first_word_time, heard.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no word came"))??;
        let first = first.map(W::try_from).transpose().map_err(malformed)?;
        let (request, job) = first
            .and_then(|word| word.opening())
            .ok_or_else(|| Status::invalid_argument("the first word of the call must be an opening"))?;
        Ok(Opened { node, session, request, job, heard })
    }

    /// The first word, checked against the certificate.
    async fn hello(&self, node: NodeId, heard: &mut Streaming<v1::OpenSessionRequest>) -> Result<Hello, Status> {
        let first = timeout(self.limits.first_word_time, heard.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello came in time"))??
            .ok_or_else(|| Status::invalid_argument("the stream ended before a hello"))?;
        let AgentWord::Hello(hello) = AgentWord::try_from(first).map_err(malformed)? else {
            return Err(Status::invalid_argument("the first word of a session must be a hello"));
        };
        if hello.cluster != self.ca.cluster() {
            return Err(Status::permission_denied(format!("the hello is for the cluster {}", hello.cluster)));
        }
        if hello.node != node {
            let said = format!("the hello is of the node {}, the certificate of the node {node}", hello.node);
            return Err(Status::permission_denied(said));
        }
        Ok(hello)
    }

    /// Gives the hello to the hub and makes the session the node's only one.
    async fn welcome(
        &self,
        node: NodeId,
        session: SessionId,
        hello: Hello,
        address: IpAddr,
        outbox: &Outbox,
    ) -> Result<Millis, Status> {
        let version = hello.version.clone();
        let turn = self.sessions.turn(node).await;
        let terms = self.hub.hello(session, hello, address, outbox.clone()).await.map_err(|refusal| {
            tracing::warn!(%node, %address, %refusal, "a session was refused");
            not_opened(&refusal)
        })?;
        turn.take(session, outbox.clone());
        outbox.welcome(ControllerWord::Welcome {
            session,
            epoch: terms.epoch,
            lease: terms.lease,
            heartbeat: terms.heartbeat,
            trust: self.ca.trust_pem(),
        });
        outbox.trust(self.ca.trust_pem(), self.ca.signing());
        tracing::info!(%node, %session, %address, %version, "a session is open");
        Ok(terms.lease)
    }
}

/// Hears one agent until its session is over.
struct Listener<H> {
    hub: Arc<H>,
    sessions: Arc<Sessions>,
    node: NodeId,
    session: SessionId,
    outbox: Outbox,
    silence: Duration,
    /// When the certificate ends that the session was opened with.
    until: Wall,
}

type Answer = (RequestId, Result<ResolvedImage, String>);

impl<H: Hub> Listener<H> {
    async fn listen(self, heard: Streaming<v1::OpenSessionRequest>) {
        // The newest report waits here while the hub takes an earlier one; heartbeats do not wait behind it.
        let (reports, newest) = watch::channel(None);
        let (answers, answered) = mpsc::channel(ANSWERS);
        let over = tokio::select! {
            over = self.hear(heard, reports, answers) => over,
            over = self.outbox.ended() => over,
            () = self.certificate_ended() => SessionOver::Expired,
            () = self.carry(newest, answered) => SessionOver::Gone,
        };
        tracing::info!(node = %self.node, session = %self.session, %over, "a session is over");
        self.outbox.end(over);
        self.sessions.leave(self.node, self.session);
        self.hub.ended(self.node, self.session);
    }

    /// Waits until the newest certificate of the node has ended: the one that it showed, or one that it got since.
    async fn certificate_ended(&self) {
        loop {
            let until = self.until.max(self.sessions.certified_until(self.node));
            let left = Millis(until.0.saturating_sub(mint::wall().0));
            if left == Millis(0) {
                return;
            }
            tokio::time::sleep(left.min(LONGEST_NAP).std()).await;
        }
    }

    async fn hear(
        &self,
        mut heard: Streaming<v1::OpenSessionRequest>,
        reports: watch::Sender<Option<NodeReport>>,
        answers: mpsc::Sender<Answer>,
    ) -> SessionOver {
        loop {
            let word = match timeout(self.silence, heard.message()).await {
                Err(_) => return SessionOver::Silent,
                Ok(Err(_)) | Ok(Ok(None)) => return SessionOver::Gone,
                Ok(Ok(Some(word))) => word,
            };
            match AgentWord::try_from(word) {
                Err(error) if error.is_unknown_word() => {}
                Err(error) => return SessionOver::Broke(error.to_string()),
                Ok(AgentWord::Hello(_)) => return SessionOver::Broke("a session has one hello".into()),
                Ok(AgentWord::Heartbeat { number, used }) => {
                    self.hub.heartbeat(self.node, self.session, used);
                    self.outbox.answer_heartbeat(number);
                }
                Ok(AgentWord::Credentials(said)) => self.hub.credentials(self.node, self.session, said),
                Ok(AgentWord::Report(report)) => {
                    reports.send_replace(Some(report));
                }
                Ok(AgentWord::ImageResolved { request, outcome }) => {
                    if answers.try_send((request, outcome)).is_err() {
                        return SessionOver::Broke("more answers came than questions were asked".into());
                    }
                }
            }
        }
    }

    /// Carries reports and answers to the hub, one at a time.
    async fn carry(&self, mut newest: watch::Receiver<Option<NodeReport>>, mut answered: mpsc::Receiver<Answer>) {
        loop {
            tokio::select! {
                Ok(()) = newest.changed() => {
                    let report = newest.borrow_and_update().clone();
                    if let Some(report) = report {
                        self.hub.report(self.node, self.session, report).await;
                    }
                }
                Some((request, outcome)) = answered.recv() => {
                    self.hub.resolved(self.node, self.session, request, outcome).await;
                }
                else => return,
            }
        }
    }
}

/// The controller's words on their way to one agent. gRPC takes the next one when the connection has room for it.
pub(super) struct Outgoing {
    words: Words,
    outbox: Outbox,
}

impl Outgoing {
    /// Values are opened here, and nowhere earlier: what waits is sealed.
    fn new(outbox: Outbox, vault: Arc<Vault>) -> Outgoing {
        let words = futures_util::stream::unfold(Some(outbox.clone()), move |outbox| {
            let vault = vault.clone();
            async move {
                let outbox = outbox?;
                match outbox.next().await {
                    Ok(word) => Some((Ok(vault.open_word(word).into()), Some(outbox))),
                    Err(over) => Some((Err(closing(&over)), None)),
                }
            }
        });
        Outgoing { words: Box::pin(words), outbox }
    }
}

impl Stream for Outgoing {
    type Item = Result<v1::OpenSessionResponse, Status>;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.words.as_mut().poll_next(cx)
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.outbox.end(SessionOver::Gone);
    }
}

fn closing(over: &SessionOver) -> Status {
    let said = over.to_string();
    match over {
        SessionOver::Superseded => Status::aborted(said),
        SessionOver::NotAdmitted(refused) => super::status_of(*refused),
        SessionOver::Expired => Status::unauthenticated(said),
        SessionOver::Broke(_) => Status::invalid_argument(said),
        SessionOver::Silent => Status::deadline_exceeded(said),
        SessionOver::Gone | SessionOver::Stopping => Status::unavailable(said),
    }
}

fn not_opened(refusal: &HelloRefusal) -> Status {
    match refusal {
        HelloRefusal::Refused(refused) => super::status_of(*refused),
        HelloRefusal::Unavailable(_) => Status::unavailable(refusal.to_string()),
    }
}

fn malformed(error: Malformed) -> Status {
    Status::invalid_argument(error.to_string())
}
