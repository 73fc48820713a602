//! The names in certificates.
//!
//! The controller's certificate has the cluster's name, which is no DNS name: agents verify it whatever address they
//! dialled. A node's certificate has one URI that names cluster and node.

use lapstrake_core::ids::{ClusterId, NodeId};
use lapstrake_core::time::Wall;
use rustls::pki_types::ServerName;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The name of a cluster in its controller's certificate: `<cluster id>.lapstrake`.
pub fn cluster_name(cluster: ClusterId) -> String {
    format!("{cluster}.lapstrake")
}

/// The same, as rustls wants it.
pub fn server_name(cluster: ClusterId) -> ServerName<'static> {
    ServerName::try_from(cluster_name(cluster)).expect("an id in base 32 and a word are a host name")
}

/// Whose certificate it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeIdentity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node of that cluster.
    pub node: NodeId,
}

/// Why a certificate is not a node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotANode {
    /// It is not a certificate.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// It has no name of a node, or several.
    #[error("the certificate does not name exactly one node")]
    NoNode,
}

impl NodeIdentity {
    /// The URI in the certificate.
    pub fn uri(&self) -> String {
        format!("lapstrake://{}/node/{}", self.cluster, self.node)
    }

    fn from_uri(uri: &str) -> Option<NodeIdentity> {
        let (cluster, node) = uri.strip_prefix("lapstrake://")?.split_once("/node/")?;
        Some(NodeIdentity { cluster: cluster.parse().ok()?, node: node.parse().ok()? })
    }

    /// Reads it from a certificate whose signature somebody else has verified.
    pub fn from_certificate(der: &[u8]) -> Result<NodeIdentity, NotANode> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| NotANode::Unreadable)?;
        let names = certificate.subject_alternative_name().map_err(|_| NotANode::Unreadable)?;
        let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
        match names {
            [GeneralName::URI(uri)] => NodeIdentity::from_uri(uri).ok_or(NotANode::NoNode),
            _ => Err(NotANode::NoNode),
        }
    }
}

/// From when until when a certificate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Not earlier.
    pub not_before: Wall,
    /// Not later.
    pub not_after: Wall,
}

impl Validity {
    /// Reads it from a certificate; `None` when it is none, or ended before 1970.
    pub fn of(der: &[u8]) -> Option<Validity> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let wall = |seconds: i64| u64::try_from(seconds).ok().map(|seconds| Wall(seconds.saturating_mul(1000)));
        Some(Validity {
            not_before: wall(certificate.validity().not_before.timestamp().max(0))?,
            not_after: wall(certificate.validity().not_after.timestamp())?,
        })
    }
}
