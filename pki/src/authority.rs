//! The certificate authority of a cluster: one self-signed root that signs leaves.
//!
//! Only a controller holds one. Leaves are short: the controller's own for its listeners, and one for each node. Nobody
//! but the authority chooses what stands in them.

use crate::fingerprint::Fingerprint;
use crate::names::{NodeIdentity, Validity, cluster_name};
use crate::request::VerifiedRequest;
use crate::returning::Proved;
use lapstrake_core::ids::{ClusterId, NodeId};
use lapstrake_core::time::{Millis, Wall};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::net::IpAddr;
use x509_parser::prelude::{FromDer, X509Certificate};

/// How long a root counts. It is replaced by trusting two for a while, which takes an operator, so it is long.
const ROOT_LIFE: Millis = Millis::secs(10 * 365 * 24 * 3600);

/// How far clocks of a cluster may differ before a fresh certificate is refused as not valid yet.
pub const CLOCK_SKEW: Millis = Millis::secs(5 * 60);

/// How long a node's certificate counts: a stolen one is soon worth nothing, and a node may be cut off for a night.
pub const NODE_LIFE: Millis = Millis::secs(24 * 3600);

/// The span in which a certificate counts, around the moment of its making.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// It counts from so long ago.
    pub back: Millis,
    /// It counts for so long from now.
    pub ahead: Millis,
}

/// What went wrong with the authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The key or the certificate cannot be read.
    #[error("the authority's {what} cannot be read")]
    Unreadable {
        /// Key or certificate.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// They are not a pair.
    #[error("the authority's key does not belong to its certificate")]
    NotAPair,
    /// It is another cluster's.
    #[error("the authority is not that of the cluster {0}: its certificate has another name")]
    OtherCluster(ClusterId),
    /// A certificate could not be made.
    #[error("a certificate cannot be signed")]
    CannotSign(#[source] rcgen::Error),
    /// A name for the listeners that cannot stand in a certificate.
    #[error("`{0}` can not be a name in a certificate")]
    NotAName(String),
}

/// A leaf for a listener, with its key.
pub struct ServerLeaf {
    /// The leaf, then the authority.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

/// The root and its key.
pub struct Authority {
    cluster: ClusterId,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new root for a cluster.
    pub fn create(cluster: ClusterId, now: Wall) -> Result<Authority, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(AuthorityError::CannotSign)?;
        let params = root_params(cluster, now, Life { back: CLOCK_SKEW, ahead: ROOT_LIFE });
        let certificate = params.self_signed(&key).map_err(AuthorityError::CannotSign)?;
        Ok(Authority {
            cluster,
            certificate: certificate.der().clone(),
            certificate_pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        })
    }

    /// The root that was made before, checked to be whole and this cluster's.
    pub fn load(cluster: ClusterId, certificate_pem: &str, key_pem: &str) -> Result<Authority, AuthorityError> {
        let unreadable = |what, source| AuthorityError::Unreadable { what, source };
        let key = KeyPair::from_pem(key_pem).map_err(|error| unreadable("key", error.into()))?;
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|error| unreadable("certificate", error.into()))?;
        let (_, parsed) =
            X509Certificate::from_der(&certificate).map_err(|error| unreadable("certificate", error.into()))?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(AuthorityError::NotAPair);
        }
        let named = parsed.subject().iter_common_name().any(|name| name.as_str() == Ok(root_name(cluster).as_str()));
        if !named {
            return Err(AuthorityError::OtherCluster(cluster));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(AuthorityError::CannotSign)?;
        Ok(Authority {
            cluster,
            certificate_pem: certificate_pem.to_owned(),
            issuer,
            certificate: certificate.clone().into_owned(),
        })
    }

    /// Whose authority it is.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }
    /// The root's certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }
    /// The root's certificate in PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }
    /// The root's key in PKCS #8, PEM. Secret.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }
    /// From when until when the root counts.
    pub fn validity(&self) -> Option<Validity> {
        Validity::of(&self.certificate)
    }
    /// By which tokens recognise it.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// A certificate for a node, in PEM. The request gives the key and nothing else.
    pub fn certify_node(
        &self,
        node: NodeId,
        request: &VerifiedRequest,
        now: Wall,
        life: Life,
    ) -> Result<String, AuthorityError> {
        self.certify_key(node, &request.key, now, life)
    }

    /// The same for a node that has proved that it holds the key of its last certificate.
    pub fn certify_again(&self, proved: &Proved, now: Wall, life: Life) -> Result<String, AuthorityError> {
        self.certify_key(proved.identity.node, &proved.key, now, life)
    }

    fn certify_key(
        &self,
        node: NodeId,
        key: &impl PublicKeyData,
        now: Wall,
        life: Life,
    ) -> Result<String, AuthorityError> {
        let identity = NodeIdentity { cluster: self.cluster, node };
        let mut params = leaf_params(&format!("node {node}"), now, life);
        let uri = identity.uri().try_into().map_err(AuthorityError::CannotSign)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(key, &self.issuer).map_err(AuthorityError::CannotSign)?;
        Ok(certificate.pem())
    }

    /// A certificate by which whoever trusts only this root recognises what the next root signs. It counts as long as leaves
    /// of the controller do, and is made anew with them.
    pub fn vouch_for(
        &self,
        next: &Authority,
        now: Wall,
        life: Life,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        let params = root_params(next.cluster, now, life);
        let certificate = params.signed_by(next.issuer.key(), &self.issuer).map_err(AuthorityError::CannotSign)?;
        Ok(certificate.der().clone())
    }

    /// A certificate with a new key for the controller's listeners: the cluster's name and these names and addresses.
    pub fn certify_server(&self, names: &[String], now: Wall, life: Life) -> Result<ServerLeaf, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(AuthorityError::CannotSign)?;
        let mut params = leaf_params("Lapstrake controller", now, life);
        let cluster = cluster_name(self.cluster);
        params.subject_alt_names =
            std::iter::once(&cluster).chain(names).map(|name| san(name)).collect::<Result<_, _>>()?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = params.signed_by(&key, &self.issuer).map_err(AuthorityError::CannotSign)?;
        Ok(ServerLeaf {
            chain: vec![leaf.der().clone(), self.certificate.clone()],
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        })
    }
}

fn root_name(cluster: ClusterId) -> String {
    format!("Lapstrake authority of {cluster}")
}

fn root_params(cluster: ClusterId, now: Wall, life: Life) -> CertificateParams {
    let mut params = leaf_params(&root_name(cluster), now, life);
    // It signs leaves and nothing that signs, save for the root that takes its place.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn leaf_params(name: &str, now: Wall, life: Life) -> CertificateParams {
    let mut params = CertificateParams::default();
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Millis(now.0.saturating_sub(life.back.0)).std();
    params.not_after = epoch + Millis((now + life.ahead).0).std();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
}

fn san(name: &str) -> Result<SanType, AuthorityError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    rustls::pki_types::DnsName::try_from(name).map_err(|_| AuthorityError::NotAName(name.to_owned()))?;
    Ok(SanType::DnsName(name.try_into().map_err(AuthorityError::CannotSign)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mint;
    use crate::request::NewKey;

    const LIFE: Life = Life { back: CLOCK_SKEW, ahead: NODE_LIFE };

    #[test]
    fn an_authority_is_read_back_as_it_was_made() {
        let made = Authority::create(ClusterId(1), mint::wall()).expect("made");
        let read = Authority::load(ClusterId(1), made.certificate_pem(), &made.key_pem()).expect("read");
        assert_eq!(read.fingerprint(), made.fingerprint());
    }

    #[test]
    fn an_authority_of_another_cluster_or_with_another_key_is_refused() {
        let made = Authority::create(ClusterId(1), mint::wall()).expect("made");
        let other = Authority::create(ClusterId(1), mint::wall()).expect("made");
        let refused = Authority::load(ClusterId(2), made.certificate_pem(), &made.key_pem()).err().expect("refused");
        assert!(matches!(refused, AuthorityError::OtherCluster(_)));
        let refused = Authority::load(ClusterId(1), made.certificate_pem(), &other.key_pem()).err().expect("refused");
        assert!(matches!(refused, AuthorityError::NotAPair));
    }

    #[test]
    fn a_nodes_certificate_names_the_node_that_the_controller_chose_for_a_day() {
        let authority = Authority::create(ClusterId(1), mint::wall()).expect("made");
        let now = Wall(mint::wall().0 / 1000 * 1000);
        let request = VerifiedRequest::read(&NewKey::make().expect("a key").request_pem).expect("verified");
        let pem = authority.certify_node(NodeId(9), &request, now, LIFE).expect("signed");
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
        let identity = NodeIdentity { cluster: ClusterId(1), node: NodeId(9) };
        assert_eq!(NodeIdentity::from_certificate(&der), Ok(identity));
        let validity = Validity::of(&der).expect("a span");
        assert_eq!(validity.not_after, now + NODE_LIFE);
        assert_eq!(validity.not_before + CLOCK_SKEW, now);
    }

    #[test]
    fn what_a_request_wishes_is_not_in_the_certificate() {
        let authority = Authority::create(ClusterId(1), mint::wall()).expect("made");
        let key = KeyPair::generate().expect("a key");
        let mut wish = CertificateParams::new(vec!["other.lapstrake".to_owned()]).expect("a name");
        wish.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let pem = wish.serialize_request(&key).and_then(|request| request.pem()).expect("a request");
        let request = VerifiedRequest::read(&pem).expect("verified");
        let pem = authority.certify_node(NodeId(9), &request, mint::wall(), LIFE).expect("signed");
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
        let (_, parsed) = X509Certificate::from_der(&der).expect("a certificate");
        let usage = parsed.extended_key_usage().expect("readable").expect("there");
        assert!(usage.value.client_auth && !usage.value.server_auth);
        assert!(!parsed.is_ca());
        NodeIdentity::from_certificate(&der).expect("the node's name and no other");
    }

    #[test]
    fn a_nodes_key_signs_for_nobody() {
        let authority = Authority::create(ClusterId(1), mint::wall()).expect("made");
        let new = NewKey::make().expect("a key");
        let request = VerifiedRequest::read(&new.request_pem).expect("verified");
        let pem = authority.certify_node(NodeId(9), &request, mint::wall(), LIFE).expect("signed");
        let leaf = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
        let key = KeyPair::from_pem(&new.key_pem).expect("a key");
        let upstart = Authority {
            cluster: ClusterId(1),
            certificate: leaf.clone(),
            certificate_pem: pem,
            issuer: Issuer::from_ca_cert_der(&leaf, key).expect("an issuer"),
        };
        let forged = upstart.certify_node(NodeId(7), &request, mint::wall(), LIFE).expect("signed by a node");
        let forged = CertificateDer::from_pem_slice(forged.as_bytes()).expect("a certificate");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.certificate().clone()).expect("a root");
        let judge = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), crate::provider());
        let judge = judge.build().expect("a verifier");
        let now = rustls::pki_types::UnixTime::now();
        judge.verify_client_cert(&leaf, &[], now).expect("the node's own is good");
        judge.verify_client_cert(&forged, &[leaf], now).expect_err("a node is no authority");
    }

    #[test]
    fn a_name_that_no_certificate_can_have_is_told() {
        let authority = Authority::create(ClusterId(1), mint::wall()).expect("made");
        let refused = authority.certify_server(&["a b".to_owned()], mint::wall(), LIFE).err().expect("refused");
        assert_eq!(refused.to_string(), "`a b` can not be a name in a certificate");
    }
}
