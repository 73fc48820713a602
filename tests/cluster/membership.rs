//! Nodes that are taken away, and nodes that are lost.

use crate::bench::{Controller, Node, WEB, shop, until};
use lapstrake_api::view;
use serde_json::json;

fn jobs(service: &view::Service) -> Vec<String> {
    service.jobs.iter().map(|job| job.id.clone()).collect()
}

async fn until_liveness(controller: &Controller, node: &str, word: &str) {
    until(&format!("{node} is {word}"), || async {
        (controller.client.node(node).await.liveness == word).then_some(())
    })
    .await;
}

/// The names of the nodes on which a service's jobs are.
fn places(service: &view::Service) -> Vec<&str> {
    let mut places: Vec<_> = service.jobs.iter().filter_map(|job| job.node.as_deref()).collect();
    places.sort_unstable();
    places
}

#[tokio::test]
async fn a_node_is_not_taken_away_while_jobs_run_there_not_even_by_force_while_it_lives() {
    let controller = Controller::start().await;
    let [node] = controller.nodes(["n1"]).await;
    controller.client.apply(&shop("web:1", 2)).await;
    controller.client.complete(WEB, 1).await;
    let service = controller.client.until_settled(WEB).await;
    let before = controller.stored();
    for path in ["/v1/envs/shop/production/nodes/n1", "/v1/nodes/n1"] {
        let refused = controller.client.delete(path).await.problem(409);
        for word in ["jobs run on n1", "shop/production/web (web.1)", "shop/production/web (web.2)"] {
            assert!(refused.detail.contains(word), "{}", refused.detail);
        }
        let forced = controller.client.delete(&format!("{path}?force=true")).await.problem(409);
        assert!(forced.detail.contains("n1 is not lost"), "{}", forced.detail);
    }
    assert_eq!(controller.stored(), before);
    assert!(node.runs(&jobs(&service)));

    controller.client.delete(&format!("/v1/services/{WEB}")).await;
    until("the service is gone", || async {
        (controller.client.get(&format!("/v1/services/{WEB}")).await.status == 404).then_some(())
    })
    .await;
    assert_eq!(controller.client.delete("/v1/envs/shop/production/nodes/n1").await.status, 204);
    let refused = controller.client.delete("/v1/envs/shop/production/nodes/n1").await.problem(409);
    assert!(refused.detail.contains("not attached"), "{}", refused.detail);
    assert_eq!(controller.client.delete("/v1/nodes/n1").await.status, 204);
    controller.client.get("/v1/nodes/n1").await.problem(404);
}

#[tokio::test]
async fn the_jobs_of_a_lost_node_start_elsewhere_and_when_it_returns_it_stops_what_is_no_longer_its_own() {
    let controller = Controller::start().await;
    let [mut n1, n2] = controller.nodes(["n1", "n2"]).await;
    controller.client.apply(&shop("web:1", 2)).await;
    controller.client.complete(WEB, 1).await;
    let spread = controller.client.until_settled(WEB).await;
    assert_eq!(places(&spread), ["n1", "n2"], "one on each");
    let stayed = spread.jobs.iter().find(|job| job.node.as_deref() == Some("n2")).expect("there").id.clone();
    let left = n1.engine.running();

    n1.kill_agent();
    until_liveness(&controller, "n1", "lost").await;
    let moved = controller
        .client
        .until_service("both jobs are on n2", WEB, |service| service.healthy == 2 && places(service) == ["n2", "n2"]);
    let moved = moved.await;
    assert!(jobs(&moved).contains(&stayed), "the job that was well is left alone");
    assert_eq!(n2.starts(), 2);
    assert_eq!(n1.engine.running(), left, "a node that is cut off keeps its jobs, unless the spec says otherwise");

    n1.start();
    until_liveness(&controller, "n1", "ready").await;
    until("the returned node has stopped its old job", || async { n1.engine.running().is_empty().then_some(()) }).await;
    assert_eq!(n1.starts(), 1, "and starts nothing");
    assert!(n2.runs(&jobs(&moved)), "nor does anything change on the other node");
}

#[tokio::test]
async fn a_node_that_returns_before_its_jobs_were_moved_keeps_them() {
    let controller = Controller::start().await;
    let [mut n1, n2] = controller.nodes(["n1", "n2"]).await;
    let patient = shop("web:1", 2).replace("    scale:", "    replace_after: 1h\n    scale:");
    controller.client.apply(&patient).await;
    controller.client.complete(WEB, 1).await;
    let before = controller.client.until_settled(WEB).await;
    n1.kill_agent();
    until_liveness(&controller, "n1", "lost").await;
    let why = controller.client.why(WEB).await;
    assert!(why.sentences.iter().any(|said| said.contains("n1")), "{why:#?}");
    n1.start();
    until_liveness(&controller, "n1", "ready").await;
    let after = controller.client.until_settled(WEB).await;
    assert_eq!(jobs(&after), jobs(&before));
    assert_eq!((n1.starts(), n2.starts()), (1, 1), "no container was started again");
}

/// One job, on the first of two nodes, which is then lost; nobody else may take it.
async fn with_lost_node() -> (Controller, Node) {
    let controller = Controller::start().await;
    let [mut n1] = controller.nodes(["n1"]).await;
    controller.client.apply(&shop("web:1", 1)).await;
    controller.client.complete(WEB, 1).await;
    n1.kill_agent();
    until_liveness(&controller, "n1", "lost").await;
    (controller, n1)
}

#[tokio::test]
async fn a_lost_node_is_removed_only_by_force_and_its_agent_is_not_let_in_again() {
    let (controller, mut n1) = with_lost_node().await;
    let refused = controller.client.delete("/v1/nodes/n1").await.problem(409);
    assert!(refused.detail.contains("--force") && refused.detail.contains(WEB), "{}", refused.detail);
    assert_eq!(controller.client.delete("/v1/nodes/n1?force=true").await.status, 204);
    let [n2] = controller.nodes(["n2"]).await;
    controller.client.until_settled(WEB).await;
    assert_eq!(n2.starts(), 1, "its job is started elsewhere");
    let running = n1.engine.running();
    n1.start();
    until("the removed node is told why it has no session", || async {
        let before = controller.client.get("/v1/nodes/n1").await.status;
        (before == 404).then_some(())
    })
    .await;
    controller.client.until_settled(WEB).await;
    assert_eq!(n1.engine.running(), running, "without a controller it keeps what it has");
}

#[tokio::test]
async fn a_lost_node_that_was_detached_by_force_stops_its_jobs_when_it_returns() {
    let (controller, mut n1) = with_lost_node().await;
    let path = "/v1/envs/shop/production/nodes/n1";
    controller.client.delete(path).await.problem(409);
    assert_eq!(controller.client.delete(&format!("{path}?force=true")).await.status, 204);
    assert_eq!(n1.engine.running().len(), 1);
    n1.start();
    until_liveness(&controller, "n1", "ready").await;
    until("it has stopped the job", || async { n1.engine.running().is_empty().then_some(()) }).await;
    let why = controller.client.why(WEB).await;
    assert!(why.sentences[0].contains("no node"), "{why:#?}");
    let again = controller.client.post("/v1/envs/shop/production/nodes", json!({ "node": "n1" }).to_string()).await;
    assert_eq!(again.status, 204);
    controller.client.until_settled(WEB).await;
}

#[tokio::test]
async fn a_cordoned_node_gets_no_new_jobs_and_whoever_waits_for_it_starts_when_it_is_opened() {
    let controller = Controller::start().await;
    let [_n1] = controller.nodes(["n1"]).await;
    let cordon = json!({ "reason": "disk swap" }).to_string();
    let noted: view::Noted = controller.client.post("/v1/nodes/n1/cordon", cordon.clone()).await.json();
    assert!(noted.changed);
    let again: view::Noted = controller.client.post("/v1/nodes/n1/cordon", cordon).await.json();
    assert!(!again.changed, "it was so already");
    let shown = controller.client.node("n1").await.cordon.expect("shown");
    assert_eq!((shown.by.as_str(), shown.reason.as_deref()), ("admin", Some("disk swap")));

    controller.client.apply(&shop("web:1", 1)).await;
    let why = until("it says why it waits", || async {
        let said = controller.client.why(WEB).await.sentences.join("; ");
        said.contains("cordoned").then_some(said)
    })
    .await;
    assert!(why.contains("n1: it is cordoned by admin: disk swap"), "{why}");
    let opened: view::Noted = controller.client.delete("/v1/nodes/n1/cordon").await.json();
    assert!(opened.changed);
    controller.client.complete(WEB, 1).await;
    assert_eq!(controller.client.node("n1").await.cordon, None);
}

#[tokio::test]
async fn a_service_runs_only_where_the_labels_are_that_it_asks_for_and_moves_when_it_asks_for_others() {
    let controller = Controller::start().await;
    let [_n1, _n2] = controller.nodes(["n1", "n2"]).await;
    for (node, zone) in [("n1", "a"), ("n2", "b")] {
        let ask = json!({ "set": { "zone": zone } }).to_string();
        controller.client.post(&format!("/v1/nodes/{node}/labels"), ask).await.json::<view::Noted>();
    }
    let bound =
        |zone: &str| shop("web:1", 2).replace("    scale:", &format!("    constraints: [zone == {zone}]\n    scale:"));
    controller.client.apply(&bound("a")).await;
    controller.client.complete(WEB, 1).await;
    assert_eq!(places(&controller.client.until_settled(WEB).await), ["n1", "n1"]);

    let planned: view::Changes = controller.client.post("/v1/plan", bound("b")).await.json();
    assert!(planned.services[0].warnings[0].contains("web.1 is on n1, though its label zone is a, b is wanted"));
    assert_eq!(planned.services[0].changes[0].field, "constraints");
    controller.client.apply(&bound("b")).await;
    controller.client.complete(WEB, 2).await;
    assert_eq!(places(&controller.client.until_settled(WEB).await), ["n2", "n2"]);
}

#[tokio::test]
async fn quotas_are_listed_with_what_is_asked_for_and_hold_after_a_restart_of_the_controller() {
    let mut controller = Controller::start().await;
    let [_n1] = controller.nodes(["n1"]).await;
    controller.client.apply(&shop("web:1", 2)).await;
    controller.client.complete(WEB, 1).await;
    let set = json!({ "jobs": 2, "memory_bytes": null }).to_string();
    controller.client.post("/v1/quotas/shop/production", set).await.json::<view::Noted>();
    let refused = controller.client.post(&format!("/v1/services/{WEB}/scale"), r#"{"scale":3}"#).await.problem(409);
    let sentence = "shop/production would have 3 jobs; its quota \"jobs\" is 2 jobs";
    assert!(refused.detail.contains(sentence), "{}", refused.detail);
    controller.kill();
    controller.start_again().await;
    let refused = controller.client.post("/v1/plan", shop("web:1", 3)).await.problem(409);
    assert!(refused.detail.contains(sentence), "plan says it too: {}", refused.detail);
    let quotas: Vec<view::Quota> = controller.client.get("/v1/quotas?below=shop").await.json();
    let of = |path: &str| quotas.iter().find(|quota| quota.path == path).cloned().expect("listed");
    assert_eq!(of("shop/production").jobs, view::Share { asked: 2, limit: Some(2) });
    assert_eq!(of("shop").services, view::Share { asked: 1, limit: Some(16) });
}
