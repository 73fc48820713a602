//! How full the disks are that hold the engine's data and the agent's own.

use super::View;
use crate::runtime::Runtime;
use lapstrake_core::node::disk::{Disk, Fullness, Marks, used_percent as percent};
use nix::sys::statvfs::{Statvfs, statvfs};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// Between two looks: an image of a gigabyte comes in some seconds.
const PERIOD: Duration = Duration::from_secs(2);

/// So often the engine is asked where it keeps its data before the agent goes on without that disk: whoever cannot be asked that
/// must not keep a node from ever working.
const ASKS: u32 = 3;

/// Reads the disks' fullness for the view.
pub struct Disks {
    marks: Marks,
    state_dir: PathBuf,
    root: Option<PathBuf>,
    /// How often the engine did not say it.
    refusals: u32,
    before: BTreeMap<PathBuf, Fullness>,
}

impl Disks {
    /// The disks of a node that keeps its state there.
    pub fn new(marks: Marks, state_dir: &Path) -> Disks {
        Disks { marks, state_dir: state_dir.to_owned(), root: None, refusals: 0, before: BTreeMap::new() }
    }

    /// Reads until it is dropped.
    pub async fn watch(mut self, runtime: Arc<dyn Runtime>, view: View) {
        let mut period = tokio::time::interval(PERIOD);
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            period.tick().await;
            let root = match self.root.clone() {
                Some(root) => Ok(root),
                None => runtime.root().await.map_err(|error| error.to_string()),
            };
            let (disks, trouble) = self.look(root);
            view.trouble("disks", trouble);
            view.change(|seen| {
                let is_news = seen.disks != disks || seen.freed;
                (seen.disks, seen.freed) = (disks, false);
                is_news
            });
        }
    }

    /// One look, with what the engine says of where it keeps its data, and what is wrong with it. None while the engine's disk
    /// is still to be found: until then the node begins no new job.
    fn look(&mut self, root: Result<PathBuf, String>) -> (Option<Vec<Disk>>, Option<String>) {
        let silence = root.as_ref().err().cloned();
        self.root = root.ok();
        if let Some(said) = silence {
            self.refusals = self.refusals.saturating_add(1);
            let trouble =
                format!("the engine does not say where it keeps its data, and nobody looks at that disk: {said}");
            return if self.refusals < ASKS { (None, None) } else { (Some(self.read()), Some(trouble)) };
        }
        let unseen = self.root.iter().chain([&self.state_dir]).find(|folder| used_percent(folder).is_none());
        let trouble =
            unseen.map(|folder| format!("how full the disk is that holds {} cannot be told", folder.display()));
        (Some(self.read()), trouble)
    }

    /// Each disk once, the engine's first.
    fn read(&mut self) -> Vec<Disk> {
        let folders = self.root.iter().chain([&self.state_dir]);
        let mut known = Vec::new();
        let mut disks = Vec::new();
        for folder in folders {
            let Some(used) = used_percent(folder) else { continue };
            let device = std::fs::metadata(folder).map(|found| found.dev()).ok();
            if known.contains(&device) {
                continue;
            }
            known.push(device);
            let before = self.before.entry(folder.clone()).or_default();
            *before = self.marks.read(*before, used);
            let (fullness, holds_images) = (*before, self.root.as_ref() == Some(folder));
            let (folder, mark_percent) = (folder.display().to_string(), self.marks.of(fullness));
            disks.push(Disk { folder, fullness, mark_percent, holds_images });
        }
        disks
    }
}

/// How many percent of a folder's disk are used: of its bytes or of its inodes, whichever are nearer to their end.
pub fn used_percent(folder: &Path) -> Option<u8> {
    let stat = statvfs(folder).ok()?;
    let (used, total) = bytes_of(&stat);
    // Some file systems count no inodes.
    let inodes = percent(stat.files().saturating_sub(stat.files_free()), stat.files());
    Some(percent(used, total).max(inodes))
}

/// Used and total bytes of the disk that holds a folder.
pub fn bytes(folder: &Path) -> Option<(u64, u64)> {
    statvfs(folder).ok().map(|stat| bytes_of(&stat))
}

fn bytes_of(stat: &Statvfs) -> (u64, u64) {
    let total = stat.blocks() * stat.fragment_size();
    (total.saturating_sub(stat.blocks_free() * stat.fragment_size()), total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_folders_of_one_disk_are_read_once_and_one_that_is_not_there_is_left_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let marks = Marks { high_percent: 100, critical_percent: 100 };
        let mut disks = Disks::new(marks, folder.path());
        assert_eq!(disks.read().len(), 1);
        disks.root = Some(folder.path().join("docker"));
        assert_eq!(disks.read()[0].folder, folder.path().display().to_string());
        std::fs::create_dir(folder.path().join("docker")).expect("made");
        let read = disks.read();
        assert_eq!(read.len(), 1);
        assert!(read[0].folder.ends_with("docker"), "the engine's name for it comes first: {read:?}");
    }

    #[test]
    fn nothing_is_known_before_the_engines_disk_is_and_one_that_cannot_be_found_is_a_trouble_and_no_obstacle() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut disks = Disks::new(Marks { high_percent: 100, critical_percent: 100 }, folder.path());
        let silent = || Err("it is asleep".to_string());
        assert_eq!(disks.look(silent()), (None, None));
        assert_eq!(disks.look(silent()), (None, None));
        let (read, trouble) = disks.look(silent());
        assert_eq!(read.map(|read| read.len()), Some(1), "the agent's own");
        assert!(trouble.is_some_and(|said| said.contains("it is asleep")));
        let (read, trouble) = disks.look(Ok(folder.path().join("nowhere")));
        assert_eq!(read.map(|read| read.len()), Some(1));
        assert!(trouble.is_some_and(|said| said.contains("nowhere")));
        let (read, trouble) = disks.look(Ok(folder.path().to_owned()));
        assert_eq!((read.map(|read| read.len()), trouble), (Some(1), None));
    }

    #[test]
    fn a_mark_of_the_configuration_is_what_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let marks = Marks { high_percent: 0, critical_percent: 101 };
        let read = Disks::new(marks, folder.path()).read();
        assert_eq!((read[0].fullness, read[0].mark_percent), (Fullness::High, 0));
    }
}
