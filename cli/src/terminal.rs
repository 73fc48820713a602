//! The person's own terminal while it is the terminal of a command elsewhere: every key goes there, none acts here.
//!
//! However lap ends, the terminal is as it was before: on return, on an error, on a signal that can be caught, and in a panic,
//! also where panics do not unwind.

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io;
use std::sync::{Mutex, Once, PoisonError};

/// How the terminal was; none while it is so.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// As long as this lives, the terminal passes on every key.
pub struct Raw(());

impl Raw {
    /// Makes it so.
    pub fn begin() -> io::Result<Raw> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let tell = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                restore();
                tell(info);
            }));
        });
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        let raw = tcsetattr(io::stdin(), OptionalActions::Drain, &raw).map(|()| Raw(()));
        Ok(raw?)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

fn restore() {
    // In a panic nobody waits for whoever holds it.
    let before = match BEFORE.try_lock() {
        Ok(mut before) => before.take(),
        Err(_) => None,
    };
    if let Some(before) = before {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &before);
    }
}

/// Columns and rows of the terminal that keys come from.
pub fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(io::stdin()).or_else(|_| tcgetwinsize(io::stdout())).ok()?;
    Some((size.ws_col, size.ws_row))
}
