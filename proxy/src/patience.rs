//! How long a client's connection is waited for.
//!
//! Two different waits: for a request to begin on a kept-alive connection (long, or clients meet our closing), and for a
//! request's head to be whole once it has begun (short, or slow senders hold connections for nothing). hyper knows one
//! timeout for both, so this is ours: the number of bytes read tells whether a request has begun, the turns tell whether
//! one is being answered.

use crate::config::Limits;
use crate::smuggling::HeadRecord;
use crate::tap::Ear;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What is known of one client's connection.
#[derive(Debug, Default)]
pub struct Patience {
    /// Bytes read from the client.
    read: AtomicU64,
    /// `read` when the last response was written.
    read_before: AtomicU64,
    answering: AtomicBool,
    /// How many requests came.
    requests: AtomicU64,
    /// What was read since the last response.
    pub head: HeadRecord,
}

impl Ear for Patience {
    fn hear(&self, bytes: &[u8]) {
        self.read.fetch_add(bytes.len() as u64, Ordering::AcqRel);
        if !self.answering.load(Ordering::Acquire) {
            self.head.keep(bytes);
        }
    }
}

/// A request's turn on its connection: from its whole head to the end of its response.
#[derive(Debug)]
pub struct Turn(Arc<Patience>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.read_before.store(self.0.read.load(Ordering::Acquire), Ordering::Release);
        self.0.head.forget();
        self.0.answering.store(false, Ordering::Release);
    }
}

/// How a wait for a client ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutOfPatience {
    /// A request's head was not whole in time.
    SlowHead,
    /// No request came for long.
    Idle,
}

impl Patience {
    /// A request's head is whole.
    pub fn turn(self: &Arc<Self>) -> Turn {
        self.answering.store(true, Ordering::Release);
        self.requests.fetch_add(1, Ordering::AcqRel);
        Turn(Arc::clone(self))
    }

    /// Waits until the client took too long. Looks four times per limit, so a cut comes at most a quarter late.
    pub async fn run_out(&self, limits: &Limits) -> OutOfPatience {
        let look = (limits.header_timeout.min(limits.idle_timeout) / 4).max(Duration::from_millis(10));
        // A new connection has to say something at once: it is counted as a head that has begun.
        let mut head_since = Some(Instant::now());
        let mut idle_since = Instant::now();
        let mut seen_requests = 0;
        loop {
            tokio::time::sleep(look).await;
            let requests = self.requests.load(Ordering::Acquire);
            if self.answering.load(Ordering::Acquire) || requests != seen_requests {
                seen_requests = requests;
                head_since = None;
                idle_since = Instant::now();
                continue;
            }
            let begun = self.read.load(Ordering::Acquire) != self.read_before.load(Ordering::Acquire);
            if begun && head_since.is_none() {
                head_since = Some(Instant::now());
            }
            match head_since {
                Some(since) if since.elapsed() >= limits.header_timeout => return OutOfPatience::SlowHead,
                None if idle_since.elapsed() >= limits.idle_timeout => return OutOfPatience::Idle,
                _ => {}
            }
        }
    }
}
