//! What the controller counts, and the picture of the cluster that it shows to Prometheus.
//!
//! Counters are raised where things happen. What is a state of the cluster (nodes, services, deployments) is looked at every
//! `LOOK_EVERY` and kept as a text: whoever asks does not hold the single writer up, and is answered when it is stuck too.

mod picture;

pub use picture::Picture;

use crate::ca::{Ca, LiveTls};
use crate::engine::Engine;
use lapstrake_metrics::{Counter, Distribution, Histogram, Kind, Text};
use lapstrake_pki::mint;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Prometheus asks every 15 s or more; a look at 10,000 services takes the writer some ten milliseconds.
pub const LOOK_EVERY: Duration = Duration::from_secs(5);

/// From a fast disk with a cache that survives the power to a disk that is about to fail.
const COMMIT_TIMES: &[Duration] = &[
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(5),
];

/// From an answer out of memory to one that a node was asked for.
const REQUEST_TIMES: &[Duration] = &[
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
];

/// A request as it is counted: method, address as the interface describes it, status. All three are of our own choice, so
/// there are at most as many as the interface has answers.
type Asked = (&'static str, &'static str, u16);

/// All that the controller counts.
#[derive(Debug)]
pub struct Metrics {
    /// How long the store took over a batch.
    pub commits: Histogram,
    /// Batches that the store did not take.
    pub failed_commits: Counter,
    /// Rows that were written.
    pub changes: Counter,
    /// Commands, reports and heartbeats that were taken.
    pub inputs: Counter,
    /// How many of them wait for the writer.
    waiting: AtomicU64,
    requests: Mutex<BTreeMap<Asked, u64>>,
    request_times: Histogram,
    picture: Mutex<Option<Picture>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            commits: Histogram::new(COMMIT_TIMES),
            failed_commits: Counter::default(),
            changes: Counter::default(),
            inputs: Counter::default(),
            waiting: AtomicU64::new(0),
            requests: Mutex::default(),
            request_times: Histogram::new(REQUEST_TIMES),
            picture: Mutex::default(),
        }
    }
}

impl Metrics {
    /// So many inputs wait for the writer now.
    pub fn queue(&self, waiting: usize) {
        self.waiting.store(waiting as u64, Ordering::Relaxed);
    }

    /// A request was answered; `took` is until the head of the answer.
    pub fn request(&self, method: &'static str, endpoint: &'static str, status: u16, took: Duration) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((method, endpoint, status)).or_default() += 1;
        drop(requests);
        self.request_times.observe(took);
    }

    /// Looks at the cluster again and again. Never returns while the engine runs.
    pub async fn keep_picture(&self, engine: &Engine, ca: &Ca, tls: &LiveTls) {
        while let Ok(seen) = engine.look(Picture::of).await {
            let seen = seen.with_certificates(ca, tls);
            *self.picture.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Everything, as Prometheus reads it.
    pub fn render(&self) -> String {
        let mut text = Text::default();
        text.family("lapstrake_controller_info", Kind::Gauge, "The controller's version, as a label.")
            .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1u64);
        text.family(
            "lapstrake_controller_commit_duration_seconds",
            Kind::Histogram,
            "How long the store took over a batch.",
        )
        .distribution(&[], &Distribution::from(&self.commits));
        for (name, help, count) in [
            (
                "lapstrake_controller_commit_failures_total",
                "Batches that the store did not take.",
                &self.failed_commits,
            ),
            ("lapstrake_controller_commit_changes_total", "Rows that were written to the store.", &self.changes),
            ("lapstrake_controller_inputs_total", "Commands, reports and heartbeats that were taken.", &self.inputs),
        ] {
            text.family(name, Kind::Counter, help).sample(&[], count.get());
        }
        text.family("lapstrake_controller_queue_length", Kind::Gauge, "Inputs that wait for the single writer.")
            .sample(&[], self.waiting.load(Ordering::Relaxed));
        self.render_requests(&mut text);
        if let Some(picture) = &*self.picture.lock().unwrap_or_else(PoisonError::into_inner) {
            picture.render(&mut text, mint::wall());
        }
        text.finish()
    }

    fn render_requests(&self, text: &mut Text) {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let name = "lapstrake_controller_api_requests_total";
        let mut family = text.family(name, Kind::Counter, "Answered requests of the operators' interface.");
        for ((method, endpoint, status), count) in requests {
            let status = status.to_string();
            family.sample(&[("method", method), ("endpoint", endpoint), ("status", &status)], count);
        }
        text.family(
            "lapstrake_controller_api_request_duration_seconds",
            Kind::Histogram,
            "How long requests of the operators' interface took, until the head of the answer.",
        )
        .distribution(&[], &Distribution::from(&self.request_times));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_by_address_and_status() {
        let metrics = Metrics::default();
        for status in [200, 200, 403] {
            metrics.request("GET", "/v1/services/{app}/{env}/{service}", status, Duration::from_millis(2));
        }
        let text = metrics.render();
        let line = |status, count| {
            format!(
                "lapstrake_controller_api_requests_total{{method=\"GET\",endpoint=\"/v1/services/{{app}}/{{env}}/\
                 {{service}}\",status=\"{status}\"}} {count}\n"
            )
        };
        assert!(text.contains(&line(200, 2)) && text.contains(&line(403, 1)), "{text}");
        assert!(text.contains("lapstrake_controller_api_request_duration_seconds_count 3\n"), "{text}");
    }
}
