//! Time: a steady one to schedule and measure with, and the wall's to compare reports with other logs.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Milliseconds since 1970, now.
pub fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    since.as_millis() as u64
}

/// Milliseconds since an instant, with three decimals.
pub fn ms_since(instant: Instant) -> f64 {
    ms(instant.elapsed())
}

/// Milliseconds, with three decimals.
pub fn ms(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}
