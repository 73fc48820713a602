//! How the daemons write their logs: one line for each event, whatever strangers put into it.
//!
//! Fields hold what others wrote: names of nodes, versions, what an engine or a peer said, hosts and paths of requests.
//! A line end in one of them would forge a line of the log, an escape sequence would act on the terminal of whoever reads
//! it. So all fields and the message of every event are written by one formatter, which escapes what acts. Targets, levels
//! and spans' names are ours.

use journal::Unwritten;
use lapstrake_core::quote::escaped;
use std::fmt;
use std::io::IsTerminal;
use std::sync::OnceLock;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

mod journal;

/// What the journal has not taken yet, if that is where the log goes.
static UNWRITTEN: OnceLock<Unwritten> = OnceLock::new();

/// Lets a daemon's log go to stderr, with colours for the levels if that is a terminal; or into the journal with its fields,
/// if that is where stderr leads. Once in a process, at its start.
pub fn start(filter: EnvFilter) {
    if let Some(journal) = journal::Journal::behind_stderr() {
        UNWRITTEN.get_or_init(|| journal.unwritten());
        return tracing_subscriber::registry().with(filter).with(journal).init();
    }
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .fmt_fields(OneLine)
        .with_ansi(colours)
        .with_writer(std::io::stderr)
        .init();
}

/// Waits until all that was logged is written, a few seconds at most. At the end of a process: what is not written then is lost.
pub fn finish() {
    if let Some(unwritten) = UNWRITTEN.get() {
        unwritten.wait();
    }
}

/// Fields as the usual formatter writes them, with what acts escaped.
#[derive(Debug, Clone, Copy)]
pub struct OneLine;

impl<'writer> FormatFields<'writer> for OneLine {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut text = String::new();
        // A writer without colours: every escape in the text is then a stranger's.
        DefaultFields::new().format_fields(Writer::new(&mut text), fields)?;
        writer.write_str(&escaped(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex, PoisonError};

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[derive(Debug)]
    struct Said(&'static str);

    impl fmt::Display for Said {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl std::error::Error for Said {}

    #[test]
    fn nothing_in_a_field_forges_a_line_or_acts_on_a_terminal() {
        let written = Written::default();
        let writer = written.clone();
        let subscriber =
            tracing_subscriber::fmt().fmt_fields(OneLine).with_ansi(false).with_writer(move || writer.clone()).finish();
        let hostile = "a\u{1b}[2Jb\r\n2026-01-01T00:00:00Z  INFO forged: all is well\u{202e}\u{9b}31m\0";
        tracing::subscriber::with_default(subscriber, || {
            let _within = tracing::info_span!("session", node = %hostile).entered();
            tracing::warn!(node = %hostile, version = hostile, said = ?hostile, "{hostile}");
            tracing::error!(error = &Said("x\ny\u{1b}c") as &dyn std::error::Error, "it failed");
        });
        let log = String::from_utf8(written.0.lock().unwrap_or_else(PoisonError::into_inner).clone()).expect("UTF-8");
        assert_eq!(log.lines().count(), 2, "two events are two lines: {log:?}");
        assert!(log.chars().all(|c| c == '\n' || !lapstrake_core::quote::is_acting(c)), "{log:?}");
        assert!(log.contains(r"node=a\u{1b}[2Jb\r\n2026") && log.contains("error=x\\ny"), "{log}");
    }
}
