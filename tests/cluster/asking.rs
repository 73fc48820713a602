//! How the operators' interface is asked: once however often, only on what was decided on, page by page, not too often.

use crate::bench::{Answer, Controller, WEB, shop, until};
use http::{Method, Request};
use http_body_util::Full;
use lapstrake_api::view;
use lapstrake_controller::api::{Kind, endpoints, openapi};
use lapstrake_controller::config::RateLimits;
use std::collections::BTreeSet;

const REDEPLOY: &str = "/v1/services/shop/production/web/redeploy";

/// Redeploys under a key; the number of the deployment.
async fn redeploy(controller: &Controller, key: &str) -> u32 {
    let answer = controller.client.ask_with(Method::POST, REDEPLOY, [("idempotency-key", key)], "").await;
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.json::<view::Deployment>().number
}

async fn newest(controller: &Controller) -> u32 {
    controller.client.service(WEB).await.deployment.expect("it was deployed").number
}

async fn settled(controller: &Controller) {
    controller.client.apply(&shop("web:1", 1)).await;
    controller.client.complete(WEB, 1).await;
}

#[tokio::test]
async fn a_request_whose_answer_is_lost_with_the_controller_is_applied_once_when_it_is_repeated() {
    let mut controller = Controller::start().await;
    let [_node] = controller.nodes(["n1"]).await;
    settled(&controller).await;
    // It is sent, and the controller is killed as soon as the disk has it; nobody has read an answer.
    let request = Request::builder()
        .method(Method::POST)
        .uri(REDEPLOY)
        .header("host", "localhost")
        .header("authorization", format!("Bearer {}", controller.client.token))
        .header("idempotency-key", "lost-answer");
    let request = request.body(Full::default()).expect("a request");
    let is_stored = || async {
        controller
            .stored()
            .rows
            .iter()
            .any(|(key, _)| key.starts_with("request/") && key.ends_with("/lost-answer"))
            .then_some(())
    };
    controller.client.ask_and_leave(request, until("the request is on disk", is_stored)).await;
    controller.start_again().await;
    assert_eq!(newest(&controller).await, 2, "it was carried out");
    for _ in 0..2 {
        assert_eq!(redeploy(&controller, "lost-answer").await, 2, "the first answer again");
    }
    assert_eq!(newest(&controller).await, 2, "and nothing more was done");
    assert_eq!(redeploy(&controller, "another").await, 3);
}

#[tokio::test]
async fn the_same_answer_is_given_again_to_everything_that_can_be_repeated() {
    let controller = Controller::start().await;
    let ask = async |method: &Method, path: &str, body: &str| {
        let body = body.to_owned();
        controller.client.ask_with(method.clone(), path, [("idempotency-key", "\"quoted:1\"")], body).await
    };
    let spec = shop("web:1", 1).replace("shop", "bakery");
    for (key, method, path, body, status) in [
        ("k1", Method::POST, "/v1/apps", r#"{"name":"shop"}"#, 201),
        ("k2", Method::POST, "/v1/envs", r#"{"application":"shop","name":"qa"}"#, 201),
        ("k3", Method::POST, "/v1/apply", spec.as_str(), 200),
        ("k4", Method::DELETE, "/v1/services/bakery/production/web", "", 202),
    ] {
        let once = || controller.client.ask_with(method.clone(), path, [("idempotency-key", key)], body.to_owned());
        let first = once().await;
        assert_eq!(first.status, status, "{path}: {first:?}");
        let again = once().await;
        assert_eq!((again.status, &again.body), (first.status, &first.body), "{path}");
        let done = controller.stored().rows.iter().filter(|(row, _)| row.ends_with(key)).count();
        assert_eq!(done, 1, "{path}");
    }
    let deployments = controller.stored().rows.iter().filter(|(row, _)| row.starts_with("deployment/")).count();
    assert!(deployments <= 1, "the spec was applied once");
    assert_eq!(ask(&Method::POST, "/v1/apps", r#"{"name":"zoo"}"#).await.status, 201);
    let reused = ask(&Method::POST, "/v1/apps", r#"{"name":"farm"}"#).await.problem(422);
    assert_eq!(reused.type_uri, "/problems/key-reused");
    assert!(reused.detail.contains("quoted:1") && reused.detail.contains("another request"), "{}", reused.detail);
    assert_eq!(controller.client.get("/v1/envs?app=farm").await.status, 404, "and nothing was done");
    let wrong =
        controller.client.ask_with(Method::POST, "/v1/apps", [("idempotency-key", "a/b")], r#"{"name":"farm"}"#);
    wrong.await.problem(422);
}

#[tokio::test]
async fn a_secret_that_is_shown_once_is_not_shown_again_nor_kept_for_that() {
    let controller = Controller::start().await;
    for (path, body) in [("/v1/node-tokens", "{}"), ("/v1/tokens", r#"{"name":"ci","role":"deployer"}"#)] {
        let ask = || {
            controller.client.ask_with(Method::POST, path, [("idempotency-key", path.trim_start_matches("/v1/"))], body)
        };
        let first = ask().await;
        assert_eq!(first.status, 201, "{first:?}");
        let shown: serde_json::Value = first.json();
        let shown = shown["token"].as_str().expect("a token").to_owned();
        let stored = controller.stored();
        let problem = ask().await.problem(409);
        assert_eq!(problem.type_uri, "/problems/shown-once");
        assert!(problem.detail.contains("new key"), "{}", problem.detail);
        assert_eq!(controller.stored(), stored, "no second one was made");
        assert!(!stored.rows.iter().any(|(_, row)| row.contains(&shown)), "{path}");
    }
}

#[tokio::test]
async fn what_was_changed_since_it_was_read_is_not_changed_blindly() {
    let controller = Controller::start().await;
    let [_node] = controller.nodes(["n1"]).await;
    settled(&controller).await;
    let service = controller.client.get("/v1/services/shop/production/web").await;
    let first = service.header("etag").expect("a tag").to_owned();
    for (path, change, body) in [
        ("/v1/services/shop/production/web", REDEPLOY, ""),
        ("/v1/envs/shop/production", "/v1/envs/shop/production/nodes", r#"{"node":"n2"}"#),
    ] {
        let [_other] =
            if path.contains("envs") { controller.nodes(["n2"]).await } else { controller.nodes(["n3"]).await };
        let tag = controller.client.get(path).await.header("etag").expect("a tag").to_owned();
        assert_eq!(controller.client.get(path).await.header("etag"), Some(tag.as_str()), "reading changes nothing");
        let known = controller.client.ask_with(Method::GET, path, [("if-none-match", tag.as_str())], "").await;
        assert_eq!((known.status, known.body.len()), (304, 0), "{path}");
        let stale = [("if-match", "\"0000000000000000\"")];
        let problem = controller.client.ask_with(Method::POST, change, stale, body).await.problem(412);
        assert_eq!(problem.type_uri, "/problems/changed");
        assert!(problem.detail.contains("was changed since it was read"), "{}", problem.detail);
        let done = controller.client.ask_with(Method::POST, change, [("if-match", tag.as_str())], body).await;
        assert!(done.status < 300, "{done:?}");
    }
    let problem =
        controller.client.ask_with(Method::POST, REDEPLOY, [("if-match", first.as_str())], "").await.problem(412);
    assert!(problem.detail.contains("shop/production/web"), "the redeploy itself changed it: {}", problem.detail);
    assert_eq!(newest(&controller).await, 2);
}

#[tokio::test]
async fn a_plan_is_applied_only_if_nothing_changed_under_it() {
    let controller = Controller::start().await;
    let [_node] = controller.nodes(["n1"]).await;
    settled(&controller).await;
    let plan: view::Changes = controller.client.post("/v1/plan", shop("web:2", 1)).await.json();
    let tag = format!("\"{}\"", plan.tag.expect("a tag"));
    assert_eq!(redeploy(&controller, "meanwhile").await, 2);
    let apply =
        || controller.client.ask_with(Method::POST, "/v1/apply", [("if-match", tag.as_str())], shop("web:2", 1));
    assert_eq!(apply().await.problem(412).type_uri, "/problems/changed");
    assert_eq!(newest(&controller).await, 2);
    controller.client.complete(WEB, 2).await;
    let plan: view::Changes = controller.client.post("/v1/plan", shop("web:2", 1)).await.json();
    let tag = format!("\"{}\"", plan.tag.expect("a tag"));
    let applied =
        controller.client.ask_with(Method::POST, "/v1/apply", [("if-match", tag.as_str())], shop("web:2", 1)).await;
    assert_eq!(applied.json::<view::Changes>().services[0].deployment, Some(3));
}

/// Every page of a list, one item each.
async fn one_by_one(controller: &Controller, path: &str) -> Vec<serde_json::Value> {
    let mut all = Vec::new();
    let mut next = Some(format!("{path}{}limit=1", if path.contains('?') { '&' } else { '?' }));
    while let Some(address) = next {
        let page = controller.client.get(&address).await;
        next = page.header("link").map(|link| {
            let (address, rest) = link.strip_prefix('<').expect("an address").split_once('>').expect("its end");
            assert_eq!(rest, "; rel=\"next\"");
            address.to_owned()
        });
        let items: Vec<serde_json::Value> = page.json();
        assert!(items.len() <= 1, "{path}");
        all.extend(items);
    }
    all
}

#[tokio::test]
async fn every_list_can_be_read_in_pages_that_are_the_whole_list() {
    let controller = Controller::start().await;
    let [_one, _two] = controller.nodes(["n1", "n2"]).await;
    controller.client.apply(&shop("web:1", 3)).await;
    controller.client.until_settled(WEB).await;
    controller.client.post(REDEPLOY, "").await;
    controller.client.complete(WEB, 2).await;
    controller.client.until_settled(WEB).await;
    assert_eq!(controller.client.post("/v1/apps", r#"{"name":"shop-2"}"#).await.status, 201);
    assert_eq!(controller.client.post("/v1/tokens", r#"{"name":"ci","role":"viewer"}"#).await.status, 201);
    for path in [
        "/v1/apps",
        "/v1/envs",
        "/v1/envs?app=shop",
        "/v1/nodes",
        "/v1/tokens",
        "/v1/services",
        "/v1/jobs?below=shop",
        "/v1/services/shop/production/web/deployments",
        "/v1/events?after=0",
    ] {
        let whole: Vec<serde_json::Value> = controller.client.get(path).await.json();
        let name = |item: &serde_json::Value| {
            ["path", "id", "number", "name"].iter().find_map(|key| item.get(key)).cloned().expect("a name")
        };
        let mut paged = one_by_one(&controller, path).await;
        // What happens meanwhile is on a page too.
        paged.truncate(whole.len());
        let names = |items: &[serde_json::Value]| items.iter().map(name).collect::<Vec<_>>();
        assert_eq!(names(&paged), names(&whole), "{path}");
        assert!(!whole.is_empty(), "{path}");
        let separator = if path.contains('?') { '&' } else { '?' };
        for wrong in ["limit=0", "limit=501", "limit=many"] {
            controller.client.get(&format!("{path}{separator}{wrong}")).await.problem(400);
        }
    }
}

#[tokio::test]
async fn who_asks_too_often_is_told_how_long_to_wait_and_nobody_else_waits() {
    let rate = RateLimits { token_per_second: 1, token_burst: 20, ..RateLimits::default() };
    let controller = Controller::start_with(|config| config.rate = rate).await;
    let other = controller.client.post("/v1/tokens", r#"{"name":"ci","role":"viewer"}"#).await;
    let other = other.json::<view::NewOperatorToken>().token;
    // A stream counts once, however much it says.
    let mut stream = controller.client.follow("/v1/events?follow=true", None).await;
    assert!(stream.next().await.is_some());
    let refused = until("the rate is used up", || async {
        let answer = controller.client.get("/v1/apps").await;
        (answer.status != 200).then_some(answer)
    });
    let refused = refused.await;
    let wait: u64 = refused.header("retry-after").expect("how long").parse().expect("seconds");
    assert!((1..=20).contains(&wait), "{wait}");
    let problem = refused.problem(429);
    assert_eq!(problem.type_uri, "/problems/too-many-requests");
    let grace = crate::bench::Client::new(controller.client.address, &other);
    assert_eq!(grace.get("/v1/apps").await.status, 200, "somebody else's token has a bucket of its own");
    until("whoever waits is answered again", || async {
        (controller.client.get("/v1/apps").await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn guessing_tokens_uses_an_address_up_faster_than_asking() {
    let rate = RateLimits { address_per_second: 1, address_burst: 100, wrong_token_costs: 30, ..RateLimits::default() };
    let controller = Controller::start_with(|config| config.rate = rate).await;
    let stranger = Controller::start().await;
    let mut guesses = 0;
    loop {
        let request = Request::builder().uri("/v1/apps").header("host", "localhost");
        let request = request.header("authorization", format!("Bearer {}", stranger.client.token));
        let answer: Answer = controller.client.ask_raw(request.body(Full::default()).expect("a request")).await;
        if answer.status == 429 {
            break;
        }
        answer.problem(401);
        guesses += 1;
        assert!(guesses < 10, "100 requests' worth are used up by 4 guesses");
    }
    assert!(guesses >= 3, "{guesses}");
    controller.client.get("/v1/apps").await.problem(429);
}

#[tokio::test]
async fn every_problem_has_a_page_that_says_what_to_do() {
    let controller = Controller::start().await;
    let statuses: BTreeSet<u16> = Kind::ALL.iter().map(|kind| kind.status().as_u16()).collect();
    assert!(statuses.contains(&412) && statuses.contains(&429));
    let anybody = async |path: &str| {
        let request = Request::builder().uri(path).header("host", "localhost");
        controller.client.ask_raw(request.body(Full::default()).expect("a request")).await
    };
    for kind in Kind::ALL {
        let page = anybody(&format!("/problems/{}", kind.name())).await;
        assert_eq!(page.status, 200, "no token is needed: {}", kind.name());
        let text = String::from_utf8(page.body.to_vec()).expect("text");
        assert!(text.contains(kind.title()) && text.contains(kind.status().as_str()), "{text}");
    }
    anybody("/problems/nothing").await.problem(404);
    let (one, two) = (anybody("/v1/apps").await.problem(401), anybody("/v1/apps").await.problem(401));
    assert_ne!(one.instance, two.instance, "each occurrence has a name of its own");
}

#[tokio::test]
async fn the_description_of_the_interface_is_served_to_anybody_and_names_every_address() {
    let controller = Controller::start().await;
    let request = Request::builder().uri("/openapi.json").header("host", "localhost");
    let answer = controller.client.ask_raw(request.body(Full::default()).expect("a request")).await;
    assert_eq!((answer.status, answer.content_type.as_str()), (200, "application/json"));
    assert_eq!(String::from_utf8_lossy(&answer.body), openapi::text());
    let document: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(document["openapi"], "3.1.0");
    for endpoint in endpoints() {
        let operation = &document["paths"][endpoint.path][endpoint.method.as_str().to_ascii_lowercase()];
        assert!(operation["summary"].is_string(), "{} {}", endpoint.method, endpoint.path);
    }
}
