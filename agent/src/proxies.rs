//! Tells the node's proxies their route table, and what they have acknowledged.
//!
//! Flow: the table is written to the file that a starting proxy reads; only then is the folder of sockets listed, so that a
//! proxy that is not in the list will read the new file; the picture gets both at once; then every connected proxy is sent
//! the table and answers with its generation.
//!
//! Assumption: a proxy listens in the folder before it reads the file.
//!
//! A proxy whose socket is there is alive until the kernel says that nobody listens: a silent one is alive too, and what it
//! has not acknowledged it may not obey yet.

use crate::durable;
use crate::observe::View;
use lapstrake_core::node::seen::Proxy;
use lapstrake_core::routes::{ProxyHello, ProxyReport, RouteTable};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Whose control socket a file of the folder is: `<pid>.sock`. Others lie there too, for handovers and for metrics.
pub(crate) fn pid_of(name: &OsStr) -> Option<u32> {
    name.to_str()?.strip_suffix(".sock")?.parse().ok()
}

/// Between two looks at the folder while a table is not acknowledged by all.
const SCAN_BUSY: Duration = Duration::from_millis(200);
/// Between two looks at the folder otherwise.
const SCAN_IDLE: Duration = Duration::from_secs(1);
/// Before a lost connection is tried again: a killed proxy is noticed then. Doubled with each connection in a row in which no
/// table was acknowledged.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest pause before a proxy that takes no table is tried again: short enough that one that was repaired is not waited
/// for, long enough that one that is not costs nothing.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A socket that is younger may belong to a proxy that has bound but does not listen yet.
const BIRTH: Duration = Duration::from_secs(5);

/// The proxies of this node. A clone is the same one.
#[derive(Clone)]
pub struct Proxies(Arc<Inner>);

struct Inner {
    view: View,
    control_dir: PathBuf,
    table_file: PathBuf,
    /// What connected proxies are sent.
    table: watch::Sender<Option<Arc<RouteTable>>>,
    peers: Mutex<BTreeMap<u32, Proxy>>,
    /// Ends the conversations.
    stop: CancellationToken,
}

impl Proxies {
    /// Reads the table file and looks into the folder. When this returns, the picture names every live proxy. The
    /// conversations go on until `stop`.
    pub fn open(view: View, control_dir: &Path, table_file: &Path, stop: CancellationToken) -> io::Result<Self> {
        for folder in [Some(control_dir), table_file.parent()].into_iter().flatten() {
            std::fs::create_dir_all(folder)?;
        }
        let written = read_table(table_file);
        let generation = written.as_ref().map_or(0, |table| table.generation);
        let proxies = Proxies(Arc::new(Inner {
            view,
            control_dir: control_dir.to_owned(),
            table_file: table_file.to_owned(),
            table: watch::Sender::new(written.map(Arc::new)),
            peers: Mutex::default(),
            stop,
        }));
        proxies.scan()?;
        proxies.tell(Some(generation));
        Ok(proxies)
    }

    /// The newest table that was written, by this process or an earlier one.
    pub fn table(&self) -> Option<Arc<RouteTable>> {
        self.0.table.borrow().clone()
    }

    /// Whether this table is in the file and on its way to every proxy.
    pub fn has_published(&self, generation: u64) -> bool {
        self.0.table.borrow().as_ref().is_some_and(|table| table.generation >= generation)
    }

    /// The table is in the file and on its way to every proxy.
    pub async fn publish(&self, table: RouteTable) -> io::Result<()> {
        let text = serde_json::to_vec(&table).map_err(io::Error::other)?;
        let path = self.0.table_file.clone();
        let write = move || {
            lapstrake_crash::point("table.before-write");
            // A proxy may run as another user; hosts, paths and addresses are no secrets.
            durable::replace(&path, &text, 0o644, || ())?;
            lapstrake_crash::point("table.after-write");
            Ok(())
        };
        tokio::task::spawn_blocking(write).await.unwrap_or_else(|error| Err(io::Error::other(error)))?;
        self.scan()?;
        self.tell(Some(table.generation));
        self.0.table.send_replace(Some(Arc::new(table)));
        Ok(())
    }

    /// Looks for new proxies until it is dropped.
    pub async fn watch(self) {
        loop {
            match self.scan() {
                Ok(()) => self.0.view.trouble("proxies", None),
                Err(error) => {
                    let folder = self.0.control_dir.display();
                    self.0
                        .view
                        .trouble("proxies", Some(format!("the proxies' folder {folder} cannot be read: {error}")));
                }
            }
            self.tell(None);
            let newest = self.table().map_or(0, |table| table.generation);
            let all = self.peers().values().all(|peer| peer.acknowledged >= newest);
            tokio::time::sleep(if all { SCAN_IDLE } else { SCAN_BUSY }).await;
        }
    }

    /// Adds a conversation for every socket that has none. Ends are noticed by the conversations.
    fn scan(&self) -> io::Result<()> {
        let mut found = BTreeSet::new();
        for entry in std::fs::read_dir(&self.0.control_dir)? {
            found.extend(pid_of(&entry?.file_name()));
        }
        let mut peers = self.peers();
        for pid in found {
            peers.entry(pid).or_insert_with(|| {
                tracing::info!(pid, "a proxy listens");
                let (proxies, stop) = (self.clone(), self.0.stop.clone());
                tokio::spawn(async move { stop.run_until_cancelled(proxies.converse(pid)).await });
                Proxy { pid, acknowledged: 0, leaving: BTreeMap::new() }
            });
        }
        Ok(())
    }

    /// Puts the proxies, and with them the newest written table, into the picture.
    fn tell(&self, written: Option<u64>) {
        let peers = self.peers();
        let proxies: Vec<Proxy> = peers.values().cloned().collect();
        self.0.view.change(|seen| {
            let written = written.unwrap_or(seen.table_written);
            let changed = seen.proxies != proxies || seen.table_written != written;
            seen.proxies = proxies;
            seen.table_written = written;
            changed
        });
    }

    fn peers(&self) -> MutexGuard<'_, BTreeMap<u32, Proxy>> {
        self.0.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, pid: u32, report: ProxyReport) {
        lapstrake_crash::point("proxy.before-acknowledgement");
        if let Some(peer) = self.peers().get_mut(&pid) {
            peer.acknowledged = report.generation;
            peer.leaving = report.leaving.into_iter().collect();
        }
        self.tell(None);
        lapstrake_crash::point("proxy.after-acknowledgement");
    }

    /// The connection is down: what the proxy has acknowledged is unknown. Whether it had acknowledged anything.
    fn forget_acknowledgement(&self, pid: u32) -> bool {
        let before = self.peers().get_mut(&pid).map_or(0, |peer| std::mem::take(&mut peer.acknowledged));
        self.tell(None);
        before > 0
    }

    fn remove(&self, pid: u32) {
        tracing::info!(pid, "a proxy is gone");
        self.peers().remove(&pid);
        self.tell(None);
    }

    /// Keeps a conversation with one proxy until it is gone.
    async fn converse(self, pid: u32) {
        let path = self.0.control_dir.join(format!("{pid}.sock"));
        let mut pause = PAUSE;
        loop {
            let Err(error) = self.converse_once(&path, pid).await;
            if self.forget_acknowledgement(pid) {
                pause = PAUSE;
            }
            if is_gone(&path, pid, &error) {
                self.remove(pid);
                return;
            }
            tracing::debug!(pid, %error, "the connection to a proxy is down");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One connection from its beginning to its end, which is always an error.
    async fn converse_once(&self, path: &Path, pid: u32) -> io::Result<std::convert::Infallible> {
        let (read, mut write) = UnixStream::connect(path).await?.into_split();
        let mut lines = BufReader::new(read).lines();
        let greeting = lines.next_line().await?.ok_or(ErrorKind::UnexpectedEof)?;
        let hello: ProxyHello = serde_json::from_str(&greeting)?;
        tracing::debug!(pid, version = hello.version, format = hello.format, "connected to a proxy");
        let mut table = self.0.table.subscribe();
        table.mark_changed();
        loop {
            tokio::select! {
                changed = table.changed() => {
                    changed.map_err(io::Error::other)?;
                    let newest = table.borrow_and_update().clone();
                    if let Some(newest) = newest {
                        let mut line = serde_json::to_vec(&*newest)?;
                        line.push(b'\n');
                        write.write_all(&line).await?;
                    }
                }
                line = lines.next_line() => {
                    let line = line?.ok_or(ErrorKind::UnexpectedEof)?;
                    self.take(pid, serde_json::from_str(&line)?);
                }
            }
        }
    }
}

/// Whether the kernel says that nobody listens there any more; then the socket's file is removed too.
fn is_gone(path: &Path, pid: u32, error: &io::Error) -> bool {
    match error.kind() {
        ErrorKind::NotFound => true,
        ErrorKind::ConnectionRefused => {
            let age = std::fs::metadata(path).ok().and_then(|file| file.modified().ok()?.elapsed().ok());
            let dead = !Path::new(&format!("/proc/{pid}")).exists() || age.is_none_or(|age| age > BIRTH);
            if dead && let Err(error) = std::fs::remove_file(path) {
                tracing::debug!(%error, path = %path.display(), "a dead proxy's socket cannot be removed");
            }
            dead
        }
        _ => false,
    }
}

fn read_table(path: &Path) -> Option<RouteTable> {
    let text = std::fs::read(path).ok()?;
    serde_json::from_slice(&text)
        .inspect_err(|error| tracing::warn!(%error, path = %path.display(), "the route table's file is no route table"))
        .ok()
}
