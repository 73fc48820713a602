//! Applications, environments, and what they may have.

use crate::address::{Below, EnvironmentPath, NodeName};
use clap::Subcommand;

/// `lap app`.
#[derive(Subcommand)]
pub enum AppVerb {
    /// List them
    #[command(after_help = "Example:\n  lap app ls")]
    Ls,
    /// Create one, with development, staging and production
    #[command(after_help = "Example:\n  lap app create shop")]
    Create {
        /// Its name
        name: String,
    },
}

/// `lap env`.
#[derive(Subcommand)]
pub enum EnvVerb {
    /// List them
    #[command(after_help = "Example:\n  lap env ls shop")]
    Ls {
        /// Only this application's
        #[arg(value_name = "APPLICATION")]
        application: Option<Below>,
    },
    /// Create one in an application that there is
    #[command(after_help = "Example:\n  lap env create shop/qa")]
    Create {
        /// Its path, as shop/qa
        path: EnvironmentPath,
    },
    /// Give a node to it: its jobs may run there
    #[command(after_help = "Example:\n  lap env attach-node shop/production worker-1")]
    AttachNode {
        /// The environment's path
        path: EnvironmentPath,
        /// The node's name
        node: NodeName,
    },
    /// Show what it allows, or set it
    #[command(
        after_help = "Example:\n  lap env policy shop/production\n  lap env policy shop/production --set max_scale=8 --operator-fields deploy.overlap,deploy.drain"
    )]
    Policy {
        /// The environment's path
        path: EnvironmentPath,
        /// The most jobs of one service, as max_scale=8
        #[arg(long, value_parser = max_scale, value_name = "FIELD=VALUE")]
        set: Option<u32>,
        /// All fields of a spec that only operators change; an empty text for none
        #[arg(long, value_name = "FIELDS")]
        operator_fields: Option<String>,
    },
    /// Take a node back; refused while its jobs run there
    #[command(after_help = "Example:\n  lap env detach-node shop/production worker-1")]
    DetachNode {
        /// The environment's path
        path: EnvironmentPath,
        /// The node's name
        node: NodeName,
        /// Also with jobs on it; only of a node that is lost
        #[arg(long)]
        force: bool,
    },
}

/// `lap quota`.
#[derive(Subcommand)]
pub enum QuotaVerb {
    /// List them, with what is asked for
    #[command(after_help = "Example:\n  lap quota ls shop")]
    Ls {
        /// An application or an environment
        #[arg(value_name = "PATH")]
        below: Option<Below>,
    },
    /// Set limits; `default` takes one back
    #[command(
        after_help = "Example:\n  lap quota set shop services=32 memory=64GiB\n  lap quota set shop/staging jobs=20 cpu=default"
    )]
    Set {
        /// An application or an environment
        #[arg(value_name = "PATH")]
        of: Below,
        /// services, jobs, cpu or memory, with an amount or `default`
        #[arg(value_name = "QUOTA=LIMIT", value_parser = limit, required = true)]
        limits: Vec<Limit>,
    },
}

/// `services=32`, `cpu=2.5`, `memory=64GiB`, `jobs=default`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// What is limited.
    pub good: Good,
    /// How much; none for the default.
    pub limit: Option<u64>,
}

/// What a quota limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Good {
    /// How many services.
    Services,
    /// How many jobs.
    Jobs,
    /// Thousandths of a core.
    Cpu,
    /// Bytes.
    Memory,
}

/// `max_scale=8`.
fn max_scale(text: &str) -> Result<u32, String> {
    let wrong = || format!("`{}` cannot be set; `max_scale=8` can", text.escape_debug());
    text.strip_prefix("max_scale=").and_then(|number| number.parse().ok()).ok_or_else(wrong)
}

fn limit(text: &str) -> Result<Limit, String> {
    let wrong =
        || format!("`{}` is no quota; one is written as services=32, cpu=2.5 or memory=64GiB", text.escape_debug());
    let (name, amount) = text.split_once('=').ok_or_else(wrong)?;
    let good = match name {
        "services" => Good::Services,
        "jobs" => Good::Jobs,
        "cpu" => Good::Cpu,
        "memory" => Good::Memory,
        _ => return Err(wrong()),
    };
    let amount = match (good, amount) {
        (_, "default") => return Ok(Limit { good, limit: None }),
        (Good::Services | Good::Jobs, amount) => amount.parse().ok(),
        (Good::Cpu, amount) => lapstrake_api::spec::cores(amount),
        (Good::Memory, amount) => lapstrake_api::spec::memory(amount),
    };
    Ok(Limit { good, limit: Some(amount.ok_or_else(wrong)?) })
}
