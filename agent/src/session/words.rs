//! One session, from the dial to its end.

use super::asks::{Asks, LogsWish, QUESTIONS};
use super::dial::{DialError, Dialled, dial};
use super::tunnels::{TunnelWish, Tunnels};
use super::{Host, Node};
use crate::tls::CredentialsError;
use lapstrake::convert::Malformed;
use lapstrake::v1::agent_service_client::AgentServiceClient;
use lapstrake::{limits, v1};
use lapstrake_core::assignment::AssignmentSet;
use lapstrake_core::message::{AgentWord, ControllerWord, Hello};
use lapstrake_core::report::NodeReport;
use lapstrake_core::time::{Millis, Tick};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

/// From the hello to the welcome: the controller writes the inventory to its disk in between.
const WELCOME_TIME: Duration = Duration::from_secs(15);
/// Heartbeats whose answers may be outstanding. A lease has three; more are never waited for.
const OUTSTANDING: usize = 16;

/// Why a session has ended, or there was none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionEnd {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("the controller refused this node's certificate: {0}")]
    CertificateRefused(String),
    #[error("the controller refused the session: {0}")]
    Refused(String),
    #[error("the controller cannot take the session now: {0}")]
    Unavailable(String),
    #[error(
        "another agent has taken this node's session; if it is not this one, started again, two machines have this identity"
    )]
    TakenOver,
    #[error("the session with the controller broke: {0}")]
    Broken(String),
    #[error("the controller ended the session")]
    Closed,
    #[error("the controller did not welcome this node within {} s", WELCOME_TIME.as_secs())]
    NoWelcome,
    #[error("the controller answered no heartbeat for {0}")]
    Silent(Millis),
    #[error("the controller's first word was not a welcome")]
    OutOfTurn,
    #[error("the controller said what cannot be understood")]
    Malformed(#[from] Malformed),
    #[error("the controller's trust bundle cannot be taken over")]
    Trust(#[from] CredentialsError),
}

impl SessionEnd {
    /// Whether it lasts until somebody does something about it.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, SessionEnd::CertificateRefused(_) | SessionEnd::Refused(_))
    }
}

/// One session with the controller.
pub(super) struct Conversation<'a, H> {
    node: &'a Node<H>,
    /// When each heartbeat without an answer was sent, oldest first.
    sent: Mutex<VecDeque<(u64, Tick)>>,
    answered: bool,
}

/// What the welcome said.
#[derive(Debug, Clone, Copy)]
struct Terms {
    lease: Millis,
    heartbeat: Millis,
}

impl<'a, H: Host> Conversation<'a, H> {
    pub(super) fn new(node: &'a Node<H>) -> Self {
        Conversation { node, sent: Mutex::default(), answered: false }
    }

    /// Whether a heartbeat was answered: then whatever ended it was new, and the next try need not wait long.
    pub(super) fn was_useful(&self) -> bool {
        self.answered
    }

    /// Has the session and says why it ended.
    pub(super) async fn hold(&mut self) -> SessionEnd {
        match self.open_and_talk().await {
            Ok(end) | Err(end) => end,
        }
    }

    async fn open_and_talk(&mut self) -> Result<SessionEnd, SessionEnd> {
        let node = self.node;
        let config = node.credentials.client_config();
        let Dialled { channel, .. } = dial(&node.identity.controller, node.identity.cluster, config).await?;
        let mut client = AgentServiceClient::new(channel).max_decoding_message_size(limits::AGENT_DECODES_BYTES);
        let mut reports = node.host.reports();
        // One place: what waits for a slow controller is decided when it takes the next word, and is then the newest.
        let (words, outgoing) = mpsc::channel(1);
        let hello = self.hello(reports.borrow_and_update().clone());
        words.try_send(AgentWord::Hello(hello).into()).map_err(|_| SessionEnd::Closed)?;
        let opening = async {
            let mut heard = client.open_session(ReceiverStream::new(outgoing)).await.map_err(ended_by)?.into_inner();
            let terms = self.welcome(heard.message().await.map_err(ended_by)?)?;
            Ok::<_, SessionEnd>((heard, terms))
        };
        let (heard, terms) = timeout(WELCOME_TIME, opening).await.map_err(|_| SessionEnd::NoWelcome)??;
        tracing::info!(controller = %node.identity.controller, lease = %terms.lease, "the session is open");
        node.host.set_trouble(None);
        let (answers, answered) = mpsc::channel(QUESTIONS);
        let tunnels = Tunnels::new(node.host.clone(), client.clone());
        let asks = Asks::new(node.host.clone(), client, answers);
        let sent = std::mem::take(&mut self.sent);
        let (sets, newest) = watch::channel(None);
        let end = tokio::select! {
            end = self.listen(heard, terms, (asks, tunnels), sets, &sent) => end,
            () = apply(&*node.host, newest) => SessionEnd::Closed,
            () = speak(node, words, reports, answered, terms, &sent) => SessionEnd::Closed,
        };
        Ok(end)
    }

    fn hello(&self, report: NodeReport) -> Hello {
        let node = self.node;
        Hello {
            cluster: node.identity.cluster,
            node: node.identity.node,
            boot: node.clock.boot(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            architecture: crate::join::architecture().to_owned(),
            wall: node.clock.wall(),
            report,
        }
    }

    fn welcome(&self, first: Option<v1::OpenSessionResponse>) -> Result<Terms, SessionEnd> {
        match ControllerWord::try_from(first.ok_or(SessionEnd::Closed)?)? {
            ControllerWord::Welcome { lease, heartbeat, trust, .. } => {
                self.node.credentials.trust(&trust)?;
                Ok(Terms { lease, heartbeat })
            }
            _ => Err(SessionEnd::OutOfTurn),
        }
    }

    /// Takes the controller's words until there are no more, or no heartbeat was answered for a lease.
    async fn listen(
        &mut self,
        mut heard: Streaming<v1::OpenSessionResponse>,
        terms: Terms,
        (mut asks, mut tunnels): (Asks<H>, Tunnels<H>),
        sets: watch::Sender<Option<AssignmentSet>>,
        sent: &Mutex<VecDeque<(u64, Tick)>>,
    ) -> SessionEnd {
        let host = &self.node.host;
        let mut last_answer = Instant::now();
        loop {
            let word = match timeout_at(last_answer + terms.lease.std(), heard.message()).await {
                Err(_) => return SessionEnd::Silent(terms.lease),
                Ok(Err(status)) => return ended_by(status),
                Ok(Ok(None)) => return SessionEnd::Closed,
                Ok(Ok(Some(word))) => word,
            };
            let word = match understood(word) {
                Ok(Heard::Word(word)) => word,
                Ok(Heard::Nothing) => continue,
                Ok(Heard::NotTaken(sentence)) => {
                    tracing::warn!(%sentence, "an assignment set is not taken");
                    host.set_trouble(Some(sentence));
                    continue;
                }
                Err(error) => return error.into(),
            };
            match word {
                ControllerWord::Welcome { .. } => return SessionEnd::OutOfTurn,
                ControllerWord::HeartbeatAnswer { number } => {
                    if let Some(sent_at) = when_sent(sent, number) {
                        last_answer = Instant::now();
                        self.answered = true;
                        host.set_lease(sent_at + terms.lease);
                    }
                }
                ControllerWord::Assignments(mut set) => {
                    host.seal(&mut set);
                    host.set_trouble(None);
                    sets.send_replace(Some(set));
                }
                ControllerWord::Trust { trust, issuer } => {
                    if let Err(error) = self.node.credentials.trust(&trust) {
                        return error.into();
                    }
                    self.node.credentials.want_issuer(issuer);
                }
                ControllerWord::Elsewhere(services) => host.set_elsewhere(services),
                ControllerWord::ResolveImage { request, image, login } => asks.resolve(request, image, login),
                ControllerWord::SendLogs { request, job, range, grep } => {
                    asks.send_logs(LogsWish { request, job, range, grep });
                }
                ControllerWord::OpenTunnel { request, job, way } => tunnels.open(TunnelWish { request, job, way }),
                ControllerWord::CloseTunnel { request } => tunnels.close(request),
            }
        }
    }
}

/// What was heard.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    /// A word that is known.
    Word(ControllerWord),
    /// A word that only a newer version knows.
    Nothing,
    /// A set of which something is not understood, and the sentence what. A new session would bring the same set again, so
    /// this one goes on, what runs is kept, and the controller is told with the node's troubles.
    NotTaken(String),
}

fn understood(word: v1::OpenSessionResponse) -> Result<Heard, Malformed> {
    let is_set = matches!(word.word, Some(v1::open_session_response::Word::Assignments(_)));
    match ControllerWord::try_from(word) {
        Ok(word) => Ok(Heard::Word(word)),
        Err(error) if error.is_unknown_word() => Ok(Heard::Nothing),
        Err(error) if is_set => Ok(Heard::NotTaken(format!(
            "the controller's newest assignments cannot be taken, and what runs is kept: {error}"
        ))),
        Err(error) => Err(error),
    }
}

/// Hands sets to the engine, one at a time and always the newest. What the engine has begun to take it takes to the end,
/// whatever becomes of the session.
async fn apply<H: Host>(host: &H, mut newest: watch::Receiver<Option<AssignmentSet>>) {
    while newest.changed().await.is_ok() {
        let set = newest.borrow_and_update().clone();
        if let Some(set) = set {
            host.apply(set).await;
        }
    }
    std::future::pending().await
}

/// Says what there is to say, whenever the stream takes a word, until it takes no more.
async fn speak<H: Host>(
    node: &Node<H>,
    words: mpsc::Sender<v1::OpenSessionRequest>,
    mut reports: watch::Receiver<NodeReport>,
    mut answers: mpsc::Receiver<AgentWord>,
    terms: Terms,
    sent: &Mutex<VecDeque<(u64, Tick)>>,
) {
    let mut beat = interval(terms.heartbeat.std());
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut number = 0;
    let mut credentials = node.credentials.said();
    credentials.mark_changed();
    // A stream that takes no more words has ended, and `listen` hears why.
    while let Ok(place) = words.reserve().await {
        let word = tokio::select! {
            biased;
            _ = beat.tick() => {
                number += 1;
                remember(sent, number, node.clock.tick());
                AgentWord::Heartbeat { number, used: node.host.used() }
            }
            Ok(()) = credentials.changed() => AgentWord::Credentials(credentials.borrow_and_update().clone()),
            Some(answer) = answers.recv() => answer,
            Ok(()) = reports.changed() => AgentWord::Report(reports.borrow_and_update().clone()),
        };
        place.send(word.into());
    }
    std::future::pending().await
}

fn remember(sent: &Mutex<VecDeque<(u64, Tick)>>, number: u64, now: Tick) {
    let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
    if sent.len() == OUTSTANDING {
        sent.pop_front();
    }
    sent.push_back((number, now));
}

/// When the heartbeat of this number was sent. Earlier ones are forgotten: their answers would say less.
fn when_sent(sent: &Mutex<VecDeque<(u64, Tick)>>, number: u64) -> Option<Tick> {
    let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
    while let Some((next, at)) = sent.front().copied() {
        if next > number {
            return None;
        }
        sent.pop_front();
        if next == number {
            return Some(at);
        }
    }
    None
}

fn ended_by(status: Status) -> SessionEnd {
    let said = status.message().to_owned();
    match status.code() {
        Code::Unauthenticated => SessionEnd::CertificateRefused(said),
        Code::Aborted => SessionEnd::TakenOver,
        Code::PermissionDenied | Code::InvalidArgument | Code::FailedPrecondition | Code::NotFound => {
            SessionEnd::Refused(said)
        }
        Code::Unavailable if !said.is_empty() && std::error::Error::source(&status).is_none() => {
            SessionEnd::Unavailable(said)
        }
        _ => broken(&status),
    }
}

/// The transport failed. In TLS 1.3 a server's refusal of a certificate comes after the handshake and is read here first;
/// on its way through HTTP/2 only the text is left of it.
fn broken(status: &Status) -> SessionEnd {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(next) = cause {
        text = next.to_string();
        cause = next.source();
    }
    match text.split_once("received fatal alert: ") {
        Some((_, alert)) => SessionEnd::CertificateRefused(alert.to_owned()),
        None => SessionEnd::Broken(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_counts_from_sending_the_heartbeat_that_was_answered() {
        let sent = Mutex::default();
        for number in 1..=3 {
            remember(&sent, number, Tick(number * 1000));
        }
        assert_eq!(when_sent(&sent, 2), Some(Tick(2000)));
        assert_eq!(when_sent(&sent, 2), None, "an answer that comes twice renews nothing");
        assert_eq!(when_sent(&sent, 1), None, "an answer that comes late renews nothing");
        assert_eq!(when_sent(&sent, 9), None, "an answer to a heartbeat that was never sent renews nothing");
        assert_eq!(when_sent(&sent, 3), None);
    }

    #[test]
    fn heartbeats_without_answers_are_forgotten_in_the_end() {
        let sent = Mutex::default();
        for number in 1..=1000 {
            remember(&sent, number, Tick(number));
        }
        assert_eq!(sent.lock().expect("not poisoned").len(), OUTSTANDING);
        assert_eq!(when_sent(&sent, 1000), Some(Tick(1000)));
    }

    #[test]
    fn assignments_that_only_a_newer_agent_understands_are_told_and_end_no_session() {
        use v1::open_session_response::Word;
        let word = |word| v1::OpenSessionResponse { word: Some(word) };
        let set = v1::AssignmentSet { generation: None, ..Default::default() };
        let heard = understood(word(Word::Assignments(set))).expect("the session goes on");
        let Heard::NotTaken(sentence) = heard else { panic!("{heard:?}") };
        assert_eq!(
            sentence,
            "the controller's newest assignments cannot be taken, and what runs is kept: \
             the field assignments.generation is missing"
        );
        assert_eq!(understood(v1::OpenSessionResponse { word: None }), Ok(Heard::Nothing), "a newer version's word");
        let questions = Word::ResolveImage(v1::ResolveImage::default());
        assert!(understood(word(questions)).is_err(), "a mistake elsewhere is one");
    }
}
