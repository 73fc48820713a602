//! Secrets, variables and the credentials for registries.

use crate::address::{NotAPath, ValueOwner};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `lap secret`.
#[derive(Subcommand)]
pub enum SecretVerb {
    /// Set one, read from stdin or asked for; jobs get it with their service's next deployment
    ///
    /// One line feed at its end is cut off. A service gets a secret where its spec names it: as a variable with
    /// `env: { API_KEY: { secret: api-key } }`, as a file in memory with `files: { /run/secrets/key: { secret: api-key } }`.
    #[command(
        override_usage = "lap secret set PATH NAME\n       lap secret set PATH --registry HOST --user USER\n       lap secret set --organization NAME",
        after_help = "Example:\n  lap secret set shop/production api-key\n  lap secret set shop/production tls-key --from-file tls.key\n  lap secret set shop --registry registry.example.com --user ci"
    )]
    Set(SecretSet),
    /// List them, with what is inherited, and whether jobs have them; never what they are
    #[command(after_help = "Example:\n  lap secret ls shop/production")]
    Ls(Whose),
    /// Remove one; refused while a service's spec names it
    #[command(
        override_usage = "lap secret rm PATH NAME\n       lap secret rm PATH --registry HOST\n       lap secret rm --organization NAME",
        after_help = "Example:\n  lap secret rm shop/production api-key\n  lap secret rm shop --registry registry.example.com"
    )]
    Rm(SecretRemove),
    /// Seal everything that is stored under a new master key
    #[command(after_help = "Example:\n  lap secret rotate-key")]
    RotateKey,
}

/// `lap var`.
#[derive(Subcommand)]
pub enum VarVerb {
    /// Set variables of every service below; jobs get them with their service's next deployment
    ///
    /// What lies nearer to a service comes before what lies farther, and what its own spec says before both.
    #[command(
        override_usage = "lap var set PATH NAME=VALUE...\n       lap var set --organization NAME=VALUE...",
        after_help = "Example:\n  lap var set shop/production LOG_LEVEL=info REGION=eu"
    )]
    Set(Words),
    /// List them, with what each is and where it comes from
    #[command(after_help = "Example:\n  lap var ls shop/production/web")]
    Ls(Whose),
    /// Remove variables; jobs keep them until their service's next deployment
    #[command(
        override_usage = "lap var rm PATH NAME...\n       lap var rm --organization NAME...",
        after_help = "Example:\n  lap var rm shop/production REGION"
    )]
    Rm(Words),
}

/// Whose values.
#[derive(Args)]
pub struct Whose {
    /// An application, an environment or a service
    #[arg(value_name = "PATH", required_unless_present = "organization", conflicts_with = "organization")]
    path: Option<ValueOwner>,
    /// The organization, from which everything inherits
    #[arg(long)]
    organization: bool,
}

impl Whose {
    /// A path, or the organization.
    pub fn owner(&self) -> ValueOwner {
        self.path.clone().unwrap_or_default()
    }
}

/// A path and what follows it; with --organization only what follows.
#[derive(Args)]
pub struct Words {
    /// An application, an environment or a service, and then the name
    #[arg(value_name = "PATH NAME")]
    words: Vec<String>,
    /// The organization instead of PATH: everything inherits from it
    #[arg(long)]
    organization: bool,
}

impl Words {
    /// All that was said, the path among it.
    pub fn words(&self) -> impl Iterator<Item = &String> {
        self.words.iter()
    }

    /// Whose it is, and what else was said.
    pub fn split(&self) -> Result<(ValueOwner, &[String]), NotAPath> {
        match self.words.split_first() {
            _ if self.organization => Ok((ValueOwner::default(), &self.words)),
            Some((path, rest)) => Ok((path.parse()?, rest)),
            None => Err(NotAPath::Parts { wanted: "a path", example: "shop/production` or `--organization" }),
        }
    }
}

/// `lap secret set`.
#[derive(Args)]
pub struct SecretSet {
    /// Whose, and its name.
    #[command(flatten)]
    pub words: Words,
    /// Read it from this file instead of stdin
    #[arg(long, value_name = "FILE")]
    pub from_file: Option<PathBuf>,
    /// Keep a line feed at its end
    #[arg(long)]
    pub keep_newline: bool,
    /// The password for this registry instead of a secret: images are pulled with it, and no job gets it
    #[arg(long, value_name = "HOST", requires = "user")]
    pub registry: Option<String>,
    /// The user's name at that registry
    #[arg(long, requires = "registry")]
    pub user: Option<String>,
}

/// `lap secret rm`.
#[derive(Args)]
pub struct SecretRemove {
    /// Whose, and its name.
    #[command(flatten)]
    pub words: Words,
    /// The credentials for this registry instead of a secret
    #[arg(long, value_name = "HOST")]
    pub registry: Option<String>,
}
