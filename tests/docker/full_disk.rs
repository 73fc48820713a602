//! Real small disks that are really full, under the controller's store and under the agent's ledger, while clients ask.

use crate::asker::{Asker, ask};
use crate::bench::{Client, until};
use crate::machine::{HELLO, HOST, Machine, image};
use lapstrake_api::view;
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A disk in memory.
struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    fn new(mib: u32) -> SmallDisk {
        let folder = tempfile::Builder::new().prefix("lapt-disk-").tempdir().expect("a folder");
        let size = format!("size={mib}m,mode=755");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "lapt"]).arg(folder.path()).status();
        assert!(mounted.is_ok_and(|status| status.success()), "a small disk is mounted");
        SmallDisk { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    /// Writes until there is no byte left, as often as that takes: whoever works on the disk may have freed a little.
    fn fill(&self) {
        let mut file = std::fs::File::options().append(true).create(true).open(self.filler()).expect("a file");
        for size in [1 << 20, 1 << 12, 1] {
            let piece = vec![0; size];
            while file.write_all(&piece).is_ok() {}
        }
        let full = std::fs::write(self.path().join("one-more"), [0; 1 << 13]);
        let _ = std::fs::remove_file(self.path().join("one-more"));
        assert!(full.is_err(), "the disk is full");
    }

    fn empty(&self) {
        std::fs::remove_file(self.filler()).expect("emptied");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

/// Why the controller's store did not take the last change, as `lap doctor` asks.
async fn not_stored(client: &Client) -> Option<String> {
    client.get("/v1/controller").await.json::<view::Controller>().not_stored
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_whose_disk_is_full_refuses_in_words_serves_on_and_recovers_without_a_restart() {
    let disk = SmallDisk::new(64);
    let state_dir = disk.path().join("controller");
    let machine = Machine::start_with(|config| config.state_dir = state_dir, |_| ()).await;
    let client = &machine.controller.client;
    let first = machine.serve(&image("lapt-v1", &[]), "local").await;
    let v2 = image("lapt-v2", &[]);
    let asker = Asker::start(machine.proxy, HOST);
    assert_eq!(not_stored(client).await, None);

    disk.fill();
    let ask_for = json!({ "image": v2 }).to_string();
    for _ in 0..3 {
        // What the store still had room for in its own files is used up by the first refusal, or the second.
        disk.fill();
        let answer = client.post(&format!("/v1/services/{HELLO}/deploy"), ask_for.clone()).await;
        let refused = answer.problem(503);
        assert!(
            refused.detail.contains("nothing was changed") && refused.detail.contains("full"),
            "{}",
            refused.detail
        );
        client.post("/v1/apps", r#"{"name":"bank"}"#).await.problem(503);
        let told = not_stored(client).await;
        assert!(told.as_ref().is_some_and(|why| why.contains("full")), "whoever asks is told: {told:?}");
        let seen = client.service(HELLO).await;
        assert_eq!((seen.state.as_str(), &seen.jobs[0].id), ("healthy", &first.jobs[0].id), "questions are answered");
        assert_eq!(client.node("n1").await.liveness, "ready", "and its agent stays connected");
        assert_eq!(ask(machine.proxy, HOST).await.as_deref(), Ok("lapt-v1"));
    }

    disk.empty();
    until("it is seen that there is room, though nobody asks for a change", || async {
        not_stored(client).await.is_none().then_some(())
    })
    .await;
    let done = machine.deploy(&v2).await;
    assert_eq!(done.phase, "complete", "{done:#?}");
    assert_eq!(client.post("/v1/apps", r#"{"name":"bank"}"#).await.status, 201);
    asker.saw_only(&["lapt-v1", "lapt-v2"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_whose_disk_is_full_serves_on_says_what_a_deployment_waits_for_and_recovers() {
    let disk = SmallDisk::new(16);
    let state_dir = disk.path().join("agent");
    // The marks are off: this is about a ledger that cannot be written, however it came to that.
    let marks_off = |config: &mut lapstrake_agent::config::Config| {
        config.state_dir = state_dir;
        (config.disk.high_percent, config.disk.critical_percent) = (100, 100);
    };
    let machine = Machine::start_with(|_| (), marks_off).await;
    let client = &machine.controller.client;
    let first = machine.serve(&image("lapt-v1", &[]), "local").await;
    let v2 = image("lapt-v2", &[]);
    let asker = Asker::start(machine.proxy, HOST);

    disk.fill();
    let body = json!({ "image": v2 }).to_string();
    let asked = client.post(&format!("/v1/services/{HELLO}/deploy"), body).await;
    assert!(asked.status < 300, "{asked:?}");
    until("the node tells that its ledger cannot be written", || async {
        let troubles = client.node("n1").await.troubles.join("\n");
        (troubles.contains("the ledger cannot be written") && troubles.contains("No space left")).then_some(())
    })
    .await;
    let seen = client.service(HELLO).await;
    assert!(seen.jobs.iter().any(|job| job.id == first.jobs[0].id), "{seen:#?}");
    assert_eq!(ask(machine.proxy, HOST).await.as_deref(), Ok("lapt-v1"), "what runs serves on");
    let why = client.why(HELLO).await.sentences.join("\n");
    assert!(why.contains("the ledger cannot be written"), "{why}");

    disk.empty();
    let done = client.ended(HELLO, 2).await;
    assert_eq!(done.phase, "complete", "{done:#?}");
    until("the trouble is over", || async { client.node("n1").await.troubles.is_empty().then_some(()) }).await;
    asker.saw_only(&["lapt-v1", "lapt-v2"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_disk_is_nearly_full_begins_no_job_says_so_everywhere_and_begins_again_by_itself() {
    let disk = SmallDisk::new(16);
    let state_dir = disk.path().join("agent");
    let machine = Machine::start_with(|_| (), |config| config.state_dir = state_dir).await;
    let client = &machine.controller.client;
    machine.serve(&image("lapt-v1", &[]), "local").await;
    let v2 = image("lapt-v2", &[]);
    let asker = Asker::start(machine.proxy, HOST);

    std::fs::write(disk.filler(), vec![0; (16 << 20) / 100 * 97]).expect("nearly full");
    let full = format!("the disk that holds {} has reached its mark of 95 %", disk.path().join("agent").display());
    until("the node tells it", || async {
        let troubles = client.node("n1").await.troubles.join("\n");
        troubles.contains(&format!("{full}: no new job begins here until there is room")).then_some(())
    })
    .await;
    // One more job has no place, and a new one in the place of the old one does not begin.
    let scale = json!({ "scale": 2 }).to_string();
    assert!(client.post(&format!("/v1/services/{HELLO}/scale"), scale).await.status < 300);
    until("why says it", || async {
        let why = client.why(HELLO).await.sentences.join("\n");
        why.contains(&format!("n1: {full}")).then_some(())
    })
    .await;
    assert_eq!(ask(machine.proxy, HOST).await.as_deref(), Ok("lapt-v1"), "what runs serves on");

    disk.empty();
    let two = |service: &view::Service| service.healthy == 2;
    client.until_service("the second job has its place", HELLO, two).await;
    until("the trouble is over", || async { client.node("n1").await.troubles.is_empty().then_some(()) }).await;
    let done = machine.deploy(&v2).await;
    assert_eq!(done.phase, "complete", "{done:#?}");
    asker.saw_only(&["lapt-v1", "lapt-v2"]).await;
}
