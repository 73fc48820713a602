//! `lapstrake-proxy`: arguments, configuration, signals, and nothing else.

use anyhow::Context;
use clap::Parser;
use lapstrake_proxy::{Config, ConfigError, Proxy};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
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
    /// Start a proxy with this configuration and this binary that takes over from the one that serves, and end when it has:
    /// `lapstrake-proxy --config /etc/lapstrake/proxy.toml --replace`. No connection is refused meanwhile.
    #[arg(long, conflicts_with = "check")]
    replace: bool,
    /// Say `ready` on standard input, a socket, once everything is served. `--replace` waits for it.
    #[arg(long, hide = true)]
    announce: bool,
}

/// What a successor announces.
const READY: &[u8] = b"ready\n";

/// The exit code for a wrong command line or configuration, as clap's own.
const WRONG: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = act(&arguments);
    lapstrake_log::finish();
    let Err(error) = done else { return ExitCode::SUCCESS };
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
    if arguments.replace {
        return replace(arguments);
    }
    lapstrake_log::start(filter);
    raise_file_limit();
    // Only starting, stopping and the control socket run here; requests have the workers' runtimes.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start a runtime")?;
    runtime.block_on(serve(config, arguments.announce))
}

async fn serve(config: Config, announce: bool) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut reopen = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let proxy = Proxy::start(config).await?;
    let addresses: Vec<String> = proxy.listen().iter().map(ToString::to_string).collect();
    let serving = format!("serves on {}", addresses.join(", "));
    let telling = async {
        lapstrake_unit::status("listens; waits for the agent's route table");
        proxy.has_its_table().await;
        lapstrake_unit::ready(&serving);
        if announce && let Err(error) = rustix::io::write(std::io::stdin(), READY) {
            tracing::debug!(%error, "nobody waits for this proxy");
        }
        lapstrake_unit::watch(proxy.pulses()).await;
        // Without a watchdog there is nothing more to tell.
        std::future::pending::<()>().await;
    };
    let mut is_replaced = false;
    {
        tokio::pin!(telling);
        loop {
            tokio::select! {
                // A handover first: whoever is told to end after it has happened ends as one that has been replaced.
                biased;
                // From here on the successor's words are those that systemd is to hear: what this process said of its own end
                // or its own life would be taken for the unit's. It stays the main process until it has finished: a successor
                // that dies before that ends itself and not the unit, and this process serves again.
                successor = proxy.handed_over() => {
                    let retiring = proxy.retire();
                    tokio::pin!(retiring);
                    // Told to end it does not wait any longer, and is replaced all the same.
                    is_replaced = loop {
                        tokio::select! {
                            _ = terminate.recv() => break true,
                            _ = interrupt.recv() => break true,
                            _ = reopen.recv() => proxy.reopen_log(),
                            is_over = retiring.as_mut() => break is_over,
                        }
                    };
                    if is_replaced {
                        // The successor may have been followed by another, and have ended. A main process that is not there
                        // would not be taken by systemd, which would end the whole unit with this one.
                        lapstrake_unit::main_process(proxy.who_follows(successor));
                        break;
                    }
                    lapstrake_unit::status(&serving);
                }
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = reopen.recv() => proxy.reopen_log(),
                () = telling.as_mut() => {}
            }
        }
    }
    if !is_replaced {
        lapstrake_unit::stopping("finishes what is in flight");
    }
    proxy.stop().await;
    Ok(())
}

/// Starts a successor beside the proxy that serves, and waits until it does. The successor lives on: under systemd it is in
/// the unit's control group, as this process is when the unit's `ExecReload` has started it.
fn replace(arguments: &Arguments) -> anyhow::Result<()> {
    let (mut ours, theirs) = UnixStream::pair().context("cannot make a socket")?;
    let binary = std::env::current_exe().context("cannot find this binary")?;
    let mut command = Command::new(binary);
    command.arg("--announce").stdin(OwnedFd::from(theirs));
    if let Some(path) = &arguments.config {
        command.arg("--config").arg(path);
    }
    let mut successor = command.spawn().context("cannot start the successor")?;
    // The successor alone holds the other end now, so that this read ends when it does.
    drop(command);
    let mut said = Vec::new();
    let mut byte = [0];
    while said != READY && ours.read(&mut byte).context("cannot hear the successor")? > 0 {
        said.push(byte[0]);
    }
    if said == READY {
        println!("process {} has taken over", successor.id());
        return Ok(());
    }
    let status = successor.wait().context("cannot wait for the successor")?;
    anyhow::bail!("the successor did not take over ({status}); the proxy that serves goes on")
}

/// Two file descriptors per request in flight are more than the usual soft limit of 1024 has.
fn raise_file_limit() {
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
