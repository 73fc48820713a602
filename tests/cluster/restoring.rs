//! A store that was restored knows less than the nodes run.

use crate::bench::{Controller, WEB, shop, until};
use lapstrake_controller::store::{BackupError, StoreError, accept_restored, backup, restore};
use lapstrake_core::cluster::Record;
use lapstrake_core::cluster::state::Meta;
use lapstrake_core::ids::EpochId;

const API: &str = "shop/production/api";

fn epoch(controller: &Controller) -> EpochId {
    let rows = controller.stored().rows;
    let meta = rows.iter().find_map(|(_, value)| match serde_json::from_str(value) {
        Ok(Record::Meta(meta)) => Some::<Meta>(meta),
        _ => None,
    });
    meta.expect("it says which cluster").epoch
}

#[tokio::test]
async fn nodes_keep_what_a_restored_store_does_not_know_until_an_operator_accepts_it() {
    let mut controller = Controller::start().await;
    let [node] = controller.nodes(["n1"]).await;
    controller.client.apply(&shop("web:1", 1)).await;
    controller.client.complete(WEB, 1).await;
    controller.client.until_settled(WEB).await;
    let store = controller.store_file();
    let saved = controller.folder().join("saved.db");
    backup(&store, &saved).expect("a backup of a controller that runs");
    assert!(matches!(backup(&store, &saved), Err(BackupError::File { .. })), "no backup is overwritten");

    // After the backup: a service more, and a newer version of the first.
    let api = shop("api:1", 1).replace("  web:", "  api:").replace("shop.test", "api.test");
    controller.client.apply(&api).await;
    controller.client.complete(API, 1).await;
    controller.client.apply(&shop("web:3", 1)).await;
    controller.client.complete(WEB, 2).await;
    let service = controller.client.until_settled(API).await;
    let later = crate::bench::id(&service.jobs[0].id);
    let runs = |job| node.engine.running().iter().any(|attempt| attempt.job == job);
    let before = epoch(&controller);
    let busy = restore(&saved, &store).expect_err("a controller uses the store");
    assert!(matches!(busy, BackupError::Store(StoreError::InUse { .. })), "{busy:?}");
    assert_eq!(epoch(&controller), before, "and nothing was changed");

    controller.stop().await;
    until("the store is free", || async { restore(&saved, &store).ok() }).await;
    let restored = epoch(&controller);
    assert_ne!(restored, before);
    controller.start_again().await;
    until("the node is back", || async { (controller.client.node("n1").await.liveness == "ready").then_some(()) })
        .await;
    assert_eq!(controller.client.get(&format!("/v1/services/{API}")).await.status, 404, "the store does not know it");
    // A whole deployment of what the store knows: the node has the sets of the new epoch, and carries them out.
    controller.client.apply(&shop("web:2", 1)).await;
    controller.client.complete(WEB, 2).await;
    controller.client.until_settled(WEB).await;
    assert!(runs(later), "what was created since goes on: {:?}", node.engine.done());

    controller.stop().await;
    until("it is accepted", || async { accept_restored(&store).ok() }).await;
    assert!(![before, restored].contains(&epoch(&controller)));
    assert!(matches!(accept_restored(&store), Err(BackupError::NotRestored)), "once");
    controller.start_again().await;
    until("the node stops what nobody knows", || async { (!runs(later)).then_some(()) }).await;
    controller.client.until_settled(WEB).await;
    assert_eq!(node.engine.running().len(), 1);
}

#[tokio::test]
async fn what_is_no_backup_is_refused_and_the_store_stays_as_it_was() {
    let mut controller = Controller::start().await;
    assert_eq!(controller.client.post("/v1/apps", r#"{"name":"shop"}"#).await.status, 201);
    controller.stop().await;
    let (store, before) = (controller.store_file(), controller.stored());
    let file = controller.folder().join("nonsense.db");
    for text in ["", "nonsense, and long enough to be taken for the head of a database if nobody looked at it"] {
        std::fs::write(&file, text).expect("written");
        let refused = until("the store is free", || async {
            match restore(&file, &store) {
                Err(BackupError::Store(StoreError::InUse { .. })) => None,
                other => Some(other),
            }
        })
        .await;
        refused.expect_err("no backup");
    }
    restore(&controller.folder().join("absent.db"), &store).expect_err("no file");
    accept_restored(&store).expect_err("nothing was restored");
    assert_eq!(controller.stored(), before);
    controller.start_again().await;
    let apps: Vec<lapstrake_api::view::Application> = controller.client.get("/v1/apps").await.json();
    assert_eq!(apps.len(), 1);
}
