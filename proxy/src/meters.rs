//! What is counted of a service's requests, by one worker.

use http::StatusCode;
use lapstrake_metrics::{Counter, Histogram};
use std::time::Duration;

/// From what a job on the same machine needs at least to what people wait for at most; streams and WebSockets are longer
/// than all of them.
pub const SPANS: &[Duration] = &[
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(60),
];

/// The classes of answers, as they are told. `none`: it ended before there was one.
pub const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// One worker's counts of one service. Two cache lines apart from any other worker's, so that none waits for another.
#[derive(Debug)]
#[repr(align(128))]
pub struct ServiceMeters {
    /// Requests by `CLASSES`.
    pub classes: [Counter; CLASSES.len()],
    /// From a request's whole head to the end of its answer.
    pub spans: Histogram,
    /// Bytes of requests' bodies.
    pub received: Counter,
    /// Bytes of answers' bodies.
    pub sent: Counter,
    /// Tries after the first.
    pub retries: Counter,
    /// Connections to jobs that did not come about.
    pub unreachable: Counter,
}

impl Default for ServiceMeters {
    fn default() -> ServiceMeters {
        ServiceMeters {
            classes: Default::default(),
            spans: Histogram::new(SPANS),
            received: Counter::default(),
            sent: Counter::default(),
            retries: Counter::default(),
            unreachable: Counter::default(),
        }
    }
}

impl ServiceMeters {
    /// The counter of an answer's class.
    pub fn of(&self, status: Option<StatusCode>) -> &Counter {
        let class = status.map_or(0, |status| usize::from(status.as_u16() / 100));
        // A status is 100 to 999; what is beyond 599 is the job's fault.
        &self.classes[class.min(CLASSES.len() - 1)]
    }
}
