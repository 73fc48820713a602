//! Arguments, configuration and signals of the agent.

mod units;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use lapstrake_agent::config::{Config, ConfigError};
use lapstrake_agent::doctor;
use lapstrake_agent::identity::Identity;
use lapstrake_agent::join::{Join, JoinError, join};
use std::io::{BufRead as _, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Where the configuration is looked for when none is named; it need not be there.
const USUAL_CONFIG: &str = "/etc/lapstrake/agent.toml";

/// Many times as long as a token is.
const LONGEST_LINE: u64 = 4096;

/// The exit code for a wrong command line or configuration, as clap's own.
const WRONG: u8 = 2;

/// Lapstrake's agent: makes this machine run what its controller assigned to it.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the agent of a machine that has joined.
    Run {
        #[command(flatten)]
        config: ConfigFile,
        /// Only read the configuration and say what is wrong with it.
        #[arg(long)]
        check: bool,
    },
    /// Look at this machine as the agent will need it: one line for each check, exit 1 when one fails.
    Doctor {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Join a cluster with a token from `lap node token create`, and start the units of agent and proxy.
    #[command(after_help = "Example: lapstrake-agent join TOKEN --controller controller.example.com:7401")]
    Join {
        /// The token, or `-` for the first line of stdin: what is an argument can be read by everybody on the machine.
        token: String,
        /// Where the controller's agents' port is. The token says whose it must be, so asking a wrong one tells it nothing.
        #[arg(long, value_name = "HOST:PORT", default_value = "localhost:7401")]
        controller: String,
        /// The node's name, instead of the configured one.
        #[arg(long)]
        name: Option<String>,
        /// Become another node, though this machine is one already. Its jobs are then nobody's.
        #[arg(long)]
        replace: bool,
        /// Only join; start agent and proxy in another way than by their units.
        #[arg(long)]
        no_start: bool,
        #[command(flatten)]
        config: ConfigFile,
    },
}

#[derive(Args)]
struct ConfigFile {
    /// The configuration file [default: /etc/lapstrake/agent.toml, if it is there].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    /// Whether it is the one that the units read.
    fn is_usual(&self) -> bool {
        self.config.as_deref().is_none_or(|path| path == Path::new(USUAL_CONFIG))
    }

    fn load(&self) -> Result<Config> {
        let usual = PathBuf::from(USUAL_CONFIG);
        match &self.config {
            Some(path) => Ok(Config::load(path)?),
            None if usual.exists() => Ok(Config::load(&usual)?),
            None => Config::default().completed().map_err(anyhow::Error::msg),
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = act(arguments.verb);
    lapstrake_log::finish();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lapstrake-agent: {error:#}");
            ExitCode::from(exit_code(&error))
        }
    }
}

/// A wrong configuration is told apart from a start that failed, as a supervisor should not try it again.
fn exit_code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<JoinError>() {
        Some(error) => error.exit_code(),
        None if error.is::<ConfigError>() => WRONG,
        None => 1,
    }
}

fn act(verb: Verb) -> Result<()> {
    // The only provider that is compiled in; a second call, of a test, changes nothing.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match verb {
        Verb::Run { config, check } => {
            let config = config.load()?;
            if check {
                println!("the configuration is good");
                return Ok(());
            }
            start_log(&config.log)?;
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(async {
                let shutdown = CancellationToken::new();
                let signals = watch_signals(shutdown.clone())?;
                let outcome = lapstrake_agent::run(config, shutdown).await;
                signals.abort();
                outcome.map_err(anyhow::Error::from)
            })
        }
        Verb::Doctor { config } => examine(&config.load()?),
        Verb::Join { token, controller, name, replace, no_start, config } => {
            // The units read the usual configuration: a node of another one is not theirs.
            let start = !no_start && config.is_usual() && units::can_start();
            let config = config.load()?;
            let token = given(token)?;
            let identity = become_a_node(&config, &token, &controller, name.as_deref(), replace)?;
            println!("this machine is the node {} now", identity.name);
            if !start {
                println!("next: start lapstrake-proxy and lapstrake-agent");
                return Ok(());
            }
            units::start()?;
            println!("agent and proxy run; they start by themselves with the machine");
            Ok(())
        }
    }
}

fn examine(config: &Config) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let findings = runtime.block_on(doctor::examine(config));
    findings.iter().for_each(|finding| println!("{finding}"));
    let failed = findings.iter().filter(|finding| finding.verdict == doctor::Verdict::Fail).count();
    anyhow::ensure!(failed == 0, "{failed} of {} checks failed", findings.len());
    Ok(())
}

/// The token, from wherever it comes.
fn given(token: String) -> Result<String> {
    if token != "-" {
        return Ok(token);
    }
    let mut line = String::new();
    let read = std::io::stdin().lock().take(LONGEST_LINE).read_line(&mut line);
    read.context("the token cannot be read from stdin")?;
    Ok(line)
}

fn become_a_node(
    config: &Config,
    token: &str,
    controller: &str,
    name: Option<&str>,
    replace: bool,
) -> Result<Identity> {
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let configured = Some(config.name.as_str()).filter(|name| !name.is_empty());
    let ask = Join {
        token,
        controller,
        name: name.or(configured),
        hostname: hostname.trim(),
        state_dir: &config.state_dir,
        replace,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(join(ask))?)
}

fn start_log(filter: &str) -> Result<()> {
    let filter = EnvFilter::try_new(filter).with_context(|| format!("log: {filter:?} is no filter"))?;
    lapstrake_log::start(filter);
    Ok(())
}

/// The first signal asks for an orderly end.
fn watch_signals(shutdown: CancellationToken) -> Result<tokio::task::JoinHandle<()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("ends; the jobs keep running");
        shutdown.cancel();
    }))
}
