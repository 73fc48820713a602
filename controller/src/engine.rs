//! The single writer: takes commands, agents' words and the passing of time in batches, decides in memory, commits in one
//! transaction, and only then answers and sends.
//!
//! ```text
//! inputs ─▶ decide (core) ─▶ reconcile touched services ─▶ commit ─▶ answer, send assignment sets, tell watchers
//! ```
//!
//! It runs on a thread of its own, because a commit blocks until the disk has it. After a failed commit nothing of the
//! batch is answered as done: memory is loaded anew from the store before the next decision.

mod writer;

use crate::control::{HelloRefusal, Outbox};
use crate::metrics::Metrics;
use crate::store::{Batch, Change, Row, Store, StoreError};
use lapstrake_core::access::{Author, Grant};
use lapstrake_core::audit::{Entry, Link};
use lapstrake_core::cluster::command::{Command, Outcome, Refusal};
use lapstrake_core::cluster::live::Live;
use lapstrake_core::cluster::request::{Carried, Request};
use lapstrake_core::cluster::standing::HelloRefused;
use lapstrake_core::cluster::state::{Authority, Meta, Node, OperatorToken, Standing};
use lapstrake_core::cluster::{Cluster, Key, One, Record};
use lapstrake_core::ids::{EpochId, NodeId, RequestId, ServiceId, SessionId, TokenId, ValueId};
use lapstrake_core::message::{self, Hello, ResolvedImage};
use lapstrake_core::report::{NodeReport, Use};
use lapstrake_core::time::{Tick, Wall};
use lapstrake_core::values::ValueKey;
use lapstrake_pki::fingerprint::sha256;
use lapstrake_pki::mint;
use lapstrake_pki::token::SecretHash;
use lapstrake_unit::Pulse;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use writer::{Watchers, Writer};

/// Why a command has no outcome.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Decided against, with every reason.
    #[error("{}", .0.iter().map(|refusal| refusal.sentence.as_str()).collect::<Vec<_>>().join("; "))]
    Refused(Vec<Refusal>),
    /// The store did not take it; nothing was changed.
    #[error("nothing was changed, because {0}")]
    NotStored(String),
    /// The controller is stopping.
    #[error("the controller is stopping")]
    Stopping,
}

/// A look at records and readings: what it borrows is consistent and committed.
pub struct Look<'a> {
    /// The records.
    pub cluster: &'a Cluster,
    /// The readings.
    pub live: &'a Live,
    /// The instant.
    pub now: Tick,
    /// What each service waited for when it was last reconciled, as sentences.
    pub waits: &'a BTreeMap<ServiceId, Vec<String>>,
    /// Why the store did not take the last batch; none if it did.
    pub not_stored: Option<&'a str>,
}

/// Versions of values that cannot be opened, and why.
pub type Unreadable = BTreeMap<(ValueKey, ValueId), String>;

/// What somebody does with a look.
type LookAt = Box<dyn FnOnce(&Look<'_>) + Send>;

enum Input {
    Command {
        command: Box<Command>,
        author: Author,
        request: Request,
        reply: oneshot::Sender<Result<Carried, CommandError>>,
    },
    Refused {
        entry: Box<Entry>,
        recorded: oneshot::Sender<()>,
    },
    Look(LookAt),
    Unreadable(Unreadable),
    Hello {
        node: NodeId,
        session: SessionId,
        hello: Box<Hello>,
        outbox: Outbox,
        reply: oneshot::Sender<Result<EpochId, HelloRefusal>>,
    },
    Credentials {
        node: NodeId,
        session: SessionId,
        said: message::Credentials,
    },
    Heartbeat {
        node: NodeId,
        session: SessionId,
        used: Use,
    },
    Report {
        node: NodeId,
        session: SessionId,
        report: Box<NodeReport>,
        taken: oneshot::Sender<()>,
    },
    Resolved {
        node: NodeId,
        request: RequestId,
        outcome: Result<ResolvedImage, String>,
    },
    Ended {
        node: NodeId,
        session: SessionId,
    },
}

/// The way to the engine. Cheap to clone.
///
/// Inputs wait in an unbounded queue that stays short: who asks for something waits for the answer, a session has at most
/// one report on its way, and its heartbeats come at their own pace.
#[derive(Clone)]
pub struct Engine {
    inputs: mpsc::UnboundedSender<Input>,
    events: watch::Receiver<u64>,
    nodes: watch::Receiver<BTreeMap<NodeId, Standing>>,
    credentials: watch::Receiver<Credentials>,
    refusals: Arc<Semaphore>,
    authority: watch::Receiver<Option<Authority>>,
}

/// So many refusals wait for the disk at once; whoever is refused beyond that waits for a place before the answer. A flood
/// of guesses so takes as long as its rows take to write, and no memory; with 256 inputs in a batch there is always room
/// for those who are let in.
const REFUSALS: usize = 64;

/// Operators' tokens as they are on disk, to be asked without waiting for the engine.
pub type Credentials = Arc<BTreeMap<TokenId, Credential>>;

/// What recognises an operator, and what they have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Of the secret; none for a row that is no hash, which then fits no secret.
    pub hash: Option<SecretHash>,
    /// The operator's name.
    pub name: String,
    /// What the token gives.
    pub grant: Grant,
    /// When it ends.
    pub expires: Option<Wall>,
}

impl Credential {
    /// Whether it is still of use.
    pub fn is_good(&self, now: Wall) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// A token whose scope is gone is none any more.
fn credentials(cluster: &Cluster) -> Credentials {
    let credential = |token: &OperatorToken| {
        let held = Credential {
            hash: SecretHash::from_hex(&token.hash),
            name: token.name.clone(),
            grant: cluster.grant(token)?,
            expires: token.expires,
        };
        Some((token.id, held))
    };
    Arc::new(cluster.all::<OperatorToken>().filter_map(credential).collect())
}

impl Engine {
    /// Loads the store and starts the engine's thread. `first` is what the configuration says: recorded as a whole in a new
    /// store; of an older one the domain follows it. `pulse` beats once a round, each second at the latest.
    pub fn start(
        mut store: Store,
        first: impl FnOnce() -> Meta,
        pulse: Pulse,
        metrics: Arc<Metrics>,
    ) -> Result<(Engine, std::thread::JoinHandle<()>), StartError> {
        let mut cluster = load(&store)?;
        let configured = first();
        match cluster.get::<Meta>(&One) {
            None => cluster.put(configured),
            Some(_) => cluster.take_domain(&configured.domain, mint::wall()),
        }
        let events: Vec<_> = cluster.take_events().into_iter().map(writer::new_event).collect();
        events.iter().for_each(|event| tracing::warn!("{}", event.text));
        let batch = Batch { changes: changes_of(&mut cluster)?, events, ..Batch::default() };
        if !batch.is_empty() {
            store.commit(&batch)?;
        }
        if let Some(meta) = cluster.get::<Meta>(&One) {
            store.audit_begins(Link::beginning(meta.cluster, sha256));
        }
        let newest = store.event_log()?.number_before_last(0, None)?;
        let (inputs, queue) = mpsc::unbounded_channel();
        let (told, events) = watch::channel(newest);
        let (known, nodes) = watch::channel(standings(&cluster));
        let (holders, credentials) = watch::channel(credentials(&cluster));
        let (trusted, authority) = watch::channel(cluster.get::<Authority>(&One).cloned());
        let watchers = Watchers { events: told, nodes: known, credentials: holders, authority: trusted };
        let writer = Writer::new(store, cluster, watchers, pulse, metrics);
        let thread = std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || writer.run(queue))
            .map_err(StartError::Thread)?;
        let refusals = Arc::new(Semaphore::new(REFUSALS));
        Ok((Engine { inputs, events, nodes, credentials, refusals, authority }, thread))
    }

    /// Carries a command out; returns when it is on disk.
    pub async fn command(&self, command: Command, author: Author) -> Result<Outcome, CommandError> {
        Ok(self.request(command, author, Request::default()).await?.outcome)
    }

    /// Carries a request's command out, unless that was done before or must not be; returns when it is on disk.
    pub async fn request(&self, command: Command, author: Author, request: Request) -> Result<Carried, CommandError> {
        let (reply, answer) = oneshot::channel();
        let input = Input::Command { command: Box::new(command), author, request, reply };
        self.inputs.send(input).map_err(|_| CommandError::Stopping)?;
        answer.await.map_err(|_| CommandError::Stopping)?
    }

    /// Records that something was refused before it became a command. Returns when it is on disk, or could not be written.
    pub async fn refused(&self, entry: Entry) {
        let Ok(_place) = self.refusals.acquire().await else { return };
        let (recorded, done) = oneshot::channel();
        self.tell(Input::Refused { entry: Box::new(entry), recorded });
        let _ = done.await;
    }

    /// Says which values cannot be opened: no deployment binds one.
    pub fn unreadable(&self, values: Unreadable) {
        self.tell(Input::Unreadable(values));
    }

    /// Looks at the records and readings.
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Look<'_>) -> T + Send + 'static,
    ) -> Result<T, CommandError> {
        let (reply, answer) = oneshot::channel();
        let look = move |view: &Look<'_>| {
            // Whoever asked may have gone away meanwhile; then nobody minds.
            let _ = reply.send(look(view));
        };
        self.inputs.send(Input::Look(Box::new(look))).map_err(|_| CommandError::Stopping)?;
        answer.await.map_err(|_| CommandError::Stopping)
    }

    /// An agent begins a session. The answer comes when its inventory is recorded; then the outbox gets the node's sets.
    pub async fn hello(
        &self,
        node: NodeId,
        session: SessionId,
        hello: Hello,
        outbox: Outbox,
    ) -> Result<EpochId, HelloRefusal> {
        let (reply, answer) = oneshot::channel();
        let input = Input::Hello { node, session, hello: Box::new(hello), outbox, reply };
        let stopping = || HelloRefusal::Unavailable(CommandError::Stopping.to_string());
        self.inputs.send(input).map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }

    /// A sign of life.
    pub fn heartbeat(&self, node: NodeId, session: SessionId, used: Use) {
        self.tell(Input::Heartbeat { node, session, used });
    }

    /// An agent's newest picture of its node. Returns when it is taken, so that of one session only one waits.
    pub async fn report(&self, node: NodeId, session: SessionId, report: NodeReport) {
        let (taken, done) = oneshot::channel();
        self.tell(Input::Report { node, session, report: Box::new(report), taken });
        let _ = done.await;
    }

    /// An answer about an image.
    pub fn resolved(&self, node: NodeId, request: RequestId, outcome: Result<ResolvedImage, String>) {
        self.tell(Input::Resolved { node, request, outcome });
    }

    /// A session's stream has ended.
    pub fn ended(&self, node: NodeId, session: SessionId) {
        self.tell(Input::Ended { node, session });
    }

    /// What a node says of its certificate and of whom it trusts.
    pub fn node_credentials(&self, node: NodeId, session: SessionId, said: message::Credentials) {
        self.tell(Input::Credentials { node, session, said });
    }

    /// Why a node gets no answer; none when it gets one. Does not wait.
    pub fn refuses(&self, node: NodeId) -> Option<HelloRefused> {
        self.nodes.borrow().get(&node).map_or(Some(HelloRefused::UnknownNode), |standing| standing.refusal())
    }

    /// The authority as the store has it.
    pub fn authority(&self) -> watch::Receiver<Option<Authority>> {
        self.authority.clone()
    }

    /// The number of the newest event on disk, as it grows.
    pub fn events(&self) -> watch::Receiver<u64> {
        self.events.clone()
    }

    /// Operators' tokens on disk, as they change.
    pub fn credentials(&self) -> watch::Receiver<Credentials> {
        self.credentials.clone()
    }

    fn tell(&self, input: Input) {
        // Only a stopping engine does not take it, and then there is nobody left to be told.
        let _ = self.inputs.send(input);
    }
}

/// Why the engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row of the store is not what this version writes.
    #[error("the store's row {key} cannot be read: {said}")]
    Row {
        /// Which.
        key: String,
        /// Why.
        said: String,
    },
    /// The machine has no thread to give.
    #[error("the engine's thread cannot be started")]
    Thread(#[source] std::io::Error),
}

fn standings(cluster: &Cluster) -> BTreeMap<NodeId, Standing> {
    cluster.all::<Node>().map(|node| (node.id, node.standing)).collect()
}

fn load(store: &Store) -> Result<Cluster, StartError> {
    let mut records = Vec::new();
    let mut numbers = Vec::new();
    for Row { key, value, change } in store.load()? {
        let row = |said: String| StartError::Row { key: key.clone(), said };
        let parsed: Key = key.parse().map_err(|error| row(format!("{error}")))?;
        let record: Record = serde_json::from_str(&value).map_err(|error| row(error.to_string()))?;
        numbers.push((parsed.clone(), change));
        records.push((parsed, record));
    }
    let mut cluster = Cluster::load(records).map_err(|said| StartError::Row { key: "(all)".into(), said })?;
    cluster.number(numbers, store.newest());
    Ok(cluster)
}

fn changes_of(cluster: &mut Cluster) -> Result<Vec<Change>, StartError> {
    let change = |(key, record): (Key, Option<Record>)| {
        let key = key.to_string();
        let value = record.map(|record| serde_json::to_string(&record)).transpose();
        let row = |error: serde_json::Error| StartError::Row { key: key.clone(), said: error.to_string() };
        Ok(Change { value: value.map_err(row)?, key })
    };
    cluster.take_changes().into_iter().map(change).collect()
}

/// An error with all its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
