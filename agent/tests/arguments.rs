//! The command line, as a supervisor sees it.

use lapstrake_core::ids::ClusterId;
use lapstrake_pki::fingerprint::Fingerprint;
use lapstrake_pki::token::{Kind, Token};
use std::io::Write as _;
use std::process::{Command, Stdio};

#[test]
fn a_wrong_configuration_ends_with_2_and_names_the_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("agent.toml");
    std::fs::write(&path, "frobs = 1\n").expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_lapstrake-agent"))
        .args(["run".as_ref(), "--check".as_ref(), "--config".as_ref(), path.as_os_str()])
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.starts_with("lapstrake-agent: ") && said.contains("unknown field `frobs`"), "{said}");
}

#[test]
fn a_token_that_join_shall_read_itself_comes_from_the_first_line_of_stdin() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("agent.toml");
    std::fs::write(&config, format!("state_dir = {:?}\n", folder.path().join("state"))).expect("written");
    let join = |line: &str| {
        let mut agent = Command::new(env!("CARGO_BIN_EXE_lapstrake-agent"))
            // Nobody listens there.
            .args(["join", "-", "--controller", "127.0.0.1:1", "--config", config.to_str().expect("UTF-8")])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        agent.stdin.take().expect("piped").write_all(line.as_bytes()).expect("written");
        let output = agent.wait_with_output().expect("it ends");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = join("no token\n");
    assert_eq!(code, Some(2), "{said}");
    let token = Token::mint(Kind::Join, ClusterId(1), Fingerprint([7; 32]));
    let (code, said) = join(&format!("{}\nmore\n", token.text()));
    assert!(code == Some(1) && said.contains("127.0.0.1:1"), "{said}");
}
