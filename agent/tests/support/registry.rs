//! A registry on loopback, which Docker takes without TLS.

use crate::support::{DockerBench, docker, fresh, until};
use lapstrake_core::assignment::BoundImage;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// It runs until it is dropped, and then the engine has forgotten its images.
pub struct Registry {
    address: SocketAddr,
    process: Child,
    _folder: TempDir,
}

impl Registry {
    /// `None`, with a message, where Debian's docker-registry is not installed.
    pub async fn start() -> Option<Registry> {
        if !Path::new("/usr/bin/docker-registry").exists() {
            eprintln!("SKIPPED: the Debian package docker-registry is not installed");
            return None;
        }
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.expect("a free port");
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("blobs");
        let config = format!(
            "version: 0.1\nlog: {{ level: error }}\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\nhttp: {{ addr: {address} }}\n",
            root.display()
        );
        let file = folder.path().join("registry.yml");
        std::fs::write(&file, config).expect("written");
        let mut registry = Command::new("/usr/bin/docker-registry");
        registry.arg("serve").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let process = registry.spawn().expect("the registry starts");
        let registry = Registry { address, process, _folder: folder };
        until("the registry answers", || async { TcpStream::connect(address).ok() }).await;
        Some(registry)
    }

    /// Puts an image in that no engine has.
    pub fn push_new(&self, bench: &DockerBench) -> BoundImage {
        let reference = format!("{}/hello:{:x}", self.address, fresh());
        // Made anew, so that it has an id of its own: its configuration says when.
        let container = docker(&["create", bench.image.pinned()]);
        docker(&["commit", "--change", &format!("LABEL lapt={reference}"), &container, &reference]);
        docker(&["rm", &container]);
        let said = docker(&["push", &reference]);
        docker(&["rmi", &reference]);
        let digest = said.split_whitespace().find(|word| word.starts_with("sha256:"));
        let digest = digest.unwrap_or_else(|| panic!("not pushed: {said}"));
        BoundImage::Digest { pinned: format!("{}/hello@{digest}", self.address), reference }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let own = format!("{}/hello", self.address);
        let digests = docker(&["images", "--digests", "--format", "{{.Repository}}@{{.Digest}}", &own]);
        digests.lines().for_each(|reference| drop(docker(&["rmi", reference])));
    }
}
