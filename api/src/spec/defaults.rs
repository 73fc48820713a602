//! What a spec file need not say. Every number has its reason here, or in core where
//! decisions need it too.

use lapstrake_core::spec::{DeployPolicy, Pull, Size};
use lapstrake_core::time::Millis;

/// A tag in a registry is what most people deploy; a local image binds the service to the nodes that hold it.
pub const PULL: Pull = Pull::Registry;
/// A job's size.
pub const SIZE: Size = lapstrake_core::spec::DEFAULT_SIZE;
/// One job, until somebody asks for more.
pub const SCALE: u32 = 1;

/// The times and limits of a replacement.
pub const DEPLOY: DeployPolicy = lapstrake_core::spec::DEFAULT_DEPLOY;

/// Who the process in the container is, is the image's affair, and the folder around the file is closed to others.
pub const SECRET_FILE_MODE: u32 = 0o444;

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
