//! What stays of the images on a real engine, what goes, and the way back when the registry is gone.

use crate::asker::{Asker, ask};
use crate::bench::until;
use crate::machine::{HELLO, HOST, Machine, docker, image};
use crate::registry::Registry;
use lapstrake_api::view;
use serde_json::json;

/// Whether the engine holds an image by this name.
fn holds(name: &str) -> bool {
    docker(&["image", "inspect", "-f", "{{.Id}}", name]).starts_with("sha256:")
}

/// Puts an image into the registry that nobody else has from then on; its name with the digest.
fn push_only(registry: &mut Registry, version: &str) -> String {
    let local = image(version, &[]);
    let digest = registry.push(&local, version);
    docker(&["rmi", &local]);
    let pinned = format!("{}/hello@{digest}", registry.address);
    assert!(!holds(&pinned), "the engine has {pinned} of somebody else, and this test shows nothing");
    pinned
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kept_revisions_roll_back_without_a_registry_and_what_nothing_needs_is_collected() {
    let Some(mut registry) = Registry::start().await else { return };
    let machine = Machine::start_with(|_| (), |config| config.disk.keep_images_minutes = 0).await;
    // Names of this process only: images that other runs have left must not be met.
    let version = |number: u32| format!("lapt-{}-v{number}", std::process::id());
    let pinned: Vec<String> = (1..=5).map(|number| push_only(&mut registry, &version(number))).collect();

    machine.serve(&registry.name(&version(1)), "registry").await;
    for number in 2..=3 {
        let done = machine.deploy(&registry.name(&version(number))).await;
        assert_eq!((done.phase.as_str(), done.revision), ("complete", Some(number)), "{done:#?}");
    }
    // Two more, of services that go: one image nobody else wants, the other somebody has named.
    let client = &machine.controller.client;
    for (name, number) in [("gone", 4), ("named", 5)] {
        client.apply(&other(name, &registry.name(&version(number)))).await;
        client.complete(&format!("shop/production/{name}"), 1).await;
    }
    let mine = format!("lapt-{}:mine", std::process::id());
    docker(&["tag", &pinned[4], &mine]);
    for name in ["gone", "named"] {
        assert!(client.delete(&format!("/v1/services/shop/production/{name}")).await.status < 300);
    }
    until("what nothing needs is collected", || async { (!holds(&pinned[3])).then_some(()) }).await;
    let named = holds(&pinned[4]) && holds(&mine);
    docker(&["rmi", &mine]);
    assert!(named, "somebody has named it");
    assert!(pinned[..3].iter().all(|one| holds(one)), "the kept revisions' images stay");

    registry.stop();
    let asker = Asker::start(machine.proxy, HOST);
    for number in [1, 2] {
        let asked = client.post(&format!("/v1/services/{HELLO}/rollback"), json!({ "to": number }).to_string()).await;
        let back = client.complete(HELLO, asked.json::<view::Deployment>().number).await;
        assert_eq!(back.revision, Some(number), "{back:#?}");
        assert_eq!(ask(machine.proxy, HOST).await, Ok(version(number)));
    }
    until("what somebody had named goes when nobody calls it so", || async { (!holds(&pinned[4])).then_some(()) })
        .await;
    asker.saw_only(&[&version(1), &version(2), &version(3)]).await;
    drop(machine);
    for one in &pinned[..3] {
        docker(&["rmi", one]);
    }
}

fn other(name: &str, image: &str) -> String {
    format!(
        "application: shop
services:
  {name}:
    type: worker
    image: {image}
    pull: registry
    size: {{ cpu: 0.05, memory: 32MiB, pids: 77 }}
    deploy: {{ stop_grace: 1s, min_healthy: 100ms, timeout: 20s, max_attempts: 2 }}
environments: {{ production: {{}} }}
"
    )
}
