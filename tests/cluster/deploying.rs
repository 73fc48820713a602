//! Applying specs, and what operators do to a service afterwards.

use crate::bench::{Controller, WEB, shop, with_web};
use lapstrake_api::view;
use serde_json::json;

fn jobs(service: &view::Service) -> Vec<String> {
    service.jobs.iter().map(|job| job.id.clone()).collect()
}

fn post(verb: &str) -> String {
    format!("/v1/services/{WEB}/{verb}")
}

#[tokio::test]
async fn applying_the_same_spec_again_changes_nothing() {
    let (controller, node, service) = with_web(2).await;
    assert_eq!((service.revision, service.healthy, service.jobs.len()), (Some(1), 2, 2));
    let before = controller.stored();
    let again = controller.client.apply(&shop("web:1", 2)).await;
    assert_eq!(again.creates_application, None);
    assert_eq!(again.services[0].action, "nothing", "{again:#?}");
    assert_eq!(again.services[0].deployment, None);
    assert_eq!(controller.stored(), before, "not a row, not an event");
    assert!(node.runs(&jobs(&service)));
}

#[tokio::test]
async fn a_plan_says_what_apply_would_do_and_does_nothing() {
    let (controller, node, service) = with_web(1).await;
    let before = controller.stored();
    let plan: view::Changes = controller.client.post("/v1/plan", shop("web:2", 1)).await.json();
    assert_eq!(plan.services[0].action, "replace");
    let image = &plan.services[0].changes[0];
    assert_eq!(
        (image.field.as_str(), image.old.as_deref(), image.new.as_deref()),
        ("image", Some("web:1"), Some("web:2"))
    );
    assert_eq!(plan.services[0].deployment, None);
    assert_eq!(controller.stored(), before);
    assert!(node.runs(&jobs(&service)));
}

#[tokio::test]
async fn another_image_replaces_every_job_and_a_rollback_is_a_new_deployment_of_the_old_revision() {
    let (controller, node, first) = with_web(2).await;
    let asked: view::Deployment =
        controller.client.post(&post("deploy"), json!({ "image": "web:2" }).to_string()).await.json();
    assert_eq!((asked.number, asked.trigger.as_str(), asked.from), (2, "deploy", Some(1)));
    let done = controller.client.complete(WEB, 2).await;
    assert_eq!(done.revision, Some(2));
    let second = controller.client.until_settled(WEB).await;
    assert_eq!((second.revision, second.image.as_str()), (Some(2), "web:2"));
    assert!(jobs(&second).iter().all(|job| !jobs(&first).contains(job)), "a job has one revision, for life");

    let asked: view::Deployment = controller.client.post(&post("rollback"), "{}").await.json();
    assert_eq!((asked.number, asked.trigger.as_str(), asked.revision), (3, "rollback", Some(1)));
    controller.client.complete(WEB, 3).await;
    let third = controller.client.until_settled(WEB).await;
    assert_eq!((third.revision, &third.pinned), (Some(1), &first.pinned), "the revision, bound as it was");
    assert!(jobs(&third).iter().all(|job| !jobs(&first).contains(job)), "but its jobs are new");
    assert!(node.runs(&jobs(&third)));
    let all: Vec<view::Deployment> = controller.client.get(&post("deployments")).await.json();
    assert_eq!(all.iter().map(|one| one.number).collect::<Vec<_>>(), [3, 2, 1], "newest first");

    let refused = controller.client.post(&post("rollback"), json!({ "to": 1 }).to_string()).await.problem(409);
    assert!(refused.detail.contains("runs r1 already"), "{}", refused.detail);
    let unknown = controller.client.post(&post("rollback"), json!({ "to": 9 }).to_string()).await.problem(404);
    assert!(unknown.detail.contains("no revision r9") && unknown.detail.contains("r1, r2"), "{}", unknown.detail);
}

#[tokio::test]
async fn a_redeploy_gives_new_jobs_of_the_same_revision_and_the_same_image() {
    let (controller, node, before) = with_web(2).await;
    let asked: view::Deployment = controller.client.post(&post("redeploy"), "").await.json();
    assert_eq!((asked.number, asked.trigger.as_str(), asked.revision), (2, "redeploy", Some(1)));
    controller.client.complete(WEB, 2).await;
    let after = controller.client.until_settled(WEB).await;
    assert_eq!((after.revision, &after.pinned), (before.revision, &before.pinned));
    assert!(jobs(&after).iter().all(|job| !jobs(&before).contains(job)));
    assert!(node.runs(&jobs(&after)));
}

#[tokio::test]
async fn a_redeploy_starts_the_new_job_before_it_stops_the_old_one() {
    let (controller, node, before) = with_web(1).await;
    controller.client.post(&post("redeploy"), "").await.json::<view::Deployment>();
    let done = controller.client.complete(WEB, 2).await;
    let verbs: Vec<&str> = node.engine.done().iter().map(|(verb, _)| *verb).take(3).collect();
    assert_eq!(verbs, ["run", "run", "terminate"]);
    let slot = &done.slots[0];
    assert_eq!(slot.old.as_deref(), Some(before.jobs[0].id.as_str()));
    let at = |phase: &str| slot.reached.iter().find(|moment| moment.phase == phase).map(|moment| moment.at_ms);
    assert!(at("ready") <= at("switched") && at("switched") <= slot.stopped_ms, "{slot:#?}");
    assert!(at("switched").is_some(), "{slot:#?}");
}

#[tokio::test]
async fn another_scale_replaces_no_job() {
    let (controller, node, two) = with_web(2).await;
    let asked: view::Deployment =
        controller.client.post(&post("scale"), json!({ "scale": 4 }).to_string()).await.json();
    assert_eq!(asked.trigger, "scale");
    controller.client.complete(WEB, 2).await;
    let four = controller.client.until_service("four jobs", WEB, |it| it.healthy == 4 && it.state == "healthy").await;
    assert!(jobs(&two).iter().all(|job| jobs(&four).contains(job)), "both are still there");
    assert_eq!((node.starts(), four.revision), (4, Some(1)));

    controller.client.post(&post("scale"), json!({ "scale": 1 }).to_string()).await.json::<view::Deployment>();
    controller.client.complete(WEB, 3).await;
    let one = controller.client.until_service("one job", WEB, |it| it.scale == 1 && it.jobs.len() == 1).await;
    assert!(jobs(&two).contains(&one.jobs[0].id), "the first slot's job stays");
    assert_eq!(node.starts(), 4);
    let same = controller.client.post(&post("scale"), json!({ "scale": 1 }).to_string()).await;
    assert_eq!(same.status, 200, "it is so already");
    let too_many = controller.client.post(&post("scale"), json!({ "scale": 1000 }).to_string()).await;
    let refused = too_many.problem(409).detail;
    assert!(refused.contains("quota of jobs per service is 32"), "{refused}");
}

#[tokio::test]
async fn a_removed_service_is_gone_with_its_containers_and_its_name_is_free_again() {
    let (controller, node, _) = with_web(2).await;
    assert_eq!(controller.client.delete(&format!("/v1/services/{WEB}")).await.status, 202);
    crate::bench::until("the service is gone", || async {
        (controller.client.get(&format!("/v1/services/{WEB}")).await.status == 404).then_some(())
    })
    .await;
    assert!(node.engine.running().is_empty());
    controller.client.delete(&format!("/v1/services/{WEB}")).await.problem(404);
    controller.client.apply(&shop("web:1", 1)).await;
    controller.client.complete(WEB, 1).await;
}

#[tokio::test]
async fn the_seventeenth_service_is_refused_with_the_name_of_the_quota() {
    let controller = Controller::start().await;
    let spec = |count: usize| {
        let services: String =
            (1..=count).map(|n| format!("  w{n}: {{ type: worker, image: \"worker:1\" }}\n")).collect();
        format!("application: shop\nservices:\n{services}environments: {{ production: {{}} }}\n")
    };
    controller.client.apply(&spec(16)).await;
    let refused = controller.client.post("/v1/apply", spec(17)).await.problem(409);
    assert!(refused.detail.contains("17 services") && refused.detail.contains("16"), "{}", refused.detail);
    assert!(refused.detail.contains("its quota \"services\""), "the quota's name: {}", refused.detail);
    let services: Vec<view::Service> = controller.client.get("/v1/services").await.json();
    assert_eq!(services.len(), 16, "nothing was changed");
}

#[tokio::test]
async fn a_host_that_another_service_has_is_refused_at_its_place() {
    let (controller, _node, _) = with_web(1).await;
    let before = controller.stored();
    let second = shop("web:1", 1).replace("application: shop", "application: bank");
    let refused = controller.client.post("/v1/apply", second).await;
    let status = refused.status;
    let problem = refused.problem(status);
    assert!(matches!(status, 409 | 422), "{problem:#?}");
    assert!(problem.detail.contains("shop.test") && problem.detail.contains(WEB), "{problem:#?}");
    assert_eq!(controller.stored(), before);
    let free = shop("web:1", 1).replace("application: shop", "application: bank").replace("shop.test", "bank.test");
    controller.client.apply(&free).await;
}
