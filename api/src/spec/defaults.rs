//! What a spec file need not say. Every number has its reason here and nowhere else.

use lapstrake_core::spec::{Pull, Size};
use lapstrake_core::time::Millis;

/// A tag in a registry is what most people deploy; a local image binds the service to the nodes that hold it.
pub const PULL: Pull = Pull::Registry;
/// A quarter of a core and 256 MiB start most small services, and four of them fit a machine with one core. 512
/// processes and threads are far above a thread per core and far below what hurts a node.
pub const SIZE: Size = Size { cpu_milli: 250, memory_bytes: 256 * 1024 * 1024, pids: 512 };
/// One job, until somebody asks for more.
pub const SCALE: u32 = 1;

/// After the switch new requests already go to the new job; keeping the old one up longer is a wish, not a need.
pub const OVERLAP: Millis = Millis::secs(0);
/// Most requests end within 10 s; who has longer ones says so.
pub const DRAIN: Millis = Millis::secs(10);
/// What `docker stop` gives, and what programs that handle SIGTERM are used to.
pub const STOP_GRACE: Millis = Millis::secs(10);
/// Programs that crash on their first work usually do it within the second; two tell them from those that run.
pub const MIN_HEALTHY: Millis = Millis::secs(2);
/// Enough for a large image over a slow line and a slow start; short enough that somebody still watches.
pub const TIMEOUT: Millis = Millis::secs(5 * 60);
/// One replacement at a time on a node needs room for one more job only.
pub const MAX_SURGE: u32 = 1;
/// One attempt may meet a dependency that is just restarting and two may be bad luck; a third failure is the program's.
pub const MAX_ATTEMPTS: u32 = 3;

/// Half a minute to three bad answers in a row with [`RESTART_AFTER`], at a cost that nobody notices.
pub const CHECK_INTERVAL: Millis = Millis::secs(10);
/// A health page that takes longer than 2 s is not healthy.
pub const CHECK_TIMEOUT: Millis = Millis::secs(2);
/// Most programs listen within 5 s of their start.
pub const CHECK_GRACE: Millis = Millis::secs(5);
/// One bad answer can be a hiccup and two a pause for garbage; three are a fault.
pub const RESTART_AFTER: u32 = 3;

/// Lost already means that the lease ended; without a volume nothing is gained by waiting longer.
pub const REPLACE_AFTER: Millis = Millis::secs(0);
/// Most programs are not written to be process 1: they neither reap children nor act on SIGTERM there.
pub const INIT: bool = true;
/// Most images write somewhere.
pub const READ_ONLY: bool = false;
