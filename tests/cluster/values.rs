//! Secrets and variables through the real controller, the real wire and the real agent.

use crate::bench::{Client, Controller, Node, WEB, id, until};
use lapstrake_api::view;
use lapstrake_core::node::seen::Attempt;
use serde_json::json;
use std::path::Path;

/// Planted values: texts that are nowhere else.
const PLANTED: &str = "planted-secret-3f9a1c";
const PLANTED_FILE: &str = "planted-file-77b0de";
const PLANTED_VARIABLE: &str = "planted-variable-c41d02";
const PLANTED_PASSWORD: &str = "planted-password-e8855a";
const ALL: [&str; 4] = [PLANTED, PLANTED_FILE, PLANTED_VARIABLE, PLANTED_PASSWORD];

/// A service with a secret as a variable and another as a file, and one beside it without any.
const SPEC: &str = "
application: shop
services:
  web:
    type: web
    image: registry.test:5000/web:1
    ports: [{ port: 80, protocol: http, path: /, public: true, host: shop.test }]
    deploy: { min_healthy: 0s }
    env: { API_KEY: { secret: api-key } }
    files: { /run/secrets/tls: { secret: tls-key } }
  mail:
    type: worker
    image: mail:1
    deploy: { min_healthy: 0s }
environments:
  production: {}
";
const MAIL: &str = "shop/production/mail";

async fn set(client: &Client, of: &str, kind: &str, name: &str, value: &str) {
    let user = (kind == "registry").then_some("ci");
    let ask = json!({ "of": of, "kind": kind, "name": name, "value": value, "user": user });
    client.post("/v1/values", ask.to_string()).await.json::<view::Noted>();
}

async fn plant(client: &Client) {
    client.post("/v1/apps", json!({ "name": "shop" }).to_string()).await.json::<view::Application>();
    set(client, "shop/production", "secret", "api-key", PLANTED).await;
    set(client, "shop", "secret", "tls-key", PLANTED_FILE).await;
    set(client, "", "variable", "REGION", PLANTED_VARIABLE).await;
    set(client, "", "registry", "registry.test:5000", PLANTED_PASSWORD).await;
}

async fn served() -> (Controller, Node) {
    let controller = Controller::start().await;
    plant(&controller.client).await;
    let [node] = controller.nodes(["n1"]).await;
    controller.client.apply(SPEC).await;
    controller.client.complete(WEB, 1).await;
    controller.client.complete(MAIL, 1).await;
    (controller, node)
}

async fn values(client: &Client, query: &str) -> Vec<view::Value> {
    client.get(&format!("/v1/values?{query}")).await.json()
}

async fn redeploy(client: &Client, path: &str) -> view::Deployment {
    client.post(&format!("/v1/services/{path}/redeploy"), "").await.json()
}

/// The files below a folder in which one of the planted values stands.
fn files_with_a_planted_value(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with_a_planted_value(&path));
            continue;
        }
        let content = std::fs::read(&path).unwrap_or_default();
        let holds = |value: &str| content.windows(value.len()).any(|window| window == value.as_bytes());
        found.extend(ALL.iter().filter(|value| holds(value)).map(|value| format!("{} has {value}", path.display())));
    }
    found
}

#[tokio::test]
async fn jobs_get_their_values_and_they_stand_in_clear_nowhere_else() {
    let (controller, node) = served().await;
    let web = controller.client.until_settled(WEB).await;
    let given = node.engine.given(id(&web.jobs[0].id)).expect("the job was started");
    assert_eq!(given.variables.get("API_KEY").map(String::as_str), Some(PLANTED));
    assert_eq!(given.variables.get("REGION").map(String::as_str), Some(PLANTED_VARIABLE));
    assert_eq!(given.variables.get("LAPSTRAKE_SERVICE").map(String::as_str), Some("web"));
    assert_eq!(given.files.get("/run/secrets/tls").map(String::as_str), Some(PLANTED_FILE));
    assert_eq!(node.engine.logins(), [("registry.test:5000".to_owned(), "ci".to_owned(), PLANTED_PASSWORD.to_owned())]);

    // A backup, as the manual says to make one.
    let backup = controller.folder().join("backup.db");
    lapstrake_controller::store::backup(&controller.store_file(), &backup).expect("a backup");
    let memory = node.config.memory_dir.clone();
    let found: Vec<String> = [controller.folder(), node.config.state_dir.as_path(), node.config.run_dir.as_path()]
        .into_iter()
        .flat_map(files_with_a_planted_value)
        .filter(|path| !path.starts_with(&memory.display().to_string()))
        .collect();
    assert!(found.is_empty(), "{found:#?}");

    // Every answer of the interface that is asked without changing anything.
    let every = lapstrake_controller::api::endpoints();
    for endpoint in every.iter().filter(|endpoint| endpoint.method == http::Method::GET) {
        let path = endpoint.path.replace("{app}", "shop").replace("{env}", "production").replace("{service}", "web");
        let path = path.replace("{number}", "1").replace("{node}", "n1").replace("{problem}", "refused");
        let path = if path.ends_with("/events") { format!("{path}?after=0") } else { path };
        let path = if path == "/v1/values" { format!("{path}?of={WEB}&kind=secret") } else { path };
        if path.ends_with("/logs") {
            continue;
        }
        let answer = controller.client.get(&path).await;
        assert!(answer.status < 500, "{path}: {}", answer.status);
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(!ALL.iter().any(|value| said.contains(value)), "{path} shows a planted value: {said}");
    }
    // Of variables the list is the one place that shows them; of registries nothing does.
    let variables = values(&controller.client, &format!("of={WEB}&kind=variable")).await;
    let region = variables.iter().find(|one| one.name == "REGION").expect("inherited");
    assert_eq!((region.origin.as_str(), region.value.as_deref()), ("inherited", Some(PLANTED_VARIABLE)));
    assert_eq!(region.of.as_deref(), Some(""));
    assert!(variables.iter().any(|one| one.name == "LAPSTRAKE_SLOT" && one.origin == "automatic"));
    assert_eq!(values(&controller.client, "kind=registry").await[0].value, None);
}

#[tokio::test]
async fn a_new_value_is_not_deployed_until_a_deployment() {
    let (controller, node) = served().await;
    let client = &controller.client;
    let state = async || {
        let all = values(client, "of=shop/production&kind=secret").await;
        all.into_iter().map(|one| (one.name, one.version, one.not_deployed)).collect::<Vec<_>>()
    };
    assert_eq!(state().await[0], ("api-key".to_owned(), Some(1), vec![]));
    set(client, "shop/production", "secret", "api-key", "another").await;
    assert_eq!(state().await[0], ("api-key".to_owned(), Some(2), vec![WEB.to_owned()]));
    assert!(client.why(WEB).await.sentences[0].starts_with("not deployed yet: API_KEY"));
    let number = redeploy(client, WEB).await.number;
    client.complete(WEB, number).await;
    assert_eq!(state().await[0].2, [""; 0]);
    let web = client.until_settled(WEB).await;
    let given = node.engine.given(id(&web.jobs[0].id)).expect("the job was started");
    assert_eq!(given.variables.get("API_KEY").map(String::as_str), Some("another"));
    let refused = client.delete("/v1/values/secret/api-key?of=shop/production").await.problem(409);
    assert!(refused.detail.contains("is named by the spec of shop/production/web"), "{}", refused.detail);
}

/// Changes the sealed bytes of values in the store of a controller that does not run.
fn tamper(controller: &Controller, change: impl Fn(&str, serde_json::Value) -> serde_json::Value) {
    let store = rusqlite::Connection::open(controller.store_file()).expect("the store");
    let rows: Vec<(String, String)> = controller.stored().rows;
    for (key, text) in rows.into_iter().filter(|(key, _)| key.starts_with("value/")) {
        let changed = change(&key, serde_json::from_str(&text).expect("JSON"));
        store.execute("UPDATE state SET value = ?1 WHERE key = ?2", [changed.to_string(), key]).expect("changed");
    }
}

/// The body of the newest version in a stored value.
fn body(record: &mut serde_json::Value) -> &mut serde_json::Value {
    record["value"]["versions"]
        .as_array_mut()
        .expect("versions")
        .last_mut()
        .expect("a version")
        .get_mut("body")
        .expect("a body")
}

fn is_key(key: &str) -> bool {
    key.ends_with("/secret/api-key")
}

async fn is_named_and_the_rest_works(how: &str, change: impl Fn(&str, serde_json::Value) -> serde_json::Value) {
    let (mut controller, node) = served().await;
    let before = controller.client.until_settled(WEB).await;
    controller.stop().await;
    tamper(&controller, change);
    controller.start_again().await;
    let client = &controller.client;
    let listed = values(client, "of=shop/production&kind=secret").await;
    let trouble = listed.iter().find(|one| one.name == "api-key").expect("listed").trouble.clone();
    assert!(trouble.is_some(), "{how}: {listed:#?}");
    assert!(listed.iter().all(|one| one.name == "api-key" || one.trouble.is_none()), "{how}: {listed:#?}");
    // A deployment that needs it fails with its name, and what runs is not touched.
    let number = redeploy(client, WEB).await.number;
    let failed = client.ended(WEB, number).await;
    let message = failed.message.unwrap_or_default();
    assert_eq!(failed.phase, "failed", "{how}: {message}");
    assert!(message.contains("the secret api-key of shop/production"), "{how}: {message}");
    let after = client.until_service("the job answers as before", WEB, |service| service.healthy == 1).await;
    assert_eq!(after.jobs[0].id, before.jobs[0].id, "{how}");
    // The service beside it is deployed as ever, and so is this one once the secret is set again.
    let number = redeploy(client, MAIL).await.number;
    client.complete(MAIL, number).await;
    set(client, "shop/production", "secret", "api-key", "mended").await;
    let number = redeploy(client, WEB).await.number;
    client.complete(WEB, number).await;
    drop(node);
}

#[tokio::test]
async fn a_flipped_bit_in_a_sealed_value_is_named_and_the_rest_works() {
    is_named_and_the_rest_works("flipped", |key, mut record| {
        if is_key(key) {
            let text = body(&mut record).as_str().expect("a text").to_owned();
            let (head, last) = text.split_at(text.len() - 1);
            let flipped = u8::from_str_radix(last, 16).expect("a digit") ^ 1;
            *body(&mut record) = format!("{head}{flipped:x}").into();
        }
        record
    })
    .await;
}

#[tokio::test]
async fn a_truncated_sealed_value_is_named_and_the_rest_works() {
    is_named_and_the_rest_works("truncated", |key, mut record| {
        if is_key(key) {
            let text = body(&mut record).as_str().expect("a text").to_owned();
            *body(&mut record) = text[..20].into();
        }
        record
    })
    .await;
}

#[tokio::test]
async fn a_sealed_value_that_is_no_text_of_ours_any_more_is_named_and_the_rest_works() {
    is_named_and_the_rest_works("garbled", |key, mut record| {
        if is_key(key) {
            let text = body(&mut record).as_str().expect("a text").to_owned();
            *body(&mut record) = format!("{}~", &text[..21]).into();
        }
        record
    })
    .await;
}

#[tokio::test]
async fn a_record_of_a_value_in_anothers_place_is_named_and_the_rest_works() {
    let other = std::sync::Mutex::new(None);
    is_named_and_the_rest_works("exchanged", |key, record| {
        if key.ends_with("/secret/tls-key") {
            *other.lock().expect("a lock") = Some(record.clone());
        }
        if is_key(key) { other.lock().expect("a lock").clone().expect("the other secret") } else { record }
    })
    .await;
}

#[tokio::test]
async fn a_sealed_value_in_anothers_place_is_named_and_the_rest_works() {
    let other = std::sync::Mutex::new(None);
    is_named_and_the_rest_works("swapped", |key, mut record| {
        // The rows come in the order of their keys, and an application's come before an environment's.
        if key.ends_with("/secret/tls-key") {
            *other.lock().expect("a lock") = Some(record["value"]["versions"][0].clone());
        }
        if is_key(key) {
            let taken = other.lock().expect("a lock").clone().expect("the other secret");
            // With its id and all: as if somebody had copied the row.
            record["value"]["current"] = taken["id"].clone();
            record["value"]["versions"].as_array_mut().expect("versions").push(taken);
        }
        record
    })
    .await;
}

#[tokio::test]
async fn the_master_key_is_replaced_while_everything_runs() {
    let (controller, node) = served().await;
    let client = &controller.client;
    let file = controller.state_dir().join("master.keys");
    let before = std::fs::read_to_string(&file).expect("the keys");
    let sealed = controller.stored().rows;
    let starts = node.starts();
    let rotated: view::MasterKey = client.post("/v1/values/key", "").await.json();
    assert_eq!((rotated.resealed, rotated.left.as_slice()), (4, &[][..]));
    let after = std::fs::read_to_string(&file).expect("the keys");
    assert!(!after.contains(before.trim()), "the old key is gone");
    let value = |rows: &[(String, String)]| {
        rows.iter().filter(|(key, _)| key.starts_with("value/")).cloned().collect::<Vec<_>>()
    };
    assert!(
        value(&controller.stored().rows).iter().all(|row| !value(&sealed).contains(row)),
        "every value is sealed anew"
    );
    assert_eq!(node.starts(), starts, "no job was touched");
    let number = redeploy(client, WEB).await.number;
    client.complete(WEB, number).await;
    let web = client.until_settled(WEB).await;
    let given = node.engine.given(id(&web.jobs[0].id)).expect("the job was started");
    assert_eq!(given.variables.get("API_KEY").map(String::as_str), Some(PLANTED));
    let rows: Vec<view::AuditRow> = client.get("/v1/audit").await.json();
    assert!(rows.iter().any(|row| row.verb == "reseal-values"), "{rows:#?}");
}

#[tokio::test]
async fn a_rotation_that_a_crash_interrupted_is_ended_by_the_next_start() {
    let (mut controller, _node) = served().await;
    let file = controller.state_dir().join("master.keys");
    controller.kill();
    // Killed after the new key was written and before anything was sealed with it.
    let old = std::fs::read_to_string(&file).expect("the keys");
    let new = lapstrake_pki::seal::MasterKey::generate().to_text();
    std::fs::write(&file, format!("{new}\n{old}")).expect("written");
    controller.start_again().await;
    until("the old key is gone", || async {
        let now = std::fs::read_to_string(&file).expect("the keys");
        (now.trim() == new.trim()).then_some(())
    })
    .await;
    let listed = values(&controller.client, "of=shop/production").await;
    assert!(listed.iter().all(|one| one.trouble.is_none()), "{listed:#?}");
}

#[tokio::test]
async fn a_lost_master_key_stops_nothing_that_runs_and_is_said_of_each_value() {
    let (mut controller, node) = served().await;
    let before = controller.client.until_settled(WEB).await;
    controller.stop().await;
    std::fs::remove_file(controller.state_dir().join("master.keys")).expect("gone");
    controller.start_again().await;
    let after = controller.client.until_settled(WEB).await;
    assert_eq!(before.jobs[0].id, after.jobs[0].id);
    let listed = values(&controller.client, "of=shop/production&kind=secret").await;
    assert!(listed.iter().all(|one| one.trouble.as_deref().is_some_and(|said| said.contains("key"))), "{listed:#?}");
    // The agent has what its jobs need: a container that dies is followed by one with the same values.
    let [job] = [id(&before.jobs[0].id)];
    node.engine.crash(Attempt { job, number: 1 }, 1);
    until("it was started again", || async {
        let given = node.engine.given(job)?;
        let again = node.starts() > 2;
        (again && given.variables.get("API_KEY").map(String::as_str) == Some(PLANTED)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_a_value_is_refused_with_a_sentence() {
    let controller = Controller::start().await;
    let client = &controller.client;
    for (ask, said) in [
        (json!({ "kind": "secret", "name": "a", "value": "x".repeat(40_000) }), "32768 are allowed"),
        (json!({ "kind": "secret", "name": "a", "value": "x\u{0}y" }), "NUL"),
        (json!({ "kind": "passwd", "name": "a", "value": "x" }), "there is no kind"),
        (json!({ "kind": "registry", "name": "r.test", "value": "x" }), "need a user"),
        (json!({ "kind": "secret", "name": "a", "value": "x", "user": "ci" }), "registry only"),
        (json!({ "kind": "secret", "name": "../a", "value": "x" }), "name"),
        (json!({ "kind": "secret", "name": "a", "value": "x", "of": "absent" }), "no application absent"),
        (json!({ "kind": "secret", "name": "a", "value": "x", "of": "a/b/c/d" }), "no path"),
        (json!({ "kind": "variable", "name": "LAPSTRAKE_SLOT", "value": "x" }), "Lapstrake itself"),
    ] {
        let answer = client.post("/v1/values", ask.to_string()).await;
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        assert!((400..500).contains(&answer.status), "{ask}: {} {body}", answer.status);
        assert!(body.contains(said), "{ask}: {body}");
    }
    assert!(values(client, "").await.is_empty());
}
