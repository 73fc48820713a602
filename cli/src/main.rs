//! `lap`, Lapstrake's command line. It knows the controller's HTTPS interface and nothing else.
//!
//! Data goes to stdout, words to stderr. The exit code says how it ended: 0 done, 1 failed, 2 wrong command line or
//! spec, 3 understood and refused, 4 timed out.

mod address;
mod args;
mod client;
mod commands;
mod context;
mod error;
mod input;
mod output;
mod show;
mod wait;

use anyhow::Context as _;
use args::Lap;
use error::LapError;
use std::process::ExitCode;

fn main() -> ExitCode {
    let lap = Lap::from_command_line();
    match run(&lap) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => end(&error),
    }
}

fn run(lap: &Lap) -> anyhow::Result<()> {
    // One thread: a command waits for one controller.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.context("the program cannot begin")?.block_on(commands::run(lap));
    Ok(ended?)
}

/// Says why it did not work, and how bad that is.
fn end(error: &anyhow::Error) -> ExitCode {
    let known = error.downcast_ref::<LapError>();
    // Whoever read our output has enough of it.
    if known.is_some_and(LapError::is_closed_pipe) {
        return ExitCode::SUCCESS;
    }
    output::say_error(error);
    ExitCode::from(known.map_or(1, |error| error.exit() as u8))
}
