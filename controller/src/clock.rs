//! The controller's clocks.

use lapstrake_core::time::Tick;
use nix::time::{ClockId, clock_gettime};

/// The machine's boot-time clock: runs on while the machine sleeps, never steps.
pub fn tick() -> Tick {
    // The clock exists since Linux 2.6.39; reading it into our own variable cannot fail there.
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap_or_else(|_| nix::sys::time::TimeSpec::new(0, 0));
    Tick(time.tv_sec() as u64 * 1_000 + time.tv_nsec() as u64 / 1_000_000)
}
