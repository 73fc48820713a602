//! Named points at which a process kills itself, so that a test can crash it exactly there.
//!
//! Only with the cargo feature `crash-points`; without it a point compiles to nothing. With it, the environment variable
//! `LAPSTRAKE_CRASH_AT` names the point, as `store.before-commit` or, for the third time that it is passed,
//! `store.before-commit:3`. The process ends by SIGKILL: nothing is flushed and no destructor runs, as when it is killed
//! from outside.

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
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Order {
        name: String,
        left: AtomicU32,
    }

    fn order() -> Option<&'static Order> {
        static ORDER: OnceLock<Option<Order>> = OnceLock::new();
        ORDER
            .get_or_init(|| {
                let text = std::env::var("LAPSTRAKE_CRASH_AT").ok()?;
                let (name, times) = match text.rsplit_once(':') {
                    Some((name, times)) => (name.to_owned(), times.parse().unwrap_or(1)),
                    None => (text, 1),
                };
                Some(Order { name, left: AtomicU32::new(times) })
            })
            .as_ref()
    }

    /// Dies here, if it was told to.
    pub fn point(name: &str) {
        if let Some(order) = order()
            && order.name == name
            && order.left.fetch_sub(1, Ordering::SeqCst) == 1
        {
            // Nothing can be done about a refusal, and there is none: a process may kill itself.
            let _ = kill(Pid::this(), Signal::SIGKILL);
        }
    }

    /// Dies here, before or after (`side`) an action of this word, if it was told to.
    pub fn point_of(word: &str, side: &str) {
        point(&format!("{word}.{side}"));
    }
}
