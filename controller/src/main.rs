//! Arguments, configuration and signals of the controller.

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use lapstrake_controller::config::{Config, DEFAULT_PATH};
use lapstrake_controller::store::{accept_restored, backup, restore};
use lapstrake_controller::{run_with_reload, store_file};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Lapstrake's controller: holds Applications, Environments and Services, and tells the agents what to run.
#[derive(Parser)]
#[command(version, after_help = "Example: lapstrake-controller run --config /etc/lapstrake/controller.toml")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the controller. The first start makes the store, the certificate authority and the first operator's token.
    Run {
        /// The configuration file. The default one may be absent.
        #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
        config: PathBuf,
        /// Only read the configuration and say what is wrong with it.
        #[arg(long)]
        check: bool,
    },
    /// Copy the store into a new file, also while the controller runs. Keep the authority's files (`ca*`) with it, and
    /// `master.keys` in another place.
    #[command(after_help = "Example: lapstrake-controller backup /var/backups/lapstrake-store.db")]
    Backup {
        /// The new file.
        file: PathBuf,
        /// The configuration file. The default one may be absent.
        #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
        config: PathBuf,
    },
    /// Put a backup in the place of the store of a controller that does not run. What was there stays beside it. Nodes then
    /// go on running what the backup does not know, until `accept-restored`.
    #[command(after_help = "Example: lapstrake-controller restore /var/backups/lapstrake-store.db")]
    Restore {
        /// The backup.
        file: PathBuf,
        /// The configuration file. The default one may be absent.
        #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
        config: PathBuf,
    },
    /// After a restore, while the controller does not run: from its next start on nodes stop what the store does not name.
    #[command(after_help = "Example: lapstrake-controller accept-restored")]
    AcceptRestored {
        /// The configuration file. The default one may be absent.
        #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
        config: PathBuf,
    },
}

impl Verb {
    fn config(&self) -> &Path {
        match self {
            Verb::Run { config, .. }
            | Verb::Backup { config, .. }
            | Verb::Restore { config, .. }
            | Verb::AcceptRestored { config } => config,
        }
    }
}

/// A wrong configuration, like a wrong command line.
const WRONG: u8 = 2;

fn main() -> ExitCode {
    let verb = Arguments::parse().verb;
    let path = verb.config();
    let config = match Config::read(path) {
        Ok(config) => config,
        Err(error) => return fail(&error.into(), WRONG),
    };
    let store = store_file(&config);
    let done = match &verb {
        Verb::Run { check: true, .. } => {
            println!("{} is good", path.display());
            Ok(())
        }
        Verb::Run { check: false, .. } => start(config),
        Verb::Backup { file, .. } => backup(&store, file).map_err(Into::into),
        Verb::Restore { file, .. } => restore(file, &store).map_err(Into::into),
        Verb::AcceptRestored { .. } => accept_restored(&store).map_err(Into::into),
    };
    lapstrake_log::finish();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}

fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    eprintln!("lapstrake-controller: {error:#}");
    ExitCode::from(code)
}

fn start(config: Config) -> Result<()> {
    let filter = EnvFilter::try_new(&config.log).with_context(|| format!("log = {:?} is no filter", config.log))?;
    lapstrake_log::start(filter);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let reload = Arc::new(Notify::new());
        tokio::spawn(obey_signals(shutdown.clone(), reload.clone()));
        Ok(run_with_reload(config, shutdown, reload, |_| ()).await?)
    })
}

/// SIGTERM and SIGINT end the controller; SIGHUP reads the operators' own certificate again.
async fn obey_signals(shutdown: CancellationToken, reload: Arc<Notify>) {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()));
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) = signals else {
        tracing::error!("signals cannot be received; the controller only ends by SIGKILL");
        return;
    };
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => reload.notify_one(),
        }
    }
    tracing::info!("ends; the nodes go on by themselves");
    lapstrake_unit::stopping("finishing answers; the nodes go on by themselves");
    shutdown.cancel();
}
