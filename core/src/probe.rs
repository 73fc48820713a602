//! The arithmetic of checks: when to ask again, and what a row of answers means.

use crate::spec::{Check, CheckKind, Port, ServiceSpec};
use crate::time::{Millis, Tick};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// The first question after a start comes this soon; a fast service should not wait for us.
pub const FIRST_DELAY: Millis = Millis(10);
/// While not yet healthy, each delay is the last one times this, divided by ten.
pub const GROWTH_TENTHS: u64 = 15;
/// While not yet healthy, no delay is longer.
pub const LONGEST_DELAY: Millis = Millis(1_000);

/// What one check has answered so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reading {
    /// How often it was asked.
    pub asked: u32,
    /// Since when every answer was good; none when the last one was bad or there is none.
    pub good_since: Option<Tick>,
    /// Whether it ever was good in this attempt.
    pub was_good: bool,
    /// Bad answers in a row, not counting those in the grace time before the first good one.
    pub bad_in_a_row: u32,
    /// The last bad answer in words: a status and the body's beginning, or an error.
    pub last_bad: Option<String>,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Healthy.
    Good,
    /// Not healthy, and why in words.
    Bad(String),
}

impl Reading {
    /// Before the first question. Of an attempt whose checks have been good, an agent that has just started knows it from
    /// its ledger.
    pub fn unasked(was_good: bool) -> Reading {
        Reading { was_good, ..Reading::default() }
    }

    /// Takes one answer in. `started` is when the attempt's process started.
    pub fn take(&mut self, check: &Check, answer: Answer, started: Tick, now: Tick) {
        self.asked = self.asked.saturating_add(1);
        match answer {
            Answer::Good => {
                self.good_since.get_or_insert(now);
                self.was_good = true;
                self.bad_in_a_row = 0;
            }
            Answer::Bad(why) => {
                self.good_since = None;
                self.last_bad = Some(why);
                if self.was_good || now.since(started) >= check.grace {
                    self.bad_in_a_row = self.bad_in_a_row.saturating_add(1);
                }
            }
        }
    }

    /// How long to wait before the next question: at once at first, quick and growing until it is good, then the check's
    /// interval.
    pub fn delay(&self, check: &Check) -> Millis {
        if self.asked > 0 && (self.good_since.is_some() || self.was_good) {
            return check.interval;
        }
        let mut delay = FIRST_DELAY;
        for _ in 0..self.asked.min(20) {
            delay = Millis((delay.0 * GROWTH_TENTHS / 10).min(LONGEST_DELAY.0));
        }
        delay
    }

    /// Whether so many answers in a row were bad that a new attempt is due.
    pub const fn has_failed(&self, check: &Check) -> bool {
        self.bad_in_a_row >= check.restart_after
    }
}

/// Between two questions of the check that nobody wrote; the same as the spec's default.
const DEFAULT_INTERVAL: Millis = Millis(10_000);
/// How long the check that nobody wrote waits for a connection; the same as the spec's default.
const DEFAULT_TIMEOUT: Millis = Millis(2_000);
/// Failures in a row of the check that nobody wrote; the same as the spec's default.
const DEFAULT_RESTART_AFTER: u32 = 3;

/// The checks that a job of this spec is asked: those of the spec, or without any a connection to each port; a service
/// without ports is asked nothing and counts as healthy while it runs.
///
/// The check that nobody wrote must not kill a job that is slow to start, so its grace time is the whole time that a
/// replacement has until it is ready.
pub fn checks_of(spec: &ServiceSpec) -> Vec<Check> {
    if !spec.health.is_empty() {
        return spec.health.clone();
    }
    let connect = |port: &Port| Check {
        kind: CheckKind::Tcp { port: port.port },
        interval: DEFAULT_INTERVAL,
        timeout: DEFAULT_TIMEOUT,
        grace: spec.deploy.timeout,
        restart_after: DEFAULT_RESTART_AFTER,
    };
    spec.ports.iter().map(connect).collect()
}

impl fmt::Display for Check {
    /// As people read it in a failure: `http GET :8080/healthz`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            CheckKind::Http { port, path } => write!(f, "http GET :{port}{path}"),
            CheckKind::Tcp { port } => write!(f, "tcp :{port}"),
            CheckKind::Grpc { port, service } => write!(f, "grpc health :{port} {service:?}"),
            CheckKind::Exec { command } => write!(f, "exec {}", command.join(" ")),
        }
    }
}
