//! Pausing and resuming from the command line, and `lap doctor`.

mod support;

use serde_json::json;
use support::{FakeController, code, stderr, stdout};

fn service(path: &str, state: &str, message: &str) -> serde_json::Value {
    json!({
        "path": path, "type": "web", "state": state, "message": message, "image": "web:1", "pinned": null,
        "revision": 1, "scale": 1, "healthy": 0, "routes": [], "jobs": [], "deployment": null,
    })
}

fn noted(changed: bool) -> String {
    json!({ "changed": changed, "warnings": [] }).to_string()
}

#[test]
fn a_pause_says_how_to_start_again_and_waits_until_nothing_runs() {
    let controller = FakeController::start();
    let list = "GET /v1/services?below=shop/staging";
    controller
        .answer("POST /v1/envs/shop/staging/pause", 200, noted(true))
        .answer(list, 200, json!([service("shop/staging/web", "pausing", "1 slot is left to empty")]).to_string())
        .answer(list, 200, json!([service("shop/staging/web", "paused", "it is paused by ada")]).to_string());
    let paused = controller.lap(&["pause", "shop/staging", "--reason", "new disks", "--wait"]);
    assert_eq!(code(&paused), 0, "{}", stderr(&paused));
    assert_eq!(controller.asked()[0].body, r#"{"reason":"new disks"}"#);
    let said = stderr(&paused);
    assert!(said.contains("`lap resume shop/staging` starts it again"), "{said}");
    assert!(said.contains("shop/staging/web is pausing: 1 slot is left to empty"), "{said}");
    assert!(stdout(&paused).contains("shop/staging is paused after"), "{}", stdout(&paused));
}

#[test]
fn a_resume_that_does_not_end_well_fails_with_the_reason() {
    let controller = FakeController::start();
    let list = "GET /v1/services?below=shop/production/web";
    controller
        .answer("POST /v1/services/shop/production/web/resume", 200, noted(true))
        .answer(list, 200, json!([service("shop/production/web", "resuming", "0 of 1 job healthy")]).to_string())
        .answer(list, 200, json!([service("shop/production/web", "unhealthy", "it exited with 1")]).to_string());
    let resumed = controller.lap(&["resume", "shop/production/web", "--wait"]);
    assert_eq!(code(&resumed), 1);
    assert!(stderr(&resumed).contains("is not running again: unhealthy: it exited with 1"), "{}", stderr(&resumed));
}

#[test]
fn whoever_marks_a_service_says_why() {
    let controller = FakeController::start();
    let path = "shop/production/web";
    assert_eq!(code(&controller.lap(&["redeployable", path, "no"])), 2, "a reason is asked for");
    controller.answer("POST /v1/services/shop/production/web/not-redeployable", 200, noted(true));
    let marked = controller.lap(&["redeployable", path, "no", "--reason", "migration"]);
    assert_eq!(code(&marked), 0, "{}", stderr(&marked));
    assert_eq!(controller.asked()[0].body, r#"{"reason":"migration"}"#);
}

#[test]
fn a_check_up_ends_with_1_when_something_fails() {
    let identity = json!({ "name": "ada", "role": "admin", "scope": null, "token": "1", "expires_ms": null });
    let version = json!({ "version": env!("CARGO_PKG_VERSION"), "cluster": "1", "organization": "acme" });
    let controller = FakeController::start();
    controller
        .answer("GET /v1/whoami", 200, identity.to_string())
        .answer("GET /v1/version", 200, version.to_string())
        .refuse("GET /v1/authority", 403, "this needs the role viewer for the organization")
        .answer("GET /v1/nodes", 200, "[]")
        .answer("GET /v1/services", 200, json!([service("shop/production/web", "unhealthy", "it exited")]).to_string());
    let found = controller.lap(&["doctor"]);
    assert_eq!(code(&found), 1, "{}", stderr(&found));
    let lines = stdout(&found);
    for line in ["ok    token", "ok    clock", "ok    versions", "warn  certificates", "fail  services"] {
        assert!(lines.contains(line), "{line}: {lines}");
    }
    assert!(lines.contains("`lap why shop/production/web` says more"), "{lines}");
    let json: Vec<serde_json::Value> =
        serde_json::from_str(&stdout(&controller.lap(&["doctor", "-o", "json"]))).expect("a list");
    assert!(json.iter().any(|finding| finding["verdict"] == "fail" && finding["check"] == "services"), "{json:?}");
}
