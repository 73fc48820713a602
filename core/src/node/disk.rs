//! How full a node's disks are, and from when on that matters.

use crate::report::FullDisk;
use alloc::string::String;
use core::fmt;

/// A disk leaves a mark behind only when it is so many percent below it: files come and go all the time, and a node that took
/// jobs and refused them by turns would help nobody.
const MARGIN_PERCENT: u8 = 2;

/// From how many percent on a disk counts as full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// From here on images that nothing needs are removed at once.
    pub high_percent: u8,
    /// From here on the node begins no new job, and images that stay for rollbacks alone go as well, the oldest first.
    pub critical_percent: u8,
}

/// How full a disk is, by the marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Fullness {
    /// There is room.
    #[default]
    Roomy,
    /// Above the high mark.
    High,
    /// Above the critical mark.
    Critical,
}

impl Marks {
    /// How full a disk is that was so full before.
    pub fn read(self, before: Fullness, used_percent: u8) -> Fullness {
        let over = |mark: u8, level: Fullness| {
            let mark = if before >= level { mark.saturating_sub(MARGIN_PERCENT) } else { mark };
            used_percent >= mark
        };
        if over(self.critical_percent, Fullness::Critical) {
            Fullness::Critical
        } else if over(self.high_percent, Fullness::High) {
            Fullness::High
        } else {
            Fullness::Roomy
        }
    }

    /// The mark that a disk of this fullness is above; 0 for none.
    pub const fn of(self, fullness: Fullness) -> u8 {
        match fullness {
            Fullness::Roomy => 0,
            Fullness::High => self.high_percent,
            Fullness::Critical => self.critical_percent,
        }
    }
}

/// How many percent are used, rounded down; nothing of nothing is used.
pub fn used_percent(used: u64, total: u64) -> u8 {
    let percent = (u128::from(used) * 100).checked_div(u128::from(total)).unwrap_or(0);
    u8::try_from(percent.min(100)).unwrap_or(100)
}

/// One of the node's disks, as last read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// A folder on it: the engine's, or the agent's own.
    pub folder: String,
    /// How full it is.
    pub fullness: Fullness,
    /// The mark that it is above, in percent; 0 for none.
    pub mark_percent: u8,
    /// Whether the engine keeps its images there.
    pub holds_images: bool,
}

impl Disk {
    /// What the controller is told of it, if it keeps the node from beginning jobs.
    pub fn full(&self) -> Option<FullDisk> {
        let is_full = self.fullness == Fullness::Critical;
        is_full.then(|| FullDisk { folder: self.folder.clone(), mark_percent: u32::from(self.mark_percent) })
    }

    /// The node's trouble with it, if it is one.
    pub fn trouble(&self) -> Option<String> {
        let what = match self.fullness {
            Fullness::Roomy => return None,
            Fullness::High => "images that nothing needs are removed at once",
            Fullness::Critical => "no new job begins here until there is room",
        };
        Some(alloc::format!("{self}: {what}"))
    }
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        FullDisk { folder: self.folder.clone(), mark_percent: u32::from(self.mark_percent) }.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Fullness::{Critical, High, Roomy};
    use alloc::string::ToString;

    const MARKS: Marks = Marks { high_percent: 85, critical_percent: 95 };

    #[test]
    fn a_disk_is_full_from_its_mark_on_and_leaves_it_two_percent_below() {
        for (before, percent, now) in [
            (Roomy, 0, Roomy),
            (Roomy, 84, Roomy),
            (Roomy, 85, High),
            (High, 84, High),
            (High, 83, High),
            (High, 82, Roomy),
            (High, 95, Critical),
            (Roomy, 100, Critical),
            (Critical, 94, Critical),
            (Critical, 93, Critical),
            (Critical, 92, High),
            (Critical, 10, Roomy),
        ] {
            assert_eq!(MARKS.read(before, percent), now, "{before:?} at {percent} %");
        }
    }

    #[test]
    fn shares_are_whole_percents_and_an_unknown_disk_is_not_full() {
        for (used, total, percent) in [(0, 0, 0), (5, 0, 0), (949, 1000, 94), (950, 1000, 95), (u64::MAX, 1, 100)] {
            assert_eq!(used_percent(used, total), percent, "{used} of {total}");
        }
        assert_eq!(used_percent(u64::MAX, u64::MAX), 100);
    }

    #[test]
    fn a_full_disk_is_told_in_words() {
        let disk = |fullness| Disk {
            folder: "/var/lib/docker".into(),
            fullness,
            mark_percent: MARKS.of(fullness),
            holds_images: true,
        };
        assert_eq!(disk(Roomy).trouble(), None);
        assert_eq!(
            disk(High).trouble().unwrap(),
            "the disk that holds /var/lib/docker has reached its mark of 85 %: images that nothing needs are removed at once"
        );
        let full = disk(Critical).full().unwrap();
        assert_eq!(full.to_string(), "the disk that holds /var/lib/docker has reached its mark of 95 %");
        assert!(disk(Critical).trouble().unwrap().ends_with("95 %: no new job begins here until there is room"));
        assert_eq!((disk(High).full(), disk(Roomy).full()), (None, None));
    }
}
