//! One connection to the controller's agents' port.

use lapstrake_core::ids::ClusterId;
use lapstrake_pki::names::{cluster_name, server_name};
use lapstrake_pki::pinned::OtherAuthority;
use lapstrake_pki::returning::{Binding, EXPORTER_LABEL};
use rustls::ClientConfig;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

/// To connect and to shake hands, together. A packet that is lost is sent again after 1 s, then 2 s: this bears two.
const DIAL_TIME: Duration = Duration::from_secs(5);
/// How often a silent connection is asked for a sign of life, and how long the answer may take: a dead peer is noticed
/// before two leases of 6 s are over.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TIME: Duration = Duration::from_secs(5);

/// What waits of one stream that nobody reads: a command that does not read its input.
const STREAM_WINDOW_BYTES: u32 = 128 << 10;
/// What waits of all of them. Streams without readers must not close the connection's window, or the answers to heartbeats
/// would stand still behind somebody's input. The session itself has one more.
const CONNECTION_WINDOW_BYTES: u32 = STREAM_WINDOW_BYTES * (super::tunnels::TUNNELS as u32 + 1);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody answers there.
    #[error("the controller at {address} cannot be reached")]
    Unreachable {
        /// `host:port`.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It took too long.
    #[error("the controller at {address} did not answer within {} s", DIAL_TIME.as_secs())]
    TimedOut {
        /// `host:port`.
        address: String,
    },
    /// Somebody else answers there.
    #[error("{address}: {OtherAuthority}")]
    OtherAuthority {
        /// `host:port`.
        address: String,
    },
    /// The two could not agree, or one did not accept the other's certificate.
    #[error("no secure connection to the controller at {address}")]
    Handshake {
        /// `host:port`.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// HTTP/2 did not begin.
    #[error("the controller at {address} does not speak HTTP/2")]
    Protocol {
        /// `host:port`.
        address: String,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
}

/// A connection.
pub(crate) struct Dialled {
    /// For calls.
    pub channel: Channel,
    /// What only the two ends of this connection know.
    pub binding: Result<Binding, rustls::Error>,
}

/// Connects once. A channel that breaks stays broken: whoever holds it starts over.
pub(crate) async fn dial(address: &str, cluster: ClusterId, config: Arc<ClientConfig>) -> Result<Dialled, DialError> {
    let timed_out = || DialError::TimedOut { address: address.to_owned() };
    tokio::time::timeout(DIAL_TIME, dial_untimed(address, cluster, config)).await.map_err(|_| timed_out())?
}

async fn dial_untimed(address: &str, cluster: ClusterId, config: Arc<ClientConfig>) -> Result<Dialled, DialError> {
    let unreachable = |source| DialError::Unreachable { address: address.to_owned(), source };
    let tcp = TcpStream::connect(address).await.map_err(unreachable)?;
    tcp.set_nodelay(true).map_err(unreachable)?;
    let tls = TlsConnector::from(config).connect(server_name(cluster), tcp).await.map_err(|source| {
        let address = address.to_owned();
        if OtherAuthority::caused(&source) {
            DialError::OtherAuthority { address }
        } else {
            DialError::Handshake { address, source }
        }
    })?;
    let binding = tls.get_ref().1.export_keying_material(Binding::default(), EXPORTER_LABEL, None);
    // tonic wants to connect by itself; it gets the one connection that there is, and the second time an error.
    let once = Arc::new(Mutex::new(Some(hyper_util::rt::TokioIo::new(tls))));
    let connector = tower::service_fn(move |_: http::Uri| {
        let tls = once.lock().unwrap_or_else(PoisonError::into_inner).take();
        async move { tls.ok_or_else(|| std::io::Error::other("the connection has ended")) }
    });
    let protocol = |source| DialError::Protocol { address: address.to_owned(), source };
    // `http`, because the TLS is ours; the name is only the request's `:authority`.
    let channel = Endpoint::from_shared(format!("http://{}", cluster_name(cluster)))
        .map_err(protocol)?
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIME)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
        .map_err(protocol)?;
    Ok(Dialled { channel, binding })
}
