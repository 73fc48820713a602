//! How a machine becomes a node.
//!
//! ```text
//! read the token -> connect -> recognise the controller by its authority -> ask with a key of our own -> store
//! ```
//!
//! Nothing is sent before the controller has shown the authority that the token names. The key is stored before it is
//! sent anywhere, so that a join whose answer got lost can be repeated with the same token: the controller recognises
//! the key and gives a certificate for the same node again.

use crate::durable;
use crate::identity::{Identity, IdentityError};
use crate::session::dial::{DialError, Dialled, dial};
use crate::tls::{Credentials, CredentialsError, Pair};
use lapstrake::convert::{Enrolled, Enrolment, Malformed};
use lapstrake::{limits, v1};
use lapstrake_pki::fingerprint::Fingerprint;
use lapstrake_pki::names::NodeIdentity;
use lapstrake_pki::pinned::PinnedVerifier;
use lapstrake_pki::request::{CannotMakeKey, NewKey};
use lapstrake_pki::token::{Token, TokenError};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tonic::Code;

/// How long the controller may take over its answer: it writes to its disk in between.
const ANSWER_TIME: Duration = Duration::from_secs(15);

/// What an operator asked for.
#[derive(Debug, Clone)]
pub struct Join<'a> {
    /// The token's text.
    pub token: &'a str,
    /// Where the controller's agents' port is: `host:port`.
    pub controller: &'a str,
    /// The name that the node shall have; `None` leaves it to the controller, which takes the host's.
    pub name: Option<&'a str>,
    /// The machine's host name.
    pub hostname: &'a str,
    /// Where the node's identity is kept. Made when it is missing.
    pub state_dir: &'a Path,
    /// Whether a machine that is a node already shall become another one.
    pub replace: bool,
}

/// Why the machine did not become a node.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token's text is not a join token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// It is a node already.
    #[error(
        "this machine is already the node {name} ({node}) of the controller at {controller}; --replace makes it another one"
    )]
    AlreadyJoined {
        /// Its name.
        name: String,
        /// Its id.
        node: lapstrake_core::ids::NodeId,
        /// Where its controller is.
        controller: String,
    },
    /// There is something in the state folder, but not an identity.
    #[error("it is not known whether this machine is a node already")]
    Identity(#[source] IdentityError),
    /// No connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The controller said no.
    #[error("the controller refused: {said}")]
    Refused {
        /// Its sentence.
        said: String,
    },
    /// The controller could not answer.
    #[error("the controller at {controller} did not answer the request: {said}")]
    Unanswered {
        /// `host:port`.
        controller: String,
        /// What became of the request.
        said: String,
    },
    /// The controller did not answer in time.
    #[error("the controller at {controller} did not answer the request within {} s", ANSWER_TIME.as_secs())]
    TimedOut {
        /// `host:port`.
        controller: String,
    },
    /// The answer breaks a rule.
    #[error("the controller's answer cannot be used")]
    Answer(#[source] Malformed),
    /// The answer is for somebody else or trusts somebody else.
    #[error("the controller's answer does not belong to the token: it names another cluster or another authority")]
    ForeignAnswer,
    /// The node's key or certificate.
    #[error("the node's certificate cannot be kept")]
    Credentials(#[from] CredentialsError),
    /// No key.
    #[error(transparent)]
    Key(#[from] CannotMakeKey),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// A file of the state folder.
    #[error("{path} cannot be used")]
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl JoinError {
    /// 2: the command line is wrong; 3: understood and refused; 4: timed out; 1: failed otherwise.
    pub fn exit_code(&self) -> u8 {
        match self {
            JoinError::Token(_) => 2,
            JoinError::AlreadyJoined { .. }
            | JoinError::Refused { .. }
            | JoinError::ForeignAnswer
            | JoinError::Dial(DialError::OtherAuthority { .. }) => 3,
            JoinError::TimedOut { .. } | JoinError::Dial(DialError::TimedOut { .. }) => 4,
            JoinError::Dial(
                DialError::Unreachable { .. } | DialError::Handshake { .. } | DialError::Protocol { .. },
            )
            | JoinError::Identity(_)
            | JoinError::Unanswered { .. }
            | JoinError::Answer(_)
            | JoinError::Credentials(_)
            | JoinError::Key(_)
            | JoinError::Tls(_)
            | JoinError::State { .. } => 1,
        }
    }
}

/// Makes a node of this machine.
///
/// When this returns, identity, key and certificate survive any crash, and `Identity::load` finds them. After an error
/// the machine is what it was, and the same token can be tried again unless the controller refused it.
pub async fn join(ask: Join<'_>) -> Result<Identity, JoinError> {
    let token = Token::join(ask.token)?;
    refuse_second_join(&ask)?;
    make_folder(ask.state_dir)?;
    let key_file = ask.state_dir.join(format!("joining-{}.key", token.id));
    let new = key_for(&key_file)?;
    let (answer, authority) = enrol(&ask, &token, &new).await?;
    let trusted = CertificateDer::pem_slice_iter(answer.trust.as_bytes()).flatten().any(|root| root == authority);
    if answer.cluster != token.cluster || !trusted {
        return Err(JoinError::ForeignAnswer);
    }
    let identity = Identity {
        cluster: answer.cluster,
        node: answer.node,
        name: answer.node_name,
        controller: ask.controller.into(),
    };
    let pair = Pair { key_pem: &new.key_pem, certificate_pem: &answer.certificate, trust_pem: &answer.trust };
    // The identity goes last: without it the machine is no node, whatever else lies there.
    remove(&Identity::path(ask.state_dir))?;
    Credentials::create(ask.state_dir, NodeIdentity { cluster: answer.cluster, node: answer.node }, &pair)?;
    identity.store(ask.state_dir).map_err(JoinError::Identity)?;
    remove(&key_file)?;
    Ok(identity)
}

fn refuse_second_join(ask: &Join<'_>) -> Result<(), JoinError> {
    match Identity::load(ask.state_dir) {
        Err(IdentityError::NotJoined(_)) => Ok(()),
        _ if ask.replace => Ok(()),
        Ok(Identity { name, node, controller, .. }) => Err(JoinError::AlreadyJoined { name, node, controller }),
        Err(error) => Err(JoinError::Identity(error)),
    }
}

fn make_folder(folder: &Path) -> Result<(), JoinError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| JoinError::State { path: folder.to_owned(), source })
}

fn remove(path: &Path) -> Result<(), JoinError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(JoinError::State { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// The key of an earlier try with this token, or a new one.
fn key_for(path: &Path) -> Result<NewKey, JoinError> {
    if let Ok(key_pem) = std::fs::read_to_string(path)
        && let Ok(again) = NewKey::from_pem(&key_pem)
    {
        return Ok(again);
    }
    let new = NewKey::make()?;
    durable::replace(path, new.key_pem.as_bytes(), 0o600, || ())
        .map_err(|source| JoinError::State { path: path.to_owned(), source })?;
    Ok(new)
}

/// Asks the controller that the token names, and nobody else. Also gives the authority that it has shown.
async fn enrol(ask: &Join<'_>, token: &Token, new: &NewKey) -> Result<(Enrolled, CertificateDer<'static>), JoinError> {
    let verifier = PinnedVerifier::new(token.authority);
    let mut config = verifier.client_config()?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let Dialled { channel, .. } = dial(ask.controller, token.cluster, Arc::new(config)).await?;
    let enrolment = Enrolment {
        token: token.id,
        secret: *token.secret.bytes(),
        certificate_request: new.request_pem.clone(),
        node_name: ask.name.map(str::to_owned),
        hostname: ask.hostname.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        architecture: architecture().to_owned(),
    };
    let mut client = v1::enrolment_service_client::EnrolmentServiceClient::new(channel)
        .max_decoding_message_size(limits::ENROLMENT_DECODES_BYTES);
    let answer = tokio::time::timeout(ANSWER_TIME, client.enrol(v1::EnrolRequest::from(enrolment)))
        .await
        .map_err(|_| JoinError::TimedOut { controller: ask.controller.to_owned() })?
        .map_err(|status| refusal(ask.controller, &status))?;
    let answer = Enrolled::try_from(answer.into_inner()).map_err(JoinError::Answer)?;
    let authority = verifier.authority().cloned().ok_or(JoinError::ForeignAnswer)?;
    debug_assert_eq!(Fingerprint::of(&authority), token.authority);
    Ok((answer, authority))
}

fn refusal(controller: &str, status: &tonic::Status) -> JoinError {
    let said = status.message().to_owned();
    match status.code() {
        Code::Unauthenticated
        | Code::PermissionDenied
        | Code::AlreadyExists
        | Code::InvalidArgument
        | Code::FailedPrecondition => JoinError::Refused { said },
        Code::DeadlineExceeded => JoinError::TimedOut { controller: controller.to_owned() },
        _ => JoinError::Unanswered { controller: controller.to_owned(), said },
    }
}

/// The processor architecture as image platforms name it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
