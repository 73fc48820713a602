//! The way to the controller: TCP, then TLS that accepts nobody but the authority of the token, then HTTP/1.1.

use super::error::ClientError;
use crate::context::Address;
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use lapstrake_pki::fingerprint::Fingerprint;
use lapstrake_pki::names::server_name;
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

/// Opens a connection. The token itself is not sent here; its fingerprint, or one of these roots, decides whom it may be sent
/// to.
pub async fn connect(address: &Address, token: &Token, roots: &[Fingerprint]) -> Result<Connected, ClientError> {
    let pins = std::iter::once(token.authority).chain(roots.iter().copied()).collect();
    let verifier = PinnedVerifier::any_of(pins);
    let reached =
        tokio::time::timeout(CONNECT_WITHIN, async { secure(address, token, &verifier, reach(address).await?).await });
    let stream = reached
        .await
        .map_err(|_| ClientError::NotReachedInTime { url: address.url.clone(), seconds: CONNECT_WITHIN.as_secs() })??;
    let cut_off = |source: hyper::Error| ClientError::CutOff { url: address.url.clone(), source: source.into() };
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(cut_off)?;
    // It ends with its sender; what goes wrong is told to whoever waits for an answer.
    tokio::spawn(connection);
    Ok(Connected { sender, successor: verifier.successor() })
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
    token: &Token,
    verifier: &Arc<PinnedVerifier>,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, ClientError> {
    let not_trusted = |source| ClientError::NotTrusted { url: address.url.clone(), source };
    let config = verifier.client_config().map_err(|error| not_trusted(error.into()))?;
    // Controllers are recognised by the cluster's name, so that any address that leads to one will do.
    let connecting = TlsConnector::from(Arc::new(config)).connect(server_name(token.cluster), stream);
    connecting.await.map_err(|error| {
        let is_judgement = error.get_ref().is_some_and(|cause| cause.is::<rustls::Error>());
        if OtherAuthority::caused(&error) {
            ClientError::OtherAuthority { url: address.url.clone() }
        } else if is_judgement {
            not_trusted(error.into())
        } else {
            // The connection broke, as when the controller is killed just now: that says nothing about trust.
            ClientError::NotReached { url: address.url.clone(), source: error }
        }
    })
}
