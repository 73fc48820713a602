//! Commands that run once: a deployment's release command and `lap run`, with a real controller and real agents.

use crate::bench::{Controller, Node, WEB, id, shop, until};
use lapstrake_agent::runtime::fake::{Exit, Script};
use lapstrake_api::view;
use lapstrake_core::node::seen::Attempt;
use serde_json::json;
use std::time::Duration;

/// The service with a release command.
fn releasing(image: &str, scale: u32) -> String {
    shop(image, scale).replace("deploy: {", "deploy: { release: { command: [/app, migrate], timeout: 20s },")
}

fn soon(code: i64, line: &str) -> Script {
    let exit = Exit { after: Duration::from_millis(30), code, out_of_memory: false, lines: vec![line.to_owned()] };
    Script { exits: Some(exit), ..Script::default() }
}

async fn runs(controller: &Controller) -> Vec<view::OneOff> {
    controller.client.get(&format!("/v1/services/{WEB}/runs")).await.json()
}

/// How often the containers of one-off jobs were started.
async fn starts(controller: &Controller, node: &Node) -> usize {
    let jobs: Vec<String> = runs(controller).await.into_iter().map(|one| one.job).collect();
    let started = node
        .engine
        .done()
        .into_iter()
        .filter(|(verb, attempt)| *verb == "run" && jobs.contains(&attempt.job.to_string()));
    started.count()
}

async fn deployed() -> (Controller, Node) {
    let controller = Controller::start().await;
    let [node] = controller.nodes(["n1"]).await;
    node.engine.script("web:1 /app migrate", soon(0, "migrated"));
    controller.client.apply(&releasing("web:1", 2)).await;
    controller.client.complete(WEB, 1).await;
    controller.client.until_settled(WEB).await;
    (controller, node)
}

/// Deploys `web:2`, whose release command does not end by itself, and waits until that runs.
async fn until_released(controller: &Controller, node: &Node) -> Attempt {
    node.engine.script("web:2 /app migrate", Script::default());
    let image = json!({ "image": "web:2" }).to_string();
    controller.client.post(&format!("/v1/services/{WEB}/deploy"), image).await.json::<view::Deployment>();
    let one = until("the release command runs", || async {
        runs(controller).await.into_iter().find(|one| one.deployment == Some(2) && one.phase == "running")
    });
    Attempt { job: id(&one.await.job), number: 1 }
}

#[tokio::test]
async fn a_release_command_ends_before_the_first_job_of_its_deployment_starts() {
    let (controller, node) = deployed().await;
    let deployment = controller.client.deployment(WEB, 1).await;
    assert!(deployment.reached.iter().any(|moment| moment.phase == "preparing"), "{deployment:#?}");
    let all = runs(&controller).await;
    let [one] = all.as_slice() else { panic!("{all:#?}") };
    assert_eq!((one.purpose.as_str(), one.phase.as_str(), one.exit_code), ("release", "succeeded", Some(0)));
    assert_eq!(one.command, ["/app", "migrate"]);
    let first = node.engine.done().into_iter().find(|(verb, _)| *verb == "run").expect("a start");
    assert_eq!(first.1.job.to_string(), one.job);
    assert_eq!(controller.client.service(WEB).await.jobs.len(), 2, "it is none of the service's jobs");
}

#[tokio::test]
async fn a_release_command_that_fails_leaves_everything_as_it_was_and_says_why() {
    let (controller, node) = deployed().await;
    let old: Vec<String> = controller.client.service(WEB).await.jobs.into_iter().map(|job| job.id).collect();
    node.engine.script("web:2 /app migrate", soon(3, "fatal: no such table"));
    let image = json!({ "image": "web:2" }).to_string();
    controller.client.post(&format!("/v1/services/{WEB}/deploy"), image).await.json::<view::Deployment>();
    let failed = controller.client.ended(WEB, 2).await;
    assert_eq!(failed.phase, "failed", "{failed:#?}");
    let why = controller.client.why(WEB).await.sentences;
    assert!(why[0].contains("the release command on n1 failed") && why[0].contains("exited with code 3"), "{why:#?}");
    assert!(why[0].contains("fatal: no such table"), "{why:#?}");
    let one = runs(&controller).await.remove(0);
    assert_eq!((one.exit_code, one.last_lines), (Some(3), vec!["fatal: no such table".to_owned()]));
    let touched = node
        .engine
        .done()
        .into_iter()
        .filter(|(verb, attempt)| *verb != "run" && old.contains(&attempt.job.to_string()));
    assert_eq!(touched.count(), 0, "the old jobs were never touched");
    assert_eq!(starts(&controller, &node).await, 2, "each deployment's once");
}

#[tokio::test]
async fn a_release_command_is_not_run_again_when_the_agent_dies_under_it() {
    let (controller, mut node) = deployed().await;
    let release = until_released(&controller, &node).await;
    node.kill_agent();
    node.start();
    until("the agent has a session again", || async {
        Some(controller.client.node("n1").await).filter(|node| node.liveness == "ready" && node.silent_ms < 1_000)
    })
    .await;
    node.engine.crash(release, 0);
    controller.client.complete(WEB, 2).await;
    assert_eq!(starts(&controller, &node).await, 2, "{:?}", node.engine.done());
}

#[tokio::test]
async fn a_release_command_goes_on_while_the_controller_is_dead() {
    let (mut controller, node) = deployed().await;
    let release = until_released(&controller, &node).await;
    controller.kill();
    node.engine.crash(release, 0);
    controller.start_again().await;
    controller.client.complete(WEB, 2).await;
    assert_eq!(starts(&controller, &node).await, 2);
}

async fn begin(controller: &Controller, command: &[&str]) -> view::OneOff {
    let ask = json!({ "command": command, "env": { "LEVEL": "debug" } }).to_string();
    let answer = controller.client.post(&format!("/v1/services/{WEB}/runs"), ask).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()
}

async fn ended(controller: &Controller, job: &str) -> view::OneOff {
    until("the command has ended", || async {
        let one: view::OneOff = controller.client.get(&format!("/v1/services/{WEB}/runs/{job}")).await.json();
        one.ended.then_some(one)
    })
    .await
}

#[tokio::test]
async fn a_command_beside_the_jobs_gives_its_whole_output_and_its_exit_code() {
    let (controller, node) = deployed().await;
    node.engine.script("web:1 /app report", soon(7, "half done"));
    let one = begin(&controller, &["/app", "report"]).await;
    let mut words = controller
        .client
        .follow(&format!("/v1/services/{WEB}/logs?follow=true&since_ms=0&job={}", one.job), None)
        .await;
    let mut lines = Vec::new();
    while let Some(word) = words.next().await {
        if word.kind == "end" {
            lines.push("end".to_owned());
            break;
        }
        let line: view::LogLine = serde_json::from_str(&word.text).expect("a line");
        lines.push(line.text);
    }
    assert_eq!(lines, ["half done", "end"], "it ends with the command, though it was followed");
    let one = ended(&controller, &one.job).await;
    assert_eq!((one.phase.as_str(), one.exit_code, one.slot.as_str()), ("failed", Some(7), "run.2"));
    let rows: Vec<view::AuditRow> = controller.client.get("/v1/audit").await.json();
    let row = rows.into_iter().find(|row| row.verb == "run").expect("a row of the audit");
    assert_eq!(row.detail, "/app report (with LEVEL)", "without what the variables are");
}

#[tokio::test]
async fn a_command_is_stopped_when_somebody_says_so() {
    let (controller, _node) = deployed().await;
    let one = begin(&controller, &["/app", "serve"]).await;
    let address = format!("/v1/services/{WEB}/runs/{}", one.job);
    until("it runs", || async {
        let one: view::OneOff = controller.client.get(&address).await.json();
        (one.phase == "running").then_some(())
    })
    .await;
    assert!(controller.client.delete(&address).await.json::<view::Noted>().changed);
    let one = ended(&controller, &one.job).await;
    assert_eq!((one.phase.as_str(), one.exit_code), ("stopped", None));
    assert!(one.message.expect("a reason").contains("stopped it"));
}

#[tokio::test]
async fn output_of_a_job_that_is_not_there_is_not_waited_for() {
    let (controller, _node) = deployed().await;
    let path = format!("/v1/services/{WEB}/logs?follow=true&job=00000000000000000000000001");
    let answer = tokio::time::timeout(Duration::from_secs(20), controller.client.get(&path)).await;
    assert_eq!(answer.expect("it is answered").status, 404);
}
