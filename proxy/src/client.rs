//! Who asks, and how a job is told so.

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// A connected client.
#[derive(Debug, Clone)]
pub struct Client {
    /// From where.
    pub address: SocketAddr,
    /// Over what: `http`.
    scheme: &'static str,
    /// Its address as every job reads it, written once and not for each request.
    name: HeaderValue,
    /// The same as `Forwarded` wants it (RFC 7239, 6).
    node: Arc<str>,
}

impl Client {
    /// A client that has connected.
    pub fn new(address: SocketAddr, scheme: &'static str) -> Client {
        let ip = address.ip().to_canonical();
        let node = match ip {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("\"[{ip}]\""),
        };
        let name =
            HeaderValue::try_from(ip.to_string()).expect("an address has no character that a header may not have");
        Client { address, scheme, name, node: node.into() }
    }

    /// Tells a job who asks, and for what host.
    pub fn introduce(&self, headers: &mut HeaderMap, authority: &HeaderValue) {
        let forwarded =
            [b"for=", self.node.as_bytes(), b";host=\"", authority.as_bytes(), b"\";proto=", self.scheme.as_bytes()];
        headers.insert(X_FORWARDED_FOR, self.name.clone());
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(self.scheme));
        headers.insert(X_FORWARDED_HOST, authority.clone());
        if let Ok(value) = HeaderValue::try_from(forwarded.concat()) {
            headers.insert(header::FORWARDED, value);
        }
    }
}
