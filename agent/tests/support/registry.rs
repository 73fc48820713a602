//! A registry on loopback, which Docker takes without TLS.

#![allow(dead_code, reason = "each test binary uses its own part")]

use crate::support::{DockerBench, docker, fresh, until};
use lapstrake_core::assignment::BoundImage;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// It runs until it is dropped, and then the engine has forgotten its images.
pub struct Registry {
    pub address: SocketAddr,
    process: Child,
    folder: TempDir,
}

/// Who may use a registry, where not everybody may.
pub struct User {
    pub name: &'static str,
    pub password: &'static str,
    /// Of the password, as the registry keeps it.
    pub bcrypt: &'static str,
}

impl Registry {
    /// One for everybody. `None`, with a message, where Debian's docker-registry is not installed.
    pub async fn start() -> Option<Registry> {
        Registry::start_with(None).await
    }

    /// One for this user alone.
    pub async fn private(user: &User) -> Option<Registry> {
        Registry::start_with(Some(user)).await
    }

    async fn start_with(user: Option<&User>) -> Option<Registry> {
        if !Path::new("/usr/bin/docker-registry").exists() {
            eprintln!("SKIPPED: the Debian package docker-registry is not installed");
            return None;
        }
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.expect("a free port");
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("blobs");
        let mut config = format!(
            "version: 0.1\nlog: {{ level: error }}\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\nhttp: {{ addr: {address} }}\n",
            root.display()
        );
        if let Some(user) = user {
            let users = folder.path().join("users");
            std::fs::write(&users, format!("{}:{}\n", user.name, user.bcrypt)).expect("written");
            config.push_str(&format!("auth: {{ htpasswd: {{ realm: lapstrake, path: {} }} }}\n", users.display()));
        }
        let file = folder.path().join("registry.yml");
        std::fs::write(&file, config).expect("written");
        let mut registry = Command::new("/usr/bin/docker-registry");
        registry.arg("serve").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let process = registry.spawn().expect("the registry starts");
        let registry = Registry { address, process, folder };
        until("the registry answers", || async { TcpStream::connect(address).ok() }).await;
        Some(registry)
    }

    /// The reference of the image that `push` puts in.
    pub fn name(&self) -> String {
        format!("{}/hello:1", self.address)
    }

    /// Puts an image in, as a user of it; the engine forgets the name again.
    pub fn push(&self, image: &str, user: &User) {
        // A folder of its own: the machine's logins stay as they are.
        let folder = self.folder.path().join("login");
        let folder = folder.to_str().expect("UTF-8");
        docker(&["--config", folder, "login", "-u", user.name, "-p", user.password, &self.address.to_string()]);
        docker(&["tag", image, &self.name()]);
        let said = docker(&["--config", folder, "push", &self.name()]);
        docker(&["rmi", &self.name()]);
        assert!(said.contains("digest: sha256:"), "{said}");
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

    /// Puts an image of its own in once more, into another repository. No engine has it then.
    pub fn push_again(&self, image: &BoundImage) -> BoundImage {
        let reference = format!("{}/other:1", self.address);
        docker(&["pull", image.pinned()]);
        docker(&["tag", image.pinned(), &reference]);
        docker(&["push", &reference]);
        docker(&["rmi", &reference, image.pinned()]);
        let (_, digest) = image.pinned().split_once('@').expect("a digest");
        BoundImage::Digest { pinned: format!("{}/other@{digest}", self.address), reference }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let own = format!("reference={}/*", self.address);
        let digests = docker(&["images", "--digests", "--format", "{{.Repository}}@{{.Digest}}", "--filter", &own]);
        digests.lines().for_each(|reference| drop(docker(&["rmi", reference])));
    }
}
