//! Specs and services: what is wanted, and how it is.

use super::span;
use crate::address::{Below, ServicePath};
use clap::Args;
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
    /// How many of the last lines of each job first
    #[arg(long, value_name = "LINES")]
    pub tail: Option<u32>,
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
    fn a_revision_is_named_by_its_number() {
        assert_eq!((revision("r7"), revision("7")), (Ok(7), Ok(7)));
    }
}
