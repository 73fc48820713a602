//! What a container engine does for the agent: few verbs, each told by what holds when it returns.
//!
//! A verb that fails with `Unreachable` may or may not have happened; the observer's next list tells. Every verb has its
//! own deadline and never waits longer.

pub mod docker;
mod exec;
pub mod fake;
pub mod measured;
mod oom;

use crate::network::{Bridge, Bridges};
pub use exec::{Connection, ExecId, ExecSignal, ExecState, PIECE_BYTES, Piece, Running};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use lapstrake_core::assignment::{BoundImage, RunSpec};
use lapstrake_core::ids::{ClusterId, EnvironmentId, NodeId, SlotId};
pub use lapstrake_core::message::LogRange;
use lapstrake_core::message::{Exec, TerminalSize};
use lapstrake_core::node::action::Subnet;
pub use lapstrake_core::node::images::HeldImage;
use lapstrake_core::node::seen::Attempt;
use lapstrake_core::probe::Answer;
use lapstrake_core::spec::{Check, ImageSource};
use lapstrake_core::time::{Millis, Wall};
use lapstrake_core::values;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::TcpStream;

/// Why a verb failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// The engine does not hold the image.
    #[error("{0}")]
    NoSuchImage(String),
    /// A container that is not ours has the name.
    #[error("{0}")]
    NameTaken(String),
    /// There is no such container or network.
    #[error("{0}")]
    NotThere(String),
    /// The container has no such program.
    #[error("{0}")]
    NoSuchProgram(String),
    /// The engine answered, and said no.
    #[error("{0}")]
    Refused(String),
    /// The engine did not answer, or not in time.
    #[error("{0}")]
    Unreachable(String),
}

/// A job is on this machine: its kernel answers at once, or its queue is full.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// The outcome of a verb.
pub type Outcome<'a, T> = BoxFuture<'a, Result<T, RuntimeError>>;

/// Whose containers and networks these are: an agent sees and touches no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node, because several agents may share an engine in tests.
    pub node: NodeId,
}

/// A container's name: unique for an attempt, so that a repeated call meets its own earlier work.
pub fn container_name(attempt: Attempt) -> String {
    format!("lap-{}-{}", attempt.job, attempt.number)
}

/// What a container gets besides its spec: opened values.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// Environment variables. They win over the spec's of the same name.
    pub variables: BTreeMap<String, String>,
    /// Files that lie in memory.
    pub files: Vec<BoundFile>,
}

impl fmt::Debug for Given {
    /// Names only: what is printed ends up in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.variables.keys().collect();
        f.debug_struct("Given").field("variables", &names).field("files", &self.files).finish()
    }
}

/// A file of the machine that a container sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundFile {
    /// Where it lies on the machine.
    pub source: PathBuf,
    /// Where the container finds it, and cannot change it.
    pub path: String,
}

/// Who asks a registry.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryLogin {
    /// The user's name.
    pub user: String,
    /// The password or token.
    pub password: String,
}

impl RegistryLogin {
    /// From the opened value: the user's name, a line feed, the password.
    pub fn read(value: &[u8]) -> Result<RegistryLogin, &'static str> {
        let text = std::str::from_utf8(value).map_err(|_| "they are not text")?;
        let (user, password) = text.split_once('\n').ok_or("they are not a user's name and a password")?;
        Ok(RegistryLogin { user: user.to_owned(), password: password.to_owned() })
    }
}

impl fmt::Debug for RegistryLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RegistryLogin(..)")
    }
}

/// A container to make and start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOrder {
    /// Which.
    pub attempt: Attempt,
    /// For labels.
    pub slot: SlotId,
    /// Its static address.
    pub address: Ipv4Addr,
    /// What runs.
    pub run: RunSpec,
    /// What it gets besides its spec.
    pub given: Given,
}

impl RunOrder {
    /// The environment variables of its process: the spec's, then what it is given, then our own. A later one of the same
    /// name wins.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let mut variables = self.run.spec.env.clone();
        variables.extend(self.given.variables.clone());
        let own = values::automatic(&self.run.path, self.run.revision, &self.slot);
        variables.extend(own.map(|(name, value)| (name.to_owned(), value)));
        variables
    }
}

/// The coarse state, as a list tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Brief {
    /// Made, not started.
    Created,
    /// Its process runs.
    Running,
    /// Its process has ended.
    Exited,
}

/// An entry of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its coarse state.
    pub brief: Brief,
    /// Its static address.
    pub address: Option<Ipv4Addr>,
    /// The slot that its labels name.
    pub slot: Option<SlotId>,
}

/// The state, as a closer look tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// Made, not started.
    Created,
    /// Its process runs.
    Running {
        /// The process, for its cgroup; 0 when there is none to look at.
        pid: u32,
    },
    /// Its process has ended.
    Exited {
        /// Exit code; 128 + the signal's number when killed.
        code: i64,
        /// Whether the kernel killed it at its memory limit.
        out_of_memory: bool,
        /// How long it ran.
        ran: Millis,
    },
}

impl Look {
    /// The coarse state.
    pub const fn brief(&self) -> Brief {
        match self {
            Look::Created => Brief::Created,
            Look::Running { .. } => Brief::Running,
            Look::Exited { .. } => Brief::Exited,
        }
    }
}

/// Something happened to a container: a reason to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hint {
    /// Which container.
    pub attempt: Attempt,
    /// The engine's wall clock in seconds, to go on from after a broken stream.
    pub at: i64,
}

/// A piece of a job's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Which attempt wrote it.
    pub attempt: u32,
    /// When the engine took it, by the engine's clock: the same whenever the line is read.
    pub at: Wall,
    /// Whether it went to standard error.
    pub to_stderr: bool,
    /// The line without its end, invalid UTF-8 replaced.
    pub text: String,
}

/// How a command in a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecEnd {
    /// Its exit code.
    pub code: i64,
    /// The beginning of what it wrote, at most 200 bytes.
    pub output: String,
}

/// What getting an image did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Got {
    /// The engine had it, in whole or by another name: it is somebody's.
    WasHere,
    /// The engine had nothing of it before.
    Brought {
        /// The engine's id of it.
        id: String,
        /// What the engine calls it.
        name: String,
    },
}

/// A container engine.
pub trait Runtime: Send + Sync + 'static {
    /// All of this owner's containers. What is missing does not exist.
    fn list(&self) -> Outcome<'_, BTreeMap<Attempt, Listed>>;

    /// One container; `None` when it does not exist.
    fn look(&self, attempt: Attempt) -> Outcome<'_, Option<Look>>;

    /// Hints about this owner's containers, from `since` (the engine's seconds) or from now. The stream is established
    /// when this returns; what happens afterwards is in it, until it ends or fails.
    fn hints(&self, since: Option<i64>) -> Outcome<'_, BoxStream<'static, Result<Hint, RuntimeError>>>;

    /// The container exists and its process was started, now or by an earlier call. A corpse of an earlier call is
    /// removed on the way. `Refused` may leave a corpse.
    fn run<'a>(&'a self, order: &'a RunOrder) -> Outcome<'a, ()>;

    /// The image's stop signal was sent. `NotThere` when the container or its process is gone.
    fn terminate(&self, attempt: Attempt) -> Outcome<'_, ()>;

    /// SIGKILL was sent. `NotThere` when the container or its process is gone.
    fn kill(&self, attempt: Attempt) -> Outcome<'_, ()>;

    /// The container and its anonymous volumes are gone. `NotThere` when they were already. Refused while it runs.
    fn remove(&self, attempt: Attempt) -> Outcome<'_, ()>;

    /// The last lines that a container wrote, oldest first.
    fn last_lines(&self, attempt: Attempt, count: u32) -> Outcome<'_, Vec<String>>;

    /// What a container writes and wrote. The stream ends with the container or, without `follow`, at the present end.
    fn logs(&self, attempt: Attempt, range: LogRange)
    -> Outcome<'_, BoxStream<'static, Result<LogLine, RuntimeError>>>;

    /// The command ran to its end in the container. It may run on there after the deadline.
    fn exec<'a>(&'a self, attempt: Attempt, command: &'a [String], deadline: Duration) -> Outcome<'a, ExecEnd>;

    /// The command was made in the container, where it does not run yet. `NotThere` when the container does not run.
    fn create_exec<'a>(&'a self, attempt: Attempt, exec: &'a Exec) -> Outcome<'a, ExecId>;

    /// The command's start was accepted, with its streams; it may begin later. `NotThere` when the container does not run;
    /// `NoSuchProgram` or `Refused`, here or as the output's only item, when it could not be started. After `Unreachable` it
    /// may begin all the same.
    fn start_exec<'a>(&'a self, id: &'a ExecId, exec: &'a Exec) -> Outcome<'a, Running>;

    /// The command's terminal has this size.
    fn resize_exec<'a>(&'a self, id: &'a ExecId, size: TerminalSize) -> Outcome<'a, ()>;

    /// The signal was sent to the command and its group. `NotThere` when it has ended, `Unreachable` when it has not begun.
    fn signal_exec<'a>(&'a self, id: &'a ExecId, signal: ExecSignal) -> Outcome<'a, ()>;

    /// Whether the command has ended.
    fn exec_state<'a>(&'a self, id: &'a ExecId) -> Outcome<'a, ExecState>;

    /// A connection to a port of a container that runs, at its address. `Refused` when nobody listens there.
    fn connect(&self, _attempt: Attempt, address: IpAddr, port: u16) -> Outcome<'_, Box<dyn Connection>> {
        Box::pin(async move {
            let connected = tokio::time::timeout(CONNECT_TIME, TcpStream::connect((address, port))).await;
            let late = || RuntimeError::Unreachable(format!("port {port} took no connection in {CONNECT_TIME:?}"));
            let stream = connected.map_err(|_| late())?.map_err(|error| match error.kind() {
                std::io::ErrorKind::ConnectionRefused => {
                    RuntimeError::Refused(format!("nothing listens on port {port} of the job"))
                }
                _ => RuntimeError::Unreachable(format!("port {port} of the job cannot be reached: {error}")),
            })?;
            // People type into some of these.
            let _ = stream.set_nodelay(true);
            Ok(Box::new(stream) as Box<dyn Connection>)
        })
    }

    /// The engine holds the image. An image that is bound to the node is only looked for.
    fn pull<'a>(&'a self, image: &'a BoundImage, login: Option<&'a RegistryLogin>) -> Outcome<'a, Got>;

    /// Everything that the engine holds, whoever brought it, by the engine's ids. No container that was there when it was
    /// asked is overlooked.
    fn images(&self) -> Outcome<'_, BTreeMap<String, HeldImage>>;

    /// The image has lost this name, and is gone if that was its last. `NotThere` when it has not got it any more. Refused
    /// when the name means another image than `id`, the image has a tag, a container of any state is made of it, or another
    /// image is built on it.
    fn remove_image<'a>(&'a self, name: &'a str, id: &'a str) -> Outcome<'a, ()>;

    /// What a reference means now: `repository@sha256:…` of the registry, or the engine's image id for local ones.
    fn resolve<'a>(&'a self, image: &'a ImageSource, login: Option<&'a RegistryLogin>) -> Outcome<'a, String>;

    /// The environment's bridge stands with this subnet; its interface's name. Refused when it stands with another one,
    /// or as an interface that is not the environment's.
    fn ensure_network(&self, environment: EnvironmentId, subnet: Subnet) -> Outcome<'_, Bridge>;

    /// The environment's bridge is gone. `NotThere` when it was already.
    fn remove_network(&self, environment: EnvironmentId) -> Outcome<'_, ()>;

    /// All bridges that stand: this owner's, those that only carry its labels, and everybody else's.
    fn networks(&self) -> Outcome<'_, Bridges>;

    /// The folder that holds images and containers, for the disk's numbers.
    fn root(&self) -> Outcome<'_, PathBuf>;

    /// The answer to a check, from a runtime whose jobs have no network of their own; `None` to ask over the network.
    fn answer(&self, _attempt: Attempt, _check: &Check) -> Option<Answer> {
        None
    }
}
