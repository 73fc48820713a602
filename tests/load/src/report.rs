//! The judgement, and the report that it is written in.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::clock::ms;
use crate::request::Kind;
use crate::tally::{Counts, Failure, Socket};

/// A load that is further behind its schedule than this does not judge anybody else.
const MOST_LAG: Duration = Duration::from_secs(1);

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every request that was scheduled was sent and answered, and no WebSocket failed.
    Passed,
    /// The service lost something.
    Failed,
    /// Nothing was lost that can be blamed on the service, but the load generator did not keep its schedule.
    GeneratorTooSlow,
}

/// What the load leaves behind. Times are milliseconds since 1970, durations milliseconds.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The judgement.
    pub verdict: Verdict,
    /// In sentences why, if it is not `passed`.
    pub reasons: Vec<String>,
    /// What was asked.
    pub url: String,
    /// Under which name.
    pub host: String,
    /// Requests per second.
    pub rate: u32,
    /// When the first request was due.
    pub started_ms: u64,
    /// When the last answer was in.
    pub ended_ms: u64,
    /// Requests that became due.
    pub scheduled: u64,
    /// Requests handed to an open connection.
    pub sent: u64,
    /// Requests answered 2xx with the whole body before the deadline.
    pub answered: u64,
    /// Requests that were not.
    pub failed: u64,
    /// Requests sent a second time: the server closed a kept connection before one byte of the answer.
    pub retried: u64,
    /// Failures by kind, of requests and of WebSockets.
    pub failed_by_kind: BTreeMap<Kind, u64>,
    /// From due to the end of the body.
    pub latency_ms: Latency,
    /// The load generator itself.
    pub generator: Generator,
    /// Connections.
    pub connections: Connections,
    /// Answers by second since 1970 and version.
    pub versions: BTreeMap<u64, BTreeMap<String, u64>>,
    /// WebSockets.
    pub websockets: Websockets,
    /// The first failures, in the order in which they were known.
    pub failures: Vec<Failure>,
    /// What had gone wrong before each retry.
    pub retries: Vec<Failure>,
}

/// Percentiles of the latency of the answers in time.
#[derive(Debug, Default, Serialize)]
pub struct Latency {
    /// Half of the answers took no longer.
    pub p50: f64,
    /// All but one in a hundred took no longer.
    pub p99: f64,
    /// All but one in a thousand took no longer.
    pub p99_9: f64,
    /// The slowest took this long.
    pub max: f64,
}

/// How the load generator itself did.
#[derive(Debug, Serialize)]
pub struct Generator {
    /// The longest time by which a request was begun after it was due.
    pub max_lag_ms: f64,
    /// Processor time used.
    pub cpu_seconds: f64,
    /// The same as a share of one core.
    pub cpu_share: f64,
}

/// Connections used.
#[derive(Debug, Serialize)]
pub struct Connections {
    /// Requests on a connection of their own.
    pub fresh: u64,
    /// Connections opened for the pool of kept ones.
    pub pool_opened: u64,
    /// Kept connections that the server closed after an answer, before the next request was sent: no loss, no retry.
    pub closed_idle: u64,
}

/// WebSockets held.
#[derive(Debug, Serialize)]
pub struct Websockets {
    /// How many were to be held.
    pub wanted: usize,
    /// How often one was opened.
    pub opened: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages that came back.
    pub echoed: u64,
    /// Every socket's life, in the order of their ends.
    pub sockets: Vec<Socket>,
}

/// What the report says beside the counts.
pub struct Circumstances {
    /// See `Report`.
    pub url: String,
    /// See `Report`.
    pub host: String,
    /// See `Report`.
    pub rate: u32,
    /// See `Report`.
    pub started_ms: u64,
    /// See `Report`.
    pub ended_ms: u64,
    /// See `Connections`.
    pub closed_idle: u64,
    /// See `Websockets`.
    pub websockets: usize,
    /// Processor time used.
    pub cpu: Duration,
    /// Time passed.
    pub elapsed: Duration,
}

impl Report {
    /// Judges.
    pub fn new(mut counts: Counts, of: Circumstances) -> Self {
        let (verdict, reasons) = judge(&counts, of.websockets);
        Self {
            verdict,
            reasons,
            latency_ms: percentiles(&mut counts.latencies_us),
            url: of.url,
            host: of.host,
            rate: of.rate,
            started_ms: of.started_ms,
            ended_ms: of.ended_ms,
            scheduled: counts.scheduled,
            sent: counts.sent,
            answered: counts.answered,
            failed: counts.requests_failed,
            retried: counts.retried,
            failed_by_kind: counts.failed,
            generator: Generator {
                max_lag_ms: ms(counts.max_lag),
                cpu_seconds: of.cpu.as_millis() as f64 / 1000.0,
                cpu_share: (of.cpu.as_secs_f64() / of.elapsed.as_secs_f64() * 1000.0).round() / 1000.0,
            },
            connections: Connections {
                fresh: counts.fresh,
                pool_opened: counts.pool_opened,
                closed_idle: of.closed_idle,
            },
            versions: counts.versions,
            websockets: Websockets {
                wanted: of.websockets,
                opened: counts.sockets_opened,
                sent: counts.messages_sent,
                echoed: counts.messages_echoed,
                sockets: counts.sockets,
            },
            failures: counts.failures,
            retries: counts.retries,
        }
    }

    /// Writes the report as JSON, whole or not at all.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        let mut new = file.as_os_str().to_owned();
        new.push(".new");
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        std::fs::write(&new, json)?;
        std::fs::rename(&new, file)
    }
}

fn judge(counts: &Counts, websockets: usize) -> (Verdict, Vec<String>) {
    let mut lost = Vec::new();
    for (kind, number) in counts.failed.iter().filter(|(kind, _)| **kind != Kind::Generator) {
        lost.push(format!("{number} times {}", name(*kind)));
    }
    let generator = counts.failed.get(&Kind::Generator).copied().unwrap_or(0);
    if counts.scheduled == 0 {
        lost.push("no request was ever due".into());
    } else if counts.answered + counts.requests_failed != counts.scheduled {
        let known = counts.answered + counts.requests_failed;
        lost.push(format!("{} requests were due, but only {known} ended", counts.scheduled));
    }
    if websockets > 0 && counts.messages_echoed == 0 {
        lost.push("not one WebSocket message came back".into());
    }

    let mut slow = Vec::new();
    if counts.max_lag > MOST_LAG {
        slow.push(format!(
            "load generator too slow: a request was begun {:.0} ms after it was due",
            ms(counts.max_lag)
        ));
    }
    if generator > 0 {
        slow.push(format!("load generator at fault in {generator} requests"));
    }
    let verdict = match (lost.is_empty(), slow.is_empty()) {
        (false, _) => Verdict::Failed,
        (true, false) => Verdict::GeneratorTooSlow,
        (true, true) => Verdict::Passed,
    };
    lost.append(&mut slow);
    (verdict, lost)
}

/// The one word of a kind, as in the report.
pub fn name(kind: Kind) -> String {
    match serde_json::to_value(kind) {
        Ok(serde_json::Value::String(word)) => word,
        _ => format!("{kind:?}"),
    }
}

fn percentiles(latencies_us: &mut [u32]) -> Latency {
    latencies_us.sort_unstable();
    let Some(last) = latencies_us.len().checked_sub(1) else { return Latency::default() };
    // Of a thousand sorted answers the p99 is number 990: the smallest that 99 % do not exceed.
    let at = |per_mille: usize| {
        let rank = (latencies_us.len() * per_mille).div_ceil(1000);
        f64::from(latencies_us[rank.saturating_sub(1).min(last)]) / 1000.0
    };
    Latency { p50: at(500), p99: at(990), p99_9: at(999), max: at(1000) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Wrong;

    fn counts(scheduled: u64, answered: u64) -> Counts {
        Counts { scheduled, sent: scheduled, answered, ..Counts::default() }
    }

    #[test]
    fn all_answered_in_time_is_a_pass() {
        assert_eq!(judge(&counts(10, 10), 0).0, Verdict::Passed);
    }

    #[test]
    fn a_request_that_never_ended_is_a_loss() {
        let (verdict, reasons) = judge(&counts(10, 9), 0);
        assert_eq!(verdict, Verdict::Failed);
        assert_eq!(reasons, ["10 requests were due, but only 9 ended"]);
    }

    #[test]
    fn a_load_that_did_nothing_does_not_pass() {
        assert_eq!(judge(&counts(0, 0), 0).0, Verdict::Failed);
        assert_eq!(judge(&counts(10, 10), 1).0, Verdict::Failed);
    }

    #[test]
    fn a_slow_generator_is_told_apart_from_a_loss() {
        let mut slow = counts(10, 10);
        slow.max_lag = Duration::from_millis(1001);
        assert_eq!(judge(&slow, 0).0, Verdict::GeneratorTooSlow);

        slow.answered = 9;
        slow.request_failed(Failure::now(0, Wrong::unanswered(Kind::Reset, "gone"), "kept", 1));
        let (verdict, reasons) = judge(&slow, 0);
        assert_eq!(verdict, Verdict::Failed);
        assert_eq!(reasons[0], "1 times reset");
        assert!(reasons[1].starts_with("load generator too slow"));
    }

    #[test]
    fn percentiles_are_of_the_answers_themselves() {
        let mut thousand: Vec<u32> = (1..=1000).rev().map(|n| n * 1000).collect();
        let latency = percentiles(&mut thousand);
        assert_eq!((latency.p50, latency.p99, latency.p99_9, latency.max), (500.0, 990.0, 999.0, 1000.0));
        assert_eq!(percentiles(&mut []).max, 0.0);
    }
}
