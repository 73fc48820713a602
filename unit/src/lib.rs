//! What the daemons tell systemd: that they are ready, how they are in one sentence, and that their loops turn.
//!
//! Without systemd (no `NOTIFY_SOCKET`) nobody is told, and nothing else is different. The words are those of
//! `sd_notify(3)`; `Type=notify` units wait for `ready`.

mod watchdog;

pub use watchdog::{Pulse, Pulses, watch};

use sd_notify::NotifyState;

/// The unit is started: what depends on it may go on. Also the end of a reload.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// How it is, as `systemctl status` shows it.
pub fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// The configuration is read again; `ready` says that it was.
pub fn reloading() {
    // With the instant, which newer systemds want in order to know that this is the answer to their signal.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// It ends, and this is what it still does.
pub fn stopping(status: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// Another process of the unit is the main one from now on: the one that systemd looks after.
pub fn main_process(pid: u32) {
    tell(&[NotifyState::MainPid(pid)]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}
