//! Which controller is asked, and by which token.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `lap login`.
#[derive(Args)]
pub struct Login {
    /// The controller's address, https://host:port
    #[arg(value_name = "URL")]
    pub address: Option<String>,
    /// The operator's token; a file keeps it out of the shell's history
    #[arg(value_name = "TOKEN", conflicts_with = "token_file")]
    pub given: Option<String>,
    /// A file that holds the token; `-` for stdin
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Store it even under the name of another controller's context
    #[arg(long)]
    pub force: bool,
    /// The fingerprint of the controller's root, where it is another one than the token names; `lap ca show` prints it
    #[arg(long, value_name = "SHA256")]
    pub fingerprint: Option<String>,
    /// A file of roots, PEM, that are trusted for this address instead of the authority that the token names
    #[arg(long, value_name = "FILE", conflicts_with = "fingerprint")]
    pub ca_file: Option<PathBuf>,
    /// Trust this system's roots for this address (those of SSL_CERT_FILE, if it is set) instead of the authority that the
    /// token names
    #[arg(long, conflicts_with_all = ["fingerprint", "ca_file"])]
    pub system_roots: bool,
}

/// `lap context`.
#[derive(Subcommand)]
pub enum ContextVerb {
    /// List them
    #[command(after_help = "Example:\n  lap context ls")]
    Ls,
    /// Make one the current one
    #[command(after_help = "Example:\n  lap context use staging")]
    Use {
        /// Its name
        name: String,
    },
}
