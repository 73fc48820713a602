//! Times, sizes and shares in few characters.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Now, in milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis().try_into().unwrap_or(u64::MAX)
}

/// `now`, `40 s ago`, `3 min ago`, `5 h ago`, `12 days ago`. The other's clock may be ahead of ours.
pub fn ago(at_ms: u64, now_ms: u64) -> String {
    match now_ms.saturating_sub(at_ms) / 1000 {
        0..2 => "now".into(),
        seconds @ 2..60 => format!("{seconds} s ago"),
        seconds @ 60..3_600 => format!("{} min ago", seconds / 60),
        seconds @ 3_600..172_800 => format!("{} h ago", seconds / 3_600),
        seconds => format!("{} days ago", seconds / 86_400),
    }
}

/// `in 59 min`.
pub fn ahead(at_ms: u64, now_ms: u64) -> String {
    match at_ms.saturating_sub(now_ms).div_ceil(1000) {
        0 => "now".into(),
        seconds @ 1..120 => format!("in {seconds} s"),
        seconds @ 120..7_200 => format!("in {} min", seconds.div_ceil(60)),
        seconds @ 7_200..172_800 => format!("in {} h", seconds.div_ceil(3_600)),
        seconds => format!("in {} days", seconds.div_ceil(86_400)),
    }
}

/// `0.3 s`, `12.4 s`, `2 min 5 s`, `1 h 2 min`: how long something took.
pub fn span(ms: u64) -> String {
    match ms {
        0..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms / 1000 % 60),
        _ => format!("{} h {} min", ms / 3_600_000, ms / 60_000 % 60),
    }
}

/// The same for a span of the standard library.
pub fn span_of(span_std: Duration) -> String {
    span(span_std.as_millis().try_into().unwrap_or(u64::MAX))
}

/// `512 KiB`, `96 MiB`, `1.5 GiB`.
pub fn bytes(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    match bytes {
        0 => "0".into(),
        1..MIB => format!("{} KiB", bytes.div_ceil(1024)),
        MIB..GIB => format!("{} MiB", bytes / MIB),
        _ => format!("{}.{} GiB", bytes / GIB, bytes % GIB * 10 / GIB),
    }
}

/// Cores: `0.25`.
pub fn cores(milli: u32) -> String {
    format!("{}.{:02}", milli / 1000, milli % 1000 / 10)
}

/// `2026-11-21 02:00:43Z`: for logs and events, which are compared with others.
pub fn instant(at_ms: u64) -> String {
    let stamp = i64::try_from(at_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    stamp.map_or_else(|| "?".into(), |stamp| stamp.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}

/// `2026-11-21T02:00:43.250Z`: for output that is compared with other clocks' to the millisecond.
pub fn exact(at_ms: u64) -> String {
    let stamp = i64::try_from(at_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    stamp.map_or_else(|| "?".into(), |stamp| stamp.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string())
}

/// `1 job`, `2 jobs`.
pub fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_as_people_say_them() {
        let now = 1_000_000_000;
        let said: Vec<_> = [0, 40, 59, 60, 200, 3_600, 100_000, 172_800].map(|s| ago(now - s * 1000, now)).into();
        assert_eq!(
            said,
            ["now", "40 s ago", "59 s ago", "1 min ago", "3 min ago", "1 h ago", "27 h ago", "2 days ago"]
        );
        assert_eq!(ago(now + 5_000, now), "now", "a clock that is ahead says no nonsense");
        assert_eq!(ahead(now + 3_600_000, now), "in 60 min");
        assert_eq!(ahead(now + 7 * 86_400_000, now), "in 7 days");
    }

    #[test]
    fn spans_and_sizes_are_short() {
        assert_eq!(
            [0, 340, 12_480, 125_000, 3_720_000].map(span),
            ["0.0 s", "0.3 s", "12.4 s", "2 min 5 s", "1 h 2 min"]
        );
        assert_eq!([0, 1, 96 << 20, 3 << 29].map(bytes), ["0", "1 KiB", "96 MiB", "1.5 GiB"]);
        assert_eq!([0, 250, 1_500].map(cores), ["0.00", "0.25", "1.50"]);
        assert_eq!(instant(1_795_226_443_000), "2026-11-21 02:00:43Z");
        assert_eq!(exact(1_795_226_443_250), "2026-11-21T02:00:43.250Z");
    }
}
