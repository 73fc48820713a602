//! What a person asked for: one service's spec, as a revision snapshots it.
//!
//! The texts that people write are parsed in the `api` crate; here every field is present, with its default filled in,
//! so that no later reader has to know the defaults.

use crate::label::Constraint;
use crate::time::Millis;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What kind of service it is. `web` answers requests, `worker` does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceType {
    /// Answers requests on its ports.
    Web,
    /// Works without being asked over the network.
    Worker,
}

impl ServiceType {
    /// The name that people write, which is also the name of the type's only target.
    pub const fn name(self) -> &'static str {
        match self {
            ServiceType::Web => "web",
            ServiceType::Worker => "worker",
        }
    }
}

/// Where a node takes the image from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pull {
    /// From the registry that the reference names; the revision is bound to the digest and never falls back to a local tag.
    Registry,
    /// From the node's own engine; the revision is bound to the image id and so to the nodes that hold it.
    Local,
}

/// The image that a person named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ImageSource {
    /// As written, for example `registry.example.com/shop/web:1.4.2`.
    pub reference: String,
    /// Where from.
    pub pull: Pull,
}

/// What one job may use. Both limits are always set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Size {
    /// Thousandths of a core.
    pub cpu_milli: u32,
    /// Bytes.
    pub memory_bytes: u64,
    /// Processes and threads; a fork bomb ends here. Default 512.
    pub pids: u32,
}

/// What a port speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// HTTP/1.1 and what upgrades from it.
    Http,
    /// A byte stream.
    Tcp,
    /// HTTP/2 without TLS, from its first byte: what gRPC servers speak.
    H2c,
}

/// A port that the service listens on inside its container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Port {
    /// 1 to 65535.
    pub port: u16,
    /// What it speaks.
    pub protocol: Protocol,
    /// The path prefix that leads here; `/` for all. Only of public ports.
    pub path: Option<String>,
    /// Whether people outside reach it through the proxies.
    pub public: bool,
    /// The host that leads here; `None` for the default host `<service>-<environment>-<application>.<domain>`.
    pub host: Option<String>,
}

/// How a check asks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum CheckKind {
    /// GET this path on this port; 200 to 399 is healthy.
    Http {
        /// The port.
        port: u16,
        /// The path.
        path: String,
    },
    /// A TCP connection to this port.
    Tcp {
        /// The port.
        port: u16,
    },
    /// The gRPC health protocol on this port; `SERVING` is healthy.
    Grpc {
        /// The port.
        port: u16,
        /// The service name that is asked for; empty for the whole server.
        service: String,
    },
    /// A command in the container; exit code 0 is healthy.
    Exec {
        /// Program and arguments; no shell is started.
        command: Vec<String>,
    },
}

/// One check of a job's health.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Check {
    /// How it asks.
    pub kind: CheckKind,
    /// Between two questions once healthy. Until then: 10 ms, times 1.5, up to 1 s.
    pub interval: Millis,
    /// How long an answer may take.
    pub timeout: Millis,
    /// After the start, failures in this time do not count towards `restart_after`.
    pub grace: Millis,
    /// So many failures in a row start a new attempt. Never 0.
    pub restart_after: u32,
}

/// How a new revision replaces the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// New jobs beside the old, at most `max_surge` at once on a node, and besides them `max_unavailable` in their place.
    Rolling,
    /// The old job ends before the new one starts, at most `max_unavailable` slots at once on a node, and at least one.
    Recreate,
    /// Every new job is ready beside its old one before any traffic moves; then all of it moves at once.
    BlueGreen,
    /// Some new jobs get a share of the traffic first, step by step; then it goes on as `Rolling`.
    Canary,
}

impl Strategy {
    /// As people write it.
    pub const fn name(self) -> &'static str {
        match self {
            Strategy::Rolling => "rolling",
            Strategy::Recreate => "recreate",
            Strategy::BlueGreen => "blue-green",
            Strategy::Canary => "canary",
        }
    }
    /// All of them, in the order in which people are told.
    pub const ALL: [Strategy; 4] = [Strategy::Rolling, Strategy::Recreate, Strategy::BlueGreen, Strategy::Canary];
}

/// One step of a canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CanaryStep {
    /// Percent of the service's new requests on each node, and of its slots there, rounded up: 1 to 99.
    pub weight: u32,
    /// How long it lasts once every job of the step is ready; none until somebody releases it.
    pub hold: Option<Millis>,
}

/// The most steps of a canary: more is a ramp, which nobody watches.
pub const MOST_CANARY_STEPS: usize = 20;

/// A canary that names no steps. A tenth of the requests shows what is plainly broken within minutes and harms few; a half
/// shows what only load breaks.
pub const DEFAULT_CANARY: [CanaryStep; 2] = [
    CanaryStep { weight: 10, hold: Some(Millis::secs(5 * 60)) },
    CanaryStep { weight: 50, hold: Some(Millis::secs(5 * 60)) },
];

/// The times and limits of a replacement.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeployPolicy {
    /// How.
    pub strategy: Strategy,
    /// How long the old job stays up after the switch.
    pub overlap: Millis,
    /// After the overlap, how long open connections may last.
    pub drain: Millis,
    /// SIGTERM to SIGKILL.
    pub stop_grace: Millis,
    /// How long a job must be healthy without a break before it counts as ready.
    pub min_healthy: Millis,
    /// How long one replacement may take until it is ready; then it is abandoned.
    pub timeout: Millis,
    /// Slots of a node that are replaced at once with the new job beside the old. 0 only where `max_unavailable` is not.
    pub max_surge: u32,
    /// Slots of a node that may be without a job at once, because the old one ends before the new one starts. Default 0;
    /// `recreate` takes 0 for 1.
    #[serde(default)]
    pub max_unavailable: u32,
    /// The steps of a canary, weights rising. Empty for every other strategy.
    #[serde(default)]
    pub steps: Vec<CanaryStep>,
    /// Attempts that a job gets before it was first healthy. Never 0.
    pub max_attempts: u32,
    /// What runs once before a deployment touches a slot. Not sent to nodes, which are told of the job that runs it.
    #[serde(default)]
    pub release: Option<ReleaseCommand>,
}

impl DeployPolicy {
    /// Whether no two jobs of a slot may be up together, on whichever nodes they are.
    pub fn is_alone(&self) -> bool {
        self.strategy == Strategy::Recreate
    }
}

/// A command that a deployment runs once before its jobs take any slot: most often what brings a database to the new version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReleaseCommand {
    /// The program, then its arguments. Never empty.
    pub command: Vec<String>,
    /// How long it may run; then it is stopped, and the deployment has failed.
    pub timeout: Millis,
}

/// How long a release command may run that names no time: as long as a replacement, for somebody waits for both.
pub const DEFAULT_RELEASE_TIMEOUT: Millis = Millis::secs(5 * 60);

/// The times and limits of a spec that does not mention them.
pub const DEFAULT_DEPLOY: DeployPolicy = DeployPolicy {
    strategy: Strategy::Rolling,
    // After the switch new requests already go to the new job; keeping the old one up longer is a wish, not a need.
    overlap: Millis::secs(0),
    // Most requests end within 10 s; who has longer ones says so.
    drain: Millis::secs(10),
    // What `docker stop` gives, and what programs that handle SIGTERM are used to.
    stop_grace: Millis::secs(10),
    // Programs that crash on their first work usually do it within the second; two tell them from those that run.
    min_healthy: Millis::secs(2),
    // Enough for a large image over a slow line and a slow start; short enough that somebody still watches.
    timeout: Millis::secs(5 * 60),
    // One replacement at a time on a node needs room for one more job only.
    max_surge: 1,
    // Nothing is taken away that is not asked for.
    max_unavailable: 0,
    steps: Vec::new(),
    // One attempt may meet a dependency that is just restarting and two may be bad luck; a third failure is the program's.
    max_attempts: 3,
    release: None,
};

/// The size of a job that names none. A quarter of a core and 256 MiB start most small services, and four of them fit a
/// machine with one core. 512 processes and threads are far above a thread per core and far below what hurts a node.
pub const DEFAULT_SIZE: Size = Size { cpu_milli: 250, memory_bytes: 256 * 1024 * 1024, pids: 512 };

/// What an agent does when it is cut off from its controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenCutOff {
    /// Keeps the job running.
    Keep,
    /// Stops the job when the lease ends.
    Stop,
}

/// A secret that a job finds as a file in memory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SecretFile {
    /// The secret's name.
    pub secret: String,
    /// The file's permission bits. Default 0444: the folder around it is closed to the machine's other users, and who the
    /// process in the container is, is the image's affair.
    pub mode: u32,
}

/// A service's spec with every default filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// The type.
    #[serde(rename = "type")]
    pub service_type: ServiceType,
    /// The image.
    pub image: ImageSource,
    /// Replaces the image's command when not empty. No shell is started.
    pub command: Vec<String>,
    /// What one job may use.
    pub size: Size,
    /// How many jobs.
    pub scale: u32,
    /// Ports; a worker has none.
    pub ports: Vec<Port>,
    /// Checks; all must pass.
    pub health: Vec<Check>,
    /// How a new revision replaces the old one.
    pub deploy: DeployPolicy,
    /// Environment variables that are written out.
    pub env: BTreeMap<String, String>,
    /// Environment variables that are secrets: the variable's name and the secret's. Not sent to nodes, which are told
    /// the values that were bound.
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
    /// Secrets that are files in memory, by their absolute paths in the container. Not sent to nodes either.
    #[serde(default)]
    pub files: BTreeMap<String, SecretFile>,
    /// Counted from Lost: how long until the node's jobs are started elsewhere.
    pub replace_after: Millis,
    /// What the agent does when it is cut off.
    pub when_cut_off: WhenCutOff,
    /// Whether a small init is process 1. Default true; false for images that bring their own.
    pub init: bool,
    /// Whether the root file system is read-only. Default false.
    pub read_only: bool,
    /// What its jobs ask of their nodes. All must hold. They decide where jobs are placed and are not sent to nodes.
    #[serde(default)]
    pub constraints: Vec<Constraint>,
}

impl ServiceSpec {
    /// The only target that the types have so far.
    pub const fn target(&self) -> &'static str {
        self.service_type.name()
    }

    /// Whether it says itself what a variable is, which comes before what is inherited.
    pub fn has_variable(&self, name: &str) -> bool {
        self.env.contains_key(name) || self.secrets.contains_key(name)
    }

    /// The names of the secrets that it asks for, as variables and as files. A name may come more than once.
    pub fn secrets_named(&self) -> impl Iterator<Item = &String> {
        self.secrets.values().chain(self.files.values().map(|file| &file.secret))
    }
}
