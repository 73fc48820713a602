//! A node proxy's route table: which request goes to which jobs.
//!
//! The agent computes it (`node::routes`), writes it to a file, sends it to every live proxy process and waits until each
//! has acknowledged its number. The proxy computes nothing: it looks up.
//!
//! The control socket speaks one JSON message per line. The agent dials; the proxy greets with `ProxyHello`, the agent
//! sends `RouteTable`s, the proxy answers each with a `ProxyReport` and sends further reports when an open connection
//! that it counts ends.

use crate::assignment::ServicePath;
use crate::ids::{JobId, ServiceId};
use crate::time::Millis;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;
use serde::{Deserialize, Serialize};

/// The version of the control socket's and table file's format, and the oldest one that a reader must know to read it.
pub const ROUTES_FORMAT: u32 = 1;

/// Everything that a proxy must know. Complete: what it does not name is not routed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTable {
    /// `ROUTES_FORMAT` of the writer.
    pub format: u32,
    /// Orders the tables of one node; a proxy refuses an older one than it has.
    pub generation: u64,
    /// The node's name, for messages.
    pub node: String,
    /// Sorted by host, then by path, longest first. No two with the same host and path.
    pub routes: Vec<Route>,
}

/// Host and path to the jobs of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Lower case, without port.
    pub host: String,
    /// A prefix that ends at a `/` of the request's path or at its end.
    pub path: String,
    /// The service.
    pub service: ServiceId,
    /// For messages: `shop/production/web`.
    pub name: ServicePath,
    /// The jobs of this node that may get a new request. Sorted by job.
    pub backends: Vec<Backend>,
    /// Names of other nodes that run jobs of this service, for the message when there are no backends. Sorted.
    pub elsewhere: Vec<String>,
    /// Whether the service is paused, for the message when there are no backends.
    #[serde(default)]
    pub paused: bool,
}

/// A job that may get a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// The job.
    pub job: JobId,
    /// Its own address and the port of the route.
    pub address: SocketAddr,
    /// Of all new requests of the route it gets this part of the sum of all weights. Never 0; all are 1 where nobody holds a
    /// share back, and then the job with the least to do is taken.
    #[serde(default = "even")]
    pub weight: u32,
    /// How it is spoken to. A proxy that is older than this field speaks HTTP/1.1 to all, which a job of the other kind
    /// refuses: that service answers 502 there until the proxy is replaced, and no other service is touched by it.
    #[serde(default, skip_serializing_if = "Speaks::is_http")]
    pub speaks: Speaks,
}

/// The weight of a job among equals, and of no other: where all shares are the same, they are larger.
pub const fn even() -> u32 {
    1
}

/// How a job is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Speaks {
    /// HTTP/1.1.
    #[default]
    Http,
    /// HTTP/2 without TLS, from its first byte.
    H2c,
}

impl Speaks {
    const fn is_http(&self) -> bool {
        matches!(self, Speaks::Http)
    }
}

/// The proxy's first line to the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyHello {
    /// `ROUTES_FORMAT` of the proxy.
    pub format: u32,
    /// The proxy's version, as `lapstrake-proxy --version` prints it.
    pub version: String,
    /// Its process id.
    pub pid: u32,
}

/// What the proxy has: the newest table it obeys, and what still runs to jobs that the table does not name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProxyReport {
    /// No new request goes anywhere but where this table says. 0 without a table.
    pub generation: u64,
    /// Jobs that this table does not name and that still have open requests or connections, and how many. A job that is
    /// missing here has none. Idle kept-alive connections are closed at the switch and not counted. Sorted by job.
    pub leaving: Vec<(JobId, u32)>,
}

/// How often at most a proxy repeats its report while only counts change. Soon enough that a drain ends within the second
/// that the soak allows, seldom enough that it costs nothing.
pub const REPORT_PACE: Millis = Millis(50);
