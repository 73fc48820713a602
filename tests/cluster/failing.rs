//! Bad versions: the old one serves on, and one sentence says what happened.

use crate::bench::{Controller, Node, WEB, shop};
use lapstrake_agent::runtime::fake::{Exit, Script};
use lapstrake_api::view;
use serde_json::json;
use std::time::Duration;

fn exits(code: i64, out_of_memory: bool, line: &str) -> Script {
    let exit = Exit { after: Duration::from_millis(30), code, out_of_memory, lines: vec![line.to_owned()] };
    Script { healthy_after: None, exits: Some(exit), ..Script::default() }
}

/// Deploys `web:bad`, which behaves so, over a `web:1` that is well; what `why` says then.
async fn deploy_bad(script: Script) -> Vec<String> {
    let controller = Controller::start().await;
    let [node] = controller.nodes(["n1"]).await;
    controller.client.apply(&shop("web:1", 2)).await;
    controller.client.complete(WEB, 1).await;
    let good = controller.client.until_settled(WEB).await;
    let old: Vec<String> = good.jobs.iter().map(|job| job.id.clone()).collect();

    node.engine.script("web:bad", script);
    let image = json!({ "image": "web:bad" }).to_string();
    controller.client.post(&format!("/v1/services/{WEB}/deploy"), image).await.json::<view::Deployment>();
    let failed = controller.client.ended(WEB, 2).await;
    assert_eq!(failed.phase, "failed", "{failed:#?}");
    let after = controller
        .client
        .until_service("only the old jobs are left", WEB, |service| service.jobs.len() == 2 && service.healthy == 2);
    let after = after.await;
    assert_eq!((after.state.as_str(), after.revision), ("degraded", Some(1)), "{}", after.message);
    serves_on(&node, &old).await;
    let why = controller.client.why(WEB).await;
    assert_eq!(why.state, "degraded");
    assert!(why.sentences[0].starts_with("deployment 2 failed: "), "{:#?}", why.sentences);
    assert_eq!(
        failed.message.as_ref(),
        why.sentences.first().map(|said| said.split_once(": ").expect("two parts").1.to_owned()).as_ref()
    );
    why.sentences
}

/// The old jobs run in the containers that they had, and nothing else does.
async fn serves_on(node: &Node, old: &[String]) {
    crate::bench::until("only the old containers run", || async { node.runs(old).then_some(()) }).await;
    let touched = node
        .engine
        .done()
        .into_iter()
        .filter(|(verb, attempt)| *verb != "run" && old.contains(&attempt.job.to_string()));
    assert_eq!(touched.count(), 0, "nobody has sent them a signal");
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_stops_nothing() {
    let script = Script { pull_fails: Some("manifest unknown: no tag bad".into()), ..Script::default() };
    let said = deploy_bad(script).await;
    assert!(said[0].contains("web:bad cannot be looked up: n1 says: manifest unknown: no tag bad"), "{said:#?}");
}

#[tokio::test]
async fn a_version_that_exits_at_once_is_taken_back_with_its_exit_code_and_its_last_line() {
    let said = deploy_bad(exits(3, false, "fatal: no database")).await;
    assert!(said[0].contains("exited with code 3") && said[0].contains("fatal: no database"), "{said:#?}");
}

#[tokio::test]
async fn a_version_that_eats_its_memory_limit_is_taken_back_and_the_limit_is_named() {
    let said = deploy_bad(exits(137, true, "eating")).await;
    assert!(said[0].contains("memory limit of 6 MiB"), "{said:#?}");
}

#[tokio::test]
async fn a_version_that_never_gets_healthy_is_taken_back_with_the_last_answer_of_its_check() {
    let said = deploy_bad(Script { healthy_after: None, ..Script::default() }).await;
    assert!(said[0].contains("status 503: starting"), "{said:#?}");
}

#[tokio::test]
async fn a_version_whose_container_cannot_be_started_is_taken_back_with_the_engines_words() {
    let script = Script { start_fails: Some("exec /hello: no such file".into()), ..Script::default() };
    let said = deploy_bad(script).await;
    assert!(said[0].contains("cannot be started: exec /hello: no such file"), "{said:#?}");
}

#[tokio::test]
async fn the_spec_of_a_failed_deployment_is_tried_again_when_it_is_applied_again() {
    let controller = Controller::start().await;
    let [node] = controller.nodes(["n1"]).await;
    node.engine.script("web:1", exits(1, false, "the database is not there yet"));
    controller.client.apply(&shop("web:1", 1)).await;
    let failed = controller.client.ended(WEB, 1).await;
    assert_eq!(failed.phase, "failed");
    assert_eq!(controller.client.service(WEB).await.state, "unhealthy");
    node.engine.script("web:1", Script::default());
    let again = controller.client.apply(&shop("web:1", 1)).await;
    assert_eq!(again.services[0].deployment, Some(2), "{again:#?}");
    controller.client.complete(WEB, 2).await;
    assert_eq!(controller.client.until_settled(WEB).await.state, "healthy");
}

#[tokio::test]
async fn a_slot_has_one_name_wherever_it_is_named() {
    let controller = Controller::start().await;
    let [node] = controller.nodes(["n1"]).await;
    node.engine.script("web:bad", Script { start_fails: Some("no such command".into()), ..Script::default() });
    // The service is not called as its target is.
    controller.client.apply(&shop("web:bad", 1).replace("  web:\n", "  api:\n")).await;
    let path = "shop/production/api";
    let failed = controller.client.ended(path, 1).await;
    let message = failed.message.clone().expect("a reason");
    assert!(message.starts_with("web.1 on n1: "), "{message}");
    assert_eq!(failed.slots.iter().map(|slot| slot.slot.as_str()).collect::<Vec<_>>(), ["web.1"]);
    let why = controller.client.why(path).await.sentences;
    assert!(why[0].contains("web.1 on n1: "), "{why:?}");
    let events: Vec<view::Event> = controller.client.get(&format!("/v1/events?after=0&below={path}")).await.json();
    let slots: Vec<_> = events.iter().filter(|event| event.kind == "replacement").map(|event| &event.text).collect();
    assert!(!slots.is_empty() && slots.iter().all(|text| text.contains("web.1")), "{slots:?}");
}
