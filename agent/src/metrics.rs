//! What the agent counts, and how its node is, for Prometheus.
//!
//! No label has a name that somebody chose: services' own numbers are the proxy's, whose route table bounds them.

use crate::link::EngineLink;
use crate::runtime::RuntimeError;
use crate::tls::Credentials;
use lapstrake_core::probe::Answer;
use lapstrake_core::report::{Health, JobPhase};
use lapstrake_core::time::Tick;
use lapstrake_metrics::{Counter, Distribution, Histogram, Kind, Text};
use std::time::Duration;

/// From a question about one container to an image that is pulled over a slow line.
const CALL_TIMES: &[Duration] = &[
    Duration::from_millis(2),
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
];

/// From a job on this machine that answers at once to the longest time-out that a spec may give a check.
const CHECK_TIMES: &[Duration] = &[
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(10),
];

/// From a fast disk to one that is about to fail.
const LEDGER_TIMES: &[Duration] = &[
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(5),
];

/// What the container engine is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// All containers.
    List,
    /// One container.
    Look,
    /// To make and start one.
    Run,
    /// To stop one.
    Terminate,
    /// To kill one.
    Kill,
    /// To remove one.
    Remove,
    /// For output.
    Logs,
    /// To run a command in one.
    Exec,
    /// To get an image.
    Pull,
    /// What a tag means.
    Resolve,
    /// About networks.
    Network,
    /// All images.
    Images,
    /// To remove one.
    RemoveImage,
}

impl Call {
    const ALL: [Call; 13] = [
        Call::List,
        Call::Look,
        Call::Run,
        Call::Terminate,
        Call::Kill,
        Call::Remove,
        Call::Logs,
        Call::Exec,
        Call::Pull,
        Call::Resolve,
        Call::Network,
        Call::Images,
        Call::RemoveImage,
    ];

    const fn word(self) -> &'static str {
        match self {
            Call::List => "list",
            Call::Look => "look",
            Call::Run => "run",
            Call::Terminate => "terminate",
            Call::Kill => "kill",
            Call::Remove => "remove",
            Call::Logs => "logs",
            Call::Exec => "exec",
            Call::Pull => "pull",
            Call::Resolve => "resolve",
            Call::Network => "network",
            Call::Images => "images",
            Call::RemoveImage => "remove-image",
        }
    }
}

#[derive(Debug)]
struct Calls {
    times: Histogram,
    refused: Counter,
    unreachable: Counter,
}

/// All that the agent counts.
#[derive(Debug)]
pub struct Metrics {
    /// In the order of `Call::ALL`.
    calls: [Calls; Call::ALL.len()],
    checks: Histogram,
    good: Counter,
    bad: Counter,
    ledger: Histogram,
    unwritten: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let calls = || Calls {
            times: Histogram::new(CALL_TIMES),
            refused: Counter::default(),
            unreachable: Counter::default(),
        };
        Metrics {
            calls: std::array::from_fn(|_| calls()),
            checks: Histogram::new(CHECK_TIMES),
            good: Counter::default(),
            bad: Counter::default(),
            ledger: Histogram::new(LEDGER_TIMES),
            unwritten: Counter::default(),
        }
    }
}

impl Metrics {
    /// The engine was asked. That something is not there is an answer, no failure.
    pub fn call<T>(&self, call: Call, took: Duration, outcome: &Result<T, RuntimeError>) {
        let calls = &self.calls[call as usize];
        calls.times.observe(took);
        match outcome {
            Ok(_) | Err(RuntimeError::NotThere(_)) => {}
            Err(RuntimeError::Unreachable(_)) => calls.unreachable.add(1),
            Err(
                RuntimeError::Refused(_)
                | RuntimeError::NoSuchImage(_)
                | RuntimeError::NoSuchProgram(_)
                | RuntimeError::NameTaken(_),
            ) => {
                calls.refused.add(1);
            }
        }
    }

    /// A job's check was asked.
    pub fn check(&self, took: Duration, answer: &Answer) {
        self.checks.observe(took);
        match answer {
            Answer::Good => self.good.add(1),
            Answer::Bad(_) => self.bad.add(1),
        }
    }

    /// The ledger was written, or could not be.
    pub fn ledger(&self, took: Duration, is_written: bool) {
        self.ledger.observe(took);
        if !is_written {
            self.unwritten.add(1);
        }
    }

    /// Everything, as Prometheus reads it.
    pub fn render(&self, link: &EngineLink, credentials: &Credentials, now: Tick) -> String {
        let mut text = Text::default();
        text.family("lapstrake_agent_info", Kind::Gauge, "The agent's version, as a label.")
            .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1u64);
        self.render_counts(&mut text);
        render_node(&mut text, link, now);
        text.family(
            "lapstrake_agent_certificate_expiry_timestamp_seconds",
            Kind::Gauge,
            "When the node's certificate ends, in seconds since 1970; the agent renews it.",
        )
        .sample(&[], credentials.validity().not_after.0 / 1000);
        text.finish()
    }

    fn render_counts(&self, text: &mut Text) {
        let name = "lapstrake_agent_engine_call_duration_seconds";
        let mut times = text.family(name, Kind::Histogram, "How long the container engine took over calls.");
        for call in Call::ALL {
            times.distribution(&[("call", call.word())], &Distribution::from(&self.calls[call as usize].times));
        }
        let name = "lapstrake_agent_engine_call_failures_total";
        let mut failures =
            text.family(name, Kind::Counter, "Calls that the container engine refused or did not answer.");
        for call in Call::ALL {
            let Calls { refused, unreachable, .. } = &self.calls[call as usize];
            failures.sample(&[("call", call.word()), ("kind", "refused")], refused.get());
            failures.sample(&[("call", call.word()), ("kind", "unreachable")], unreachable.get());
        }
        text.family(
            "lapstrake_agent_check_duration_seconds",
            Kind::Histogram,
            "How long jobs took to answer their checks.",
        )
        .distribution(&[], &Distribution::from(&self.checks));
        text.family("lapstrake_agent_checks_total", Kind::Counter, "Answers to jobs' checks.")
            .sample(&[("answer", "good")], self.good.get())
            .sample(&[("answer", "bad")], self.bad.get());
        text.family(
            "lapstrake_agent_ledger_write_duration_seconds",
            Kind::Histogram,
            "How long the disk took over the ledger.",
        )
        .distribution(&[], &Distribution::from(&self.ledger));
        text.family("lapstrake_agent_ledger_write_failures_total", Kind::Counter, "Ledgers that could not be written.")
            .sample(&[], self.unwritten.get());
    }
}

fn render_node(text: &mut Text, link: &EngineLink, now: Tick) {
    let report = link.reports().borrow().clone();
    // Every pair is told, also those that no job is in.
    let mut jobs = text.family("lapstrake_agent_jobs", Kind::Gauge, "Jobs of the ledger by phase and health.");
    for (phase, phase_word) in PHASES {
        for (health, health_word) in HEALTHS {
            let count = report.jobs.iter().filter(|job| job.phase == phase && job.health == health).count();
            jobs.sample(&[("phase", phase_word), ("health", health_word)], count);
        }
    }
    // An attempt beyond the first is a restart.
    let restarts: u64 = report.jobs.iter().map(|job| u64::from(job.attempt.saturating_sub(1))).sum();
    let under_way = report.replacements.iter().filter(|replacement| !replacement.phase.is_final()).count();
    let used = link.used();
    let (table, acknowledged, proxies, leased, answers) = link.view.read(|seen| {
        let acknowledged = seen.proxies.iter().map(|proxy| proxy.acknowledged).min();
        let leased = seen.lease_ends.is_some_and(|ends| now < ends);
        (seen.table_written, acknowledged, seen.proxies.len() as u64, leased, seen.engine_answers)
    });
    for (name, help, value) in [
        ("lapstrake_agent_job_restarts", "Attempts beyond the first of the jobs that the ledger holds.", restarts),
        ("lapstrake_agent_replacements", "Replacements that are under way.", under_way as u64),
        (
            "lapstrake_agent_troubles",
            "What keeps the node from working; `lap node show` says what.",
            report.troubles.len() as u64,
        ),
        (
            "lapstrake_agent_session_leased",
            "Whether the controller knows this node: its lease has not ended.",
            leased.into(),
        ),
        ("lapstrake_agent_engine_answers", "Whether the container engine answers.", answers.into()),
        ("lapstrake_agent_route_table_generation", "The generation of the route table that was written.", table),
        ("lapstrake_agent_proxies", "Live proxies.", proxies),
        (
            "lapstrake_agent_disk_free_bytes",
            "Free bytes of the disk that holds the images.",
            used.disk_total_bytes.saturating_sub(used.disk_used_bytes),
        ),
        (
            "lapstrake_agent_disk_full",
            "Whether a disk is above its critical mark, so that no job begins here.",
            report.full_disk.is_some().into(),
        ),
        ("lapstrake_agent_disk_bytes", "Bytes of the disk that holds the images.", used.disk_total_bytes),
        ("lapstrake_agent_memory_used_bytes", "Memory of the machine in use.", used.memory_bytes),
    ] {
        text.family(name, Kind::Gauge, help).sample(&[], value);
    }
    // Without a proxy nobody obeys any: a 0 would be one that is far behind.
    let help = "The oldest that a live proxy obeys; nothing while there is no proxy.";
    let mut family = text.family("lapstrake_agent_route_table_acknowledged_generation", Kind::Gauge, help);
    if let Some(acknowledged) = acknowledged {
        family.sample(&[], acknowledged);
    }
}

const PHASES: [(JobPhase, &str); 10] = [
    (JobPhase::Assigned, "assigned"),
    (JobPhase::Pulling, "pulling"),
    (JobPhase::Creating, "creating"),
    (JobPhase::Starting, "starting"),
    (JobPhase::Running, "running"),
    (JobPhase::Stopping, "stopping"),
    (JobPhase::Stopped, "stopped"),
    (JobPhase::Succeeded, "succeeded"),
    (JobPhase::Failed, "failed"),
    (JobPhase::Rejected, "rejected"),
];

const HEALTHS: [(Health, &str); 4] = [
    (Health::Unknown, "unknown"),
    (Health::Starting, "starting"),
    (Health::Healthy, "healthy"),
    (Health::Unhealthy, "unhealthy"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_where_they_belong() {
        for (place, call) in Call::ALL.into_iter().enumerate() {
            assert_eq!(call as usize, place);
        }
        let metrics = Metrics::default();
        let took = Duration::from_millis(3);
        metrics.call(Call::Run, took, &Err::<(), _>(RuntimeError::Unreachable("gone".into())));
        metrics.call(Call::Look, took, &Err::<(), _>(RuntimeError::NotThere("none".into())));
        let mut text = Text::default();
        metrics.render_counts(&mut text);
        let text = text.finish();
        let failures = "lapstrake_agent_engine_call_failures_total";
        assert!(text.contains(&format!("{failures}{{call=\"run\",kind=\"unreachable\"}} 1\n")), "{text}");
        assert!(text.contains(&format!("{failures}{{call=\"look\",kind=\"refused\"}} 0\n")), "{text}");
        assert!(text.contains("lapstrake_agent_engine_call_duration_seconds_count{call=\"look\"} 1\n"), "{text}");
    }
}
