//! The node's next certificate, in time.
//!
//! A renewal dials for itself, with the present certificate: that proves at the same time that the present one still
//! opens the door, and the session's stream goes on as it was.

use super::dial::{DialError, Dialled, dial};
use crate::tls::{Credentials, CredentialsError, Pair};
use lapstrake::convert::{Malformed, Renewal, Renewed};
use lapstrake::{limits, v1};
use lapstrake_core::time::{Millis, Wall};
use lapstrake_pki::mint;
use lapstrake_pki::names::Validity;
use lapstrake_pki::request::{CannotMakeKey, NewKey};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long the controller may take over its answer.
const ANSWER_TIME: Duration = Duration::from_secs(15);
/// The wall clock may be set and the machine may sleep: it is asked again at least this often.
const LONGEST_NAP: Millis = Millis::secs(60);

/// When the certificate has ended, it is looked at this often whether there is another one.
const ENDED_NAP: Millis = Millis::secs(1);
/// Nodes that are told of another root renew within this time: a thousand nodes make 500 renewals a second.
const SPREAD: Millis = Millis::secs(2);

/// Why there is no new certificate yet.
#[derive(Debug, thiserror::Error)]
enum RenewalError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("the controller refused a new certificate: {0}")]
    Refused(String),
    #[error("the controller did not answer within {} s", ANSWER_TIME.as_secs())]
    TimedOut,
    #[error("the controller's answer cannot be used")]
    Answer(#[from] Malformed),
    #[error("the new certificate cannot be used")]
    Credentials(#[from] CredentialsError),
    #[error(transparent)]
    Key(#[from] CannotMakeKey),
}

/// Renews the certificate when 50 to 80 per cent of its life are over, for as long as the agent runs.
pub(crate) async fn keep_fresh(credentials: Arc<Credentials>, controller: String, shutdown: CancellationToken) {
    shutdown.run_until_cancelled(renew_forever(credentials, controller)).await;
}

async fn renew_forever(credentials: Arc<Credentials>, controller: String) {
    loop {
        let at = renewal_time(credentials.validity(), mint::bytes());
        tokio::select! {
            () = until(at) => {}
            () = until_another_root_is_wanted(&credentials) => {}
        }
        if credentials.has_ended() {
            // Who has no certificate that counts asks to return instead, which is the sessions' work.
            tokio::time::sleep(LONGEST_NAP.min(ENDED_NAP).std()).await;
            continue;
        }
        match renew(&credentials, &controller).await {
            Ok(()) => {
                tracing::info!("the node has a new certificate");
                // A controller that asks for one root and signs with another is not asked without end.
                tokio::time::sleep(ENDED_NAP.std()).await;
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the node's certificate was not renewed");
                let left = credentials.validity().not_after.0.saturating_sub(mint::wall().0);
                tokio::time::sleep(pause(Millis(left), mint::bytes()).std()).await;
            }
        }
    }
}

async fn until(at: Wall) {
    while mint::wall() < at {
        let left = Millis(at.0.saturating_sub(mint::wall().0));
        tokio::time::sleep(left.min(LONGEST_NAP).std()).await;
    }
}

/// The controller signs with another root now: within seconds, not all nodes at once.
async fn until_another_root_is_wanted(credentials: &Credentials) {
    credentials.issuer_is_another_than_wanted().await;
    let spread = SPREAD.0 * u64::from(u16::from_be_bytes(mint::bytes())) / u64::from(u16::MAX);
    tokio::time::sleep(Millis(spread).std()).await;
}

async fn renew(credentials: &Credentials, controller: &str) -> Result<(), RenewalError> {
    let new = NewKey::make()?;
    let Dialled { channel, .. } = dial(controller, credentials.identity().cluster, credentials.client_config()).await?;
    let mut client = v1::enrolment_service_client::EnrolmentServiceClient::new(channel)
        .max_decoding_message_size(limits::ENROLMENT_DECODES_BYTES);
    let request = v1::RenewRequest::from(Renewal { certificate_request: new.request_pem });
    let answer = tokio::time::timeout(ANSWER_TIME, client.renew(request))
        .await
        .map_err(|_| RenewalError::TimedOut)?
        .map_err(|status| RenewalError::Refused(status.message().to_owned()))?;
    let answer = Renewed::try_from(answer.into_inner())?;
    credentials.replace(&Pair {
        key_pem: &new.key_pem,
        certificate_pem: &answer.certificate,
        trust_pem: &answer.trust,
    })?;
    Ok(())
}

/// Somewhere between 50 and 80 per cent of the life, so that nodes that joined together do not renew together.
fn renewal_time(validity: Validity, random: [u8; 2]) -> Wall {
    let life = validity.not_after.0.saturating_sub(validity.not_before.0);
    let thousandths = 500 + 300 * u64::from(u16::from_be_bytes(random)) / u64::from(u16::MAX);
    validity.not_before + Millis(life / 1000 * thousandths)
}

/// After a failure: a twentieth of what is left, between a second and five minutes, in its upper half.
fn pause(left: Millis, random: [u8; 2]) -> Millis {
    let span = (left.0 / 20).clamp(1_000, 300_000);
    Millis(span / 2 + span / 2 * u64::from(u16::from_be_bytes(random)) / u64::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Validity = Validity { not_before: Wall(1_000_000), not_after: Wall(1_000_000 + 86_400_000) };

    #[test]
    fn a_certificate_is_renewed_when_half_to_four_fifths_of_its_life_are_over() {
        assert_eq!(renewal_time(DAY, [0, 0]), DAY.not_before + Millis::secs(12 * 3600));
        assert_eq!(renewal_time(DAY, [255, 255]), DAY.not_before + Millis(86_400_000 / 10 * 8));
    }

    #[test]
    fn a_renewal_that_failed_is_tried_again_sooner_the_less_life_is_left() {
        assert_eq!(pause(Millis::secs(12 * 3600), [255, 255]), Millis::secs(300));
        assert_eq!(pause(Millis::secs(100), [255, 255]), Millis::secs(5));
        assert_eq!(pause(Millis(0), [0, 0]), Millis(500));
    }
}
