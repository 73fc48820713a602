//! The way to the controller: TCP, then TLS that accepts nobody but whom the token may be shown to, then HTTP/1.1.

use super::error::ClientError;
use super::trust::{Flaw, Handshake, Trust};
use crate::context::Address;
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use lapstrake_pki::fingerprint::Fingerprint;
use lapstrake_pki::pinned::{OtherAuthority, PinnedVerifier};
use lapstrake_pki::token::Token;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Over a bad line a handshake takes a second; after ten nobody is there.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// A connection.
pub struct Connected {
    /// For requests.
    pub sender: SendRequest<Full<Bytes>>,
    /// A root that takes the place of the one by which the controller was recognised.
    pub successor: Option<Fingerprint>,
}

/// Opens a connection. The token itself is not sent here; `trust` decides whom it may be sent to.
pub async fn connect(address: &Address, token: &Token, trust: &Trust) -> Result<Connected, ClientError> {
    let handshake = trust
        .handshake(address, token)
        .map_err(|error| ClientError::NotTrusted { url: address.url.clone(), source: error.into() })?;
    let pinned = handshake.pinned.clone();
    let reached =
        tokio::time::timeout(CONNECT_WITHIN, async { secure(address, trust, handshake, reach(address).await?).await });
    let stream = reached
        .await
        .map_err(|_| ClientError::NotReachedInTime { url: address.url.clone(), seconds: CONNECT_WITHIN.as_secs() })??;
    let cut_off = |source: hyper::Error| ClientError::CutOff { url: address.url.clone(), source: source.into() };
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(cut_off)?;
    // It ends with its sender; what goes wrong is told to whoever waits for an answer.
    tokio::spawn(connection.with_upgrades());
    Ok(Connected { sender, successor: pinned.as_deref().and_then(PinnedVerifier::successor) })
}

async fn reach(address: &Address) -> Result<TcpStream, ClientError> {
    let found = tokio::net::lookup_host((address.host.as_str(), address.port)).await;
    let found = found.map_err(|source| ClientError::NoSuchHost { host: address.host.clone(), source })?;
    let mut last = std::io::ErrorKind::NotFound.into();
    for candidate in found {
        match TcpStream::connect(candidate).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(ClientError::NotReached { url: address.url.clone(), source: last })
}

async fn secure(
    address: &Address,
    trust: &Trust,
    handshake: Handshake,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, ClientError> {
    let url = || address.url.clone();
    let connecting = TlsConnector::from(Arc::new(handshake.config)).connect(handshake.name, stream);
    connecting.await.map_err(|error| {
        let is_judgement = error.get_ref().is_some_and(|cause| cause.is::<rustls::Error>());
        match (trust, Flaw::of(&error)) {
            _ if OtherAuthority::caused(&error) => ClientError::OtherAuthority { url: url() },
            (Trust::Roots(_), Some(Flaw::OtherName(names))) => {
                ClientError::OtherName { url: url(), host: address.host.clone(), names }
            }
            (Trust::Roots(roots), Some(Flaw::OtherIssuer)) => {
                ClientError::OtherIssuer { url: url(), roots: roots.whose().to_owned() }
            }
            _ if is_judgement => ClientError::NotTrusted { url: url(), source: error.into() },
            // The connection broke, as when the controller is killed just now: that says nothing about trust.
            _ => ClientError::NotReached { url: url(), source: error },
        }
    })
}
