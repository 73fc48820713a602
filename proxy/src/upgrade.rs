//! A connection that changed its protocol (WebSocket and its like): bytes both ways until both sides are done.

use crate::switchboard::Work;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

/// Joins a client and a job. Bytes that either sent early are kept; when one direction ends the other goes on; the
/// connection counts as work in flight of its job until both have ended.
pub async fn join(client: OnUpgrade, job: OnUpgrade, work: Work, worker: usize) {
    let (client, job) = match tokio::try_join!(client, job) {
        Ok(joined) => joined,
        Err(error) => {
            tracing::debug!(service = %work.entry.name, %error, "a connection did not change its protocol after all");
            return;
        }
    };
    let ended = copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(job)).await;
    if let Ok((received, sent)) = ended {
        let meters = work.entry.load.meters(worker);
        meters.received.add(received);
        meters.sent.add(sent);
    }
    tracing::debug!(service = %work.entry.name, job = %work.target.key.job, ?ended, "an upgraded connection ended");
}
