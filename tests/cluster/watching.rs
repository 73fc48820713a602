//! Watching: events that are resumed without a gap, and the output of jobs as it is written.

use crate::bench::{Controller, WEB, Words, shop, until};
use lapstrake_agent::runtime::fake::Script;
use lapstrake_api::view;
use lapstrake_core::node::seen::Attempt;
use serde_json::json;
use std::time::Duration;
use tokio::time::timeout;

async fn create(controller: &Controller, name: &str) {
    let body = json!({ "application": "shop", "name": name }).to_string();
    assert_eq!(controller.client.post("/v1/envs", body).await.status, 201);
}

async fn next_event(words: &mut Words) -> view::Event {
    let word = words.next().await.expect("the stream goes on");
    let event: view::Event = serde_json::from_str(&word.text).expect("an event");
    assert_eq!((word.id, &word.kind), (Some(event.number), &event.kind));
    event
}

#[tokio::test]
async fn a_watcher_that_comes_back_with_the_last_events_number_misses_nothing() {
    let mut controller = Controller::start().await;
    assert_eq!(controller.client.post("/v1/apps", r#"{"name":"shop"}"#).await.status, 201);
    let mut watched = Vec::new();
    let mut words = controller.client.follow("/v1/events?follow=true&after=0", None).await;
    for number in 0..5 {
        create(&controller, &format!("seen-{number}")).await;
    }
    while watched.last().is_none_or(|event: &view::Event| event.subject != "shop/seen-4") {
        watched.push(next_event(&mut words).await);
    }
    drop(words);
    for number in 0..5 {
        create(&controller, &format!("missed-{number}")).await;
    }
    controller.start_again().await;
    let last = watched.last().map(|event| event.number);
    let mut words = controller.client.follow("/v1/events?follow=true", last).await;
    create(&controller, "last").await;
    while watched.last().is_none_or(|event| event.subject != "shop/last") {
        watched.push(next_event(&mut words).await);
    }
    let all: Vec<view::Event> = controller.client.get("/v1/events?after=0").await.json();
    assert_eq!(watched, all, "every event once, in order");
    assert!(all.is_sorted_by(|a, b| a.number < b.number));
}

#[tokio::test]
async fn a_watcher_below_a_path_is_told_about_that_path_only() {
    let controller = Controller::start().await;
    for name in ["shop", "shopping"] {
        assert_eq!(controller.client.post("/v1/apps", json!({ "name": name }).to_string()).await.status, 201);
    }
    create(&controller, "qa").await;
    let below: Vec<view::Event> = controller.client.get("/v1/events?after=0&below=shop").await.json();
    assert!(below.iter().all(|event| event.subject == "shop" || event.subject.starts_with("shop/")), "{below:#?}");
    assert_eq!(below.last().expect("some").subject, "shop/qa");
}

#[tokio::test]
async fn the_timeline_of_a_deployment_is_in_the_events() {
    let controller = Controller::start().await;
    let _nodes = controller.nodes(["n1"]).await;
    let mut words = controller.client.follow(&format!("/v1/events?follow=true&after=0&below={WEB}"), None).await;
    controller.client.apply(&shop("web:1", 1)).await;
    let mut kinds = Vec::new();
    loop {
        let event = next_event(&mut words).await;
        assert_eq!(event.subject, WEB);
        kinds.push(event.kind);
        if event.text.contains("complete") {
            break;
        }
    }
    assert_eq!(kinds[0], "service-created");
    assert!(kinds.contains(&"replacement".to_owned()) && kinds.contains(&"deployment".to_owned()), "{kinds:?}");
}

async fn next_line(words: &mut Words) -> view::LogLine {
    let word = words.next().await.expect("the stream goes on");
    assert_eq!(word.kind, "line", "{}", word.text);
    serde_json::from_str(&word.text).expect("a line")
}

#[tokio::test]
async fn the_output_of_a_service_is_streamed_from_its_nodes_as_it_is_written() {
    let controller = Controller::start().await;
    let nodes = controller.nodes(["n1", "n2"]).await;
    controller.client.apply(&shop("web:1", 2)).await;
    controller.client.complete(WEB, 1).await;
    let service = controller.client.until_settled(WEB).await;
    let path = format!("/v1/services/{WEB}/logs");
    let running = nodes.each_ref().map(|node| node.engine.running()[0]);
    let say = |at: usize, line: &str| nodes[at].engine.say(running[at], line);
    (0..5).for_each(|number| say(0, &format!("early {number}")));
    say(1, "here too");

    let mut words = controller.client.follow(&format!("{path}?tail=2"), None).await;
    let mut got = Vec::new();
    loop {
        let word = words.next().await.expect("an end is told");
        if word.kind == "end" {
            break;
        }
        got.push(serde_json::from_str::<view::LogLine>(&word.text).expect("a line").text);
    }
    got.sort();
    assert_eq!(got, ["early 3", "early 4", "here too"], "of each job so many");

    let mut words = controller.client.follow(&format!("{path}?tail=0&follow=true"), None).await;
    // Whether the stream stands already cannot be seen from outside; what is repeated until it arrives shows it.
    let mut standing = std::collections::BTreeSet::new();
    while standing.len() < 2 {
        (0..2).for_each(|at| say(at, "beat"));
        if let Ok(line) = timeout(Duration::from_millis(50), next_line(&mut words)).await {
            standing.insert(line.node);
        }
    }
    for number in 0..50 {
        say(number % 2, &format!("late {number}"));
    }
    let mut late = Vec::new();
    while late.len() < 50 {
        let line = next_line(&mut words).await;
        if line.text.starts_with("late") {
            let job = service.jobs.iter().find(|job| job.slot == line.slot).expect("a slot of the service");
            assert_eq!(job.node.as_deref(), Some(line.node.as_str()));
            late.push((line.node, line.text));
        }
    }
    for (at, node) in ["n1", "n2"].into_iter().enumerate() {
        let own: Vec<_> = late.iter().filter(|(from, _)| from == node).map(|(_, text)| text.clone()).collect();
        let said: Vec<_> = (0..50).filter(|number| number % 2 == at).map(|number| format!("late {number}")).collect();
        assert_eq!(own, said, "every line of {node} once, in order");
    }
}

#[tokio::test]
async fn a_reader_of_the_output_also_gets_what_the_job_of_the_next_version_writes() {
    let controller = Controller::start().await;
    let [node] = controller.nodes(["n1"]).await;
    controller.client.apply(&shop("web:1", 1)).await;
    controller.client.complete(WEB, 1).await;
    let first = controller.client.until_settled(WEB).await.jobs[0].id.clone();
    let mut words = controller.client.follow(&format!("/v1/services/{WEB}/logs?follow=true"), None).await;
    let attempt = |job: &str| Attempt { job: job.parse().expect("an id"), number: 1 };
    node.engine.say(attempt(&first), "from the first");
    assert_eq!(next_line(&mut words).await.text, "from the first");
    controller.client.post(&format!("/v1/services/{WEB}/redeploy"), "").await.json::<view::Deployment>();
    controller.client.complete(WEB, 2).await;
    let second = until("the new job is alone", || async {
        let jobs = controller.client.service(WEB).await.jobs;
        (jobs.len() == 1 && jobs[0].id != first).then(|| jobs[0].id.clone())
    })
    .await;
    node.engine.say(attempt(&second), "from the second");
    loop {
        let line = next_line(&mut words).await;
        if line.text == "from the second" {
            break;
        }
        assert_eq!(line.stream, "lapstrake", "{line:?}");
    }
}

/// The next line of a job; what the controller says about the stream is passed over.
async fn next_text(words: &mut Words) -> String {
    loop {
        let line = next_line(words).await;
        if line.stream != "lapstrake" {
            return line.text;
        }
    }
}

#[tokio::test]
async fn a_reader_stays_with_a_job_through_a_restart_of_its_agent_and_its_next_container() {
    let controller = Controller::start().await;
    let [mut node] = controller.nodes(["n1"]).await;
    controller.client.apply(&shop("web:1", 1)).await;
    controller.client.complete(WEB, 1).await;
    controller.client.until_settled(WEB).await;
    let first = node.engine.running()[0];
    node.engine.say(first, "one");
    let mut words = controller.client.follow(&format!("/v1/services/{WEB}/logs?follow=true"), None).await;
    assert_eq!(next_text(&mut words).await, "one");
    node.kill_agent();
    node.engine.say(first, "while nobody read");
    node.start();
    assert_eq!(next_text(&mut words).await, "while nobody read", "and nothing a second time");
    node.engine.crash(first, 1);
    let second = until("the job has another container", || async {
        node.engine.running().first().copied().filter(|attempt| attempt.job == first.job && attempt.number == 2)
    })
    .await;
    node.engine.say(second, "from the next one");
    assert_eq!(next_text(&mut words).await, "from the next one");
}

#[tokio::test]
async fn a_reader_who_is_there_before_a_jobs_container_gets_all_that_it_writes() {
    let controller = Controller::start().await;
    let [node] = controller.nodes(["n1"]).await;
    node.engine.script("web:1", Script { pull_takes: Duration::from_millis(1_500), ..Script::default() });
    controller.client.apply(&shop("web:1", 1)).await;
    controller.client.until_service("the job is known", WEB, |service| !service.jobs.is_empty()).await;
    let mut words = controller.client.follow(&format!("/v1/services/{WEB}/logs?tail=0&follow=true"), None).await;
    let running = until("its container runs", || async { node.engine.running().first().copied() }).await;
    node.engine.say(running, "the first words");
    assert_eq!(next_text(&mut words).await, "the first words");
}

#[tokio::test]
async fn a_line_has_the_time_at_which_it_was_written_whenever_it_is_read() {
    let mut controller = Controller::start().await;
    let [node] = controller.nodes(["n1"]).await;
    controller.client.apply(&shop("web:1", 1)).await;
    controller.client.complete(WEB, 1).await;
    controller.client.until_settled(WEB).await;
    let running = node.engine.running()[0];
    node.engine.say(running, "once");
    let path = format!("/v1/services/{WEB}/logs?follow=true");
    let before = next_line(&mut controller.client.follow(&path, None).await).await;
    controller.start_again().await;
    controller.client.until_settled(WEB).await;
    let after = next_line(&mut controller.client.follow(&path, None).await).await;
    assert_eq!(before, after, "so that who comes back knows what was shown");
}
