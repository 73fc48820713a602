//! Good and bad versions on a real engine, while a client asks all the time.

use crate::asker::Asker;
use crate::machine::{HELLO, HOST, Machine, docker, image};

/// Deploys a bad image over a good one under requests. What `why` says first.
async fn deploy_bad(name: &str, settings: &[&str]) -> String {
    let machine = Machine::start().await;
    let good = machine.serve(&image("lapt-v1", &[]), "local").await;
    let bad = if settings.is_empty() { name.to_owned() } else { image(name, settings) };
    let container = format!("lap-{}-1", good.jobs[0].id);
    let started = docker(&["inspect", "-f", "{{.Id}} {{.State.StartedAt}}", &container]);
    let asker = Asker::start(machine.proxy, HOST);
    let failed = machine.deploy(&bad).await;
    assert_eq!(failed.phase, "failed", "{failed:#?}");
    let alone = |service: &lapstrake_api::view::Service| service.jobs.len() == 1 && service.healthy == 1;
    let after = machine.controller.client.until_service("the old job is alone", HELLO, alone).await;
    assert_eq!((after.state.as_str(), &after.jobs[0].id), ("degraded", &good.jobs[0].id), "{}", after.message);
    asker.saw_only(&["lapt-v1"]).await;
    let same = docker(&["inspect", "-f", "{{.Id}} {{.State.StartedAt}}", &container]);
    assert_eq!(same, started, "the old container was never restarted");
    machine.controller.client.why(HELLO).await.sentences.swap_remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_version_takes_over_without_a_lost_request() {
    let machine = Machine::start().await;
    let first = machine.serve(&image("lapt-v1", &[]), "local").await;
    let asker = Asker::start(machine.proxy, HOST);
    let done = machine.deploy(&image("lapt-v2", &[])).await;
    assert_eq!(done.phase, "complete", "{done:#?}");
    let second = machine.controller.client.until_settled(HELLO).await;
    assert_ne!(second.jobs[0].id, first.jobs[0].id);
    machine.operate("rollback").await;
    asker.saw_only(&["lapt-v1", "lapt-v2"]).await;
    assert_eq!(crate::asker::ask(machine.proxy, HOST).await.as_deref(), Ok("lapt-v1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_exits_at_once_loses_no_request_and_why_tells_its_exit_code() {
    let said = deploy_bad("lapt-exit", &["FAIL=exit"]).await;
    assert!(said.starts_with("deployment 2 failed: "), "{said}");
    assert!(said.contains("exited with code 3") && said.contains("fatal: cannot go on"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_never_gets_healthy_loses_no_request_and_why_tells_the_answer_of_its_check() {
    let said = deploy_bad("lapt-unhealthy", &["FAIL=unhealthy"]).await;
    assert!(said.contains("status 500") && said.contains("told to fail its health check"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_eats_its_memory_limit_loses_no_request_and_why_tells_the_limit() {
    let said = deploy_bad("lapt-memory", &["FAIL=memory"]).await;
    assert!(said.contains("memory limit of 64 MiB"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_is_not_on_the_node_loses_no_request_and_why_names_it() {
    let said = deploy_bad("lapstrake-hello:lapt-nowhere", &[]).await;
    assert!(said.contains("no node holds the image lapstrake-hello:lapt-nowhere"), "{said}");
}
