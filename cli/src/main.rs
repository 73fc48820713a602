//! `lap`, Lapstrake's command line. It knows the controller's HTTPS interface and nothing else.
//!
//! Data goes to stdout, words to stderr. The exit code says how it ended: 0 done, 1 failed, 2 wrong command line or
//! spec, 3 understood and refused, 4 timed out. `lap exec` ends with the code of the command that it ran, with 125 when it
//! could not run it, and with 141 when nobody reads its output any more: how the command would have ended is not known then.

mod address;
mod args;
mod client;
mod commands;
mod context;
mod error;
mod input;
mod output;
mod show;
mod terminal;
mod wait;

use anyhow::Context as _;
use args::Lap;
use error::{Exit, LapError};
use std::process::ExitCode;

/// The shell's code for a program that ended by SIGPIPE.
const CLOSED_PIPE: u8 = 128 + 13;

fn main() -> ExitCode {
    let lap = Lap::from_command_line();
    match run(&lap) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => end(&error, is_command(&lap.verb)),
    }
}

/// Whether its exit code is that of somebody else's program, which lap's own must not be taken for.
fn is_command(verb: &args::Verb) -> bool {
    match verb {
        args::Verb::Exec(_) => true,
        args::Verb::Run(run) => !run.command.is_empty(),
        _ => false,
    }
}

fn run(lap: &Lap) -> anyhow::Result<()> {
    // One thread: a command waits for one controller.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.context("the program cannot begin")?.block_on(commands::run(lap));
    Ok(ended?)
}

/// Says why it did not work, and how bad that is.
fn end(error: &anyhow::Error, is_exec: bool) -> ExitCode {
    let known = error.downcast_ref::<LapError>();
    // Whoever read our output has enough of it.
    if known.is_some_and(LapError::is_closed_pipe) {
        return if is_exec { ExitCode::from(CLOSED_PIPE) } else { ExitCode::SUCCESS };
    }
    if let Some(LapError::Exited(code)) = known {
        return ExitCode::from(*code);
    }
    output::say_error(error);
    if is_exec {
        return ExitCode::from(Exit::Exec as u8);
    }
    ExitCode::from(known.map_or(1, |error| error.exit() as u8))
}
