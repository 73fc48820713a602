//! The agent's side of the control channel.
//!
//! A session is one registration: dial, hello, welcome, and then words both ways until anything at all fails. Nothing is
//! repaired halfway; the next session starts from the whole picture again, and what runs on the node goes on meanwhile.
//!
//! ```text
//! listen   sets, elsewhere -> engine;  heartbeat answers -> lease;  questions -> asks;  streams to jobs -> tunnels
//! speak    heartbeats by the controller's period, the newest report whenever it changed, answers
//! ```

pub(crate) mod asks;
pub(crate) mod backoff;
pub(crate) mod dial;
mod host;
mod renewal;
mod returning;
pub(crate) mod tunnels;
mod words;

pub use dial::DialError;
pub use host::Host;

use crate::clock::Clock;
use crate::identity::Identity;
use crate::tls::Credentials;
use backoff::Backoff;
use lapstrake_pki::mint;
use std::error::Error;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use words::Conversation;

/// All that sessions of this node need.
pub struct Node<H> {
    /// Who this node is and where its controller is.
    pub identity: Identity,
    /// Its key and certificate.
    pub credentials: Arc<Credentials>,
    /// The clocks of this boot.
    pub clock: Clock,
    /// The engine.
    pub host: Arc<H>,
}

/// Keeps a session with the controller, one after the other, and the certificate fresh, until the shutdown.
pub async fn run<H: Host>(node: Node<H>, shutdown: CancellationToken) {
    let renewal = renewal::keep_fresh(node.credentials.clone(), node.identity.controller.clone(), shutdown.clone());
    let sessions = shutdown.run_until_cancelled(one_after_the_other(&node));
    let ((), _) = tokio::join!(renewal, sessions);
}

async fn one_after_the_other<H: Host>(node: &Node<H>) {
    let mut backoff = Backoff::new();
    loop {
        if node.credentials.has_ended() {
            match returning::ask(&node.credentials, &node.identity.controller).await {
                Ok(()) => {
                    tracing::info!("the controller took this node back");
                    backoff = Backoff::new();
                }
                Err(why) => {
                    tell(node, sentence("this node's certificate has ended", &why));
                    tokio::time::sleep(backoff.next_refused(u16::from_be_bytes(mint::bytes())).std()).await;
                    continue;
                }
            }
        }
        let mut conversation = Conversation::new(node);
        let end = conversation.hold().await;
        if conversation.was_useful() {
            backoff = Backoff::new();
        }
        tell(node, sentence("", &end));
        let random = u16::from_be_bytes(mint::bytes());
        let wait = if end.is_refusal() { backoff.next_refused(random) } else { backoff.next(random) };
        tokio::time::sleep(wait.std()).await;
    }
}

fn tell<H: Host>(node: &Node<H>, sentence: String) {
    tracing::warn!(%sentence, "no session with the controller");
    node.host.set_trouble(Some(sentence));
}

/// What people read: the whole chain of causes, in one sentence.
fn sentence(before: &str, end: &dyn Error) -> String {
    let mut sentence = if before.is_empty() { end.to_string() } else { format!("{before}: {end}") };
    let mut cause = end.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        // Some libraries repeat their cause in their own text.
        if !sentence.ends_with(&next_text) {
            sentence = format!("{sentence}: {next_text}");
        }
        cause = next.source();
    }
    sentence
}
