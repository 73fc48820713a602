//! Daemons that die without a warning and a store that does not take a change: what was acknowledged stays, what runs
//! runs on, and nobody has to help.

use crate::bench::{Controller, Node, WEB, shop, until};
use lapstrake_api::view;
use serde_json::json;
use std::collections::BTreeSet;

async fn with_web() -> (Controller, Node, Vec<String>) {
    let controller = Controller::start().await;
    let [node] = controller.nodes(["n1"]).await;
    controller.client.apply(&shop("web:1", 2)).await;
    controller.client.complete(WEB, 1).await;
    let service = controller.client.until_settled(WEB).await;
    let jobs = service.jobs.into_iter().map(|job| job.id).collect();
    (controller, node, jobs)
}

#[tokio::test]
async fn a_healthy_container_is_restarted_neither_with_the_controller_nor_with_the_agent() {
    let (mut controller, mut node, jobs) = with_web().await;
    controller.start_again().await;
    controller.client.until_settled(WEB).await;
    node.kill_agent();
    node.start();
    until("the agent has a session again", || async {
        let seen = controller.client.node("n1").await;
        (seen.liveness == "ready" && seen.silent_ms < 1_000).then_some(())
    })
    .await;
    controller.kill();
    node.kill_agent();
    node.start();
    controller.start_again().await;
    let after = controller.client.until_settled(WEB).await;
    assert!(node.runs(&jobs), "the same containers: {:?}", node.engine.done());
    assert_eq!(node.engine.done().len(), 2, "and nothing was done to them");
    assert_eq!(after.revision, Some(1));
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_the_controller_was_killed_in_the_middle_of_more() {
    let mut controller = Controller::start().await;
    assert_eq!(controller.client.post("/v1/apps", r#"{"name":"shop"}"#).await.status, 201);
    let mut acknowledged = BTreeSet::new();
    for round in 0..4 {
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let askers: Vec<_> = (0..6)
            .map(|asker| {
                let (client, tell) = (controller.client.clone(), tell.clone());
                tokio::spawn(async move {
                    for number in 0.. {
                        let name = format!("r{round}-a{asker}-n{number}");
                        let body = json!({ "application": "shop", "name": name }).to_string();
                        let answer = client.post("/v1/envs", body).await;
                        assert_eq!(answer.status, 201, "{answer:?}");
                        tell.send(name).expect("the test listens");
                    }
                })
            })
            .collect();
        for _ in 0..10 {
            acknowledged.insert(told.recv().await.expect("an acknowledgement"));
        }
        controller.kill();
        for asker in askers {
            // Each of them meets the dead controller.
            asker.await.expect_err("cut off");
        }
        drop(tell);
        while let Some(name) = told.recv().await {
            acknowledged.insert(name);
        }
        controller.start_again().await;
        let all: Vec<view::Environment> = controller.client.get("/v1/envs?app=shop").await.json();
        let there: BTreeSet<String> = all.iter().map(|it| it.path.replace("shop/", "")).collect();
        let lost: Vec<_> = acknowledged.difference(&there).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    }
}

#[tokio::test]
async fn the_node_finishes_a_redeploy_while_the_controller_is_dead() {
    let (mut controller, node, old) = with_web().await;
    controller.client.post(&format!("/v1/services/{WEB}/redeploy"), "").await.json::<view::Deployment>();
    until("the node has begun", || async { (node.starts() > 2).then_some(()) }).await;
    controller.kill();
    until("no container of an old job is left", || async {
        let old_runs = node.engine.running().iter().any(|it| old.contains(&it.job.to_string()));
        (!old_runs && node.engine.running().len() == 2).then_some(())
    })
    .await;
    controller.start_again().await;
    controller.client.complete(WEB, 2).await;
    let service = controller.client.until_settled(WEB).await;
    let jobs: Vec<String> = service.jobs.into_iter().map(|job| job.id).collect();
    assert!(node.runs(&jobs));
    assert_eq!(node.starts(), 4, "two and two");
}

#[tokio::test]
async fn a_deployment_that_was_acknowledged_is_carried_out_after_the_controller_was_killed() {
    let (mut controller, node, _) = with_web().await;
    let image = json!({ "image": "web:2" }).to_string();
    controller.client.post(&format!("/v1/services/{WEB}/deploy"), image).await.json::<view::Deployment>();
    controller.start_again().await;
    controller.client.complete(WEB, 2).await;
    let service = controller.client.until_settled(WEB).await;
    assert_eq!(service.revision, Some(2));
    let jobs: Vec<String> = service.jobs.into_iter().map(|job| job.id).collect();
    until("only the new containers run", || async { node.runs(&jobs).then_some(()) }).await;
}

/// A store that takes nothing. A trigger stands for a full disk: root may write anywhere, and a small file system would
/// have to be mounted.
struct FullDisk(rusqlite::Connection);

impl FullDisk {
    fn of(controller: &Controller) -> FullDisk {
        let connection = rusqlite::Connection::open(controller.store_file()).expect("the store");
        connection.busy_timeout(std::time::Duration::from_secs(10)).expect("set");
        let full = "CREATE TRIGGER full_state BEFORE INSERT ON state BEGIN SELECT RAISE(ABORT, 'disk is full'); END;
                    CREATE TRIGGER full_event BEFORE INSERT ON event BEGIN SELECT RAISE(ABORT, 'disk is full'); END;";
        connection.execute_batch(full).expect("full");
        FullDisk(connection)
    }

    fn empty(self) {
        self.0.execute_batch("DROP TRIGGER full_state; DROP TRIGGER full_event;").expect("emptied");
    }
}

#[tokio::test]
async fn while_the_store_takes_nothing_changes_are_refused_and_afterwards_it_goes_on_by_itself() {
    let (controller, node, jobs) = with_web().await;
    let before = controller.stored();
    let disk = FullDisk::of(&controller);
    for _ in 0..2 {
        let refused = controller.client.post("/v1/apply", shop("web:2", 2)).await.problem(503);
        assert!(
            refused.detail.contains("nothing was changed") && refused.detail.contains("disk is full"),
            "{}",
            refused.detail
        );
        controller.client.post("/v1/apps", r#"{"name":"bank"}"#).await.problem(503);
    }
    let seen = controller.client.service(WEB).await;
    assert_eq!((seen.state.as_str(), seen.image.as_str()), ("healthy", "web:1"), "questions are answered");
    assert_eq!(controller.stored(), before);
    assert!(node.runs(&jobs));
    disk.empty();
    controller.client.apply(&shop("web:2", 2)).await;
    controller.client.complete(WEB, 2).await;
    assert_eq!(controller.client.until_settled(WEB).await.image, "web:2");
}

#[tokio::test]
async fn questions_are_answered_while_the_store_does_not_take_what_the_nodes_report() {
    let (controller, mut node, jobs) = with_web().await;
    let disk = FullDisk::of(&controller);
    // The controller wants to record that the node is silent and then lost, and cannot.
    node.kill_agent();
    until("the node is seen to be lost", || async {
        (controller.client.node("n1").await.liveness == "lost").then_some(())
    })
    .await;
    controller.client.post("/v1/apps", r#"{"name":"bank"}"#).await.problem(503);
    assert!(node.runs(&jobs), "what runs serves on");
    disk.empty();
    node.start();
    controller.client.until_settled(WEB).await;
    assert!(node.runs(&jobs));
    assert_eq!(controller.client.post("/v1/apps", r#"{"name":"bank"}"#).await.status, 201);
}

#[tokio::test]
async fn a_controller_that_is_told_to_end_does_though_somebody_watches() {
    let (mut controller, _node, _) = with_web().await;
    let mut events = controller.client.follow("/v1/events?follow=true", None).await;
    let mut lines = controller.client.follow(&format!("/v1/services/{WEB}/logs?tail=0&follow=true"), None).await;
    // Neither does a peer that never begins to speak hold it up.
    let _silent = tokio::net::TcpStream::connect(controller.client.address).await.expect("a connection");
    assert!(events.next().await.is_some(), "the stream stands");
    controller.stop().await;
    while let Some(event) = events.next().await {
        assert!(!event.kind.is_empty(), "{event:?}");
    }
    while let Some(line) = lines.next().await {
        assert_ne!(line.kind, "end", "the output has not ended, so whoever reads it comes back");
    }
    controller.start_again().await;
    controller.client.until_settled(WEB).await;
}

#[tokio::test]
async fn another_domain_in_the_configuration_counts_from_the_next_start_and_is_told() {
    let mut controller = Controller::start().await;
    let told = async |controller: &Controller| {
        let events: Vec<view::Event> = controller.client.get("/v1/events?after=0").await.json();
        events.into_iter().filter(|event| event.kind == "domain-changed").map(|event| event.text).collect::<Vec<_>>()
    };
    controller.start_again().await;
    assert!(told(&controller).await.is_empty(), "the same one is no news");
    controller.start_again_with(|config| config.domain = "example.org".into()).await;
    let said = told(&controller).await;
    assert!(said.len() == 1 && said[0].contains("under example.org now, before under localhost"), "{said:?}");
    let stored = controller.stored().rows.into_iter().map(|(_, record)| record).collect::<String>();
    assert!(stored.contains("example.org") && !stored.contains("\"localhost\""), "{stored}");
}
