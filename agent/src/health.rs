//! How the agent is, for systemd: ready once the ledger is read and the container engine was reached or said not to be,
//! and from then on one sentence that changes with the node.

use crate::observe::View;
use lapstrake_core::node::seen::{Container, Seen};
use std::time::Duration;

/// An engine that has neither answered nor refused for so long is one that is not there: its own start may take a minute,
/// and whoever waits for the agent should not wait for that.
const ENGINE_TIME: Duration = Duration::from_secs(10);

/// Says that the agent is ready, and then how it is whenever that changes.
pub async fn tell(view: View) {
    let mut changes = view.subscribe();
    let heard = changes.wait_for(|seen| seen.engine_answers || seen.engine_trouble.is_some());
    let _ = tokio::time::timeout(ENGINE_TIME, heard).await;
    let mut said = sentence(&changes.borrow_and_update());
    lapstrake_unit::ready(&said);
    // Ends with the view at the latest.
    while changes.changed().await.is_ok() {
        let now = sentence(&changes.borrow_and_update());
        if now != said {
            lapstrake_unit::status(&now);
            said = now;
        }
    }
}

fn sentence(seen: &Seen) -> String {
    let running = seen.containers.values().filter(|container| matches!(container, Container::Running { .. })).count();
    let jobs = if running == 1 { "1 job runs".to_owned() } else { format!("{running} jobs run") };
    match (&seen.engine_trouble, seen.troubles.as_slice()) {
        (None, []) if seen.engine_answers => jobs,
        (None, []) => "the container engine has not answered yet".to_owned(),
        (Some(trouble), []) => format!("{jobs}; the container engine: {trouble}"),
        (_, [first, rest @ ..]) => match rest.len() {
            0 => format!("{jobs}; {first}"),
            more => format!("{jobs}; {first}; and {more} more"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_names_what_keeps_the_node_from_working() {
        let mut seen = Seen::default();
        assert_eq!(sentence(&seen), "the container engine has not answered yet");
        seen.engine_answers = true;
        assert_eq!(sentence(&seen), "0 jobs run");
        seen.troubles = vec!["no session".into(), "a full disk".into()];
        assert_eq!(sentence(&seen), "0 jobs run; no session; and 1 more");
    }
}
