//! Pausing and resuming, and services that are not redeployable, with a real controller and real agents.

use crate::bench::{Controller, WEB, shop, until, with_web};
use lapstrake_api::view;
use serde_json::json;

fn at(verb: &str) -> String {
    format!("/v1/services/{WEB}/{verb}")
}

async fn paused(controller: &Controller) -> view::Service {
    controller.client.until_service("it is paused", WEB, |service| service.state == "paused").await
}

#[tokio::test]
async fn a_paused_service_stops_and_a_resumed_one_runs_the_same_revision() {
    let (controller, node, before) = with_web(2).await;
    let ask = json!({ "reason": "new disks" }).to_string();
    let noted: view::Noted = controller.client.post(&at("pause"), ask.clone()).await.json();
    assert!(noted.changed);
    let service = paused(&controller).await;
    assert!(node.engine.running().is_empty(), "{:?}", node.engine.running());
    let hold = service.paused.expect("who paused it");
    assert_eq!(hold.reason.as_deref(), Some("new disks"));
    assert!(service.message.contains("new disks") && service.message.contains("lap resume"), "{}", service.message);
    let again: view::Noted = controller.client.post(&at("pause"), ask).await.json();
    assert!(!again.changed);
    let refused = controller.client.post(&at("redeploy"), "").await.problem(409);
    assert!(refused.detail.contains("paused by") && refused.detail.contains("new disks"), "{}", refused.detail);

    let noted: view::Noted = controller.client.post(&at("resume"), "").await.json();
    assert!(noted.changed);
    let after = controller.client.until_settled(WEB).await;
    assert_eq!((after.revision, &after.pinned, after.paused), (before.revision, &before.pinned, None));
    assert_eq!(after.deployment.map(|newest| newest.number), Some(1), "a resume is no deployment");
}

#[tokio::test]
async fn a_paused_service_stays_so_over_restarts_of_controller_and_agent() {
    let (mut controller, mut node, _) = with_web(1).await;
    controller.client.post(&at("pause"), "").await.json::<view::Noted>();
    paused(&controller).await;
    node.kill_agent();
    controller.kill();
    controller.start_again().await;
    node.start();
    until("the node is ready again", || async {
        Some(controller.client.node("n1").await).filter(|node| node.liveness == "ready")
    })
    .await;
    assert_eq!(paused(&controller).await.jobs, []);
    assert!(node.engine.running().is_empty());
}

#[tokio::test]
async fn an_environment_is_paused_with_all_its_services_and_a_new_spec_waits_for_the_resume() {
    let (controller, node, _) = with_web(1).await;
    controller.client.post("/v1/envs/shop/production/pause", "").await.json::<view::Noted>();
    paused(&controller).await;
    let changes = controller.client.apply(&shop("web:2", 1)).await;
    let web = &changes.services[0];
    assert_eq!((web.action.as_str(), web.deployment), ("at-resume", None));
    assert!(web.warnings[0].contains("takes effect with `lap resume shop/production/web`"), "{:?}", web.warnings);
    assert!(node.engine.running().is_empty());
    controller.client.post("/v1/envs/shop/production/resume", "").await.json::<view::Noted>();
    controller.client.complete(WEB, 2).await;
    assert_eq!(controller.client.until_settled(WEB).await.image, "web:2");
}

#[tokio::test]
async fn a_service_that_is_not_redeployable_says_so_with_reason_and_author() {
    let (controller, _node, _) = with_web(1).await;
    controller.client.post(&at("not-redeployable"), "{}").await.problem(400);
    let ask = json!({ "reason": "migration" }).to_string();
    controller.client.post(&at("not-redeployable"), ask).await.json::<view::Noted>();
    let service = controller.client.service(WEB).await;
    assert_eq!(service.not_redeployable.and_then(|hold| hold.reason).as_deref(), Some("migration"));
    let plan: view::Changes = controller.client.post("/v1/plan", shop("web:2", 1)).await.json();
    assert!(plan.services[0].warnings.iter().any(|said| said.contains("not redeployable, by")), "{plan:#?}");
    controller.client.delete(&at("not-redeployable")).await.json::<view::Noted>();
    assert_eq!(controller.client.service(WEB).await.not_redeployable, None);
}
