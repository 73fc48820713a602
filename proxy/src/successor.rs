//! The new process's side of a handover.

use crate::handover::{self, AtTheDoor, HANDOVER_FORMAT, Hello, Passed, Progress, Reply};
use crate::switchboard::Switchboard;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;

/// How long the old process may take to answer. It answers from a thread of its own.
const PREDECESSOR_MAY_TAKE: Duration = Duration::from_secs(10);

/// How long the agent may take to bring a table that is as new as the old process's. It looks for new sockets every second,
/// and the table's file has that table already, unless it cannot be read.
const TABLE_MAY_TAKE: Duration = Duration::from_secs(10);

/// The conversation with a process that serves, and what it offers.
#[derive(Debug)]
pub struct Inheritance {
    stream: UnixStream,
    sockets: Vec<(Passed, OwnedFd)>,
    generation: u64,
}

/// Asks the process that serves for its sockets. `None` if none does.
pub fn ask(control_dir: &Path) -> io::Result<Option<Inheritance>> {
    let stream = match UnixStream::connect(handover::path_in(control_dir)) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    stream.set_read_timeout(Some(PREDECESSOR_MAY_TAKE))?;
    stream.set_write_timeout(Some(PREDECESSOR_MAY_TAKE))?;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    handover::send(&stream, &Hello { format: HANDOVER_FORMAT, version, pid: std::process::id() }, &[])?;
    match handover::receive(&stream)? {
        Some((Reply::Offer { sockets, generation }, descriptors)) if sockets.len() == descriptors.len() => {
            let sockets = sockets.into_iter().zip(descriptors).collect();
            Ok(Some(Inheritance { stream, sockets, generation }))
        }
        Some((Reply::Refused { why }, _)) => Err(io::Error::other(format!("the proxy that serves refused: {why}"))),
        Some(_) => Err(io::Error::other("the proxy that serves did not offer its sockets")),
        None => Err(io::Error::other("the proxy that serves said nothing")),
    }
}

impl Inheritance {
    /// The inherited socket of a public address.
    pub fn take_public(&mut self, address: SocketAddr) -> Option<TcpListener> {
        self.take(&Passed::Public(address)).map(TcpListener::from)
    }

    /// The inherited socket of the metrics' endpoint.
    pub fn take_metrics(&mut self, endpoint: &str) -> Option<OwnedFd> {
        self.take(&Passed::Metrics(endpoint.to_owned()))
    }

    /// Refuses to go on when the old process listens where this one's configuration names nothing. It keeps its sockets open so
    /// that it can come back: a client there would wait for an answer that never comes.
    pub fn refuse_unwanted(&self) -> io::Result<()> {
        let public = |(passed, _): &(Passed, OwnedFd)| match passed {
            Passed::Public(address) => Some(address.to_string()),
            Passed::Metrics(_) => None,
        };
        let unwanted: Vec<String> = self.sockets.iter().filter_map(public).collect();
        if unwanted.is_empty() {
            return Ok(());
        }
        let unwanted = unwanted.join(", ");
        Err(io::Error::other(format!(
            "it listens on {unwanted}, which the configuration does not name any more; only a restart gives an address up"
        )))
    }

    fn take(&mut self, wanted: &Passed) -> Option<OwnedFd> {
        let at = self.sockets.iter().position(|(passed, _)| passed == wanted)?;
        Some(self.sockets.swap_remove(at).1)
    }

    /// Waits for a table that is not older than the one that the old process obeys.
    pub async fn until_table(&self, switchboard: &Switchboard) -> io::Result<()> {
        let mut changes = switchboard.changes();
        let waited = async {
            while switchboard.report().generation < self.generation {
                if changes.changed().await.is_err() {
                    break;
                }
            }
        };
        let late = |_| {
            let (want, have) = (self.generation, switchboard.report().generation);
            io::Error::other(format!(
                "table {want} holds in the proxy that serves, and this one has {have} and no word of the agent"
            ))
        };
        timeout(TABLE_MAY_TAKE, waited).await.map_err(late)
    }

    /// Says that connections will be taken here, and waits until the old process takes none. If it died instead it takes none
    /// either; if it lives and does not say so, it serves on, and this one must not begin. Connections wait in the kernel's
    /// queue meanwhile.
    pub fn take_over(self, control_dir: &Path) -> io::Result<Succession> {
        let told = handover::send(&self.stream, &Progress::Accepting, &[]);
        match told.and_then(|()| handover::receive::<Reply>(&self.stream)) {
            Ok(Some((Reply::Released, _))) => tracing::info!("took over"),
            other if !matches!(handover::at_the_door(control_dir), AtTheDoor::Dead | AtTheDoor::Nobody) => {
                let said = match other {
                    Ok(Some((reply, _))) => format!("said {reply:?}"),
                    Ok(None) => "ended the handover".to_owned(),
                    Err(error) => format!("is not heard any more ({error})"),
                };
                return Err(io::Error::other(format!("the proxy that serves {said} instead of letting go")));
            }
            other => tracing::warn!(?other, "the proxy that served ended before it said that it stopped"),
        }
        Ok(Succession { _open: self.stream })
    }
}

/// The connection to the predecessor. While it is open this process lives, and the predecessor need not look who serves.
#[derive(Debug)]
pub struct Succession {
    _open: UnixStream,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Proxy};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixListener;

    /// Answers one successor with the offer of a socket.
    fn offer(door: &UnixListener, public: &TcpListener) -> UnixStream {
        let (stream, _) = door.accept().unwrap();
        handover::receive::<Hello>(&stream).unwrap().unwrap();
        let passed = Passed::Public(public.local_addr().unwrap());
        handover::send(&stream, &Reply::Offer { sockets: vec![passed], generation: 0 }, &[public.as_fd()]).unwrap();
        stream
    }

    /// The configuration of a successor, in a folder in which a predecessor answers already.
    fn config(folder: &Path, public: &TcpListener) -> (Config, UnixListener) {
        let control_dir = folder.join("control");
        std::fs::create_dir(&control_dir).unwrap();
        let door = UnixListener::bind(handover::path_in(&control_dir)).unwrap();
        let config = Config {
            listen: vec![public.local_addr().unwrap()],
            control_dir,
            table_file: folder.join("routes.json"),
            workers: 1,
            ..Config::default()
        };
        (config, door)
    }

    #[tokio::test]
    async fn a_successor_that_cannot_be_asked_itself_never_says_that_it_accepts() {
        let folder = tempfile::tempdir().unwrap();
        let public = TcpListener::bind("127.0.0.1:0").unwrap();
        let (config, door) = config(folder.path(), &public);
        // Where it would make its own door there is something that cannot be removed.
        std::fs::create_dir(config.control_dir.join(format!("handover.{}.new", std::process::id()))).unwrap();
        let predecessor = std::thread::spawn(move || {
            let stream = offer(&door, &public);
            handover::receive::<Progress>(&stream).unwrap().map(|(said, _)| said)
        });
        Proxy::start(config).await.expect_err("nobody could follow it");
        assert_eq!(predecessor.join().unwrap(), None);
    }

    #[tokio::test]
    async fn nobody_is_accepted_before_the_predecessor_has_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let public = TcpListener::bind("127.0.0.1:0").unwrap();
        let (config, door) = config(folder.path(), &public);
        let passed = public.try_clone().unwrap();
        // It offers its socket and never lets go of it, but lives.
        let predecessor = std::thread::spawn(move || {
            offer(&door, &passed);
            door
        });
        // It waits in the queue of the socket that is passed.
        let mut client = std::net::TcpStream::connect(public.local_addr().unwrap()).unwrap();
        let error = Proxy::start(config).await.expect_err("the predecessor serves on");
        let why = std::error::Error::source(&error).unwrap().to_string();
        assert!(why.contains("instead of letting go"), "{why}");
        predecessor.join().unwrap();
        public.set_nonblocking(false).unwrap();
        let (mut accepted, _) = public.accept().unwrap();
        io::Write::write_all(&mut client, b"hello").unwrap();
        let mut heard = [0; 5];
        io::Read::read_exact(&mut accepted, &mut heard).unwrap();
        assert_eq!(&heard, b"hello");
    }
}
