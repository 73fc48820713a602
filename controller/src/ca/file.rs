//! Small files that must survive a crash whole: keys, certificates, identities.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Only the owner reads and writes: for everything that holds a key.
pub const OWNER_ONLY: u32 = 0o600;
/// Everybody reads: for certificates.
pub const READABLE: u32 = 0o644;

/// Replaces a file by these contents, or leaves the old one as it was.
///
/// When this returns, the contents are on the disk under this name: written beside it, synced, renamed, the folder
/// synced.
pub fn replace(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    // A leftover of a crash may have another mode, and the mode below only counts for a file that is made.
    match std::fs::remove_file(beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(beside)?;
    file.write_all(contents)?;
    file.sync_all()?;
    std::fs::rename(beside, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_replaced_whole_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("node.pem");
        std::fs::write(folder.path().join("node.pem.new"), "half").expect("a leftover");
        replace(&path, b"first", OWNER_ONLY).expect("written");
        replace(&path, b"second", OWNER_ONLY).expect("written again");
        assert_eq!(std::fs::read(&path).expect("there"), b"second");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }
}
