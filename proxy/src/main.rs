//! `lapstrake-proxy`: arguments, configuration, signals, and nothing else.

use anyhow::Context;
use clap::Parser;
use lapstrake_proxy::{Config, ConfigError, Proxy};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sd_notify::NotifyState;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// The proxy of a Lapstrake node: brings requests from outside to the node's jobs.
#[derive(Debug, Parser)]
#[command(name = "lapstrake-proxy", version)]
struct Arguments {
    /// The configuration, a TOML file. Without it the defaults hold.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only check the configuration.
    #[arg(long)]
    check: bool,
}

/// The exit code for a wrong command line or configuration, as clap's own.
const WRONG: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Err(error) = act(&arguments) else { return ExitCode::SUCCESS };
    eprintln!("lapstrake-proxy: {error:#}");
    ExitCode::from(if error.is::<ConfigError>() { WRONG } else { 1 })
}

fn act(arguments: &Arguments) -> anyhow::Result<()> {
    let config = match &arguments.config {
        Some(path) => Config::read(path)?,
        None => Config::default(),
    };
    let filter = EnvFilter::try_new(&config.log).with_context(|| format!("log: `{}` is not a filter", config.log))?;
    if arguments.check {
        println!("the configuration is good");
        return Ok(());
    }
    lapstrake_log::start(filter);
    raise_file_limit();
    // Only starting, stopping and the control socket run here; requests have the workers' runtimes.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start a runtime")?;
    runtime.block_on(serve(config))
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let proxy = Proxy::start(config).await?;
    let addresses: Vec<String> = proxy.listen().iter().map(ToString::to_string).collect();
    notify(&[NotifyState::Ready, NotifyState::Status(&format!("serving on {}", addresses.join(", ")))]);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    notify(&[NotifyState::Stopping, NotifyState::Status("finishing what is in flight")]);
    proxy.stop().await;
    Ok(())
}

/// Two file descriptors per request in flight are more than the usual soft limit of 1024 has.
fn raise_file_limit() {
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}
