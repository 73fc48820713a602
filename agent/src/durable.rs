//! Replaces a file so that a reader, and a start after a crash, finds either the old or the new content, whole.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Writes `content` beside `path`, syncs it, renames it over `path` and syncs the folder. When this returns, the new
/// content survives a power failure; when it fails, the old content is still there. `before_rename` runs between the sync
/// and the rename, for crash points.
pub fn replace(path: &Path, content: &[u8], mode: u32, before_rename: impl FnOnce()) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a file needs a folder"))?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = Path::new(&temporary);
    // A leftover of an earlier crash may have another mode; the mode counts only when the file is made.
    match std::fs::remove_file(temporary) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    before_rename();
    std::fs::rename(temporary, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_replaced_with_the_wanted_mode_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("ledger.json");
        replace(&path, b"one", 0o600, || ()).expect("written");
        std::fs::write(dir.path().join("ledger.json.new"), b"torn").expect("a leftover");
        replace(&path, b"two", 0o600, || ()).expect("written over a leftover");
        assert_eq!(std::fs::read(&path).expect("read"), b"two");
        let mode = std::fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 1);
    }
}
