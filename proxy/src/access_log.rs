//! The access log: one line of JSON for each request, off unless the configuration names a place for it.
//!
//! Workers put lines into a queue and never wait. One thread writes them; when what it writes to is slow, the queue fills
//! and lines are dropped and counted.

use lapstrake_core::quote::one_line;
use lapstrake_metrics::Counter;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// Lines that wait for the writer: about two seconds of 4000 requests a second, 2 MB at 250 bytes each.
const QUEUE: usize = 8192;

/// What is written at once.
const BATCH_BYTES: usize = 64 * 1024;

/// How much of a path is kept.
const MAX_PATH_CHARS: usize = 1024;

/// How long the end of the process waits for what is queued.
const LAST_LINES: Duration = Duration::from_secs(1);

/// One request. Times are whole microseconds, the time of day seconds and microseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// When its head was whole: `1795287600.000123`.
    pub time: String,
    /// `shop/production/web`; absent when no route has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The last job that was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// As the client wrote it.
    pub method: String,
    /// Without the query, which may hold what is secret.
    pub path: String,
    /// Absent when it ended before there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Of the request's body.
    pub received: u64,
    /// Of the answer's body.
    pub sent: u64,
    /// To the end of the answer.
    pub duration_us: u64,
    /// To the head of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte_us: Option<u64>,
    /// Its address.
    pub client: IpAddr,
    /// `HTTP/1.1`.
    pub protocol: String,
    /// Tries after the first.
    pub retried: u32,
    /// The answer broke off.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub broken: bool,
}

/// A client's words in a form that neither a terminal nor a reader of lines takes for anything else.
pub fn harmless(text: &str) -> String {
    one_line(text, MAX_PATH_CHARS)
}

enum Order {
    Write(String),
    Reopen,
    End(SyncSender<()>),
}

/// The queue to the writer.
#[derive(Debug)]
pub struct AccessLog {
    orders: SyncSender<Order>,
    dropped: Counter,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Order")
    }
}

impl AccessLog {
    /// Opens the file, or standard output for `stdout`, and starts the writer.
    pub fn open(place: &Path) -> io::Result<AccessLog> {
        let (orders, queue) = sync_channel(QUEUE);
        let mut writer = Writer { place: place.to_owned(), file: open(place)?, failed: false };
        std::thread::Builder::new().name("access-log".to_owned()).spawn(move || writer.run(&queue))?;
        Ok(AccessLog { orders, dropped: Counter::default() })
    }

    /// Writes a line, or counts it as dropped.
    pub fn write(&self, line: &Line) {
        let told = serde_json::to_string(line).is_ok_and(|text| self.orders.try_send(Order::Write(text)).is_ok());
        if !told {
            self.dropped.add(1);
        }
    }

    /// How many lines were dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped.get()
    }

    /// Opens the file again: somebody has renamed it.
    pub fn reopen(&self) {
        // A queue that is full is read by nobody, and then there is nothing to be written elsewhere.
        let _ = self.orders.try_send(Order::Reopen);
    }

    /// Waits a little until what is queued is written.
    pub fn end(&self) {
        let (done, ended) = sync_channel(1);
        if self.orders.try_send(Order::End(done)).is_ok()
            && matches!(ended.recv_timeout(LAST_LINES), Err(RecvTimeoutError::Timeout))
        {
            tracing::warn!("the access log's last lines were not written in time");
        }
    }
}

struct Writer {
    place: PathBuf,
    file: Option<File>,
    failed: bool,
}

impl Writer {
    fn run(&mut self, queue: &Receiver<Order>) {
        while let Ok(order) = queue.recv() {
            let mut batch = String::new();
            let mut next = Some(order);
            while let Some(order) = next.take() {
                match order {
                    Order::Write(line) => {
                        batch.push_str(&line);
                        batch.push('\n');
                    }
                    Order::Reopen => {
                        self.write(&std::mem::take(&mut batch));
                        match open(&self.place) {
                            Ok(file) => self.file = file,
                            Err(error) => tracing::error!(%error, "the access log stays in its old file"),
                        }
                    }
                    Order::End(done) => {
                        self.write(&std::mem::take(&mut batch));
                        let _ = done.send(());
                    }
                }
                if batch.len() < BATCH_BYTES {
                    next = queue.try_recv().ok();
                }
            }
            self.write(&batch);
        }
    }

    fn write(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let written = match &mut self.file {
            Some(file) => file.write_all(text.as_bytes()),
            None => io::stdout().lock().write_all(text.as_bytes()),
        };
        // Once, not for every line.
        match written {
            Ok(()) => self.failed = false,
            Err(error) if !self.failed => {
                self.failed = true;
                tracing::error!(%error, "the access log cannot be written");
            }
            Err(_) => {}
        }
    }
}

/// `None` is standard output. A pipe is opened for reading too, because opening one for writing alone waits for a reader.
fn open(place: &Path) -> io::Result<Option<File>> {
    if place == Path::new("stdout") {
        return Ok(None);
    }
    let is_pipe = std::fs::metadata(place).is_ok_and(|file| file.file_type().is_fifo());
    let mut options = OpenOptions::new();
    // Names of services and clients are in it: not for everybody.
    options.append(true).create(true).mode(0o640);
    if is_pipe {
        options.append(false).create(false).read(true).write(true);
    }
    options.open(place).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(path: &str) -> Line {
        Line {
            time: "1.000000".to_owned(),
            service: Some("shop/production/web".to_owned()),
            job: None,
            method: "GET".to_owned(),
            path: harmless(path),
            status: Some(200),
            received: 0,
            sent: 5,
            duration_us: 1200,
            first_byte_us: Some(1100),
            client: IpAddr::from([192, 0, 2, 7]),
            protocol: "HTTP/1.1".to_owned(),
            retried: 0,
            broken: false,
        }
    }

    #[test]
    fn a_path_cannot_forge_a_line_or_act_on_a_terminal() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("access.log");
        let log = AccessLog::open(&path).unwrap();
        log.write(&line("/a\"\n{\"forged\":1}\u{1b}[2J\u{202e}"));
        log.write(&line("/b"));
        log.end();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
        for line in text.lines() {
            let read: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!((&read["service"], &read["status"]), (&"shop/production/web".into(), &200.into()));
        }
    }

    #[test]
    fn lines_that_nobody_reads_are_dropped_and_counted_and_a_renamed_file_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let log = AccessLog::open(&pipe).unwrap();
        let long = "/x".repeat(400);
        (0..3 * QUEUE).for_each(|_| log.write(&line(&long)));
        assert!(log.dropped() > 0);

        let path = directory.path().join("access.log");
        let log = AccessLog::open(&path).unwrap();
        log.write(&line("/before"));
        log.end();
        let old = directory.path().join("access.log.1");
        std::fs::rename(&path, &old).unwrap();
        log.reopen();
        log.write(&line("/after"));
        log.end();
        assert!(std::fs::read_to_string(old).unwrap().contains("/before"));
        assert!(std::fs::read_to_string(path).unwrap().contains("/after"));
    }
}
