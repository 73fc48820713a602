//! Named points at which a process kills itself, so that a test can crash it exactly there.
//!
//! Only with the cargo feature `crash-points`; without it a point compiles to nothing. With it, the environment variable
//! `LAPSTRAKE_CRASH_AT` names the point, as `store.before-commit` or, for the third time that it is passed,
//! `store.before-commit:3`. `LAPSTRAKE_CRASH_AT=@/a/file` means that the order is in this file as soon as there is one: so
//! a process can be told while it runs. It takes the file away before it dies, and so does not die again when it is started
//! again. The process ends by SIGKILL: nothing is flushed and no destructor runs, as when it is killed from outside.

/// Every point, for the script that goes through them. Of an agent's action the points are `<word>.before` and
/// `<word>.after`, with the words of `lapstrake_core::node::action::Action::word`.
pub const POINTS: &[&str] = &[
    "store.before-commit",
    "store.after-commit",
    "ledger.before-write",
    "ledger.before-rename",
    "ledger.after-write",
    "table.before-write",
    "table.after-write",
    "proxy.before-acknowledgement",
    "proxy.after-acknowledgement",
    "ensure-network.before",
    "ensure-network.after",
    "remove-network.before",
    "remove-network.after",
    "pull.before",
    "pull.after",
    "run.before",
    "run.after",
    "terminate.before",
    "terminate.after",
    "kill.before",
    "kill.after",
    "remove.before",
    "remove.after",
];

/// Dies here, if it was told to.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn point(_name: &str) {}

/// Dies here, before or after (`side`) an action of this word, if it was told to.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn point_of(_word: &str, _side: &str) {}

#[cfg(feature = "crash-points")]
pub use armed::{point, point_of};

#[cfg(feature = "crash-points")]
mod armed {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    use std::sync::{Mutex, PoisonError};

    /// The order that is obeyed, as its text, and how often its point was passed since.
    static PASSED: Mutex<(String, u32)> = Mutex::new((String::new(), 0));

    /// Dies here, if it was told to.
    pub fn point(name: &str) {
        let Ok(said) = std::env::var("LAPSTRAKE_CRASH_AT") else { return };
        let file = said.strip_prefix('@');
        let order = match file {
            Some(file) => std::fs::read_to_string(file).unwrap_or_default().trim().to_owned(),
            None => said.clone(),
        };
        let (wanted, times) = match order.rsplit_once(':') {
            Some((wanted, times)) => (wanted, times.parse().unwrap_or(1)),
            None => (order.as_str(), 1),
        };
        // The lock is held to the end: two threads at one point count one after the other.
        let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
        if passed.0 != order {
            *passed = (order.clone(), 0);
        }
        if wanted != name {
            return;
        }
        passed.1 += 1;
        if passed.1 == times {
            // Nothing can be done about a refusal of either, and there is none: the file is the test's, and a process
            // may kill itself.
            let _ = file.map(std::fs::remove_file);
            let _ = kill(Pid::this(), Signal::SIGKILL);
        }
    }

    /// Dies here, before or after an action of this word, if it was told to.
    pub fn point_of(word: &str, side: &str) {
        point(&format!("{word}.{side}"));
    }
}
