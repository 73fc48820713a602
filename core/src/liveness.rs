//! Whether a node is alive, decided without a timer: time is an argument.
//!
//! A node is believed by its signs of life. After `SUSPECT_AFTER` of silence its readings are doubted; when its lease has
//! ended it is Lost, and its jobs may be started elsewhere. A controller that has just started has heard nobody, which
//! says nothing about the nodes: it counts everybody's silence from its own start. So does one that was away itself.

use crate::time::{Millis, Tick};
use serde::{Deserialize, Serialize};

/// How often an agent gives a sign of life.
pub const HEARTBEAT: Millis = Millis::secs(2);
/// Two heartbeats in a row are missing: one may be late without anybody being worried.
pub const SUSPECT_AFTER: Millis = Millis::secs(4);
/// How long the agent may count on being known. It counts from sending the heartbeat that was answered.
pub const LEASE: Millis = Millis::secs(6);
/// The controller counts from receiving and a second longer, so that the agent's count always ends first.
pub const LOST_AFTER: Millis = Millis(LEASE.0 + 1_000);

/// A controller that has not looked at the clock for so long was away itself: its machine was suspended, or its disk hung.
/// What it has not heard meanwhile says nothing. A shorter absence makes nobody Lost, as the signs of life that wait for it
/// are at most one heartbeat older than it.
pub const AWAY_AFTER: Millis = SUSPECT_AFTER;

/// What is believed of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Liveness {
    /// Heard of lately.
    Ready,
    /// Silent for longer than it should be. Its readings are unknown; nothing is moved.
    Suspect,
    /// Its lease has ended.
    Lost,
}

impl Liveness {
    /// The word for people.
    pub const fn word(self) -> &'static str {
        match self {
            Liveness::Ready => "ready",
            Liveness::Suspect => "suspect",
            Liveness::Lost => "lost",
        }
    }
}

/// The last sign of life of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pulse {
    /// When the node was last heard, or when this controller began to listen.
    since: Tick,
    /// Whether this controller has heard the node at all.
    heard: bool,
}

impl Pulse {
    /// A node that this controller has not heard yet; it began to listen at `started`.
    pub const fn unheard(started: Tick) -> Pulse {
        Pulse { since: started, heard: false }
    }

    /// Takes in a sign of life. One that comes late out of a queue never makes the node older.
    pub fn beat(&mut self, now: Tick) {
        self.heard = true;
        self.since = self.since.max(now);
    }

    /// How long the node has been silent.
    pub const fn silence(&self, now: Tick) -> Millis {
        now.since(self.since)
    }

    /// What to believe now.
    pub const fn read(&self, now: Tick) -> Liveness {
        match self.silence(now).0 {
            silence if silence >= LOST_AFTER.0 => Liveness::Lost,
            silence if silence >= SUSPECT_AFTER.0 || !self.heard => Liveness::Suspect,
            _ => Liveness::Ready,
        }
    }

    /// When the belief changes if nothing is heard; never again once the node is Lost.
    pub fn wake(&self, now: Tick) -> Option<Tick> {
        match self.read(now) {
            Liveness::Ready => Some(self.since + SUSPECT_AFTER),
            Liveness::Suspect => Some(self.lost_at()),
            Liveness::Lost => None,
        }
    }

    /// When the node is, or was, Lost if nothing is heard. `replace_after` counts from here.
    pub fn lost_at(&self) -> Tick {
        self.since + LOST_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Tick = Tick(1_000_000);

    fn after(span: u64) -> Tick {
        START + Millis(span)
    }

    #[test]
    fn a_restarted_controller_declares_nobody_lost_for_one_lease() {
        let pulse = Pulse::unheard(START);
        // Nothing was heard, but nobody has listened either: it is not known, and not lost.
        assert_eq!(pulse.read(START), Liveness::Suspect);
        assert_eq!(pulse.read(after(6_999)), Liveness::Suspect);
        assert_eq!(pulse.wake(START), Some(after(7_000)));
        // A whole lease has passed in which the node could have come.
        assert_eq!(pulse.read(after(7_000)), Liveness::Lost);
        assert_eq!(pulse.wake(after(7_000)), None);
    }

    #[test]
    fn one_late_heartbeat_worries_nobody_and_two_missing_ones_do() {
        let mut pulse = Pulse::unheard(START);
        pulse.beat(START);
        assert_eq!(pulse.read(after(3_999)), Liveness::Ready);
        assert_eq!(pulse.wake(after(3_999)), Some(after(4_000)));
        assert_eq!(pulse.read(after(4_000)), Liveness::Suspect);
        // It was only slow.
        pulse.beat(after(4_500));
        assert_eq!(pulse.read(after(4_500)), Liveness::Ready);
    }

    #[test]
    fn a_node_is_lost_a_second_after_the_agents_own_count_of_the_lease_has_ended() {
        let mut pulse = Pulse::unheard(START);
        pulse.beat(START);
        assert_eq!(pulse.read(START + LEASE), Liveness::Suspect);
        assert_eq!(pulse.read(START + LEASE + Millis(1_000)), Liveness::Lost);
        // It was cut off, and is back.
        pulse.beat(after(60_000));
        assert_eq!(pulse.read(after(60_000)), Liveness::Ready);
    }

    #[test]
    fn a_controller_that_was_away_just_too_short_to_notice_loses_nobody() {
        let mut pulse = Pulse::unheard(START);
        pulse.beat(START);
        // It looks up again just before it would notice, and meets the next sign of life within a second.
        let seen_again = START + HEARTBEAT + AWAY_AFTER;
        assert_ne!(pulse.read(seen_again), Liveness::Lost);
    }

    #[test]
    fn a_heartbeat_that_lay_in_a_queue_does_not_make_the_node_older() {
        let mut pulse = Pulse::unheard(START);
        pulse.beat(after(3_000));
        pulse.beat(after(1_000));
        assert_eq!(pulse.silence(after(3_500)), Millis(500));
    }
}
