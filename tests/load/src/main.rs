//! The load generator's command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use lapstrake_load::judge::evidence::{Deployment, containers, read, text};
use lapstrake_load::judge::{Sheet, crash, redeploys};
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
    /// Judges what others wrote down while a load ran. Exit code 0 only if every check passes.
    #[command(subcommand)]
    Judge(Judge),
}

#[derive(Subcommand)]
enum Judge {
    /// Redeploys: FOLDER has load.json, deployments-*.json, events.jsonl and logs/ID.log. Ends with `N passed, N failed`.
    Redeploys {
        /// Where the evidence is.
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
        /// The path of the service under load.
        #[arg(long)]
        service: String,
        /// How many redeploys of it there were.
        #[arg(long, value_name = "NUMBER")]
        redeploys: usize,
        /// The spec's `overlap`.
        #[arg(long, value_parser = duration)]
        overlap: Duration,
        /// The spec's `drain`.
        #[arg(long, value_parser = duration)]
        drain: Duration,
        /// The spec's `stop_grace`.
        #[arg(long, value_parser = duration)]
        stop_grace: Duration,
    },
    /// A crash: FOLDER has before.txt, after.txt, services.json, deployments-*.json, acknowledged.txt and, once the load
    /// has ended, load.json. Prints how the newest deployment ended, then what is wrong.
    Crash {
        /// Where the evidence is.
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
        /// The path of the service that was deployed.
        #[arg(long)]
        service: String,
    },
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
    let outcome = match Command::parse().verb {
        Verb::Run(arguments) => load(arguments).await.map(|verdict| verdict == Verdict::Passed),
        Verb::Judge(judge) => judgement(judge),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
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

fn judgement(judge: Judge) -> anyhow::Result<bool> {
    match judge {
        Judge::Redeploys { folder, service, redeploys, overlap, drain, stop_grace } => {
            let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
            let policy =
                redeploys::Policy { overlap_ms: ms(overlap), drain_ms: ms(drain), stop_grace_ms: ms(stop_grace) };
            let case = redeploys::Case {
                policy,
                redeploys,
                service,
                load: read(&folder.join("load.json"))?,
                deployments: deployments(&folder)?,
                containers: containers(&folder.join("events.jsonl"), &folder.join("logs"))?,
            };
            let sheet = redeploys::judge(&case);
            print_checks(&sheet, |_| true);
            println!("\n{}\n", redeploys::figures(&case).join("\n"));
            let (passed, failed) = sheet.count();
            println!("{passed} passed, {failed} failed");
            Ok(failed == 0)
        }
        Judge::Crash { folder, service } => {
            let load = folder.join("load.json");
            let case = crash::Case {
                service,
                before: crash::Found::list(&text(&folder.join("before.txt"))?),
                after: crash::Found::list(&text(&folder.join("after.txt"))?),
                services: read(&folder.join("services.json"))?,
                deployments: deployments(&folder)?,
                acknowledged: acknowledged(&text(&folder.join("acknowledged.txt"))?),
                load: if load.exists() { Some(read(&load)?) } else { None },
            };
            let sheet = crash::judge(&case);
            println!("{}", crash::ended_as(&case));
            print_checks(&sheet, |passed| !passed);
            Ok(sheet.count().1 == 0)
        }
    }
}

fn print_checks(sheet: &Sheet, wanted: impl Fn(bool) -> bool) {
    for check in sheet.checks.iter().filter(|check| wanted(check.passed())) {
        println!("{check}");
    }
}

/// What the files `deployments-*.json` list: of one service each, at different times, as the controller keeps only the
/// newest ones of a service.
fn deployments(folder: &Path) -> anyhow::Result<Vec<Deployment>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with("deployments-") && name.ends_with(".json") {
            all.append(&mut read::<Vec<Deployment>>(&path)?);
        }
    }
    Ok(Deployment::each_once(all))
}

/// A path and a number a line.
fn acknowledged(text: &str) -> Vec<(String, u32)> {
    let line = |line: &str| {
        let (path, number) = line.split_once(' ')?;
        Some((path.to_owned(), number.trim().parse().ok()?))
    };
    text.lines().filter_map(line).collect()
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
