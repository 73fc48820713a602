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
