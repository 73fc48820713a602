//! Specs and services: what is wanted, and how it is.

use super::span;
use crate::address::{Below, ServicePath, ServicesPath};
use clap::Args;
use jiff::Timestamp;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// `lap plan`.
#[derive(Args)]
pub struct Spec {
    /// The spec file; `-` for stdin
    #[arg(short, long)]
    pub file: PathBuf,
    /// Only for this environment; may be given several times, by default those that the file names
    #[arg(long, value_name = "NAME")]
    pub env: Vec<lapstrake_api::spec::Name>,
}

/// `lap apply`.
#[derive(Args)]
pub struct Apply {
    /// The spec.
    #[command(flatten)]
    pub spec: Spec,
    /// Only if none of its services was changed since `lap plan` named this tag; else exit 3
    #[arg(long, value_name = "TAG")]
    pub if_unchanged: Option<String>,
    /// Whether to stay.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// Whether to stay until it is done.
#[derive(Args, Clone, Copy)]
pub struct Waiting {
    /// Follow it to its end, with live progress; exit 1 when it fails
    #[arg(long)]
    pub wait: bool,
    /// Stop waiting after so long, with exit 4; what was begun goes on
    #[arg(long, requires = "wait", value_parser = span, value_name = "SPAN")]
    pub timeout: Option<Duration>,
}

/// A listing, narrowed or not.
#[derive(Args)]
pub struct Listing {
    /// An application, an environment or a service
    #[arg(value_name = "PATH")]
    pub below: Option<Below>,
}

/// One service.
#[derive(Args)]
pub struct One {
    /// The service's path, as shop/production/web
    pub path: ServicePath,
}

/// `lap events`.
#[derive(Args)]
pub struct Events {
    /// Go on with what happens
    #[arg(short, long)]
    pub follow: bool,
    /// All after this event's number, instead of the last fifty
    #[arg(long, value_name = "NUMBER")]
    pub after: Option<u64>,
    /// Only about this path and what lies below
    #[arg(value_name = "PATH")]
    pub below: Option<Below>,
}

/// `lap deployments`.
#[derive(Args)]
pub struct Deployments {
    /// The service's path
    pub path: ServicePath,
    /// One deployment's number
    pub number: Option<u32>,
}

/// `lap deploy`.
#[derive(Args)]
pub struct Deploy {
    /// The service's path
    pub path: ServicePath,
    /// The image to run
    #[arg(long)]
    pub image: String,
    /// Whether to stay.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// `lap redeploy`.
#[derive(Args)]
pub struct Redeploy {
    /// The service's path
    pub path: ServicePath,
    /// Whether to stay.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// `lap rollback`.
#[derive(Args)]
pub struct Rollback {
    /// The service's path
    pub path: ServicePath,
    /// The revision, as r7
    #[arg(long, value_name = "REVISION", value_parser = revision)]
    pub to: Option<u32>,
    /// Whether to stay.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// `lap cancel`, `lap hold`.
#[derive(Args)]
pub struct Steered {
    /// The service's path
    pub path: ServicePath,
    /// The deployment's number; by default the one under way
    pub number: Option<u32>,
    /// Whether to stay.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// `lap release`.
#[derive(Args)]
pub struct Release {
    /// Which deployment.
    #[command(flatten)]
    pub of: Steered,
    /// All of the traffic, and not only that of the next step
    #[arg(long)]
    pub all: bool,
}

/// `lap scale`.
#[derive(Args)]
pub struct Scale {
    /// The service's path
    pub path: ServicePath,
    /// How many jobs
    #[arg(value_name = "JOBS")]
    pub scale: u32,
    /// Whether to stay.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// `lap pause`.
#[derive(Args)]
pub struct Pause {
    /// A service, or an environment for all of its services
    pub path: ServicesPath,
    /// Why, for those who find it paused
    #[arg(long)]
    pub reason: Option<String>,
    /// Whether to stay.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// `lap resume`.
#[derive(Args)]
pub struct Resume {
    /// A service, or an environment for all of its services
    pub path: ServicesPath,
    /// Whether to stay.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// `lap redeployable`.
#[derive(Args)]
pub struct Redeployable {
    /// The service's path
    pub path: ServicePath,
    /// Whether people may give it new jobs
    #[arg(value_enum)]
    pub answer: YesOrNo,
    /// Why not, for those who are refused
    #[arg(long, required_if_eq("answer", "no"))]
    pub reason: Option<String>,
}

/// An answer.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq)]
pub enum YesOrNo {
    /// They may.
    Yes,
    /// Only operators may.
    No,
}

/// `lap rm`.
#[derive(Args)]
pub struct Remove {
    /// The service's path
    pub path: ServicePath,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Whether to stay.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// `lap logs`.
#[derive(Args)]
pub struct Logs {
    /// The service's path
    pub path: ServicePath,
    /// Go on, also with jobs that come later
    #[arg(short, long)]
    pub follow: bool,
    /// How many of the last lines of each job first: 100, or with --since all; with --grep only lines that match count
    #[arg(short = 'n', long, value_name = "LINES")]
    pub tail: Option<u32>,
    /// Only lines since then: so long ago, as 10m, or a time, as 2026-11-21T19:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = since)]
    pub since: Option<Timestamp>,
    /// Only lines in which this regular expression finds something; picked on the nodes
    #[arg(long, value_name = "REGEX", value_parser = pattern)]
    pub grep: Option<String>,
    /// Show when each line was written
    #[arg(short, long)]
    pub timestamps: bool,
    /// Which jobs.
    #[command(flatten)]
    pub which: Which,
}

/// Which of a service's jobs.
#[derive(Args, Clone)]
pub struct Which {
    /// The job in the slot of this number
    #[arg(long, value_name = "NUMBER", conflicts_with = "job")]
    pub slot: Option<u32>,
    /// The job of this id, as `lap ps -o json` names it
    #[arg(long, value_name = "ID", value_parser = job)]
    pub job: Option<String>,
}

impl Which {
    /// As an address's query says it, with this before each: `&slot=1`.
    pub fn query(&self) -> String {
        let slot = self.slot.map(|slot| format!("&slot={slot}"));
        let job = self.job.as_ref().map(|job| format!("&job={job}"));
        slot.or(job).unwrap_or_default()
    }

    /// Whether nobody said which.
    pub fn is_any(&self) -> bool {
        self.slot.is_none() && self.job.is_none()
    }
}

/// `lap exec`.
#[derive(Args)]
pub struct Exec {
    /// The service's path
    pub path: ServicePath,
    /// Which job.
    #[command(flatten)]
    pub which: Which,
    /// Give it this program's input
    #[arg(short, long)]
    pub interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub terminal: bool,
    /// The program and its arguments
    #[arg(last = true, required = true, num_args = 1.., value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// `lap forward`.
#[derive(Args)]
pub struct Forward {
    /// The service's path
    pub path: ServicePath,
    /// The port here and the job's: 8080:80; 0:80 takes any free one, 80 the same
    #[arg(required = true, num_args = 1.., value_name = "PORTS", value_parser = ports)]
    pub ports: Vec<Ports>,
    /// Which job.
    #[command(flatten)]
    pub which: Which,
    /// Listen on this address instead of 127.0.0.1 and ::1
    #[arg(long, value_name = "ADDRESS")]
    pub bind: Option<IpAddr>,
}

/// A port of this machine, and the job's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// Here; 0 for any.
    pub local: u16,
    /// The job's.
    pub remote: u16,
}

/// `lap top`.
#[derive(Args)]
pub struct Top {
    /// An application, an environment, or a service, whose jobs are shown one by one
    #[arg(value_name = "PATH", conflicts_with = "nodes")]
    pub below: Option<Below>,
    /// The nodes instead
    #[arg(long)]
    pub nodes: bool,
    /// Show it once
    #[arg(long)]
    pub once: bool,
}

/// `8080:80`, `0:80`, `80`.
fn ports(text: &str) -> Result<Ports, String> {
    let wrong = || format!("`{}` is no pair of ports; one is written as 8080:80", text.escape_debug());
    let port = |text: &str| text.parse::<u16>().map_err(|_| wrong());
    let (local, remote) = match text.split_once(':') {
        Some((local, remote)) => (port(local)?, port(remote)?),
        None => (port(text)?, port(text)?),
    };
    if remote == 0 { Err(wrong()) } else { Ok(Ports { local, remote }) }
}

/// `10m`, `2026-11-21T19:00:00Z`.
fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let wrong = || {
        let shown = text.escape_debug();
        format!("`{shown}` is neither a span as 10m or 1h30m nor a time as 2026-11-21T19:00:00Z")
    };
    let ago = span(text).map_err(|_| wrong())?;
    Timestamp::now().checked_sub(ago).map_err(|_| wrong())
}

fn pattern(text: &str) -> Result<String, String> {
    lapstrake_api::pattern::check(text).map(|()| text.to_owned()).map_err(|wrong| wrong.to_string())
}

pub(super) fn job(text: &str) -> Result<String, String> {
    let id = text.parse::<lapstrake_core::ids::JobId>();
    id.map(|id| id.to_string())
        .map_err(|_| format!("`{}` is no job's id; `lap ps -o json` shows them", text.escape_debug()))
}

/// `r7` or `7`.
fn revision(text: &str) -> Result<u32, String> {
    let number = text.strip_prefix('r').unwrap_or(text);
    number.parse().map_err(|_| format!("`{}` is no revision; one is written as r7", text.escape_debug()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_pairs_of_which_the_jobs_is_named() {
        assert_eq!(ports("8080:80"), Ok(Ports { local: 8080, remote: 80 }));
        assert_eq!(ports("0:80"), Ok(Ports { local: 0, remote: 80 }));
        assert_eq!(ports("80"), Ok(Ports { local: 80, remote: 80 }));
        for wrong in ["", "0", "80:0", "80:", ":80", "80:http", "70000", "1:2:3"] {
            ports(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn a_time_is_said_as_a_span_or_as_itself() {
        assert_eq!(since("2026-11-21T19:00:00Z").map(|at| at.as_second()), Ok(1_795_287_600));
        let ago = Timestamp::now().as_second() - since("10m").expect("a span").as_second();
        assert!((600..660).contains(&ago), "{ago}");
        for wrong in ["", "yesterday", "10", "-5m"] {
            since(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn a_wrong_pattern_is_a_mistake_of_the_command_line_with_its_place() {
        let said = pattern("a(b").expect_err("unclosed");
        assert_eq!(said, "the pattern is wrong at character 2: unclosed group");
    }

    #[test]
    fn a_revision_is_named_by_its_number() {
        assert_eq!((revision("r7"), revision("7")), (Ok(7), Ok(7)));
    }
}
