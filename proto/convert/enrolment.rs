//! Joining and renewing. They are no decisions, so core has no words for them; these are the edge's own.

use super::field::{self, Malformed, Why, id_bytes};
use crate::{limits, v1};
use lapstrake_core::ids::{ClusterId, NodeId, TokenId};
use std::fmt;

/// What a machine shows to become a node.
#[derive(Clone, PartialEq, Eq)]
pub struct Enrolment {
    /// The join token's id.
    pub token: TokenId,
    /// The join token's secret.
    pub secret: [u8; 32],
    /// A PKCS #10 certificate request in PEM; only its key counts. Not looked into yet.
    pub certificate_request: String,
    /// The name that the node should have; `None` for one made from the host name.
    pub node_name: Option<String>,
    /// The machine's host name.
    pub hostname: String,
    /// The agent's version.
    pub version: String,
    /// Processor architecture as in image platforms.
    pub architecture: String,
}

impl fmt::Debug for Enrolment {
    /// Without the secret, because it ends up in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enrolment")
            .field("token", &self.token)
            .field("node_name", &self.node_name)
            .field("hostname", &self.hostname)
            .field("version", &self.version)
            .field("architecture", &self.architecture)
            .finish_non_exhaustive()
    }
}

/// What the machine is from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// The node's name.
    pub node_name: String,
    /// The node's certificate and its chain, in PEM.
    pub certificate: String,
    /// The certificates to trust the controller by, in PEM.
    pub trust: String,
}

/// Asks for a node's next certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    /// A PKCS #10 certificate request in PEM; only its key counts. Not looked into yet.
    pub certificate_request: String,
}

/// A node's next certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewed {
    /// The node's certificate and its chain, in PEM.
    pub certificate: String,
    /// The certificates to trust the controller by, in PEM.
    pub trust: String,
}

impl From<Enrolment> for v1::EnrolRequest {
    fn from(ours: Enrolment) -> Self {
        v1::EnrolRequest {
            token_id: id_bytes(ours.token.0),
            secret: ours.secret.to_vec(),
            certificate_request_pem: ours.certificate_request,
            node_name: ours.node_name,
            hostname: ours.hostname,
            agent_version: ours.version,
            architecture: ours.architecture,
        }
    }
}

impl TryFrom<v1::EnrolRequest> for Enrolment {
    type Error = Malformed;
    fn try_from(wire: v1::EnrolRequest) -> Result<Self, Malformed> {
        let not_a_secret = |bytes: Vec<u8>| Malformed::new("secret", Why::NotASecret { bytes: bytes.len() });
        Ok(Enrolment {
            token: TokenId(field::id("token_id", &wire.token_id)?),
            secret: wire.secret.try_into().map_err(not_a_secret)?,
            certificate_request: field::pem("certificate_request_pem", wire.certificate_request_pem)?,
            node_name: wire.node_name.map(|name| field::host("node_name", name)).transpose()?,
            hostname: field::host("hostname", wire.hostname)?,
            version: field::word("agent_version", wire.agent_version)?,
            architecture: field::word("architecture", wire.architecture)?,
        })
    }
}

impl From<Enrolled> for v1::EnrolResponse {
    fn from(ours: Enrolled) -> Self {
        v1::EnrolResponse {
            cluster_id: id_bytes(ours.cluster.0),
            node_id: id_bytes(ours.node.0),
            node_name: ours.node_name,
            certificate_pem: ours.certificate,
            trust_pem: ours.trust,
        }
    }
}

impl TryFrom<v1::EnrolResponse> for Enrolled {
    type Error = Malformed;
    fn try_from(wire: v1::EnrolResponse) -> Result<Self, Malformed> {
        Ok(Enrolled {
            cluster: ClusterId(field::id("cluster_id", &wire.cluster_id)?),
            node: NodeId(field::id("node_id", &wire.node_id)?),
            node_name: field::host("node_name", wire.node_name)?,
            certificate: field::pem("certificate_pem", wire.certificate_pem)?,
            trust: field::pem("trust_pem", wire.trust_pem)?,
        })
    }
}

impl From<Renewal> for v1::RenewRequest {
    fn from(ours: Renewal) -> Self {
        v1::RenewRequest { certificate_request_pem: ours.certificate_request }
    }
}

impl TryFrom<v1::RenewRequest> for Renewal {
    type Error = Malformed;
    fn try_from(wire: v1::RenewRequest) -> Result<Self, Malformed> {
        Ok(Renewal { certificate_request: field::pem("certificate_request_pem", wire.certificate_request_pem)? })
    }
}

impl From<Renewed> for v1::RenewResponse {
    fn from(ours: Renewed) -> Self {
        v1::RenewResponse { certificate_pem: ours.certificate, trust_pem: ours.trust }
    }
}

impl TryFrom<v1::RenewResponse> for Renewed {
    type Error = Malformed;
    fn try_from(wire: v1::RenewResponse) -> Result<Self, Malformed> {
        Ok(Renewed {
            certificate: field::pem("certificate_pem", wire.certificate_pem)?,
            trust: field::pem("trust_pem", wire.trust_pem)?,
        })
    }
}

/// Shows a certificate that has ended, and that its key is still held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReturnWish {
    /// The certificate, in PEM. Not looked into yet.
    pub certificate: String,
    /// The signature by its key over this connection. Not looked into yet.
    pub proof: Vec<u8>,
}

/// Where a node's wish to return stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReturnAnswer {
    /// An operator said yes.
    Readmitted(Renewed),
    /// Nobody has said anything yet: a sentence.
    Waits(String),
}

impl From<ReturnWish> for v1::AskReturnRequest {
    fn from(ours: ReturnWish) -> Self {
        v1::AskReturnRequest { certificate_pem: ours.certificate, proof: ours.proof }
    }
}

impl TryFrom<v1::AskReturnRequest> for ReturnWish {
    type Error = Malformed;
    fn try_from(wire: v1::AskReturnRequest) -> Result<Self, Malformed> {
        field::length("proof", wire.proof.len(), limits::PROOF_BYTES)?;
        Ok(ReturnWish { certificate: field::pem("certificate_pem", wire.certificate_pem)?, proof: wire.proof })
    }
}

impl From<ReturnAnswer> for v1::AskReturnResponse {
    fn from(ours: ReturnAnswer) -> Self {
        use v1::ask_return_response::Outcome;
        let outcome = match ours {
            ReturnAnswer::Readmitted(Renewed { certificate, trust }) => {
                Outcome::Readmitted(v1::Readmitted { certificate_pem: certificate, trust_pem: trust })
            }
            ReturnAnswer::Waits(said) => Outcome::Waits(field::sentence(said)),
        };
        v1::AskReturnResponse { outcome: Some(outcome) }
    }
}

impl TryFrom<v1::AskReturnResponse> for ReturnAnswer {
    type Error = Malformed;
    fn try_from(wire: v1::AskReturnResponse) -> Result<Self, Malformed> {
        use v1::ask_return_response::Outcome;
        match wire.outcome.ok_or_else(|| Malformed::new("outcome", Why::Missing))? {
            Outcome::Readmitted(yes) => Ok(ReturnAnswer::Readmitted(Renewed {
                certificate: field::pem("readmitted.certificate_pem", yes.certificate_pem)?,
                trust: field::pem("readmitted.trust_pem", yes.trust_pem)?,
            })),
            Outcome::Waits(said) => Ok(ReturnAnswer::Waits(field::sentence(said))),
        }
    }
}
