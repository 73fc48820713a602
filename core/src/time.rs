//! Time as an argument.
//!
//! Decisions get `Tick` for durations: milliseconds of CLOCK_BOOTTIME, which runs on while the machine sleeps, never
//! steps, and means nothing on another machine or after another boot. `Wall` is only for certificates, tokens and
//! display.

use core::fmt;
use core::ops::{Add, Sub};
use serde::{Deserialize, Serialize};

/// A span of time in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Millis(pub u64);

impl Millis {
    /// Whole seconds.
    pub const fn secs(seconds: u64) -> Self {
        Millis(seconds.saturating_mul(1000))
    }
    /// As the standard library's span.
    pub const fn std(self) -> core::time::Duration {
        core::time::Duration::from_millis(self.0)
    }
}

impl fmt::Display for Millis {
    /// `250 ms`, `5 s`, `1.5 s`, `2 min`, `1 h`: the largest unit that is exact enough to read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0;
        match ms {
            0..1_000 => write!(f, "{ms} ms"),
            _ if ms < 60_000 && !ms.is_multiple_of(1_000) => write!(f, "{}.{} s", ms / 1_000, ms % 1_000 / 100),
            1_000..120_000 => write!(f, "{} s", ms / 1_000),
            120_000..7_200_000 => write!(f, "{} min", ms / 60_000),
            _ => write!(f, "{} h", ms / 3_600_000),
        }
    }
}

/// A reading of the machine's boot-time clock, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Tick(pub u64);

impl Tick {
    /// How long ago `earlier` was; zero when it lies ahead.
    pub const fn since(self, earlier: Tick) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Millis> for Tick {
    type Output = Tick;
    fn add(self, span: Millis) -> Tick {
        Tick(self.0.saturating_add(span.0))
    }
}

impl Sub<Millis> for Tick {
    type Output = Tick;
    fn sub(self, span: Millis) -> Tick {
        Tick(self.0.saturating_sub(span.0))
    }
}

/// The earlier of two wishes to be woken.
pub fn earlier(a: Option<Tick>, b: Option<Tick>) -> Option<Tick> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Milliseconds since 1970, UTC. May step; no duration is ever computed from it except a certificate's or token's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Wall(pub u64);

impl Add<Millis> for Wall {
    type Output = Wall;
    fn add(self, span: Millis) -> Wall {
        Wall(self.0.saturating_add(span.0))
    }
}
