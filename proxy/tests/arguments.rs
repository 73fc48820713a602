//! The command line, as a supervisor sees it.

use std::process::Command;

#[test]
fn a_wrong_configuration_ends_with_2_and_names_the_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("proxy.toml");
    std::fs::write(&path, "frobs = 1\n").expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_lapstrake-proxy"))
        .args(["--check".as_ref(), "--config".as_ref(), path.as_os_str()])
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.starts_with("lapstrake-proxy: ") && said.contains("unknown field `frobs`"), "{said}");
}
