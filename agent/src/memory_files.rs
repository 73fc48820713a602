//! The files of jobs that are secrets: in memory only, and gone with their container.
//!
//! Each attempt has a folder of its own, named as its container, that nobody but root may enter; the engine binds each
//! file into the container, read-only. A reboot takes them all, and the attempts after it write them again.

use crate::runtime::{BoundFile, container_name};
use lapstrake_core::node::seen::Attempt;
use lapstrake_core::values::Clear;
use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};
use std::collections::BTreeSet;
use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// `RAMFS_MAGIC` of the kernel.
const RAMFS: FsType = FsType(0x8584_58f6);

/// A file that a job shall find.
pub struct NewFile {
    /// Where, in the container.
    pub path: String,
    /// The permission bits.
    pub mode: u32,
    /// What is in it.
    pub content: Clear,
}

/// The folder of all of them.
pub struct MemoryFiles {
    folder: PathBuf,
}

impl MemoryFiles {
    /// In this folder, which is made with the first file.
    pub fn open(folder: &Path) -> MemoryFiles {
        MemoryFiles { folder: folder.to_owned() }
    }

    /// Writes an attempt's files, whatever an earlier try of it left. On failure a sentence, and nothing is left.
    pub fn write(&self, attempt: Attempt, files: &[NewFile]) -> Result<Vec<BoundFile>, String> {
        if files.is_empty() {
            return Ok(Vec::new());
        }
        let folder = self.folder_of(attempt);
        let failed =
            |error: io::Error| format!("the files with its secrets cannot be written to {}: {error}", folder.display());
        make_folder(&self.folder).map_err(failed)?;
        if !is_in_memory(&self.folder).map_err(failed)? {
            return Err(format!(
                "its secrets are files, and {} is on a disk: mount a tmpfs there, or set memory_dir to a folder on one",
                self.folder.display()
            ));
        }
        let written = write_all(&folder, files).map_err(failed);
        if written.is_err() {
            self.remove(attempt);
        }
        written
    }

    /// Removes an attempt's files. Its container is gone.
    pub fn remove(&self, attempt: Attempt) {
        remove_folder(&self.folder_of(attempt));
    }

    /// Removes the files of attempts whose containers went by another hand than this agent's, or were never made. Who is
    /// kept is asked after the folder was listed: an attempt is known before its files are written.
    pub fn sweep(&self, kept: impl FnOnce() -> BTreeSet<Attempt>) {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        // Anything else in a folder that the operator named is none of ours.
        let listed: BTreeSet<Attempt> = entries.filter_map(|entry| attempt_of(entry.file_name().to_str()?)).collect();
        for attempt in listed.difference(&kept()) {
            self.remove(*attempt);
        }
    }

    fn folder_of(&self, attempt: Attempt) -> PathBuf {
        self.folder.join(container_name(attempt))
    }
}

/// Whose folder has this name.
fn attempt_of(name: &str) -> Option<Attempt> {
    let (job, number) = name.strip_prefix("lap-")?.split_once('-')?;
    let attempt = Attempt { job: job.parse().ok()?, number: number.parse().ok()? };
    (container_name(attempt) == name).then_some(attempt)
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn is_in_memory(path: &Path) -> io::Result<bool> {
    let kind = statfs(path)?.filesystem_type();
    Ok(kind == TMPFS_MAGIC || kind == RAMFS)
}

fn write_all(folder: &Path, files: &[NewFile]) -> io::Result<Vec<BoundFile>> {
    match std::fs::remove_dir_all(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    make_folder(folder)?;
    let mut bound = Vec::with_capacity(files.len());
    for (number, file) in files.iter().enumerate() {
        // Not its own name, which may be any path.
        let source = folder.join(number.to_string());
        let mut open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&source)?;
        open.write_all(&file.content.0)?;
        // Only when it is whole, and not by `mode` above, which the umask narrows.
        open.set_permissions(Permissions::from_mode(file.mode & 0o777))?;
        bound.push(BoundFile { source, path: file.path.clone() });
    }
    Ok(bound)
}

fn remove_folder(path: &Path) {
    match std::fs::remove_dir_all(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, path = %path.display(), "a folder with secrets cannot be removed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapstrake_core::ids::JobId;
    use std::os::unix::fs::MetadataExt;

    fn attempt(number: u32) -> Attempt {
        Attempt { job: JobId(7), number }
    }

    fn file(mode: u32) -> NewFile {
        NewFile { path: "/run/secrets/api-key".into(), mode, content: Clear(b"hunter2\0\xff".to_vec()) }
    }

    fn memory() -> tempfile::TempDir {
        tempfile::tempdir_in("/dev/shm").expect("a folder in memory")
    }

    #[test]
    fn a_file_is_written_with_its_mode_into_a_folder_that_only_root_enters() {
        let dir = memory();
        let files = MemoryFiles::open(&dir.path().join("files"));
        for mode in [0o444, 0o640, 0o777] {
            let bound = files.write(attempt(1), &[file(mode), file(0o400)]).expect("written, over an earlier try");
            assert_eq!(std::fs::read(&bound[0].source).expect("there"), b"hunter2\0\xff");
            let of = |path: &Path| std::fs::metadata(path).expect("there").mode() & 0o7777;
            assert_eq!((of(&bound[0].source), of(&bound[1].source)), (mode, 0o400));
            assert_eq!(of(bound[0].source.parent().expect("a folder")), 0o700);
            assert_eq!(of(&dir.path().join("files")), 0o700);
        }
        files.remove(attempt(1));
        files.remove(attempt(1));
        assert_eq!(std::fs::read_dir(dir.path().join("files")).expect("listed").count(), 0);
    }

    #[test]
    fn a_folder_on_a_disk_gets_no_secrets() {
        // Where the build's own files are is a disk everywhere.
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a folder");
        let files = MemoryFiles::open(&dir.path().join("files"));
        let said = files.write(attempt(1), &[file(0o444)]).map(drop).expect_err("refused");
        assert!(said.contains("memory_dir") && said.contains("tmpfs"), "{said}");
        assert_eq!(std::fs::read_dir(dir.path().join("files")).expect("listed").count(), 0);
    }

    #[test]
    fn the_files_of_containers_that_went_by_another_hand_are_removed_and_no_others() {
        let dir = memory();
        let earlier = MemoryFiles::open(dir.path());
        for number in 1..=3 {
            earlier.write(attempt(number), &[file(0o444)]).expect("written");
        }
        std::fs::create_dir(dir.path().join("somebody-elses")).expect("made");
        let files = MemoryFiles::open(dir.path());
        // 3 is being started.
        files.write(attempt(3), &[file(0o444)]).expect("written");
        files.sweep(|| [attempt(2), attempt(3)].into());
        let left = |number| dir.path().join(container_name(attempt(number))).exists();
        assert_eq!([1, 2, 3].map(left), [false, true, true]);
        assert!(dir.path().join("somebody-elses").exists());
    }
}
