//! Who may do what, asked of the real interface: every address, with every role, in every scope.

use crate::bench::{Answer, Client, Controller, WEB, shop};
use http::Method;
use lapstrake_api::view;
use lapstrake_controller::api;
use serde_json::json;
use std::collections::BTreeSet;

const ROLES: [&str; 4] = ["viewer", "deployer", "operator", "admin"];

/// Where the tokens are good. What is asked for lies in `shop/production`, in `shop`, or in the organization.
const SCOPES: [Option<&str>; 5] = [None, Some("shop"), Some("shop/production"), Some("shop/staging"), Some("blog")];

/// Who is let in, and who learns what otherwise. Written by hand, and not from the product's own table.
#[derive(Debug, Clone, Copy)]
enum Let {
    /// Everybody, without a token.
    Anyone,
    /// Every token.
    Holders,
    /// This role anywhere; what is shown is another test's matter.
    Anywhere(&'static str),
    /// This role for the organization.
    InOrganization(&'static str),
    /// This role for `shop` or more; for all others there is no `shop`.
    InShop(&'static str),
    /// This role for `shop/production` or more; beside it there is no such environment.
    InProduction(&'static str),
    /// As before, but a smaller role is told so even beside it, because the scope is only known from the body.
    InProductionByBody(&'static str),
    /// This role for the scope of the token `target`, which is `shop/production`; beside it there is no such token.
    OfTarget(&'static str),
}

use Let::*;

/// A row for every address: what is sent is refused, if the caller is let in, only for what it says.
#[rustfmt::skip]
const EXPECTED: &[(&str, &str, &str, Let)] = &[
    ("GET", "/v1/version", "", Anyone),
    ("GET", "/openapi.json", "", Anyone),
    ("GET", "/problems/{problem}", "", Anyone),
    ("GET", "/v1/whoami", "", Holders),
    ("GET", "/v1/controller", "", Holders),
    ("GET", "/v1/tokens", "", Anywhere("admin")),
    ("POST", "/v1/tokens", r#"{"name":"Not A Name","role":"viewer","scope":"shop/production"}"#, InProductionByBody("admin")),
    ("DELETE", "/v1/tokens/{token}", "", OfTarget("admin")),
    ("GET", "/v1/apps", "", Anywhere("viewer")),
    ("POST", "/v1/apps", r#"{"name":"Not A Name"}"#, InOrganization("operator")),
    ("GET", "/v1/envs", "", Anywhere("viewer")),
    ("POST", "/v1/envs", r#"{"application":"shop","name":"Not A Name"}"#, InShop("operator")),
    ("GET", "/v1/envs/{app}/{env}", "", InProduction("viewer")),
    ("POST", "/v1/envs/{app}/{env}/nodes", r#"{"node":"absent"}"#, InOrganization("operator")),
    ("DELETE", "/v1/envs/{app}/{env}/nodes/{node}", "", InOrganization("operator")),
    ("GET", "/v1/nodes", "", Anywhere("viewer")),
    ("GET", "/v1/nodes/{node}", "", Anywhere("viewer")),
    ("DELETE", "/v1/nodes/{node}", "", InOrganization("operator")),
    ("POST", "/v1/nodes/{node}/cordon", "", InOrganization("operator")),
    ("DELETE", "/v1/nodes/{node}/cordon", "", InOrganization("operator")),
    ("POST", "/v1/nodes/{node}/labels", r#"{"set":{"zone":"a"}}"#, InOrganization("operator")),
    ("POST", "/v1/nodes/{node}/revoke", "", InOrganization("operator")),
    ("POST", "/v1/nodes/{node}/unquarantine", "", InOrganization("operator")),
    ("POST", "/v1/nodes/{node}/return", r#"{"key":"0"}"#, InOrganization("operator")),
    ("DELETE", "/v1/nodes/{node}/return", "", InOrganization("operator")),
    ("GET", "/v1/authority", "", InOrganization("viewer")),
    ("POST", "/v1/authority/advance", "", InOrganization("admin")),
    ("POST", "/v1/authority/rotate", "", InOrganization("admin")),
    ("GET", "/v1/quotas", "", Anywhere("viewer")),
    ("POST", "/v1/quotas/{app}", "{}", InOrganization("operator")),
    ("POST", "/v1/quotas/{app}/{env}", "{}", InShop("operator")),
    ("GET", "/v1/values", "", InOrganization("viewer")),
    ("POST", "/v1/values", r#"{"of":"shop/production","kind":"secret","name":"Not A Name","value":"x"}"#, InProductionByBody("operator")),
    ("DELETE", "/v1/values/{kind}/{name}", "", InOrganization("operator")),
    ("POST", "/v1/values/key", "", InOrganization("admin")),
    ("POST", "/v1/node-tokens", r#"{"node":"Not A Name"}"#, InOrganization("operator")),
    ("POST", "/v1/plan", "spec", InProductionByBody("deployer")),
    ("POST", "/v1/apply", "spec", InProductionByBody("deployer")),
    ("GET", "/v1/jobs", "", Anywhere("viewer")),
    ("GET", "/v1/services", "", Anywhere("viewer")),
    ("GET", "/v1/services/{app}/{env}/{service}", "", InProduction("viewer")),
    ("DELETE", "/v1/services/{app}/{env}/{service}", "", InProduction("operator")),
    ("GET", "/v1/services/{app}/{env}/{service}/why", "", InProduction("viewer")),
    ("GET", "/v1/services/{app}/{env}/{service}/deployments", "", InProduction("viewer")),
    ("GET", "/v1/services/{app}/{env}/{service}/deployments/{number}", "", InProduction("viewer")),
    ("POST", "/v1/services/{app}/{env}/{service}/deployments/{number}/cancel", "", InProduction("deployer")),
    ("POST", "/v1/services/{app}/{env}/{service}/deployments/{number}/hold", "", InProduction("deployer")),
    ("POST", "/v1/services/{app}/{env}/{service}/deployments/{number}/release", "{}", InProduction("deployer")),
    ("POST", "/v1/services/{app}/{env}/{service}/deploy", r#"{"image":"web:2"}"#, InProduction("deployer")),
    ("POST", "/v1/services/{app}/{env}/{service}/redeploy", "", InProduction("deployer")),
    ("POST", "/v1/services/{app}/{env}/{service}/rollback", "{}", InProduction("deployer")),
    ("POST", "/v1/services/{app}/{env}/{service}/scale", r#"{"scale":1}"#, InProduction("deployer")),
    ("GET", "/v1/services/{app}/{env}/{service}/runs", "", InProduction("viewer")),
    ("POST", "/v1/services/{app}/{env}/{service}/runs", r#"{"command":[]}"#, InProduction("operator")),
    ("GET", "/v1/services/{app}/{env}/{service}/runs/{job}", "", InProduction("viewer")),
    ("DELETE", "/v1/services/{app}/{env}/{service}/runs/{job}", "", InProduction("operator")),
    ("POST", "/v1/services/{app}/{env}/{service}/pause", r#"{"reason":"one\ntwo"}"#, InProduction("deployer")),
    ("POST", "/v1/services/{app}/{env}/{service}/resume", "", InProduction("deployer")),
    ("POST", "/v1/envs/{app}/{env}/pause", r#"{"reason":"one\ntwo"}"#, InProduction("deployer")),
    ("POST", "/v1/envs/{app}/{env}/resume", "", InProduction("deployer")),
    ("POST", "/v1/services/{app}/{env}/{service}/not-redeployable", r#"{"reason":"one\ntwo"}"#, InProduction("operator")),
    ("DELETE", "/v1/services/{app}/{env}/{service}/not-redeployable", "", InProduction("operator")),
    ("GET", "/v1/services/{app}/{env}/{service}/logs", "", InProduction("viewer")),
    ("GET", "/v1/services/{app}/{env}/{service}/exec", "", InProduction("operator")),
    ("GET", "/v1/services/{app}/{env}/{service}/forward", "", InProduction("operator")),
    ("GET", "/v1/envs/{app}/{env}/policy", "", InProduction("viewer")),
    ("PATCH", "/v1/envs/{app}/{env}/policy", r#"{"max_scale":0}"#, InProduction("operator")),
    ("GET", "/v1/audit", "", InOrganization("admin")),
    ("GET", "/v1/audit/head", "", InOrganization("admin")),
    ("GET", "/v1/events", "", Anywhere("viewer")),
];

/// What somebody is told who is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    LetIn,
    MayNot,
    NotThere(&'static str),
}

const NO_ENVIRONMENT: Told = Told::NotThere("there is no environment shop/production");

fn expected(rule: Let, role: &str, scope: Option<&str>) -> Told {
    let rank = |wanted: &str| ROLES.iter().position(|role| *role == wanted).expect("a role");
    let enough = |least: &str| if rank(role) >= rank(least) { Told::LetIn } else { Told::MayNot };
    let above_production = matches!(scope, None | Some("shop" | "shop/production"));
    match rule {
        Anyone | Holders => Told::LetIn,
        Anywhere(least) => enough(least),
        InOrganization(least) if scope.is_none() => enough(least),
        InOrganization(_) => Told::MayNot,
        InShop(least) => match scope {
            None | Some("shop") => enough(least),
            // Its environments know that it is there.
            Some("shop/production" | "shop/staging") => Told::MayNot,
            Some(_) if enough(least) == Told::MayNot => Told::MayNot,
            Some(_) => Told::NotThere("there is no application shop"),
        },
        InProduction(least) if above_production => enough(least),
        InProduction(_) => NO_ENVIRONMENT,
        InProductionByBody(least) | OfTarget(least) if above_production || enough(least) == Told::MayNot => {
            enough(least)
        }
        InProductionByBody(_) => NO_ENVIRONMENT,
        OfTarget(_) => Told::NotThere("there is no token target"),
    }
}

async fn token(admin: &Client, name: &str, role: &str, scope: Option<&str>) -> Client {
    let ask = json!({ "name": name, "role": role, "scope": scope });
    let made: view::NewOperatorToken = admin.post("/v1/tokens", ask.to_string()).await.json();
    Client { token: made.token, ..admin.clone() }
}

async fn ask(client: &Client, method: &str, path: &str, body: &str) -> Answer {
    let names = [("{app}", "shop"), ("{env}", "production"), ("{service}", "absent"), ("{token}", "target")];
    let names = names.into_iter().chain([("{kind}", "secret"), ("{name}", "absent")]);
    let mut path = path
        .replace("{node}", "absent")
        .replace("{job}", "absent")
        .replace("{number}", "1")
        .replace("{problem}", "refused");
    for (part, name) in names {
        path = path.replace(part, name);
    }
    // More jobs than any quota allows: nobody applies it, but only who is let in is told of the quota.
    let body = if body == "spec" { shop("web:1", 99) } else { body.to_owned() };
    client.ask(Method::from_bytes(method.as_bytes()).expect("a method"), &path, body).await
}

async fn with_two_applications() -> Controller {
    let controller = Controller::start().await;
    for name in ["shop", "blog"] {
        controller.client.post("/v1/apps", json!({ "name": name }).to_string()).await.json::<view::Application>();
    }
    controller
}

#[test]
fn every_address_has_its_row_in_this_table() {
    let known: BTreeSet<_> = EXPECTED.iter().map(|(method, path, ..)| format!("{method} {path}")).collect();
    let routed: BTreeSet<_> = api::endpoints().iter().map(|it| format!("{} {}", it.method, it.path)).collect();
    let missing: Vec<_> = routed.symmetric_difference(&known).collect();
    assert!(missing.is_empty(), "without a row here, or without an address: {missing:#?}");
}

#[tokio::test]
async fn every_address_lets_in_whom_it_should_and_nobody_else() {
    let controller = with_two_applications().await;
    let mut holders = Vec::new();
    for (number, (role, scope)) in ROLES.iter().flat_map(|role| SCOPES.map(|scope| (*role, scope))).enumerate() {
        holders.push((role, scope, token(&controller.client, &format!("holder-{number}"), role, scope).await));
    }
    for (method, path, body, rule) in EXPECTED {
        for (role, scope, client) in &holders {
            if matches!(rule, OfTarget(_)) && controller.client.delete("/v1/tokens/target").await.status < 500 {
                token(&controller.client, "target", "viewer", Some("shop/production")).await;
            }
            let answer = ask(client, method, path, body).await;
            let said = String::from_utf8_lossy(&answer.body).into_owned();
            let told = match expected(*rule, role, *scope) {
                absent @ Told::NotThere(sentence) if answer.status >= 400 && said.contains(sentence) => absent,
                _ if answer.status >= 400 && said.contains("there is no environment shop/production") => NO_ENVIRONMENT,
                _ if answer.status == 403 => Told::MayNot,
                _ => Told::LetIn,
            };
            let whom = format!("{method} {path}, {role} of {scope:?}: {} {said}", answer.status);
            assert_ne!(answer.status, 401, "{whom}");
            assert_eq!(told, expected(*rule, role, *scope), "{whom}");
        }
    }
}

#[tokio::test]
async fn without_a_token_only_the_version_is_told() {
    let controller = with_two_applications().await;
    for (method, path, body, rule) in EXPECTED {
        let body = if *body == "spec" { shop("web:1", 1) } else { (*body).to_owned() };
        let path = path.replace("{problem}", "refused").replace(['{', '}'], "");
        let request = http::Request::builder()
            .method(*method)
            .uri(path)
            .header("host", "localhost")
            .body(http_body_util::Full::from(body))
            .expect("a request");
        let status = controller.client.ask_raw(request).await.status;
        assert_eq!(status, if matches!(rule, Anyone) { 200 } else { 401 }, "{method} {rule:?}");
    }
}

#[tokio::test]
async fn lists_show_what_lies_in_the_scope_and_nothing_beside_it() {
    let controller = with_two_applications().await;
    let admin = &controller.client;
    admin.apply(&shop("web:1", 1)).await;
    admin.apply(&shop("web:1", 1).replace("production", "staging").replace("shop.test", "staging.test")).await;
    admin.apply(&shop("web:1", 1).replace("shop", "blog")).await;
    let production = token(admin, "production", "admin", Some("shop/production")).await;
    let shopping = token(admin, "shopping", "viewer", Some("shop")).await;

    let apps: Vec<view::Application> = production.get("/v1/apps").await.json();
    assert_eq!(apps.len(), 1);
    assert_eq!((apps[0].environments.as_slice(), apps[0].services), (&["production".to_owned()][..], 1));
    let environments = |environments: Vec<view::Environment>| environments.into_iter().map(|it| it.path);
    assert!(environments(production.get("/v1/envs").await.json()).eq(["shop/production"]));
    let of_shop = ["shop/development", "shop/staging", "shop/production"];
    assert!(environments(shopping.get("/v1/envs").await.json()).eq(of_shop));
    production.get("/v1/envs?app=blog").await.problem(404);
    let services = |services: Vec<view::Service>| services.into_iter().map(|it| it.path).collect::<Vec<_>>();
    assert_eq!(services(production.get("/v1/services").await.json()), ["shop/production/web"]);
    assert_eq!(services(production.get("/v1/services?below=blog").await.json()), [""; 0]);
    assert_eq!(services(shopping.get("/v1/services").await.json()), ["shop/production/web", "shop/staging/web"]);
    let tokens: Vec<view::OperatorToken> = production.get("/v1/tokens").await.json();
    assert_eq!(tokens.iter().map(|token| token.name.as_str()).collect::<Vec<_>>(), ["production"]);

    let events: Vec<view::Event> = production.get("/v1/events?after=0").await.json();
    assert!(!events.is_empty());
    assert!(events.iter().all(|event| event.subject.starts_with("shop/production")), "{events:#?}");
    let events: Vec<view::Event> = shopping.get("/v1/events").await.json();
    assert!(events.iter().all(|event| event.subject.starts_with("shop")), "{events:#?}");
    production.get("/v1/events?below=shop/staging").await.problem(404);
    let above: Vec<view::Event> = production.get("/v1/events?after=0&below=shop").await.json();
    assert!(above.iter().all(|event| event.subject.starts_with("shop/production")), "{above:#?}");
}

#[tokio::test]
async fn an_application_called_node_does_not_read_what_is_said_of_nodes() {
    let controller = Controller::start().await;
    controller.client.post("/v1/apps", r#"{"name":"node"}"#).await.json::<view::Application>();
    let [_edge] = controller.nodes(["edge"]).await;
    let viewer = token(&controller.client, "viewer", "viewer", Some("node")).await;
    let kinds = |events: Vec<view::Event>| events.into_iter().map(|event| event.kind).collect::<BTreeSet<_>>();
    let all = kinds(controller.client.get("/v1/events?after=0").await.json());
    assert!(all.contains("node-joined"), "{all:?}");
    let seen = kinds(viewer.get("/v1/events?after=0").await.json());
    assert_eq!(seen, ["application-created", "environment-created"].map(String::from).into());
    assert_eq!(viewer.get("/v1/nodes").await.json::<Vec<view::Node>>(), []);
    viewer.get("/v1/nodes/edge").await.problem(404);
}

#[tokio::test]
async fn a_stream_ends_when_its_token_is_removed() {
    let controller = with_two_applications().await;
    let watcher = token(&controller.client, "watcher", "viewer", None).await;
    let mut words = watcher.follow("/v1/events?follow=true&after=0", None).await;
    assert!(words.next().await.is_some());
    assert_eq!(controller.client.delete("/v1/tokens/watcher").await.status, 204);
    while words.next().await.is_some() {}
    let problem = watcher.get("/v1/apps").await.problem(401);
    assert!(problem.detail.contains("does not know the token"), "{}", problem.detail);
}

#[tokio::test]
async fn the_output_of_a_job_is_read_no_further_once_the_readers_token_is_removed() {
    let controller = Controller::start().await;
    let [node] = controller.nodes(["n1"]).await;
    controller.client.apply(&shop("web:1", 1)).await;
    controller.client.complete(WEB, 1).await;
    controller.client.until_settled(WEB).await;
    let running = node.engine.running()[0];
    let reader = token(&controller.client, "reader", "viewer", Some("shop/production")).await;
    let other = token(&controller.client, "other", "viewer", Some("shop/production")).await;
    node.engine.say(running, "before");
    let path = format!("/v1/services/{WEB}/logs?follow=true");
    let (mut words, mut others) = (reader.follow(&path, None).await, other.follow(&path, None).await);
    for words in [&mut words, &mut others] {
        assert!(words.next().await.expect("a line").text.contains("before"));
    }
    assert_eq!(controller.client.delete("/v1/tokens/reader").await.status, 204);
    node.engine.say(running, "after");
    while let Some(word) = words.next().await {
        assert!(word.kind == "line" && !word.text.contains("after"), "{word:?}");
    }
    assert!(others.next().await.expect("a line").text.contains("after"), "another reader goes on");
    reader.get(&format!("/v1/services/{WEB}/logs")).await.problem(401);
}

#[tokio::test]
async fn a_stream_ends_when_its_token_expires() {
    let controller = with_two_applications().await;
    let ask = json!({ "name": "short", "role": "viewer", "ttl_seconds": 1 });
    let made: view::NewOperatorToken = controller.client.post("/v1/tokens", ask.to_string()).await.json();
    let short = Client { token: made.token, ..controller.client.clone() };
    let mut words = short.follow("/v1/events?follow=true&after=0", None).await;
    while words.next().await.is_some() {}
    let problem = short.get("/v1/apps").await.problem(401);
    assert!(problem.detail.contains("expired"), "{}", problem.detail);
    let tokens: Vec<view::OperatorToken> = controller.client.get("/v1/tokens").await.json();
    assert!(tokens.iter().any(|token| token.name == "short" && token.expired), "{tokens:#?}");
}

#[tokio::test]
async fn a_tokens_secret_is_shown_once_and_stored_nowhere() {
    let controller = with_two_applications().await;
    let client = token(&controller.client, "ci", "deployer", Some("shop/staging")).await;
    let (_, secret) = client.token.rsplit_once('_').expect("parts");
    let identity: view::Identity = client.get("/v1/whoami").await.json();
    assert_eq!((identity.name.as_str(), identity.role.as_str()), ("ci", "deployer"));
    assert_eq!(identity.scope.as_deref(), Some("shop/staging"));
    for path in ["/v1/tokens", "/v1/events?after=0"] {
        let answer = controller.client.get(path).await;
        assert!(!String::from_utf8_lossy(&answer.body).contains(&secret[..16]), "{path}");
    }
    for file in std::fs::read_dir(controller.store_file().parent().expect("a folder")).expect("the folder") {
        let path = file.expect("an entry").path();
        let content = std::fs::read(&path).expect("a file");
        let found = content.windows(16).any(|window| window == &secret.as_bytes()[..16]);
        assert!(!found, "{}", path.display());
    }
}
