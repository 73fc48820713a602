//! A proxy in a process of its own, as systemd starts it.

use super::{PATIENCE, h2c::until};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A folder with a proxy's configuration, and the processes that were started with it.
pub struct Place {
    pub directory: tempfile::TempDir,
    pub address: SocketAddr,
}

/// A process that is killed when the test ends.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Place {
    /// A configuration for a free port, with these lines added.
    pub fn new(lines: &str) -> Place {
        let directory = tempfile::tempdir().unwrap();
        // The port stays free until the proxy binds it: nothing else on this machine asks for it by number.
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let place = Place { directory, address };
        let (control, table) = (place.control_dir(), place.table_file());
        let text = format!(
            "listen = [\"{address}\"]\ncontrol_dir = {control:?}\ntable_file = {table:?}\nworkers = 2\n{lines}\n"
        );
        std::fs::write(place.config(), text).unwrap();
        place
    }

    pub fn config(&self) -> PathBuf {
        self.directory.path().join("proxy.toml")
    }

    pub fn control_dir(&self) -> PathBuf {
        self.directory.path().join("control")
    }

    pub fn table_file(&self) -> PathBuf {
        super::table_file(self.directory.path())
    }

    pub fn write_table(&self, table: &lapstrake_core::routes::RouteTable) {
        std::fs::write(self.table_file(), serde_json::to_vec(table).unwrap()).unwrap();
    }

    /// Where the processes speak to systemd; a test that wants to hear it binds this first.
    pub fn notify_socket(&self) -> PathBuf {
        self.directory.path().join("notify")
    }

    pub fn control_of(&self, process: &Process) -> PathBuf {
        self.control_dir().join(format!("{}.sock", process.0.id()))
    }

    /// Starts the proxy's binary; its log is in a file that a failing test shows.
    pub fn start(&self) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lapstrake-proxy"));
        command.arg("--config").arg(self.config()).env("NOTIFY_SOCKET", self.notify_socket()).stdin(Stdio::null());
        command.stderr(self.log()).stdout(Stdio::null());
        Process(command.spawn().unwrap())
    }

    fn log(&self) -> std::fs::File {
        let path = self.directory.path().join("log");
        std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap()
    }

    pub fn said(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Waits until the log says something so often.
    pub async fn until_said(&self, what: &str, times: usize) {
        let began = Instant::now();
        while self.said().matches(what).count() < times {
            assert!(began.elapsed() < PATIENCE, "{what:?} was not said: {}", self.said());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Waits for a process's end and returns its exit code.
pub async fn ended(process: &mut Process) -> Option<i32> {
    let mut code = None;
    let began = Instant::now();
    loop {
        if let Some(status) = process.0.try_wait().unwrap() {
            code = status.code().or(code);
            return code;
        }
        assert!(began.elapsed() < PATIENCE, "the process did not end");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until a file is there.
pub async fn until_there(path: &Path) {
    until(&format!("{}", path.display()), || path.exists()).await;
}
