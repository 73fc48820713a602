//! From fresh packages to a served request.

use super::Spec;
use crate::address::NodeName;
use clap::Args;

/// `lap setup`.
#[derive(Args)]
pub struct Setup {
    /// What it shall run.
    #[command(flatten)]
    pub spec: Spec,
    /// The name of this machine's node, by default the host's
    #[arg(long, value_name = "NAME")]
    pub name: Option<NodeName>,
}
