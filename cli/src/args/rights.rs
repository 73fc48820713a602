//! The certificate authority, operators' tokens, the audit.

use super::span;
use crate::address::Below;
use clap::{Args, Subcommand};
use lapstrake_core::audit::Link;
use std::time::Duration;

/// `lap ca`.
#[derive(Subcommand)]
pub enum CaVerb {
    /// The roots with their fingerprints, and what a rotation waits for
    #[command(after_help = "Example:\n  lap ca show")]
    Show,
    /// Begin to replace the root
    ///
    /// Every node is told to trust a new root beside the old one; when all of them do, certificates are signed by the new one.
    /// Nothing is restarted and no session ends. `lap ca advance` then drops the old one.
    #[command(after_help = "Example:\n  lap ca rotate")]
    Rotate,
    /// Go to the next stage: in the last one, drop the old root
    ///
    /// Refused while a node is not ready. Join tokens and stored logins that only know the old root end with it.
    #[command(after_help = "Example:\n  lap ca advance")]
    Advance {
        /// Though some nodes are not ready: they have to join anew
        #[arg(long)]
        force: bool,
    },
}

/// `lap token`.
#[derive(Subcommand)]
pub enum OperatorTokenVerb {
    /// List them; their secrets are stored nowhere
    #[command(after_help = "Example:\n  lap token ls")]
    Ls,
    /// Print a new one, once
    #[command(after_help = "Example:\n  lap token create ci --role deployer --scope shop/staging --ttl 720h")]
    Create(NewToken),
    /// End one at once, also for what it has open
    #[command(after_help = "Example:\n  lap token rm ci")]
    Rm {
        /// Its name or its id
        token: String,
    },
}

/// `lap token create`.
#[derive(Args)]
pub struct NewToken {
    /// Whose it is: a person's or a program's name
    pub name: String,
    /// What its holder may do
    #[arg(long, value_enum)]
    pub role: Role,
    /// Only in this application or environment; by default everywhere
    #[arg(long, value_name = "PATH")]
    pub scope: Option<Below>,
    /// How long it is good for; by default until it is removed
    #[arg(long, value_parser = span, value_name = "SPAN")]
    pub ttl: Option<Duration>,
}

/// What the holder of a token may do; each role may do what the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// Look
    Viewer,
    /// Apply specs, deploy, roll back, scale
    Deployer,
    /// Remove services, manage environments and nodes
    Operator,
    /// Manage tokens, read the audit
    Admin,
}

impl Role {
    /// As the interface writes it.
    pub fn word(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Deployer => "deployer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        }
    }
}

/// `lap audit`.
#[derive(Subcommand)]
pub enum AuditVerb {
    /// The newest rows, or those that are named; newest last
    #[command(after_help = "Example:\n  lap audit ls --since 24h --by ci\n  lap audit ls --after 4711 -o json")]
    Ls(AuditRows),
    /// Read the whole chain and say whether any row was altered, removed or moved; exit 1 names the first wrong one
    #[command(after_help = "Example:\n  lap audit verify")]
    Verify {
        /// The line that an earlier `lap audit verify` printed: also finds a chain that was made anew since
        #[arg(long, value_parser = crate::commands::audit::noted, value_name = "NUMBER:HASH")]
        noted: Option<Link>,
    },
}

/// `lap audit ls`.
#[derive(Args)]
pub struct AuditRows {
    /// All after this row's number
    #[arg(long, value_name = "NUMBER")]
    pub after: Option<u64>,
    /// Only of this operator
    #[arg(long, value_name = "NAME")]
    pub by: Option<lapstrake_api::spec::Name>,
    /// Only of the last so long
    #[arg(long, value_parser = span, value_name = "SPAN")]
    pub since: Option<Duration>,
}
