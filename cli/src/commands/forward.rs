//! Ports of this machine that lead to a job's.

use super::Session;
use crate::args::{self, Ports};
use crate::client::{Client, Gone, Received, Receiver, SIGN_OF_LIFE, Sender, Socket};
use crate::error::LapError;
use crate::output::{Output, printable};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use lapstrake_api::tunnel::{FromOperator, PIECE_BYTES, ToOperator};
use lapstrake_api::view::Service;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{MissedTickBehavior, interval};

/// Connections at once; further ones wait to be accepted, and the person is told so. Three quarters of what a controller gives
/// one token by default, so that another `lap` with the same token has room.
const CONNECTIONS: usize = 12;

/// A port that is free on 127.0.0.1 may be taken on ::1; then another one is tried.
const TRIES: u32 = 16;

/// A socket that leads to a port of the job.
struct Way {
    listener: TcpListener,
    remote: u16,
}

/// `lap forward`.
pub async fn forward(session: &mut Session, forward: &args::Forward) -> Result<(), LapError> {
    let service: Service = session.client.get(&forward.path.url()).await?.read()?;
    refuse_undeclared(&service, forward)?;
    let mut ways = Vec::new();
    for ports in &forward.ports {
        ways.extend(listen(*ports, forward.bind).await?);
    }
    if let Some(first) = forward.ports.first() {
        session.client.may_open(&address(forward, first.remote)).await?;
    }
    tell(&session.output, forward, &ways)?;
    let (client, output) = (&session.client, session.output);
    let (mut running, mut told_full) = (FuturesUnordered::new(), false);
    let mut accepting: FuturesUnordered<_> = ways.iter().map(accept).collect();
    loop {
        tokio::select! {
            Some((way, accepted)) = accepting.next(), if running.len() < CONNECTIONS => {
                accepting.push(accept(way));
                match accepted {
                    Ok((stream, peer)) => {
                        running.push(carry(client, address(forward, way.remote), stream, peer, output));
                        if running.len() == CONNECTIONS && !std::mem::replace(&mut told_full, true) {
                            output.say(&format!(
                                "{CONNECTIONS} connections are open, which is as many as lap carries at once; further ones wait"
                            ));
                        }
                    }
                    // No file descriptors left, most likely: the next one may have one.
                    Err(error) => {
                        output.say(&format!("a connection was not accepted: {error}"));
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    }
                }
            }
            Some(()) = running.next() => {}
        }
    }
}

async fn accept(way: &Way) -> (&Way, io::Result<(TcpStream, SocketAddr)>) {
    (way, way.listener.accept().await)
}

fn address(forward: &args::Forward, remote: u16) -> String {
    format!("{}/forward?port={remote}{}", forward.path.url(), forward.which.query())
}

/// The controller refuses them too, at each connection; here they are all told at once, before anything listens.
fn refuse_undeclared(service: &Service, forward: &args::Forward) -> Result<(), LapError> {
    let absent = forward.ports.iter().map(|ports| ports.remote).filter(|port| !service.ports.contains(port));
    let absent: Vec<String> = absent.map(|port| port.to_string()).collect();
    if absent.is_empty() || service.ports.is_empty() && service.revision.is_none() {
        return Ok(());
    }
    let named: Vec<String> = service.ports.iter().map(u16::to_string).collect();
    let declared = if named.is_empty() { "none".into() } else { named.join(", ") };
    let (path, absent) = (&forward.path, absent.join(", "));
    Err(LapError::Refused(format!("{path} has no port {absent}; its spec declares {declared}")))
}

/// On the address that is wanted, or on both loopback addresses with the same port.
async fn listen(ports: Ports, bind: Option<IpAddr>) -> Result<Vec<Way>, LapError> {
    let way = |listener| Way { listener, remote: ports.remote };
    let refused = |address: IpAddr, source: io::Error| LapError::Listen {
        address: SocketAddr::new(address, ports.local),
        source,
    };
    if let Some(address) = bind {
        let listener = TcpListener::bind((address, ports.local)).await.map_err(|error| refused(address, error))?;
        return Ok(vec![way(listener)]);
    }
    let (v4, v6) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST));
    for tried in 1.. {
        let first = TcpListener::bind((v4, ports.local)).await.map_err(|error| refused(v4, error))?;
        let port = first.local_addr().map_err(|error| refused(v4, error))?.port();
        match TcpListener::bind((v6, port)).await {
            Ok(second) => return Ok(vec![way(first), way(second)]),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && ports.local == 0 && tried < TRIES => {}
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(refused(v6, error)),
            // A machine without IPv6.
            Err(_) => return Ok(vec![way(first)]),
        }
    }
    Ok(Vec::new())
}

/// Where the ports are now, which is data: who asked for any free one has to learn it.
fn tell(output: &Output, forward: &args::Forward, ways: &[Way]) -> Result<(), LapError> {
    for way in ways {
        let Ok(local) = way.listener.local_addr() else { continue };
        if output.is_json() {
            let line = serde_json::json!({ "local": local.to_string(), "port": way.remote });
            output.json_text(&line.to_string())?;
        } else {
            output.line(&format!("{local} -> {}:{}", forward.path, way.remote))?;
        }
    }
    if forward.bind.is_some_and(|address| !address.is_loopback()) {
        output.say("whoever reaches this machine at that address reaches the job, with your rights");
    }
    Ok(())
}

/// One connection, from its beginning to its end.
async fn carry(client: &Client, address: String, stream: TcpStream, peer: SocketAddr, output: Output) {
    let _ = stream.set_nodelay(true);
    let said = match client.socket(&address).await {
        Ok(Socket { sender, receiver }) => {
            let (read, write) = stream.into_split();
            let outwards = outwards(receiver, write);
            tokio::select! {
                said = outwards => said,
                said = inwards(sender, read) => said,
            }
        }
        Err(error) => Err(error.to_string()),
    };
    if let Err(said) = said {
        output.say(&format!("a connection from {peer} ended: {}", printable(&said)));
    }
}

fn broke(_: Gone) -> String {
    "the connection to the controller broke".to_owned()
}

/// What the job says, to whoever connected here, until both sides have said all.
async fn outwards(mut receiver: Receiver, mut write: OwnedWriteHalf) -> Result<(), String> {
    loop {
        match receiver.next().await.map_err(broke)? {
            Received::Piece { bytes, .. } => {
                // Whoever connected has left, and need not be told.
                if write.write_all(&bytes).await.is_err() {
                    return Ok(());
                }
            }
            Received::Word(ToOperator::OutputEnd) => {
                let _ = write.shutdown().await;
            }
            Received::Word(ToOperator::Closed | ToOperator::Exited { .. }) => return Ok(()),
            Received::Word(ToOperator::Failed { said } | ToOperator::NotStarted { said, .. }) => return Err(said),
            Received::Word(ToOperator::Entered { .. } | ToOperator::Started) => {}
        }
    }
}

/// What is said here, to the job. Ends when the connection to the controller is gone, or when whoever connected here has
/// broken it off, who need not be told.
async fn inwards(mut sender: Sender, mut read: OwnedReadHalf) -> Result<(), String> {
    let mut beat = interval(SIGN_OF_LIFE);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut bytes = vec![0; PIECE_BYTES];
    let mut goes_on = true;
    loop {
        let sent = tokio::select! {
            _ = beat.tick() => sender.sign_of_life().await,
            count = read.read(&mut bytes), if goes_on => match count {
                Ok(count @ 1..) => sender.input(&bytes[..count]).await,
                Ok(0) => {
                    goes_on = false;
                    sender.word(&FromOperator::InputEnd).await
                }
                // Broken off, which is no end: the job's side is broken off too.
                Err(_) => return Ok(()),
            },
        };
        sent.map_err(broke)?;
    }
}
