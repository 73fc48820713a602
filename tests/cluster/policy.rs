//! What an environment allows, and the fields of a spec that only operators change.

use crate::bench::{Client, Controller, shop};
use lapstrake_api::view;
use serde_json::json;

const POLICY: &str = "/v1/envs/shop/production/policy";

async fn deployer(controller: &Controller) -> Client {
    let ask = json!({ "name": "deployer", "role": "deployer", "scope": "shop" });
    let made: view::NewOperatorToken = controller.client.post("/v1/tokens", ask.to_string()).await.json();
    Client { token: made.token, ..controller.client.clone() }
}

#[tokio::test]
async fn a_deployer_is_refused_a_reserved_field_at_its_place_in_the_spec() {
    let controller = Controller::start().await;
    controller.client.apply(&shop("web:1", 1)).await;
    let ask = json!({ "operator_fields": ["deploy.overlap", "size.memory"] });
    let policy: view::Policy = controller.client.patch(POLICY, ask.to_string()).await.json();
    assert_eq!(policy.operator_fields, ["deploy.overlap", "size.memory"]);
    let deployer = deployer(&controller).await;
    let before = controller.stored();
    let spec = shop("web:2", 1).replace("drain: 100ms", "overlap: 5s, drain: 100ms").replace("6MiB", "7MiB");
    for verb in ["plan", "apply"] {
        let problem = deployer.post(&format!("/v1/{verb}"), spec.clone()).await.problem(403);
        let drawn: Vec<_> = problem.mistakes.iter().map(|it| (it.line, it.column, it.message.as_str())).collect();
        let place = |text: &str| {
            let (line, found) = (1..).zip(spec.lines()).find(|(_, line)| line.contains(text)).expect("a line");
            (line, found.find(text).expect("a column") as u32 + text.find(' ').expect("a value") as u32 + 2)
        };
        let said = |field: &str| format!("{field} of shop/production/web is reserved to operators of shop/production");
        let (overlap, memory) = (place("overlap: 5s"), place("memory: 7MiB"));
        assert_eq!(
            drawn,
            [
                (overlap.0, overlap.1, said("deploy.overlap").as_str()),
                (memory.0, memory.1, said("size.memory").as_str())
            ]
        );
        assert!(problem.mistakes.iter().all(|mistake| mistake.hint.as_ref().is_some_and(|it| it.contains("operator"))));
    }
    assert_eq!(controller.stored(), before);
    // What is not reserved is the deployer's, and an operator may do all of it.
    deployer.apply(&shop("web:2", 1).replace("drain: 100ms", "drain: 200ms")).await;
    controller.client.apply(&spec).await;
    deployer.apply(&spec.replace("web:2", "web:3")).await;
}

#[tokio::test]
async fn a_policy_is_set_in_part_and_every_mistake_is_told_at_once() {
    let controller = Controller::start().await;
    controller.client.apply(&shop("web:1", 3)).await;
    let set = async |ask: serde_json::Value| controller.client.patch(POLICY, ask.to_string()).await;
    set(json!({ "operator_fields": ["deploy.drain"] })).await.json::<view::Policy>();
    let policy: view::Policy = set(json!({ "max_scale": 4 })).await.json();
    assert_eq!((policy.max_scale, policy.operator_fields), (4, vec!["deploy.drain".to_owned()]));
    let problem = set(json!({ "max_scale": 33, "operator_fields": ["deploy.speed"] })).await.problem(422);
    assert!(problem.detail.contains("quota of 32") && problem.detail.contains("deploy.speed"), "{}", problem.detail);
    let problem = set(json!({ "max_scale": 2 })).await.problem(409);
    assert!(problem.detail.contains("shop/production/web with 3"), "{}", problem.detail);
    let problem = controller.client.post("/v1/services/shop/production/web/scale", r#"{"scale":5}"#).await;
    assert_eq!(problem.status, 409);
    assert_eq!(controller.client.get(POLICY).await.json::<view::Policy>().max_scale, 4);
}
