//! The load generator's command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use lapstrake_load::report::{Report, Verdict};
use lapstrake_load::schedule::Schedule;
use lapstrake_load::target::Target;
use lapstrake_load::{Plan, run};
use tokio::signal::unix::{SignalKind, signal};

/// Puts an open-loop load on a service of this machine and judges whether anything was lost.
#[derive(Parser)]
#[command(version)]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Runs a load and judges it. Exit code 0 only if nothing was lost.
    Run(RunArguments),
}

#[derive(Args)]
struct RunArguments {
    /// What to ask for: http, and an address of this machine.
    #[arg(long)]
    url: String,
    /// The Host header; the URL's own by default.
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Requests per second.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// How long: 60s, 5m, 1500ms.
    #[arg(long, value_parser = duration, required_unless_present = "until_signal")]
    duration: Option<Duration>,
    /// Go on until SIGTERM or SIGINT (which end a load with a duration, too).
    #[arg(long, conflicts_with = "duration")]
    until_signal: bool,
    /// The share of the requests that use a connection of their own.
    #[arg(long, default_value = "10%", value_parser = percent)]
    new_connections: u32,
    /// Kept connections to open at the start.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// WebSockets to hold open.
    #[arg(long, default_value_t = 0)]
    websockets: usize,
    /// Where they are.
    #[arg(long, default_value = "/ws")]
    ws_path: String,
    /// Ask /body?bytes=N with every third request and verify each byte.
    #[arg(long, value_name = "N")]
    body_bytes: Option<u64>,
    /// When an answer is too late, counted from when its request was due.
    #[arg(long, default_value = "5s", value_parser = duration)]
    deadline: Duration,
    /// Where to write the report (JSON).
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Say each second on standard error how it goes.
    #[arg(long)]
    progress: bool,
}

// One thread: the load of a test is well within it, and two would take the service's cores.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Verb::Run(arguments) = Command::parse().verb;
    match load(arguments).await {
        Ok(Verdict::Passed) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("lapstrake-load: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn load(arguments: RunArguments) -> anyhow::Result<Verdict> {
    let target = Target::new(&arguments.url, arguments.host.as_deref())?;
    let mut sigterm = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut sigint = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let plan = Plan {
        schedule: Schedule {
            rate: arguments.rate,
            fresh_percent: arguments.new_connections,
            body_bytes: arguments.body_bytes,
        },
        duration: arguments.duration,
        websockets: arguments.websockets,
        ws_path: arguments.ws_path,
        deadline: arguments.deadline,
        connections: arguments.connections,
        progress: arguments.progress,
    };
    let told = async {
        tokio::select! {
            _ = sigterm.recv() => {}
            _ = sigint.recv() => {}
        }
    };
    let report = run(plan, target, told).await;
    if let Some(file) = &arguments.report {
        report.write(file).with_context(|| format!("cannot write the report to {}", file.display()))?;
    }
    print(&report);
    Ok(report.verdict)
}

fn print(report: &Report) {
    let word = match report.verdict {
        Verdict::Passed => "passed",
        Verdict::Failed => "FAILED",
        Verdict::GeneratorTooSlow => "LOAD GENERATOR TOO SLOW",
    };
    let (latency, generator) = (&report.latency_ms, &report.generator);
    println!(
        "{word}: scheduled {}, sent {}, answered {}, failed {}, retried {}",
        report.scheduled, report.sent, report.answered, report.failed, report.retried
    );
    println!(
        "latency p50 {} ms, p99 {} ms, p99.9 {} ms, max {} ms; generator: {:.0} % of a core, at most {} ms behind",
        latency.p50,
        latency.p99,
        latency.p99_9,
        latency.max,
        generator.cpu_share * 100.0,
        generator.max_lag_ms
    );
    let sockets = &report.websockets;
    if sockets.wanted > 0 {
        println!(
            "websockets: held {}, opened {}, messages {}, echoed {}",
            sockets.wanted, sockets.opened, sockets.sent, sockets.echoed
        );
    }
    for reason in &report.reasons {
        println!("- {reason}");
    }
    for failure in report.failures.iter().take(5) {
        let status = failure.status.map(|status| format!(" {status}")).unwrap_or_default();
        println!("  {} on a {} connection:{status} {}", failure.at_ms, failure.connection, failure.detail);
    }
}

/// `60s`, `5m`, `1500ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let wrong = || format!("{text:?} is not a duration like 1500ms, 60s or 5m");
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let unit = match &text[digits..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit).map(Duration::from_millis).ok_or_else(wrong)
}

/// `10%`.
fn percent(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok().filter(|percent| *percent <= 100);
    number.ok_or_else(|| format!("{text:?} is not a share like 10%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_shares_are_read_with_their_units() {
        assert_eq!(duration("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("1500ms"), Ok(Duration::from_millis(1500)));
        assert!(duration("60").is_err() && duration("s").is_err() && duration("1 day").is_err());
        assert_eq!(percent("10%"), Ok(10));
        assert!(percent("101%").is_err() && percent("x").is_err());
    }
}
