//! From fresh packages to a served request.

use super::Spec;
use crate::address::NodeName;
use clap::Args;
use std::path::PathBuf;

/// `lap setup`.
#[derive(Args)]
pub struct Setup {
    /// What it shall run.
    #[command(flatten)]
    pub spec: Spec,
    /// The name of this machine's node, by default the configured one or the host's
    #[arg(long, value_name = "NAME")]
    pub name: Option<NodeName>,
    /// Where the agent keeps who it is: `state_dir` of agent.toml
    #[arg(long, value_name = "FOLDER", default_value = "/var/lib/lapstrake/agent")]
    pub agent_state: PathBuf,
}
