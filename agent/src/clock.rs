//! The agent's clocks: ticks of CLOCK_BOOTTIME with the boot that they belong to, and the wall clock for display.

use lapstrake_core::ids::BootId;
use lapstrake_core::node::seen::Now;
use lapstrake_core::time::{Tick, Wall};
use nix::time::{ClockId, clock_gettime};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where the kernel says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Why there is no clock.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// The kernel's boot id cannot be read.
    #[error("the boot id cannot be read from {BOOT_ID}")]
    Unreadable(#[source] std::io::Error),
    /// The file holds something else.
    #[error("{BOOT_ID} does not hold a boot id: {0:?}")]
    Malformed(String),
}

/// Tells the time of this boot.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    boot: BootId,
}

impl Clock {
    /// The clock of the machine's present boot.
    pub fn of_this_boot() -> Result<Self, ClockError> {
        let text = std::fs::read_to_string(Path::new(BOOT_ID)).map_err(ClockError::Unreadable)?;
        let hex: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        match u128::from_str_radix(&hex, 16) {
            Ok(boot) if hex.len() == 32 => Ok(Clock { boot: BootId(boot) }),
            Ok(_) | Err(_) => Err(ClockError::Malformed(text)),
        }
    }

    /// Which boot this is.
    pub const fn boot(self) -> BootId {
        self.boot
    }

    /// For durations. Runs on while the machine sleeps and never steps.
    pub fn tick(self) -> Tick {
        // The call cannot fail on Linux: the clock exists since 2.6.39 and the pointer is ours.
        let time = clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap_or_else(|_| nix::sys::time::TimeSpec::new(0, 0));
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        let millis = u64::try_from(time.tv_nsec()).unwrap_or(0) / 1_000_000;
        Tick(seconds * 1_000 + millis)
    }

    /// For display only.
    pub fn wall(self) -> Wall {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Wall(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// The instant of a decision.
    pub fn now(self) -> Now {
        Now { tick: self.tick(), boot: self.boot, wall: self.wall() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_clocks_of_one_boot_agree_on_the_boot_and_ticks_do_not_go_back() {
        let one = Clock::of_this_boot().expect("this machine has booted");
        let two = Clock::of_this_boot().expect("this machine has booted");
        assert_eq!(one.boot(), two.boot());
        assert!(one.tick() <= two.tick());
        assert!(one.tick().0 > 0);
    }
}
