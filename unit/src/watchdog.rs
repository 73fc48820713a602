//! The watchdog: systemd is told that the daemon lives only while each of its loops turns.
//!
//! A ping from a bare timer would say that a timer works. So each loop has a pulse that it beats once round, and a ping
//! goes out only if every pulse has beaten since long enough ago. A loop that is stuck (a lock, a disk that does not answer,
//! an endless computation) stops the pings; systemd then ends the process and starts it again.

use sd_notify::NotifyState;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A loop's sign of life. A clone is the same one.
#[derive(Debug, Clone, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// The loop has come round once more. A loop that has nothing to do beats all the same, each ten seconds at the latest.
    pub fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it has beaten.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The loops that must turn. A clone is the same list.
#[derive(Debug, Clone, Default)]
pub struct Pulses(Arc<Mutex<Vec<(String, Pulse)>>>);

impl Pulses {
    /// A pulse for one more loop, under a name for the log.
    pub fn of(&self, name: impl Into<String>) -> Pulse {
        let pulse = Pulse::default();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((name.into(), pulse.clone()));
        pulse
    }

    /// The names and how often each has beaten.
    fn counts(&self) -> Vec<(String, u64)> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().map(|(name, pulse)| (name.clone(), pulse.count())).collect()
    }
}

/// Pings systemd for as long as every loop turns. Returns at once when no watchdog is asked for, else never.
pub async fn watch(pulses: &Pulses) {
    let Some(period) = sd_notify::watchdog_enabled() else { return };
    watch_with(pulses, period, || super::tell(&[NotifyState::Watchdog])).await;
}

/// The same with a period and a ping of the caller's. A loop may take half the period for one round; with a ping each
/// quarter, systemd's time is over at the latest one and three quarters of a period after a loop's last beat.
async fn watch_with(pulses: &Pulses, period: Duration, mut ping: impl FnMut()) {
    let patience = period / 2;
    let mut rounds = tokio::time::interval(period / 4);
    let mut seen: Vec<(u64, Instant)> = Vec::new();
    let mut stuck = false;
    loop {
        rounds.tick().await;
        let now = Instant::now();
        let counts = pulses.counts();
        // What is new has just begun.
        seen.extend(counts.iter().skip(seen.len()).map(|(_, count)| (*count, now)));
        let mut late = Vec::new();
        for ((name, count), (last, since)) in counts.iter().zip(&mut seen) {
            if count != last {
                (*last, *since) = (*count, now);
            } else if now - *since >= patience {
                late.push(name.as_str());
            }
        }
        if late.is_empty() {
            ping();
        } else if !stuck {
            tracing::error!(loops = ?late, "does not turn any more; systemd is not told that all is well");
        }
        stuck = !late.is_empty();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    const PERIOD: Duration = Duration::from_millis(40);

    fn watched(pulses: &Pulses) -> mpsc::UnboundedReceiver<()> {
        let (told, pings) = mpsc::unbounded_channel();
        let pulses = pulses.clone();
        tokio::spawn(async move {
            let ping = || {
                // A test that has heard enough does not listen any more.
                let _ = told.send(());
            };
            watch_with(&pulses, PERIOD, ping).await;
        });
        pings
    }

    fn beating(pulse: &Pulse) -> tokio::task::JoinHandle<()> {
        let pulse = pulse.clone();
        tokio::spawn(async move {
            loop {
                pulse.beat();
                tokio::time::sleep(PERIOD / 40).await;
            }
        })
    }

    /// Whether a ping comes within many periods.
    async fn is_pinged(pings: &mut mpsc::UnboundedReceiver<()>) -> bool {
        tokio::time::timeout(PERIOD * 20, pings.recv()).await.is_ok()
    }

    /// Waits until no ping comes for many periods.
    async fn pings_end(pings: &mut mpsc::UnboundedReceiver<()>) {
        let quiet = async { while is_pinged(pings).await {} };
        tokio::time::timeout(PERIOD * 500, quiet).await.expect("the pings end");
    }

    #[tokio::test]
    async fn systemd_is_pinged_while_every_loop_turns() {
        let pulses = Pulses::default();
        let _loops = (beating(&pulses.of("one")), beating(&pulses.of("two")));
        let mut pings = watched(&pulses);
        for _ in 0..20 {
            assert!(is_pinged(&mut pings).await);
        }
    }

    #[tokio::test]
    async fn one_stuck_loop_stops_the_pings_however_lively_the_others_are_until_it_turns_again() {
        let pulses = Pulses::default();
        let _lively = beating(&pulses.of("lively"));
        let pulse = pulses.of("stuck");
        let mut pings = watched(&pulses);
        pings_end(&mut pings).await;
        let _again = beating(&pulse);
        assert!(is_pinged(&mut pings).await);
    }
}
