//! A hub that keeps everything in memory, and the port that is served with it.

use lapstrake_controller::ca::{Ca, LiveTls};
use lapstrake_controller::control::{
    Applicant, Control, EnrolRefusal, Enrolled, HelloRefusal, Hub, Limits, Outbox, Sessions, Terms,
};
use lapstrake_controller::vault::Vault;
use lapstrake_core::cluster::command::RefusalKind;
use lapstrake_core::cluster::standing::{AskReturn, HelloRefused};
use lapstrake_core::cluster::state::Standing;
use lapstrake_core::ids::{ClusterId, EpochId, NodeId, RequestId, SessionId, TokenId};
use lapstrake_core::message::{Credentials, Hello, ResolvedImage};
use lapstrake_core::report::{NodeReport, Use};
use lapstrake_core::time::Millis;
use lapstrake_pki::authority::{CLOCK_SKEW, Life, NODE_LIFE};
use lapstrake_pki::fingerprint::Fingerprint;
use lapstrake_pki::mint;
use lapstrake_pki::token::{Kind, SecretHash, Token};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes; a state that is not reached by then never is.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const DAY: Life = Life { back: CLOCK_SKEW, ahead: NODE_LIFE };

/// All that the hub knows.
#[derive(Default)]
pub struct Book {
    pub tokens: BTreeMap<TokenId, Issued>,
    pub nodes: BTreeMap<NodeId, String>,
    pub sessions: BTreeMap<NodeId, (SessionId, Outbox)>,
    pub ended: BTreeSet<SessionId>,
    pub heartbeats: BTreeMap<SessionId, u64>,
    pub reports: BTreeMap<NodeId, NodeReport>,
    pub resolved: BTreeMap<RequestId, Result<ResolvedImage, String>>,
    pub turned_away: Vec<(IpAddr, String)>,
    pub standings: BTreeMap<NodeId, Standing>,
    pub credentials: BTreeMap<NodeId, Credentials>,
    /// Nodes that asked to return, and the keys to which an operator said yes.
    pub wishes: Vec<AskReturn>,
    pub admitted: BTreeSet<String>,
    /// The next node is recorded, and then the answer is lost.
    pub loses_the_answer: bool,
}

pub struct Issued {
    hash: SecretHash,
    expired: bool,
    used: Option<(Fingerprint, NodeId)>,
}

pub struct MemoryHub {
    book: watch::Sender<Book>,
}

impl MemoryHub {
    fn change<T>(&self, change: impl FnOnce(&mut Book) -> T) -> T {
        let mut result = None;
        self.book.send_modify(|book| result = Some(change(book)));
        result.expect("the change was made")
    }
}

fn no(kind: RefusalKind, sentence: &str) -> EnrolRefusal {
    EnrolRefusal::Refused { kind, sentence: sentence.to_owned() }
}

impl Hub for MemoryHub {
    async fn enrol(&self, applicant: Applicant) -> Result<Enrolled, EnrolRefusal> {
        self.change(|book| {
            let issued = book.tokens.get_mut(&applicant.token).filter(|issued| issued.hash == applicant.secret);
            let issued = issued.ok_or_else(|| no(RefusalKind::Refused, "this join token is not known"))?;
            let name = applicant.name.unwrap_or(applicant.hostname);
            let node = match issued.used {
                Some((key, node)) if key == applicant.key => node,
                Some(_) => return Err(no(RefusalKind::Refused, "this join token was used already")),
                None if issued.expired => return Err(no(RefusalKind::Refused, "this join token has expired")),
                None if book.nodes.values().any(|taken| *taken == name) => {
                    return Err(no(RefusalKind::Conflict, "there is a node with this name already"));
                }
                None => NodeId(mint::id()),
            };
            issued.used = Some((applicant.key, node));
            book.nodes.insert(node, name.clone());
            if std::mem::take(&mut book.loses_the_answer) {
                return Err(EnrolRefusal::Unavailable("it was killed".into()));
            }
            Ok(Enrolled { node, name })
        })
    }

    async fn turned_away(&self, address: IpAddr, said: String) {
        self.change(|book| book.turned_away.push((address, said)));
    }

    async fn has_token(&self, token: TokenId) -> bool {
        self.book.borrow().tokens.contains_key(&token)
    }

    fn refuses(&self, node: NodeId) -> Option<HelloRefused> {
        let book = self.book.borrow();
        let standing = book.standings.get(&node).and_then(|standing| standing.refusal());
        if book.nodes.contains_key(&node) { standing } else { Some(HelloRefused::UnknownNode) }
    }

    async fn ask_return(&self, wish: AskReturn, _: IpAddr) -> Result<bool, EnrolRefusal> {
        Ok(self.change(|book| {
            let admitted = book.admitted.contains(&wish.key);
            book.wishes.push(wish);
            admitted
        }))
    }

    fn credentials(&self, node: NodeId, _: SessionId, credentials: Credentials) {
        self.change(|book| book.credentials.insert(node, credentials));
    }

    async fn hello(&self, session: SessionId, hello: Hello, _: IpAddr, outbox: Outbox) -> Result<Terms, HelloRefusal> {
        self.change(|book| {
            book.reports.insert(hello.node, hello.report);
            book.sessions.insert(hello.node, (session, outbox));
        });
        Ok(Terms { epoch: EpochId(1), lease: Millis(2_000), heartbeat: Millis(100) })
    }

    fn heartbeat(&self, _: NodeId, session: SessionId, _: Use) {
        self.change(|book| *book.heartbeats.entry(session).or_default() += 1);
    }

    async fn report(&self, node: NodeId, _: SessionId, report: NodeReport) {
        self.change(|book| book.reports.insert(node, report));
    }

    async fn resolved(&self, _: NodeId, _: SessionId, request: RequestId, outcome: Result<ResolvedImage, String>) {
        self.change(|book| book.resolved.insert(request, outcome));
    }

    fn ended(&self, _: NodeId, session: SessionId) {
        self.change(|book| book.ended.insert(session));
    }
}

/// A controller's agents' port.
pub struct Cluster {
    pub ca: Arc<Ca>,
    pub hub: Arc<MemoryHub>,
    pub sessions: Arc<Sessions>,
    pub address: String,
    stop: CancellationToken,
    _folder: TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Cluster {
    pub async fn start() -> Cluster {
        Cluster::start_with(Limits::default(), DAY).await
    }

    pub async fn start_with(limits: Limits, life: Life) -> Cluster {
        let folder = tempfile::tempdir().expect("a folder");
        let ca = Ca::open(folder.path(), ClusterId(mint::id())).expect("an authority").with_node_life(life);
        let ca = Arc::new(ca);
        let tls = LiveTls::new(ca.clone(), vec!["127.0.0.1".into()]).expect("TLS");
        let hub = Arc::new(MemoryHub { book: watch::channel(Book::default()).0 });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (sessions, stop) = (Sessions::new(Default::default()), CancellationToken::new());
        let vault = Vault::open(folder.path(), None, ca.cluster()).expect("master keys");
        let control = Control {
            ca: ca.clone(),
            tls: tls.control.clone(),
            hub: hub.clone(),
            sessions: sessions.clone(),
            limits,
            vault: Arc::new(vault),
        };
        tokio::spawn(control.serve(listener, stop.clone()));
        Cluster { ca, hub, sessions, address, stop, _folder: folder }
    }

    /// A join token that the hub knows.
    pub fn token(&self) -> Token {
        self.issue(false)
    }

    pub fn expired_token(&self) -> Token {
        self.issue(true)
    }

    fn issue(&self, expired: bool) -> Token {
        let token = Token::mint(Kind::Join, self.ca.cluster(), self.ca.fingerprint());
        let issued = Issued { hash: token.secret.hash(), expired, used: None };
        self.hub.change(|book| book.tokens.insert(token.id, issued));
        token
    }

    pub fn change<T>(&self, change: impl FnOnce(&mut Book) -> T) -> T {
        self.hub.change(change)
    }

    pub fn read<T>(&self, read: impl FnOnce(&Book) -> T) -> T {
        read(&self.hub.book.borrow())
    }

    /// Waits until the hub knows it.
    pub async fn until<T>(&self, what: &str, look: impl Fn(&Book) -> Option<T>) -> T {
        let mut book = self.hub.book.subscribe();
        let seen = timeout(PATIENCE, book.wait_for(|book| look(book).is_some())).await;
        let seen = seen.unwrap_or_else(|_| panic!("not reached: {what}")).expect("the hub is there");
        look(&seen).expect("it was there")
    }
}
