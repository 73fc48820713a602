//! What the operators' interface answers to requests that are wrong: always a problem with a sentence, never a change.

use crate::bench::{Answer, Controller, shop};
use http::{Method, Request};
use http_body_util::Full;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;

#[tokio::test]
async fn a_spec_with_five_mistakes_is_refused_with_all_five_places_and_nothing_is_changed() {
    let controller = Controller::start().await;
    let before = controller.stored();
    let spec = "application: Shop
services:
  web:
    type: webb
    image: nginx
    scale: minus
    ports: [{ port: 99999, protocol: http, path: /, public: true }]
  mailer:
    type: worker
    imagee: mailer:1
environments: { production: {} }
";
    for verb in ["plan", "apply"] {
        let problem = controller.client.post(&format!("/v1/{verb}"), spec).await.problem(422);
        assert!(problem.detail.contains("mistakes; nothing was changed"), "{}", problem.detail);
        let places: Vec<(u32, u32)> = problem.mistakes.iter().map(|mistake| (mistake.line, mistake.column)).collect();
        for place in [(1, 14), (4, 11), (6, 12), (7, 21), (10, 5)] {
            assert!(places.contains(&place), "{place:?} is not in {:#?}", problem.mistakes);
        }
        assert!(problem.mistakes.iter().all(|mistake| mistake.width > 0 && !mistake.message.is_empty()));
    }
    assert_eq!(controller.stored(), before);
}

#[tokio::test]
async fn a_spec_of_ten_megabytes_is_too_large_and_nothing_is_changed() {
    let controller = Controller::start().await;
    let before = controller.stored();
    let huge = shop("web:1", 1) + &"# more of the same\n".repeat(10 * 1024 * 1024 / 19);
    for verb in ["plan", "apply"] {
        let problem = controller.client.post(&format!("/v1/{verb}"), huge.clone()).await.problem(413);
        assert!(problem.detail.contains("larger than 1024 KiB"), "{}", problem.detail);
    }
    let json = controller.client.post("/v1/apps", format!(r#"{{"name":"{}"}}"#, "a".repeat(10 << 20))).await;
    json.problem(413);
    assert_eq!(controller.stored(), before);
}

#[tokio::test]
async fn a_body_that_is_not_json_or_not_yaml_is_refused_and_nothing_is_changed() {
    let controller = Controller::start().await;
    let before = controller.stored();
    for path in ["/v1/apps", "/v1/envs", "/v1/node-tokens", "/v1/envs/a/b/nodes", "/v1/services/a/b/c/scale"] {
        let binary: Vec<u8> = vec![0xff, 0xfe, 0];
        for body in [b"not json".to_vec(), b"{".to_vec(), b"[1]".to_vec(), b"\"name\"".to_vec(), binary] {
            let problem = controller.client.post(path, body.clone()).await.problem(400);
            assert!(problem.detail.contains("JSON"), "{path}: {}", problem.detail);
        }
    }
    for body in [&b"a: [b"[..], b"\xff\xfe", b"- 1\n", b"", b"just words"] {
        let problem = controller.client.post("/v1/apply", body.to_vec()).await.problem(422);
        assert!(!problem.mistakes.is_empty(), "{}", problem.detail);
    }
    assert_eq!(controller.stored(), before);
}

#[tokio::test]
async fn unknown_fields_and_parameters_are_refused_instead_of_being_without_effect() {
    let controller = Controller::start().await;
    let before = controller.stored();
    for (path, body) in [
        ("/v1/apps", r#"{"name":"shop","kind":"project"}"#),
        ("/v1/envs", r#"{"application":"shop","name":"qa","policy":{}}"#),
        ("/v1/node-tokens", r#"{"ttl":60}"#),
        ("/v1/services/a/b/c/deploy", r#"{"image":"web:1","force":true}"#),
        ("/v1/services/a/b/c/scale", r#"{"scale":1,"wait":true}"#),
        ("/v1/services/a/b/c/rollback", r#"{"revision":1}"#),
    ] {
        let problem = controller.client.post(path, body).await.problem(400);
        assert!(problem.detail.contains("unknown field"), "{path}: {}", problem.detail);
    }
    controller.client.get("/v1/services?application=shop").await.problem(400);
    controller.client.get("/v1/events?after=yesterday").await.problem(400);
    controller.client.delete("/v1/nodes/n1?forse=true").await.problem(400);
    controller.client.post("/v1/apply?enviroment=production", shop("web:1", 1)).await.problem(400);
    assert_eq!(controller.stored(), before);
}

async fn as_somebody(controller: &Controller, path: &str, authorization: Option<&str>) -> Answer {
    let mut request = Request::builder().method(Method::POST).uri(path).header("host", "localhost");
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    controller.client.ask_raw(request.body(Full::from(shop("web:1", 1))).expect("a request")).await
}

#[tokio::test]
async fn without_a_token_that_this_controller_knows_nothing_is_answered_or_done() {
    let (controller, other) = (Controller::start().await, Controller::start().await);
    let before = controller.stored();
    let own = controller.client.token.clone();
    let mut altered = own.clone();
    altered.replace_range(own.len() - 3..own.len() - 2, if own[..own.len() - 2].ends_with('x') { "7" } else { "x" });
    let foreign = format!("Bearer {}", other.client.token);
    let altered = format!("Bearer {altered}");
    for shown in [None, Some(foreign.as_str()), Some(altered.as_str()), Some("Bearer "), Some("Basic YTpi")] {
        for path in ["/v1/apply", "/v1/apps", "/v1/node-tokens"] {
            let problem = as_somebody(&controller, path, shown).await.problem(401);
            assert!(!problem.detail.contains(&own), "a token is not repeated");
        }
    }
    assert_eq!(controller.stored(), before);
}

#[tokio::test]
async fn an_unknown_address_or_method_is_answered_with_a_problem_too() {
    let controller = Controller::start().await;
    for path in ["/", "/v1", "/v1/nothing", "/v2/apps", "/v1/apps/", "/v1/services/a/b"] {
        controller.client.get(path).await.problem(404);
    }
    for path in
        ["/v1/nodes/n1", "/v1/services/a/b/c", "/v1/services/a/b/c/why", "/v1/services/a/b/c/logs", "/v1/envs?app=a"]
    {
        let problem = controller.client.get(path).await.problem(404);
        assert!(problem.detail.contains("there is no"), "{}", problem.detail);
    }
    controller.client.delete("/v1/apps").await.problem(405);
    controller.client.get("/v1/services/a/b/c/deployments/first").await.problem(400);
    controller.client.get("/v1/nodes/%ff").await.problem(400);
}

#[tokio::test]
async fn connections_that_say_nothing_keep_nobody_out_for_long() {
    // As many as the operators' port takes.
    const ALL: usize = 512;
    let controller = Controller::start().await;
    let mut silent = JoinSet::new();
    for number in 0..ALL {
        let client = controller.client.clone();
        silent.spawn(async move {
            let mut held = client.connect().await;
            if number % 2 == 0 {
                // So begin both a request and the preface of HTTP/2, and it decides nothing yet.
                held.write_all(b"P").await.expect("it is taken");
            }
            held
        });
    }
    let held = silent.join_all().await;
    assert_eq!(held.len(), ALL);
    let answer = controller.client.get("/v1/version").await;
    assert_eq!(answer.status, 200);
    drop(held);
}
