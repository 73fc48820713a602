//! The operators' interface as its own description says that it is: schemathesis makes requests from `/openapi.json`, right
//! ones and wrong ones, sends them to a real controller, and compares every answer with what is described.

#[path = "../cluster/bench/mod.rs"]
mod bench;

use bench::{Controller, WEB, shop};
use lapstrake_controller::api::{endpoints, openapi};
use lapstrake_controller::config::RateLimits;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

/// Operations of which no request that is made from the description alone can succeed, each with the reason.
const NEVER_SUCCEED: &[(&str, &str)] = &[
    ("GET /openapi.json", "it is the description itself, which every run begins by reading"),
    ("POST /v1/nodes/{node}/return", "a node must have asked to return, with proof of its old key"),
    ("DELETE /v1/nodes/{node}/return", "likewise"),
    ("GET /v1/services/{app}/{env}/{service}/exec", "it answers with a WebSocket, which is not asked for here"),
    ("GET /v1/services/{app}/{env}/{service}/forward", "likewise"),
    ("POST /v1/services/{app}/{env}/{service}/deployments/{number}/cancel", "a deployment must be under way just then"),
    ("POST /v1/services/{app}/{env}/{service}/deployments/{number}/hold", "and a canary"),
    ("POST /v1/services/{app}/{env}/{service}/deployments/{number}/release", "likewise"),
    ("GET /v1/services/{app}/{env}/{service}/runs/{job}", "a one-off job must have begun lately, and its id be known"),
    ("DELETE /v1/services/{app}/{env}/{service}/runs/{job}", "likewise"),
    ("POST /v1/nodes/{node}/unquarantine", "two machines must have taken turns under one identity"),
];

/// Two services, one to be looked at and one to be removed, a third to be paused, and nodes likewise.
async fn furnished() -> (Controller, Vec<bench::Node>) {
    // Some thousand requests in a minute from one address are what is wanted here.
    let rate = RateLimits {
        token_per_second: 100_000,
        token_burst: 100_000,
        address_per_second: 100_000,
        address_burst: 100_000,
        ..RateLimits::default()
    };
    let controller = Controller::start_with(|config| config.rate = rate).await;
    let nodes = controller.nodes(["node-a", "node-b", "node-c"]).await;
    let detached = controller.client.delete("/v1/envs/shop/production/nodes/node-c").await;
    assert_eq!(detached.status, 204, "{detached:?}");
    controller.client.apply(&shop("web:1", 1)).await;
    controller.client.complete(WEB, 1).await;
    controller.client.post(&format!("/v1/services/{WEB}/deploy"), r#"{"image":"web:2"}"#).await;
    controller.client.complete(WEB, 2).await;
    let spare = shop("spare:1", 1).replace("  web:", "  spare:").replace("shop.test", "spare.test");
    controller.client.apply(&spare).await;
    controller.client.complete("shop/production/spare", 1).await;
    let still = shop("web:1", 1).replace("production", "staging").replace("shop.test", "staging.test");
    controller.client.apply(&still).await;
    let token = controller.client.post("/v1/tokens", r#"{"name":"ci","role":"viewer"}"#).await;
    assert_eq!(token.status, 201, "{token:?}");
    (controller, nodes.into())
}

#[test]
fn the_description_in_the_documentation_is_the_one_that_is_served() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
    if std::env::var_os("LAPSTRAKE_WRITE_OPENAPI").is_some() {
        std::fs::write(path, openapi::text()).expect("written");
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == openapi::text(),
        "docs/openapi.json is not what is served; LAPSTRAKE_WRITE_OPENAPI=1 in the environment of this test writes it"
    );
}

#[tokio::test]
#[ignore = "needs schemathesis: scripts/test installs it and names it in LAPSTRAKE_SCHEMATHESIS"]
async fn what_is_described_is_what_is_answered() {
    let schemathesis = std::env::var("LAPSTRAKE_SCHEMATHESIS").expect("LAPSTRAKE_SCHEMATHESIS names the program st");
    let (controller, _nodes) = furnished().await;
    let report = controller.folder().join("report.ndjson");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi");
    let mut command = Command::new(schemathesis);
    command
        .arg("--config-file")
        .arg(folder.join("schemathesis.toml"))
        .args(["run", "--no-color", "--tls-verify", "false", "--report", "ndjson", "--report-ndjson-path"])
        .arg(&report)
        .arg(format!("https://{}/openapi.json", controller.client.address))
        .env("LAPSTRAKE_TOKEN", &controller.client.token)
        .env("PYTHONWARNINGS", "ignore")
        .current_dir(controller.folder())
        .stdin(Stdio::null());
    let status = tokio::task::spawn_blocking(move || command.status()).await.expect("no panic").expect("it runs");
    let answered = Answered::read(&report);
    println!("{answered}");
    assert!(status.success(), "schemathesis found what is not as it is described; it says so above");
    answered.every_operation_succeeded();
    // Read from the store: one of the requests has replaced the root that this test's own client trusts.
    let is_web = |(key, record): &(String, String)| key.starts_with("service/") && record.contains("\"name\":\"web\"");
    assert!(controller.stored().rows.iter().any(is_web), "what was there before is there");
}

/// How often each operation was answered with which status.
struct Answered(BTreeMap<String, BTreeMap<u16, u32>>);

impl Answered {
    fn read(report: &Path) -> Answered {
        let text = std::fs::read_to_string(report).expect("the report");
        let mut answered = BTreeMap::new();
        for line in text.lines() {
            let event: serde_json::Value = serde_json::from_str(line).expect("an event a line");
            count(&event, &mut answered);
        }
        Answered(answered)
    }

    fn every_operation_succeeded(&self) {
        let excused: BTreeSet<&str> = NEVER_SUCCEED.iter().map(|(operation, _)| *operation).collect();
        let missing = endpoints().into_iter().map(|endpoint| format!("{} {}", endpoint.method, endpoint.path));
        let missing = missing.filter(|operation| {
            let succeeded = |statuses: &BTreeMap<u16, u32>| statuses.keys().any(|status| (200..300).contains(status));
            !self.0.get(operation).is_some_and(succeeded) && !excused.contains(operation.as_str())
        });
        let missing: Vec<String> = missing.collect();
        assert!(missing.is_empty(), "no request succeeded: {missing:#?}");
    }
}

impl std::fmt::Display for Answered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (operation, statuses) in &self.0 {
            let statuses: Vec<String> = statuses.iter().map(|(status, times)| format!("{status}: {times}")).collect();
            writeln!(f, "{operation:80} {}", statuses.join(", "))?;
        }
        let requests: u32 = self.0.values().flat_map(BTreeMap::values).sum();
        write!(f, "{} operations, {requests} requests", self.0.len())
    }
}

/// The events of schemathesis' report are of many kinds; those that end a scenario hold what was asked and answered in it.
/// A request with another method than the operation's was made to be refused.
fn count(event: &serde_json::Value, answered: &mut BTreeMap<String, BTreeMap<u16, u32>>) {
    let Some(recorder) = event.pointer("/ScenarioFinished/recorder") else { return };
    let (Some(operation), Some(interactions)) = (recorder["label"].as_str(), recorder["interactions"].as_object())
    else {
        return;
    };
    for interaction in interactions.values() {
        let method = interaction["request"]["method"].as_str().unwrap_or_default();
        let status = interaction["response"]["status_code"].as_u64().and_then(|status| u16::try_from(status).ok());
        if let Some(status) = status.filter(|_| operation.split(' ').next() == Some(method)) {
            *answered.entry(operation.to_owned()).or_default().entry(status).or_default() += 1;
        }
    }
}
