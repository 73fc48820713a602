//! Images of a registry: bound by their digest, whatever becomes of the tag and of the registry.

use crate::asker::{Asker, ask};
use crate::bench::until;
use crate::machine::{HELLO, HOST, Machine, docker, image};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A registry on loopback, which Docker takes without TLS.
pub struct Registry {
    pub address: SocketAddr,
    folder: TempDir,
    process: Option<Child>,
    pushed: Vec<String>,
}

impl Registry {
    /// `None`, with a message, where Debian's docker-registry is not installed.
    pub async fn start() -> Option<Registry> {
        if !Path::new("/usr/bin/docker-registry").exists() {
            eprintln!("SKIPPED: the Debian package docker-registry is not installed");
            return None;
        }
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        let folder = tempfile::Builder::new().prefix("lapt-").tempdir().expect("a folder");
        let root = folder.path().join("blobs");
        let config = format!(
            "version: 0.1\nlog: {{ level: error }}\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\nhttp: {{ addr: {free} }}\n",
            root.display()
        );
        let file = folder.path().join("registry.yml");
        std::fs::write(&file, config).expect("written");
        let process = Command::new("/usr/bin/docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the registry starts");
        let registry = Registry { address: free, folder, process: Some(process), pushed: Vec::new() };
        until("the registry answers", || async { TcpStream::connect(free).ok() }).await;
        Some(registry)
    }

    pub fn name(&self, tag: &str) -> String {
        format!("{}/hello:{tag}", self.address)
    }

    /// Lets a tag mean this image; the digest that it means then. The engine forgets the name again.
    pub fn push(&mut self, local: &str, tag: &str) -> String {
        let name = self.name(tag);
        docker(&["tag", local, &name]);
        let said = docker(&["push", &name]);
        docker(&["rmi", &name]);
        self.pushed.push(name);
        let digest = said.split_whitespace().find(|word| word.starts_with("sha256:"));
        digest.unwrap_or_else(|| panic!("not pushed: {said}")).to_owned()
    }

    /// Loses a blob, as a disk does.
    fn lose(&self, digest: &str) {
        let hash = digest.strip_prefix("sha256:").expect("a digest");
        let blobs = self.folder.path().join("blobs/docker/registry/v2/blobs/sha256");
        std::fs::remove_dir_all(blobs.join(&hash[..2]).join(hash)).expect("it had the blob");
    }

    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
        let images = docker(&["images", "-q", "--no-trunc", "--filter", &format!("reference={}/hello", self.address)]);
        let digests = docker(&["images", "--digests", "--format", "{{.Repository}}@{{.Digest}}"]);
        let own = digests.lines().filter(|line| line.starts_with(&format!("{}/", self.address)));
        own.filter(|_| !images.is_empty()).for_each(|reference| drop(docker(&["rmi", reference])));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revision_keeps_the_digest_that_its_tag_meant_though_the_tag_moves_and_the_registry_dies() {
    let Some(mut registry) = Registry::start().await else { return };
    let machine = Machine::start().await;
    let (v1, v2) = (image("lapt-v1", &[]), image("lapt-v2", &[]));
    let old = registry.push(&v1, "stable");
    let first = machine.serve(&registry.name("stable"), "registry").await;
    let bound = |digest: &str| Some(format!("{}/hello@{digest}", registry.address));
    assert_eq!(first.pinned, bound(&old));
    let asker = Asker::start(machine.proxy, HOST);

    let new = registry.push(&v2, "stable");
    let bound = |digest: &str| Some(format!("{}/hello@{digest}", registry.address));
    assert_ne!(new, old);
    machine.operate("redeploy").await;
    let again = machine.controller.client.until_settled(HELLO).await;
    assert_eq!((again.revision, again.pinned), (Some(1), bound(&old)), "the tag has moved, the revision has not");
    assert_ne!(again.jobs[0].id, first.jobs[0].id);
    assert_eq!(ask(machine.proxy, HOST).await.as_deref(), Ok("lapt-v1"));

    let looked_up = machine.deploy(&registry.name("stable")).await;
    assert_eq!((looked_up.phase.as_str(), looked_up.revision), ("complete", Some(2)), "{looked_up:#?}");
    assert_eq!(machine.controller.client.until_settled(HELLO).await.pinned, bound(&new));
    assert_eq!(ask(machine.proxy, HOST).await.as_deref(), Ok("lapt-v2"));

    registry.stop();
    let name = registry.name("other");
    let failed = machine.deploy(&name).await;
    assert_eq!(failed.phase, "failed", "{failed:#?}");
    let why = machine.controller.client.why(HELLO).await.sentences;
    assert!(why[0].contains(&name) && why[0].contains("connection refused"), "{why:#?}");
    let back = machine.operate("rollback").await;
    assert_eq!(back.revision, Some(1), "{back:#?}");
    assert_eq!(ask(machine.proxy, HOST).await.as_deref(), Ok("lapt-v1"), "the node kept the image");
    asker.saw_only(&["lapt-v1", "lapt-v2"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_whose_pull_fails_loses_no_request_and_why_tells_what_the_engine_said() {
    let Some(mut registry) = Registry::start().await else { return };
    let machine = Machine::start().await;
    registry.push(&image("lapt-v1", &[]), "v1");
    let good = machine.serve(&registry.name("v1"), "registry").await;
    let local = image("lapt-broken", &[]);
    let configuration = docker(&["inspect", "-f", "{{.Id}}", &local]);
    registry.push(&local, "broken");
    // Nobody but the registry has it now, and the registry has only half of it.
    docker(&["rmi", &local]);
    registry.lose(&configuration);

    let asker = Asker::start(machine.proxy, HOST);
    let failed = machine.deploy(&registry.name("broken")).await;
    assert_eq!(failed.phase, "failed", "{failed:#?}");
    asker.saw_only(&["lapt-v1"]).await;
    let why = machine.controller.client.why(HELLO).await.sentences;
    let said = format!("the image {} cannot be pulled: ", registry.name("broken"));
    assert!(why[0].starts_with("deployment 2 failed") && why[0].contains(&said), "{why:#?}");
    let after = machine.controller.client.service(HELLO).await;
    assert_eq!(after.jobs[0].id, good.jobs[0].id, "the old job was left alone");
}
