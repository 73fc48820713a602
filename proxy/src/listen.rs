//! The public listening sockets.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Connections that the kernel completes before we accept them. A burst of this size waits instead of being refused;
/// the kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Binds all addresses, or says which one cannot be had. A family that the kernel lacks is skipped when another address
/// is left.
///
/// An address that `inherited` has a socket of is not bound: that socket is used.
pub fn bind_all(
    addresses: &[SocketAddr],
    mut inherited: impl FnMut(SocketAddr) -> Option<TcpListener>,
) -> Result<Vec<(SocketAddr, TcpListener)>, (SocketAddr, io::Error)> {
    let mut bound = Vec::with_capacity(addresses.len());
    let mut lacking = None;
    for &address in addresses {
        let socket = match inherited(address) {
            Some(socket) => socket.set_nonblocking(true).map(|()| socket),
            None => bind(address),
        };
        match socket {
            Ok(listener) => bound.push((address, listener)),
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EAFNOSUPPORT as i32) => {
                tracing::warn!(%address, "this machine has no such addresses; not listening there");
                lacking = Some((address, error));
            }
            Err(error) => return Err((address, error)),
        }
    }
    match lacking {
        Some(lacking) if bound.is_empty() => Err(lacking),
        _ => Ok(bound),
    }
}

/// `SO_REUSEADDR` lets a restarted proxy bind while connections of its predecessor are still being closed.
/// `SO_REUSEPORT` would give each worker a queue of its own, and lose what is in it when that worker closes: all workers
/// accept from this one socket instead.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Whether accepting failed for want of something that others must give back first, so that trying at once is no use.
pub fn is_exhausted(error: &io::Error) -> bool {
    use nix::errno::Errno::{EMFILE, ENFILE, ENOBUFS, ENOMEM};
    [EMFILE, ENFILE, ENOBUFS, ENOMEM].iter().any(|errno| error.raw_os_error() == Some(*errno as i32))
}
