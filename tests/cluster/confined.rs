//! The controller's real binary in a process of its own, with few file descriptors, so that what it costs can be read off the
//! kernel.

use crate::bench::{Controller, until};
use lapstrake_controller::Addresses;
use lapstrake_controller::config::Config;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// A controller under `prlimit --nofile`.
pub struct Confined {
    pub controller: Controller,
    child: Child,
}

impl Drop for Confined {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Confined {
    /// Starts it. The binary lies beside the tests': `cargo build --workspace --bins` makes it.
    pub async fn start(descriptors: u32) -> Confined {
        Confined::start_with(descriptors, "log = \"error\"\n", Stdio::inherit()).await
    }

    /// The same with more words in its configuration, and its log elsewhere.
    pub async fn start_with(descriptors: u32, more: &str, log: Stdio) -> Confined {
        let folder = tempfile::Builder::new().prefix("lapt-").tempdir().expect("a folder");
        let [api, control] = free_ports();
        let state_dir = folder.path().join("controller");
        let file = folder.path().join("controller.toml");
        let text = format!(
            "state_dir = {state_dir:?}\napi_listen = \"{api}\"\ncontrol_listen = \"{control}\"\n\
             control_address = \"{control}\"\n{more}"
        );
        std::fs::write(&file, text).expect("written");
        let child = Command::new("prlimit")
            .arg(format!("--nofile={descriptors}:{descriptors}"))
            .arg("--")
            .arg(binary())
            .arg("run")
            .arg("--config")
            .arg(&file)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the controller's binary starts");
        let first_token = state_dir.join("operator.token");
        let token = until("the first operator's token", || async {
            let is_there = std::net::TcpStream::connect(api).is_ok();
            std::fs::read_to_string(&first_token).ok().filter(|token| is_there && token.ends_with('\n'))
        })
        .await;
        let addresses = Addresses { api, control, metrics: None, first_token };
        let config = Config { state_dir, api_listen: api, control_listen: control, ..Config::default() };
        let controller = Controller::elsewhere(folder, config, addresses, &token);
        Confined { controller, child }
    }

    /// Sends it SIGHUP.
    pub fn hang_up(&self) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGHUP).expect("it runs");
    }

    /// The memory that is its own, in KiB.
    pub fn memory_kib(&self) -> u64 {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let text = std::fs::read_to_string(path).expect("it runs");
        let line = text.lines().find(|line| line.starts_with("Pss:")).expect("a line");
        line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number")
    }

    /// The descriptors that it has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("it runs").count()
    }
}

fn binary() -> PathBuf {
    let own = std::env::current_exe().expect("a path");
    let folder = own.ancestors().nth(2).expect("target/debug/deps/…");
    let binary = folder.join("lapstrake-controller");
    assert!(binary.exists(), "{} is not built: cargo build --workspace --bins", binary.display());
    binary
}

/// Two that were free a moment ago.
fn free_ports() -> [SocketAddr; 2] {
    let held = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    held.map(|listener| listener.local_addr().expect("an address"))
}
