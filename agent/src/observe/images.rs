//! Keeps the engine's images in the picture, for the decision which of them are garbage.

use super::View;
use crate::clock::Clock;
use crate::runtime::Runtime;
use lapstrake_core::node::images::Listing;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// Between two lists. Nobody waits for an image to go, but a disk may be filling.
const PERIOD: Duration = Duration::from_secs(10);

/// Lists until it is dropped. While the engine does not answer, the picture keeps the last list.
pub async fn watch(runtime: Arc<dyn Runtime>, view: View, clock: Clock) {
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        let asked = clock.tick();
        match runtime.images().await {
            Ok(images) => view.change(|seen| seen.take_listing(Listing { asked, images })),
            Err(error) => tracing::debug!(%error, "the engine's images cannot be listed"),
        }
    }
}
