//! The journal's own protocol: an event is a datagram of fields, so that `journalctl LAPSTRAKE_SERVICE=shop/production/web`
//! finds what concerns a service, and `journalctl -p warning` what is worth reading.
//!
//! The message is the whole line as a terminal would show it, for people; each field of the event and of the spans around it
//! is a field of its own besides, `LAPSTRAKE_` and its name. By hand, because it is small: `tracing-journald` would leave the
//! fields out of the message, and knows nothing of strangers' texts.
//!
//! Whoever logs never waits. A datagram that the journal does not take at once goes to a thread, which waits for the journal a
//! while and then writes to stderr; what that thread has no room for is lost, and counted in a line of its own. A process that
//! ends waits for that thread, but not for ever: what a journal is told by who ends is what somebody will look for.

use lapstrake_core::quote::escaped;
use std::fmt;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

/// Where journald takes datagrams.
const SOCKET: &str = "/run/systemd/journal/socket";

/// So much of a value is kept: with all its fields a datagram then stays below the 200 kB that a socket takes at once.
const MOST_BYTES: usize = 16 * 1024;

/// The thread waits so long for a journal that takes nothing, and then writes to stderr.
const PATIENCE: Duration = Duration::from_secs(1);

/// A process that ends waits so long at most until the thread has written all.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// So many events wait for the thread, usually a few hundred bytes each.
const WAITING: usize = 1024;

/// Writes events into the journal.
#[derive(Debug)]
pub struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
    program: String,
    late: SyncSender<Late>,
    counts: Arc<Counts>,
}

/// An event that the journal did not take at once.
struct Late {
    datagram: String,
    /// What stderr gets if the journal does not take it later either.
    message: String,
}

/// What the thread and those who log know of each other.
#[derive(Debug, Default)]
struct Counts {
    /// Events that the thread has not written yet. While there are any, further ones go behind them.
    waiting: AtomicUsize,
    /// Events that it had no room for, since it last said so.
    lost: AtomicU64,
    /// Told after each event that the thread has written.
    written: (Mutex<()>, Condvar),
}

/// What was logged and is not written yet.
#[derive(Debug)]
pub struct Unwritten(Arc<Counts>);

impl Unwritten {
    /// Waits a while until there is no more of it.
    pub fn wait(&self) {
        let (lock, written) = &self.0.written;
        let held = lock.lock().unwrap_or_else(PoisonError::into_inner);
        // Whether all was written or the time is over: there is nobody to tell.
        let _ = written.wait_timeout_while(held, LAST_WAIT, |()| self.0.waiting.load(SeqCst) > 0);
    }
}

impl Journal {
    /// The journal that this process's stderr leads to; none when it leads elsewhere, or when the journal's socket is not
    /// to be had.
    pub fn behind_stderr() -> Option<Journal> {
        let stream = std::env::var("JOURNAL_STREAM").ok()?;
        let stderr = std::fs::File::from(std::io::stderr().as_fd().try_clone_to_owned().ok()?).metadata().ok()?;
        // `device:inode` of the stream that systemd made; a redirected stderr is another one.
        (stream == format!("{}:{}", stderr.dev(), stderr.ino())).then_some(())?;
        Journal::at(Path::new(SOCKET)).ok()
    }

    /// The journal that listens at this path.
    fn at(path: &Path) -> std::io::Result<Journal> {
        std::fs::metadata(path)?;
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let patient = UnixDatagram::unbound()?;
        patient.set_write_timeout(Some(PATIENCE))?;
        let (late, waiting) = sync_channel(WAITING);
        let counts = Arc::new(Counts::default());
        let (to, counted) = (path.to_owned(), Arc::clone(&counts));
        std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || write_late(&patient, &to, &waiting, &counted))?;
        let program = std::env::args_os().next().unwrap_or_default();
        let program = Path::new(&program).file_name().map(|name| name.to_string_lossy().into_owned());
        let program = program.unwrap_or_else(|| "lapstrake".into());
        Ok(Journal { socket, path: path.to_owned(), program, late, counts })
    }

    /// What its thread has not written.
    pub fn unwritten(&self) -> Unwritten {
        Unwritten(Arc::clone(&self.counts))
    }

    fn send(&self, datagram: String, message: String) {
        // Each time by its path: a journald that was started anew has another socket there.
        let is_first = self.counts.waiting.load(SeqCst) == 0;
        if is_first && self.socket.send_to(datagram.as_bytes(), &self.path).is_ok() {
            return;
        }
        self.counts.waiting.fetch_add(1, SeqCst);
        if self.late.try_send(Late { datagram, message }).is_err() {
            self.counts.waiting.fetch_sub(1, SeqCst);
            self.counts.lost.fetch_add(1, SeqCst);
        }
    }
}

/// Writes what the journal did not take at once, until nobody logs any more.
fn write_late(socket: &UnixDatagram, path: &Path, waiting: &Receiver<Late>, counts: &Counts) {
    let write = |Late { datagram, message }: Late| {
        if socket.send_to(datagram.as_bytes(), path).is_err() {
            // A stderr that is closed leaves nowhere to tell it.
            let _ = writeln!(std::io::stderr(), "{message}");
        }
    };
    while let Ok(late) = waiting.recv() {
        write(late);
        let lost = counts.lost.swap(0, SeqCst);
        if lost > 0 {
            let message = format!("{lost} lines of the log were lost here: the journal took nothing");
            write(Late { datagram: format!("MESSAGE={message}\nPRIORITY=4\n"), message });
        }
        let (lock, written) = &counts.written;
        let held = lock.lock().unwrap_or_else(PoisonError::into_inner);
        counts.waiting.fetch_sub(1, SeqCst);
        written.notify_all();
        drop(held);
    }
}

/// What was recorded, as one text for people and as fields.
#[derive(Debug, Default)]
struct Recorded {
    shown: String,
    fields: Vec<(String, String)>,
}

impl Recorded {
    fn of(fields: impl RecordFields) -> Recorded {
        let mut recorded = Recorded::default();
        recorded.add(fields);
        recorded
    }

    fn add(&mut self, fields: impl RecordFields) {
        let mut text = String::new();
        // A writer without colours: every escape in the text is then a stranger's. Writing into a string cannot fail.
        let _ = DefaultFields::new().format_fields(Writer::new(&mut text), &fields);
        if !self.shown.is_empty() && !text.is_empty() {
            self.shown.push(' ');
        }
        self.shown.push_str(&cut(&escaped(&text)));
        fields.record(self);
    }

    fn take(&mut self, field: &Field, value: &str) {
        if field.name() != "message" {
            self.fields.push((name(field.name()), cut(&escaped(value)).into_owned()));
        }
    }
}

impl Visit for Recorded {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value);
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, &format!("{value:?}"));
    }
}

/// The journal takes capital letters, digits and `_`, at most 64 of them.
fn name(field: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    "LAPSTRAKE_".chars().chain(field.chars().map(plain)).take(64).collect()
}

fn cut(text: &str) -> std::borrow::Cow<'_, str> {
    if text.len() <= MOST_BYTES {
        return text.into();
    }
    let end = (0..=MOST_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end]).into()
}

/// As syslog counts.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

impl<S> Layer<S> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(Recorded::of(attributes));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(recorded) = span.extensions_mut().get_mut::<Recorded>()
        {
            recorded.add(values);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let metadata = event.metadata();
        let own = Recorded::of(event);
        let (mut message, mut fields) = (String::new(), String::new());
        let mut field = |name: &str, value: &str| fields.extend([name, "=", value, "\n"]);
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            message.push_str(span.name());
            if let Some(recorded) = span.extensions().get::<Recorded>() {
                message.extend(["{", &recorded.shown, "}"]);
                recorded.fields.iter().for_each(|(name, value)| field(name, value));
            }
            message.push_str(": ");
        }
        message.push_str(&own.shown);
        own.fields.iter().for_each(|(name, value)| field(name, value));
        field("MESSAGE", &message);
        field("PRIORITY", &priority(*metadata.level()).to_string());
        field("SYSLOG_IDENTIFIER", &escaped(&self.program));
        field("TARGET", metadata.target());
        self.send(fields, message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    /// What the journal gets of what is said within.
    fn journalled(say: impl FnOnce()) -> Vec<String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let journald = UnixDatagram::bind(&path).expect("a socket");
        let subscriber = tracing_subscriber::registry().with(Journal::at(&path).expect("a journal"));
        tracing::subscriber::with_default(subscriber, say);
        journald.set_nonblocking(true).expect("set");
        let mut bytes = vec![0; 256 * 1024];
        let mut said = Vec::new();
        while let Ok(length) = journald.recv(&mut bytes) {
            said.push(String::from_utf8(bytes[..length].to_vec()).expect("UTF-8"));
        }
        said
    }

    fn has(datagram: &str, line: &str) -> bool {
        datagram.lines().any(|one| one == line)
    }

    #[test]
    fn an_event_is_found_by_its_fields_and_those_of_its_spans_and_read_as_one_line() {
        let said = journalled(|| {
            let span = tracing::info_span!("session", node = "n1", since = tracing::field::Empty);
            span.record("since", 7);
            let _within = span.entered();
            tracing::warn!(service = %"shop/production/web", attempt = 3, "the job failed");
        });
        let [one] = said.as_slice() else { panic!("{said:?}") };
        for line in [
            "LAPSTRAKE_NODE=n1",
            "LAPSTRAKE_SINCE=7",
            "LAPSTRAKE_SERVICE=shop/production/web",
            "LAPSTRAKE_ATTEMPT=3",
            "PRIORITY=4",
            "MESSAGE=session{node=\"n1\" since=7}: the job failed service=shop/production/web attempt=3",
        ] {
            assert!(has(one, line), "{line} is not in {one}");
        }
    }

    #[test]
    fn no_strangers_text_makes_a_field() {
        let hostile = "x\nPRIORITY=0\nMESSAGE=forged\u{1b}[2J";
        let said = journalled(|| {
            let _within = tracing::info_span!("session", node = hostile).entered();
            tracing::info!(said = hostile, also = ?hostile, "{hostile}");
        });
        let [one] = said.as_slice() else { panic!("{said:?}") };
        assert_eq!(one.lines().filter(|line| line.starts_with("PRIORITY=")).count(), 1, "{one}");
        assert_eq!(one.lines().filter(|line| line.starts_with("MESSAGE=")).count(), 1, "{one}");
        assert!(one.lines().all(|line| !line.contains(lapstrake_core::quote::is_acting)), "{one:?}");
    }

    #[test]
    fn who_logs_does_not_wait_for_a_journal_that_takes_nothing_and_what_is_lost_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let journald = UnixDatagram::bind(&path).expect("a socket");
        let subscriber = tracing_subscriber::registry().with(Journal::at(&path).expect("a journal"));
        let began = std::time::Instant::now();
        // More than a socket holds and than wait.
        tracing::subscriber::with_default(subscriber, || {
            (0..4000).for_each(|number| tracing::info!(number, "told"));
        });
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        journald.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        let mut bytes = vec![0; 256 * 1024];
        let mut next = || {
            let length = journald.recv(&mut bytes).expect("one more");
            String::from_utf8(bytes[..length].to_vec()).expect("UTF-8")
        };
        assert!(has(&next(), "LAPSTRAKE_NUMBER=0"));
        assert!(has(&next(), "LAPSTRAKE_NUMBER=1"), "in their order");
        while !next().contains("lines of the log were lost here") {}
    }

    #[test]
    fn a_process_that_ends_leaves_no_line_behind_that_the_journal_took_late() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let journald = UnixDatagram::bind(&path).expect("a socket");
        journald.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        let journal = Journal::at(&path).expect("a journal");
        let unwritten = journal.unwritten();
        // More than a socket holds, so that the last ones wait for the thread.
        let all = 500;
        tracing::subscriber::with_default(tracing_subscriber::registry().with(journal), || {
            (0..all).for_each(|number| tracing::info!(number, "told"));
        });
        assert!(unwritten.0.waiting.load(SeqCst) > 0, "the socket holds all of it");
        let reader = std::thread::spawn(move || {
            let mut bytes = vec![0; 256 * 1024];
            for _line in 0..all {
                journald.recv(&mut bytes).expect("one more");
            }
        });
        unwritten.wait();
        assert_eq!(unwritten.0.waiting.load(SeqCst), 0);
        reader.join().expect("all came");
    }

    #[test]
    fn a_text_without_end_still_reaches_the_journal_cut() {
        let long = "ä".repeat(300_000);
        let said = journalled(|| tracing::error!(said = %long, "it failed"));
        let [one] = said.as_slice() else { panic!("nothing came") };
        assert!(has(one, "PRIORITY=3") && one.len() < 40_000 && one.contains('…'), "{} bytes", one.len());
    }
}
