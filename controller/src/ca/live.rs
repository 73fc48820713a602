//! The TLS of the two listeners, which changes while they run.
//!
//! The controller's own certificate lives in memory only: every start makes a new one, and so does the running process
//! long before the present one ends. Who accepts a connection takes the newest configuration for it.

use super::{Ca, CaError};
use arc_swap::{ArcSwap, ArcSwapOption};
use lapstrake_core::time::{Millis, Wall};
use lapstrake_pki::authority::{CLOCK_SKEW, Life};
use lapstrake_pki::names::{Validity, cluster_name};
use lapstrake_pki::{mint, provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// How long the controller's own certificate counts.
const SERVER_LIFE: Millis = Millis::secs(30 * 24 * 3600);
/// When a new one is made: a machine that sleeps for days wakes up with days left.
const RENEW_AFTER: Millis = Millis::secs(10 * 24 * 3600);
/// The wall clock may be set and the machine may sleep: it is looked at this often.
const LOOK_EVERY: Millis = Millis::secs(600);

/// Where an operator's own certificate for the operators' port lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnFiles {
    /// The certificate and its chain, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

/// The newest TLS configuration of each listener.
pub struct LiveTls {
    ca: Arc<Ca>,
    names: Vec<String>,
    own: Option<OwnFiles>,
    /// What `own` held when it was last good.
    own_pair: ArcSwapOption<CertifiedKey>,
    /// The agents' listener: TLS 1.3, HTTP/2, a client certificate if there is one.
    pub control: Arc<ArcSwap<ServerConfig>>,
    /// The operators' listener: no client certificates.
    pub api: Arc<ArcSwap<ServerConfig>>,
}

impl LiveTls {
    /// Makes the first certificate, for the cluster's name and these host names and IP addresses.
    pub fn new(ca: Arc<Ca>, names: Vec<String>) -> Result<LiveTls, CaError> {
        LiveTls::with_own(ca, names, None)
    }

    /// The same with a certificate of the operator's for the operators' port. Whoever asks there for the cluster's name, as
    /// `lap` does that pins the authority, still gets the authority's.
    pub fn with_own(ca: Arc<Ca>, names: Vec<String>, own: Option<OwnFiles>) -> Result<LiveTls, CaError> {
        let own_pair = own.as_ref().map(OwnFiles::read).transpose()?;
        let (control, api) = configs(&ca, &names, own_pair.clone())?;
        let (control, api) = (Arc::new(ArcSwap::from(control)), Arc::new(ArcSwap::from(api)));
        Ok(LiveTls { ca, names, own, own_pair: ArcSwapOption::new(own_pair), control, api })
    }

    /// Reads the operator's own certificate again. When it is not good, the one from before serves on.
    pub fn reload_own(&self) -> Result<(), CaError> {
        if let Some(own) = &self.own {
            self.own_pair.store(Some(own.read()?));
            self.renew()?;
        }
        Ok(())
    }

    /// When the operator's own certificate ends, if there is one.
    pub fn own_ends(&self) -> Option<Wall> {
        let own = self.own_pair.load_full()?;
        Some(Validity::of(own.cert.first()?)?.not_after)
    }

    /// Makes a new certificate and puts it before every connection from now on. Open ones go on.
    pub fn renew(&self) -> Result<(), CaError> {
        let (control, api) = configs(&self.ca, &self.names, self.own_pair.load_full())?;
        self.control.store(control);
        self.api.store(api);
        Ok(())
    }

    /// Renews in time until the shutdown.
    pub async fn keep_fresh(&self, shutdown: CancellationToken) {
        let mut made = mint::wall();
        while shutdown.run_until_cancelled(tokio::time::sleep(LOOK_EVERY.std())).await.is_some() {
            if !is_due(made, mint::wall()) {
                continue;
            }
            match self.renew() {
                Ok(()) => made = mint::wall(),
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "the controller's certificate was not renewed"
                    );
                }
            }
        }
    }
}

/// Whether a certificate that was made then is to be followed by another one. A clock that was set back would otherwise put
/// off the next one for as long; peers with the right time might not take this one.
fn is_due(made: Wall, now: Wall) -> bool {
    now < made || now >= made + RENEW_AFTER
}

impl OwnFiles {
    fn read(&self) -> Result<Arc<CertifiedKey>, CaError> {
        let refused = |path: &PathBuf, said: String| CaError::Own { path: path.clone(), said };
        let chain = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(|all| all.collect::<Result<Vec<_>, _>>())
            .map_err(|error| refused(&self.certificate, error.to_string()))?;
        let validity = chain.first().and_then(|leaf| Validity::of(leaf));
        let validity = validity.ok_or_else(|| refused(&self.certificate, "it holds no certificate".into()))?;
        if mint::wall() >= validity.not_after {
            return Err(refused(&self.certificate, "the certificate has ended".into()));
        }
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| refused(&self.key, error.to_string()))?;
        let pair = CertifiedKey::from_der(chain, key, &provider());
        Ok(Arc::new(pair.map_err(|error| refused(&self.key, error.to_string()))?))
    }
}

/// Which certificate the operators' port shows.
#[derive(Debug)]
struct ByName {
    /// Under this name the authority's, whose fingerprint the client has pinned.
    cluster: String,
    authority: Arc<CertifiedKey>,
    own: Option<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let pinned = hello.server_name() == Some(self.cluster.as_str());
        Some(self.own.as_ref().filter(|_| !pinned).unwrap_or(&self.authority).clone())
    }
}

fn configs(
    ca: &Ca,
    names: &[String],
    own: Option<Arc<CertifiedKey>>,
) -> Result<(Arc<ServerConfig>, Arc<ServerConfig>), CaError> {
    let life = Life { back: CLOCK_SKEW, ahead: SERVER_LIFE };
    let leaf = ca.certify_server(names, life)?;
    let mut roots = RootCertStore::empty();
    for root in ca.trusted() {
        roots.add(root)?;
    }
    let nodes = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut control = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(nodes)
        .with_single_cert(leaf.chain.clone(), leaf.key.clone_key())?;
    control.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would bring a client certificate that was good once.
    control.session_storage = Arc::new(NoServerSessionStorage {});
    control.send_tls13_tickets = 0;
    let authority = Arc::new(CertifiedKey::from_der(leaf.chain, leaf.key, &provider())?);
    let mut api = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByName { cluster: cluster_name(ca.cluster()), authority, own }));
    api.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((Arc::new(control), Arc::new(api)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_controllers_certificate_is_renewed_in_time_and_after_the_clock_was_set_back() {
        let made = Wall(1_800_000_000_000);
        assert!(!is_due(made, made));
        assert!(!is_due(made, Wall(made.0 + RENEW_AFTER.0 - 1)));
        assert!(is_due(made, made + RENEW_AFTER));
        assert!(is_due(made, Wall(made.0 - 1)), "it was made by a clock that ran ahead");
    }
}
