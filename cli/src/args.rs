//! The command line: every verb, what it takes, and an example of each.

use crate::address::{Below, EnvironmentPath, NodeName, ServicePath};
use crate::context::Wish;
use crate::output::Format;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use lapstrake_core::audit::Link;
use std::path::PathBuf;
use std::time::Duration;

/// Lapstrake runs your services on your own machines; lap tells it what you want and shows how it is.
#[derive(Parser)]
#[command(
    name = "lap",
    version,
    disable_help_subcommand = true,
    after_help = "\
Services are named by their path: application/environment/service, as shop/production/web.
Exit codes: 0 done, 1 failed, 2 wrong command line or spec, 3 understood and refused, 4 timed out.

Example:
  lap login https://controller.example.com:7400
  lap apply -f shop.yaml --wait"
)]
pub struct Lap {
    /// What is given with any command.
    #[command(flatten)]
    pub common: Common,
    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What is given with any command.
#[derive(Args)]
pub struct Common {
    /// The controller's address [env: LAP_URL]
    #[arg(
        long,
        global = true,
        env = "LAP_URL",
        hide_env = true,
        value_name = "URL",
        help_heading = "Options of every command"
    )]
    url: Option<String>,
    /// An operator's token [env: LAP_TOKEN]
    #[arg(
        long,
        global = true,
        env = "LAP_TOKEN",
        hide_env = true,
        value_name = "TOKEN",
        help_heading = "Options of every command"
    )]
    token: Option<String>,
    /// A stored context instead of the current one, and instead of LAP_URL and LAP_TOKEN [env: LAP_CONTEXT]
    #[arg(
        long,
        global = true,
        env = "LAP_CONTEXT",
        hide_env = true,
        value_name = "NAME",
        help_heading = "Options of every command"
    )]
    context: Option<String>,
    /// How data is written; with json, what goes on is a line each
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        help_heading = "Options of every command"
    )]
    pub output: Format,
}

impl Lap {
    /// Reads the process's command line and environment; on a wrong one says so and ends the process.
    pub fn from_command_line() -> Lap {
        let matches = Lap::command().get_matches();
        let mut lap = Lap::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        lap.common.let_the_context_win(&matches);
        lap
    }
}

impl Common {
    /// A context that somebody names on the command line is meant, whatever a shell's environment says of other commands.
    fn let_the_context_win(&mut self, matches: &ArgMatches) {
        if matches.value_source("context") != Some(ValueSource::CommandLine) {
            return;
        }
        for (name, value) in [("url", &mut self.url), ("token", &mut self.token)] {
            if matches.value_source(name) == Some(ValueSource::EnvVariable) {
                *value = None;
            }
        }
    }

    /// Whom to ask. Variables that are set to nothing say nothing.
    pub fn wish(&self) -> Wish {
        let said = |value: &Option<String>| value.clone().filter(|value| !value.trim().is_empty());
        Wish { url: said(&self.url), token: said(&self.token), context: said(&self.context) }
    }
}

/// The verbs.
#[derive(Subcommand)]
pub enum Verb {
    /// Store a controller's address and your token, after checking both
    ///
    /// The token names the controller's certificate authority: it is only ever sent to that controller. Without TOKEN and
    /// --token-file it is asked for. It is stored under --context, or else under the current context's name.
    ///
    /// Where something with another certificate stands before the controller, --ca-file or --system-roots says which roots
    /// lead to that one; then it must be for the address's own name, and the token is sent to that address alone.
    #[command(
        after_help = "Example:\n  lap login https://controller.example.com:7400 --token-file operator.token\n  lap login \
                      https://lap.example.com --token-file operator.token --ca-file company-root.pem"
    )]
    Login(Login),
    /// Controllers that `lap login` stored
    #[command(subcommand, after_help = "Example:\n  lap context use staging")]
    Context(ContextVerb),
    /// Applications: list, create
    #[command(subcommand, after_help = "Example:\n  lap app create shop")]
    App(AppVerb),
    /// Environments: list, create, give nodes to them and take them back
    #[command(subcommand, after_help = "Example:\n  lap env attach-node shop/production worker-1")]
    Env(EnvVerb),
    /// Quotas: what applications and environments have and may have
    #[command(subcommand, after_help = "Example:\n  lap quota set shop services=32 memory=64GiB")]
    Quota(QuotaVerb),
    /// Nodes: join tokens, list, show, label, cordon, revoke, readmit, remove
    #[command(subcommand, after_help = "Example:\n  lap node token create --env shop/production --name worker-1")]
    Node(NodeVerb),
    /// Operators' tokens: list, create, remove
    #[command(
        subcommand,
        after_help = "Example:\n  lap token create ci --role deployer --scope shop/staging --ttl 720h"
    )]
    Token(OperatorTokenVerb),
    /// Whose token this is, and what it gives
    #[command(after_help = "Example:\n  lap whoami")]
    Whoami,
    /// Who tried what, and what came of it: list, verify
    #[command(subcommand, after_help = "Example:\n  lap audit ls --since 1h")]
    Audit(AuditVerb),
    /// The certificate authority: its roots, and replacing one
    #[command(subcommand, after_help = "Example:\n  lap ca show\n  lap ca rotate")]
    Ca(CaVerb),
    /// Show what applying a spec would do, field by field; nothing is changed
    #[command(after_help = "Example:\n  lap plan -f shop.yaml --env staging")]
    Plan(Spec),
    /// Make the cluster as a spec says
    #[command(after_help = "Example:\n  lap apply -f shop.yaml --wait\n  generate-spec | lap apply -f - --env staging")]
    Apply(Apply),
    /// Jobs: where each runs and how it is
    #[command(after_help = "Example:\n  lap ps shop/production")]
    Ps(Listing),
    /// Services: how each is, in one line; of one service, all there is to know
    #[command(after_help = "Example:\n  lap status\n  lap status shop/production/web")]
    Status(Listing),
    /// Why a service is as it is, in one sentence and the rest of the story
    #[command(after_help = "Example:\n  lap why shop/production/web")]
    Why(One),
    /// What happened, oldest first
    #[command(after_help = "Example:\n  lap events -f shop/production\n  lap events node/worker-1")]
    Events(Events),
    /// The deployments of a service, newest first; with a number, one of them with its timeline
    #[command(after_help = "Example:\n  lap deployments shop/production/web\n  lap deployments shop/production/web 4")]
    Deployments(Deployments),
    /// Deploy another image
    #[command(
        after_help = "Example:\n  lap deploy shop/production/web --image registry.example.com/shop/web:1.5.0 --wait"
    )]
    Deploy(Deploy),
    /// Give every slot a new job of the same revision
    #[command(after_help = "Example:\n  lap redeploy shop/production/web --wait")]
    Redeploy(Redeploy),
    /// Deploy an earlier revision, by default the one before the active one
    #[command(after_help = "Example:\n  lap rollback shop/production/web --to r7 --wait")]
    Rollback(Rollback),
    /// Change how many jobs a service has
    #[command(after_help = "Example:\n  lap scale shop/production/web 4 --wait")]
    Scale(Scale),
    /// Remove a service and stop its jobs
    #[command(after_help = "Example:\n  lap rm shop/staging/web --wait")]
    Rm(Remove),
    /// What a service's jobs write, straight from their nodes
    #[command(after_help = "Example:\n  lap logs -f --tail 20 shop/production/web")]
    Logs(Logs),
    /// The versions of lap and of the controller
    #[command(after_help = "Example:\n  lap version")]
    Version,
}

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

/// `90s`, `10m`, `1h30m`, `30d`. A day has 24 hours; how long a month is depends on which.
fn span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{}` is no span of time; one is written as 90s, 10m, 1h30m or 30d", text.escape_debug());
    let parsed: jiff::Span = text.parse().map_err(|_| wrong())?;
    let exact = parsed.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    Duration::try_from(exact).ok().filter(|span| !span.is_zero()).ok_or_else(wrong)
}

/// `max_scale=8`.
fn max_scale(text: &str) -> Result<u32, String> {
    let wrong = || format!("`{}` cannot be set; `max_scale=8` can", text.escape_debug());
    text.strip_prefix("max_scale=").and_then(|number| number.parse().ok()).ok_or_else(wrong)
}

/// `zone=a`. What is in it is the controller's to judge.
fn pair(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').filter(|(key, _)| !key.is_empty());
    let (key, value) =
        parts.ok_or_else(|| format!("`{}` is no label; one is written as zone=a", text.escape_debug()))?;
    Ok((key.to_owned(), value.to_owned()))
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

/// `r7` or `7`.
fn revision(text: &str) -> Result<u32, String> {
    let number = text.strip_prefix('r').unwrap_or(text);
    number.parse().map_err(|_| format!("`{}` is no revision; one is written as r7", text.escape_debug()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_help_has_an_example() {
        fn check(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example:\n  "), "{} has none", command.get_name());
            assert!(help.contains(" lap ") || help.contains("\n  lap "), "{}", command.get_name());
            command.get_subcommands().for_each(check);
        }
        let lap = Lap::command();
        lap.clone().debug_assert();
        check(&lap);
    }

    #[test]
    fn every_example_is_a_command_line_that_is_understood() {
        fn examples(command: &clap::Command, found: &mut Vec<String>) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let commands = help
                .lines()
                .filter_map(|line| line.find("lap ").filter(|_| line.starts_with("  ")).map(|at| &line[at..]));
            found.extend(commands.map(str::to_owned));
            command.get_subcommands().for_each(|command| examples(command, found));
        }
        let mut found = Vec::new();
        examples(&Lap::command(), &mut found);
        assert!(found.len() > 25, "{found:?}");
        for example in found {
            Lap::try_parse_from(example.split_whitespace()).map(|_| ()).expect(&example);
        }
    }

    #[test]
    fn spans_need_their_unit() {
        assert_eq!(span("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(span("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(span("30d"), Ok(Duration::from_secs(30 * 86_400)));
        for wrong in ["", "5", "0s", "-5s", "soon", "1mo"] {
            span(wrong).expect_err(wrong);
        }
        assert_eq!((revision("r7"), revision("7")), (Ok(7), Ok(7)));
    }
}
