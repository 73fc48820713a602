//! Certificates while everything runs: renewed, revoked, ended, shared by two machines, and signed by another root.

use crate::bench::{Controller, Node, WEB, shop, until};
use lapstrake_api::view;
use serde_json::json;

/// Two nodes with a job each.
async fn with_web() -> (Controller, [Node; 2]) {
    let controller = Controller::start().await;
    let nodes = controller.nodes(["n1", "n2"]).await;
    controller.client.apply(&shop("web:1", 2)).await;
    controller.client.complete(WEB, 1).await;
    controller.client.until_settled(WEB).await;
    (controller, nodes)
}

async fn authority(controller: &Controller) -> view::Authority {
    controller.client.get("/v1/authority").await.json()
}

async fn ask(controller: &Controller, path: &str) -> u16 {
    controller.client.post(path, "{}").await.status
}

/// What events say of a node, or of the authority.
async fn told(controller: &Controller, subject: &str) -> Vec<String> {
    let all: Vec<view::Event> = controller.client.get("/v1/events").await.json();
    all.into_iter().filter(|event| event.subject == subject).map(|event| event.text).collect()
}

#[tokio::test]
async fn a_root_is_replaced_while_jobs_run_and_no_session_ends() {
    let (controller, nodes) = with_web().await;
    let before = authority(&controller).await;
    assert_eq!((before.roots.len(), before.rotation), (1, None));
    let old_token = controller.join_token(json!({ "environment": "shop/production" })).await;
    let quiet = |events: &[String]| !events.iter().any(|said| said.contains("silent") || said.contains("lost"));
    let work: Vec<_> = nodes.iter().map(|node| node.engine.done()).collect();

    assert_eq!(ask(&controller, "/v1/authority/rotate").await, 200);
    assert_eq!(ask(&controller, "/v1/authority/rotate").await, 409, "one at a time");
    let ready = until("every node has a certificate of the new root", || async {
        let now = authority(&controller).await;
        let rotation = now.rotation.clone()?;
        (rotation.stage == "reissuing" && rotation.waits.is_empty()).then_some(now)
    })
    .await;
    assert_eq!(ready.roots[0], view::Root { signs: false, ..before.roots[0].clone() });
    assert!(ready.roots[1].signs);
    // Whoever only knows the old root is let in during the overlap: an operator (this client), and a token from before.
    let folder = controller.folder().join("late");
    crate::bench::join_with(&old_token.token, &old_token.address, "late", &folder)
        .await
        .expect("an old token still joins");
    assert_eq!(controller.client.delete("/v1/nodes/late").await.status, 204);
    let new_token = controller.join_token(json!({})).await;

    assert_eq!(ask(&controller, "/v1/authority/advance").await, 200);
    let trusting = lapstrake_pki::token::Token::join(&new_token.token).expect("a token").authority;
    let client = controller.client.trusting(trusting);
    let after: view::Authority = client.get("/v1/authority").await.json();
    assert_eq!(after.roots, [ready.roots[1].clone()]);
    assert_eq!(after.rotation, None);

    // The old root is gone for good: a token that names it is told so, a new one joins.
    let folder = controller.folder().join("too-late");
    let refused =
        crate::bench::join_with(&old_token.token, &old_token.address, "x", &folder).await.expect_err("too late");
    assert_eq!(refused.exit_code(), 3, "{refused}");
    let folder = controller.folder().join("new");
    crate::bench::join_with(&new_token.token, &new_token.address, "new", &folder).await.expect("joined");

    for (node, work) in nodes.iter().zip(work) {
        assert_eq!(node.engine.done(), work, "nothing was done to a container");
    }
    let events: Vec<view::Event> = client.get("/v1/events").await.json();
    for name in ["node/n1", "node/n2"] {
        let said: Vec<String> =
            events.iter().filter(|event| event.subject == name).map(|event| event.text.clone()).collect();
        assert!(quiet(&said), "{said:?}");
    }
}

#[tokio::test]
async fn a_rotation_survives_the_controller_at_every_stage_and_waits_for_a_node_that_is_cut_off() {
    let (mut controller, [_n1, mut n2]) = with_web().await;
    n2.kill_agent();
    assert_eq!(ask(&controller, "/v1/authority/rotate").await, 200);
    let waits = |authority: &view::Authority| -> Vec<String> {
        let rotation = authority.rotation.iter();
        rotation.flat_map(|rotation| rotation.waits.iter().map(|wait| wait.node.clone())).collect()
    };
    let at = |stage: &'static str, wanted: &'static [&'static str]| {
        let controller = &controller;
        until(stage, move || async move {
            let now = authority(controller).await;
            let rotation = now.rotation.clone()?;
            (rotation.stage == stage && waits(&now) == wanted).then_some(())
        })
    };
    at("announcing", &["n2"]).await;
    let problem = controller.client.post("/v1/authority/advance", "{}").await.problem(409);
    assert!(problem.detail.contains("n2") && problem.detail.contains("--force"), "{}", problem.detail);
    controller.start_again().await;
    let at = |stage: &'static str, wanted: &'static [&'static str]| {
        let controller = &controller;
        until(stage, move || async move {
            let now = authority(controller).await;
            let rotation = now.rotation.clone()?;
            (rotation.stage == stage && waits(&now) == wanted).then_some(())
        })
    };
    at("announcing", &["n2"]).await;
    n2.start();
    at("reissuing", &[]).await;
    controller.start_again().await;
    let roots = authority(&controller).await.roots;
    assert!(roots.len() == 2 && roots[1].signs, "{roots:?}");
    until("both nodes say again that they are ready", || async {
        (controller.client.post("/v1/authority/advance", "{}").await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_revoked_node_is_cut_at_once_and_not_let_in_by_a_restarted_controller_either() {
    let (mut controller, [n1, _n2]) = with_web().await;
    let began = std::time::Instant::now();
    assert_eq!(ask(&controller, "/v1/nodes/n1/revoke").await, 204);
    // Its agent is told within the second; it says so in its log and keeps what it runs.
    let seen = controller.client.node("n1").await;
    assert_eq!(seen.standing, "revoked");
    until("its session is over", || async { (controller.client.node("n1").await.silent_ms > 3_000).then_some(()) })
        .await;
    let silent = controller.client.node("n1").await.silent_ms;
    let since = u64::try_from(began.elapsed().as_millis()).expect("a short time");
    assert!(silent + 3_000 > since, "{silent} ms of silence, {since} ms after the revocation");
    assert_eq!(n1.engine.running().len(), 1, "its job runs on");
    controller.start_again().await;
    until("the restarted controller believes it lost", || async {
        (controller.client.node("n1").await.liveness == "lost").then_some(())
    })
    .await;
    let troubles = controller.client.node("n1").await.troubles;
    assert!(troubles.iter().any(|said| said.contains("revoked")), "{troubles:?}");
    assert_eq!(ask(&controller, "/v1/nodes/n1/unquarantine").await, 409, "a revocation is for good");
}

#[tokio::test]
async fn certificates_are_renewed_in_time_and_the_sessions_go_on_past_the_end_of_the_first_one() {
    let controller = Controller::start_with(|config| config.node_certificate_seconds = 4).await;
    let [node] = controller.nodes(["n1"]).await;
    let sessions = |events: &[String]| events.iter().filter(|said| said.contains("silent")).count();
    // Three lives of a certificate: without a renewal the session would have been cut twice.
    let start = std::time::Instant::now();
    until("three lives have passed", || async { (start.elapsed().as_secs() >= 12).then_some(()) }).await;
    let seen = controller.client.node("n1").await;
    assert_eq!((seen.liveness.as_str(), seen.troubles.len()), ("ready", 0), "{seen:?}");
    assert_eq!(sessions(&told(&controller, "node/n1").await), 0);
    drop(node);
}

#[tokio::test]
async fn a_node_whose_certificate_ended_returns_with_its_old_key_and_an_operators_yes() {
    let controller = Controller::start_with(|config| config.node_certificate_seconds = 4).await;
    let [mut node] = controller.nodes(["n1"]).await;
    controller.client.apply(&shop("web:1", 1)).await;
    controller.client.complete(WEB, 1).await;
    let service = controller.client.until_settled(WEB).await;
    let jobs: Vec<String> = service.jobs.iter().map(|job| job.id.clone()).collect();
    let id = controller.client.node("n1").await.id;
    node.kill_agent();
    let off = std::time::Instant::now();
    until("its certificate has ended", || async { (off.elapsed().as_secs() >= 5).then_some(()) }).await;
    node.start();
    let returning = until("it asks to return", || async { controller.client.node("n1").await.returning }).await;
    assert_eq!(returning.answer, "waiting");
    let seen = controller.client.node("n1").await;
    assert!(seen.troubles.iter().any(|said| said.contains("lap node readmit n1")), "{:?}", seen.troubles);
    let wrong = json!({ "key": "0".repeat(64) }).to_string();
    controller.client.post("/v1/nodes/n1/return", wrong).await.problem(409);
    assert!(node.runs(&jobs), "its job never stopped");
    let yes = json!({ "key": returning.key }).to_string();
    assert_eq!(controller.client.post("/v1/nodes/n1/return", yes).await.status, 204);
    until("it is back", || async {
        let seen = controller.client.node("n1").await;
        (seen.liveness == "ready" && seen.silent_ms < 2_500 && seen.returning.is_none()).then_some(())
    })
    .await;
    assert_eq!(controller.client.node("n1").await.id, id, "the same node");
    assert!(node.runs(&jobs), "with the same job, which never stopped: {:?}", node.engine.done());
}

#[tokio::test]
async fn a_machine_that_has_joined_and_was_not_heard_yet_is_joining_and_not_lost() {
    let controller = Controller::start().await;
    let token = controller.join_token(json!({})).await;
    let folder = controller.folder().join("new");
    crate::bench::join_with(&token.token, &token.address, "n1", &folder).await.expect("joined");
    assert_eq!(controller.client.node("n1").await.liveness, "joining");
    let began = std::time::Instant::now();
    until("longer than a lease", || async { (began.elapsed().as_secs() >= 8).then_some(()) }).await;
    assert_eq!(controller.client.node("n1").await.liveness, "joining");
    assert!(!told(&controller, "node/n1").await.iter().any(|said| said.contains("lost")));
}
