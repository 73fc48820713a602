//! Nodes and the tokens that they join with.

use super::span;
use crate::address::{EnvironmentPath, NodeName};
use clap::Subcommand;
use std::time::Duration;

/// `lap node`.
#[derive(Subcommand)]
pub enum NodeVerb {
    /// Tokens that machines join with
    #[command(subcommand, after_help = "Example:\n  lap node token create --ttl 10m")]
    Token(TokenVerb),
    /// List them
    #[command(after_help = "Example:\n  lap node ls")]
    Ls,
    /// All there is to know about one
    #[command(after_help = "Example:\n  lap node show worker-1")]
    Show {
        /// Its name
        name: NodeName,
    },
    /// Keep new jobs from one; those that run there stay and are replaced there
    #[command(after_help = "Example:\n  lap node cordon worker-1 --reason maintenance")]
    Cordon {
        /// Its name
        name: NodeName,
        /// Why, for those whose services wait
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Let new jobs come to one again
    #[command(after_help = "Example:\n  lap node uncordon worker-1")]
    Uncordon {
        /// Its name
        name: NodeName,
    },
    /// Say what one is or has, for the constraints of services; no job is moved by it
    #[command(after_help = "Example:\n  lap node label worker-1 zone=a disk=ssd\n  lap node label worker-1 --rm zone")]
    Label {
        /// Its name
        name: NodeName,
        /// Labels to set
        #[arg(value_name = "KEY=VALUE", value_parser = pair, required_unless_present = "rm")]
        set: Vec<(String, String)>,
        /// Labels to remove
        #[arg(long, value_name = "KEY")]
        rm: Vec<String>,
    },
    /// Make a node's certificate worthless at once and for good, because its key is in wrong hands
    #[command(after_help = "Example:\n  lap node revoke worker-1")]
    Revoke {
        /// Its name
        name: NodeName,
    },
    /// Believe a node again after two machines had shown its identity; remove the copy first
    #[command(after_help = "Example:\n  lap node unquarantine worker-1")]
    Unquarantine {
        /// Its name
        name: NodeName,
    },
    /// Let a node return whose certificate ended while it was off, or refuse it
    ///
    /// The fingerprint of its key is shown by `lap node show` and in the agent's log: compare them.
    #[command(after_help = "Example:\n  lap node readmit worker-1 --key 5f0c…")]
    Readmit {
        /// Its name
        name: NodeName,
        /// The fingerprint that you have compared; without it the one that the controller shows
        #[arg(long, conflicts_with = "refuse")]
        key: Option<String>,
        /// Refuse it
        #[arg(long)]
        refuse: bool,
    },
    /// Remove one and cut its session; refused while jobs run there
    #[command(after_help = "Example:\n  lap node rm worker-1")]
    Rm {
        /// Its name
        name: NodeName,
        /// Also with jobs on it; only of a node that is lost
        #[arg(long)]
        force: bool,
    },
}

/// `lap node token`.
#[derive(Subcommand)]
pub enum TokenVerb {
    /// Print a token with which one machine joins, once
    #[command(
        after_help = "Example:\n  lap node token create --env shop/production --name worker-1 --cidr 10.0.0.0/24"
    )]
    Create {
        /// How long it is good for, an hour by default, a week at most
        #[arg(long, value_parser = span, value_name = "SPAN")]
        ttl: Option<Duration>,
        /// Give the node to this environment when it joins
        #[arg(long, value_name = "PATH")]
        env: Option<EnvironmentPath>,
        /// The only name that the node may have
        #[arg(long)]
        name: Option<NodeName>,
        /// The only addresses that it may join from
        #[arg(long)]
        cidr: Option<String>,
    },
}

/// `zone=a`. What is in it is the controller's to judge.
fn pair(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').filter(|(key, _)| !key.is_empty());
    let (key, value) =
        parts.ok_or_else(|| format!("`{}` is no label; one is written as zone=a", text.escape_debug()))?;
    Ok((key.to_owned(), value.to_owned()))
}
