//! How one proxy process gives its listening sockets to the next: what is said, and the passing itself.
//!
//! ```text
//! new  ── Hello ──▶ old        who it is; the kernel says as which user
//! new  ◀── Offer ── old        the listening sockets (SCM_RIGHTS), and the generation that the old one obeys
//! new  ── Accepting ──▶ old    it has a table at least as new, and will take connections
//! new  ◀── Released ── old     the old one takes none any more; it finishes what it has. The new one takes them from here on
//! ```
//!
//! Each is a line of JSON. The connection stays open as long as both live: if it ends before `Accepting`, the old one goes on as
//! if nothing had been. If it ends after `Released`, the old one looks at the door, `handover.sock`, where whoever serves
//! answers (`at_the_door`): somebody does if the new one has had a successor itself, and nobody need come back then; the door is
//! gone if who served last has ended in order; else that one died, and the old one accepts again, after a second look a moment
//! later: a third one may have been about to put its door there. For the same reason one that has handed over does not end, unless
//! it is told to, before somebody else answers at the door or has ended in order. So of any number in a row each watches over the
//! next one only, and the last one's death brings back the one before it that still lives. The sockets are never bound anew, so a
//! connection that the kernel has completed waits in the same queue whoever takes it.
//!
//! The new one's configuration may name further addresses, which it binds. One that it names no more, or one that cannot be
//! bound because the old one has a socket that overlaps with it, ends the new one before anything has changed.

use rustix::cmsg_space;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// The version of this conversation. Processes of different ones do not hand over; the unit is restarted then.
pub const HANDOVER_FORMAT: u32 = 2;

/// Sockets that are passed at once. The kernel takes 253.
pub const MAX_SOCKETS: usize = 64;

/// A line with 64 addresses has about 4 kB.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// Where the serving proxy is asked.
pub fn path_in(control_dir: &Path) -> PathBuf {
    control_dir.join("handover.sock")
}

/// Whether there is a process of this id.
pub fn lives(pid: u32) -> bool {
    let pid = i32::try_from(pid).map(nix::unistd::Pid::from_raw);
    // No signal is sent; only whether it could be.
    pid.is_ok_and(|pid| nix::sys::signal::kill(pid, None).is_ok())
}

/// What the door tells of the process that served last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtTheDoor {
    /// It answers, and so it serves, whoever has followed whom.
    Process(u32),
    /// Nobody answers, and the door is there: it died.
    Dead,
    /// The door is gone: it has ended in order.
    Nobody,
    /// This process cannot look, for want of a descriptor perhaps.
    Unclear,
}

/// Looks who serves.
pub fn at_the_door(control_dir: &Path) -> AtTheDoor {
    // The kernel names the process that made the socket listen.
    let answers = UnixStream::connect(path_in(control_dir)).and_then(|stream| Ok(socket_peercred(stream)?));
    match answers {
        Ok(credentials) => AtTheDoor::Process(credentials.pid.as_raw_pid().unsigned_abs()),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound => AtTheDoor::Nobody,
            // Reset: it died while it was asked.
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => AtTheDoor::Dead,
            _ => {
                tracing::warn!(%error, "cannot look who serves");
                AtTheDoor::Unclear
            }
        },
    }
}

/// The new process's first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// `HANDOVER_FORMAT` of the new one.
    pub format: u32,
    /// Its version, for logs.
    pub version: String,
    /// Its process id, for logs.
    pub pid: u32,
}

/// What the old process answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// The sockets come with this line, in this order.
    Offer {
        /// What each is.
        sockets: Vec<Passed>,
        /// The table that the old one obeys; 0 for none.
        generation: u64,
    },
    /// Not now, or not to this one.
    Refused {
        /// Why.
        why: String,
    },
    /// The old one accepts no more.
    Released,
}

/// A socket that is passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Passed {
    /// A public address, as the old one's configuration writes it.
    Public(std::net::SocketAddr),
    /// The metrics' endpoint, likewise.
    Metrics(String),
}

/// What the new process says after the offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// It takes connections.
    Accepting,
}

/// Sends a line, and sockets with its first byte.
pub fn send(stream: &UnixStream, message: &impl Serialize, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !sockets.is_empty() && !control.push(SendAncillaryMessage::ScmRights(sockets)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("more than {MAX_SOCKETS} sockets")));
    }
    let sent = sendmsg(stream, &[IoSlice::new(&line)], &mut control, SendFlags::NOSIGNAL)?;
    io::Write::write_all(&mut &*stream, &line[sent..])
}

/// Reads a line and the sockets that come with it. `None` at the end.
pub fn receive<T: DeserializeOwned>(stream: &UnixStream) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let (mut line, mut sockets) = (Vec::new(), Vec::new());
    loop {
        // One byte at a time: what follows the line belongs to the next one. A handover has four lines.
        let mut byte = [0];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_SOCKETS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received =
            recvmsg(stream.as_fd(), &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(passed) = message {
                sockets.extend(passed);
            }
        }
        match (received.bytes, byte[0]) {
            (0, _) if line.is_empty() => return Ok(None),
            (0, _) => return Err(io::ErrorKind::UnexpectedEof.into()),
            (_, b'\n') => return Ok(Some((serde_json::from_slice(&line)?, sockets))),
            (_, other) => line.push(other),
        }
        if line.len() > MAX_LINE_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line longer than any of a handover"));
        }
    }
}

/// Whether the other end is a process of our own user, or of root.
pub fn is_ours(uid: u32) -> bool {
    uid == nix::unistd::geteuid().as_raw() || uid == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_passed_socket_is_the_same_socket() {
        let (one, other) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let offer = Reply::Offer { sockets: vec![Passed::Public(listener.local_addr().unwrap())], generation: 7 };
        send(&one, &offer, &[listener.as_fd()]).unwrap();
        send(&one, &Reply::Released, &[]).unwrap();
        let (heard, mut sockets) = receive::<Reply>(&other).unwrap().unwrap();
        assert_eq!(heard, offer);
        let passed = TcpListener::from(sockets.remove(0));
        assert_eq!(passed.local_addr().unwrap(), listener.local_addr().unwrap());
        assert!(matches!(receive::<Reply>(&other).unwrap(), Some((Reply::Released, none)) if none.is_empty()));
        drop(one);
        assert!(receive::<Reply>(&other).unwrap().is_none());
    }
}
