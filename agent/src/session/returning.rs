//! A node whose certificate has ended asks for another one, again and again, until an operator has said yes or no.
//!
//! The connection shows no client certificate; the request shows the one that has ended, and proves on this very connection
//! that its key is still held. The key stays what it is: the next renewal makes a new one.

use super::dial::{DialError, Dialled, dial};
use crate::tls::{Credentials, CredentialsError, Pair};
use lapstrake::convert::{Malformed, ReturnAnswer, ReturnWish};
use lapstrake::{limits, v1};
use lapstrake_pki::returning::{CannotProve, prove};
use std::time::Duration;

/// How long the controller may take over its answer: it writes to its disk in between.
const ANSWER_TIME: Duration = Duration::from_secs(15);

/// Why there is no certificate yet. Its `Display` is for the node's troubles.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotReturned {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("{0}; this node's key is {1}")]
    Waits(String, String),
    #[error("the controller does not take this node back: {0}")]
    Refused(String),
    #[error("the controller did not answer within {} s", ANSWER_TIME.as_secs())]
    TimedOut,
    #[error("the controller's answer cannot be used")]
    Answer(#[from] Malformed),
    #[error("the new certificate cannot be used")]
    Credentials(#[from] CredentialsError),
    #[error(transparent)]
    Key(#[from] CannotProve),
    #[error("this connection has no exporter")]
    NoExporter(#[source] rustls::Error),
}

/// Asks once.
pub(super) async fn ask(credentials: &Credentials, controller: &str) -> Result<(), NotReturned> {
    let identity = credentials.identity();
    let Dialled { channel, binding } = dial(controller, identity.cluster, credentials.without_certificate()).await?;
    let pair = credentials.pair_pem();
    let proof = prove(&pair, identity, &binding.map_err(NotReturned::NoExporter)?)?;
    let wish = ReturnWish { certificate: credentials.certificate_pem()?, proof };
    let mut client = v1::enrolment_service_client::EnrolmentServiceClient::new(channel)
        .max_decoding_message_size(limits::ENROLMENT_DECODES_BYTES);
    let answer = tokio::time::timeout(ANSWER_TIME, client.ask_return(v1::AskReturnRequest::from(wish)))
        .await
        .map_err(|_| NotReturned::TimedOut)?
        .map_err(|status| NotReturned::Refused(status.message().to_owned()))?;
    match ReturnAnswer::try_from(answer.into_inner())? {
        ReturnAnswer::Waits(said) => Err(NotReturned::Waits(said, credentials.key_fingerprint())),
        ReturnAnswer::Readmitted(renewed) => {
            let pair = Pair {
                key_pem: &credentials.key_pem()?,
                certificate_pem: &renewed.certificate,
                trust_pem: &renewed.trust,
            };
            Ok(credentials.replace(&pair)?)
        }
    }
}
